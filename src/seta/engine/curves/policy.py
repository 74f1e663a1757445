"""The interface of a policy, its optional members, and the registry of methods.

A policy is called for a keep curve when an epoch begins. Optional members give it more data:

- `in_batch` gets the losses of each batch together (`SeesBatch`).
- `columns`, `fold` and `score` keep values per sample, and a score that replaces the latest loss
  (`KeepsScore`); `counted` names columns whose histograms it gets (`LossHistogram.columns`).
- `stratified = True` asks for the histogram by class (`LossHistogram.by_stratum`), and
  `stratified = None` asks for it if classes are given.

A policy returns what it needs in the next epoch as `KeepCurve.notes`, and gets it back as
`LossHistogram.notes`; saved states include it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram
from seta.engine.numbers import integer

_EVERY = "the number of epochs between two selections"


class Policy(Protocol):
    """Interface of a pruning method: `(histogram, epoch, epochs) -> KeepCurve`.

    A frozen dataclass with `__call__`, or a plain function. Policies may have further members, see
    `docs/policies.md`.

    Each rank calls its own copy. CPUs may differ in the last bits of `numpy.exp` and BLAS results.
    Such differences in probabilities are harmless: the number of kept samples does not depend on
    them. But the branches of a policy should compare exact numbers only: counts, centres,
    `histogram.mean()`.
    """

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns the keep curve of an epoch.

        Args:
            histogram: Histogram of the latest losses of all samples.
            epoch: Number of the epoch, in 0 .. epochs - 1.
            epochs: Length of the run.
        """
        ...


Columns = Mapping[str, NDArray[np.float32]]


@runtime_checkable
class SeesBatch(Protocol):
    """A policy that compares a loss with the other losses of its batch."""

    def in_batch(self, losses: NDArray[np.float32], /) -> NDArray[np.floating[Any]]:
        """Returns the values to record in place of the losses of a batch.

        With several processes, a batch is one process's batch.

        Args:
            losses: float32 (B,), finite, B >= 1, of one batch.

        Returns:
            Floats (B,).
        """
        ...


@runtime_checkable
class KeepsScore(Protocol):
    """A policy that prunes by a score per sample, computed from columns that it keeps.

    An optional member `counted`, a tuple of column names, asks for histograms of these columns:
    `histogram.columns[name]` counts the column over all samples when the epoch begins, also in
    epochs that do not update the scores. NaN and infinite values count as unseen. Each costs as
    much as another loss histogram.

    Attributes:
        columns: Names of the columns, each float32, 4 bytes per sample.
        every: Scores are updated when an epoch begins whose number is a multiple of it, >= 1;
            between two updates, scores and histogram stay the same. None: see `period`.
    """

    columns: tuple[str, ...]
    every: int | None

    def fold(self, columns: Columns, losses: NDArray[np.float32], /) -> Columns:
        """Updates the columns with one new loss per sample.

        Args:
            columns: float32 (B,) each, NaN before a sample's first loss.
            losses: float32 (B,), finite.

        Returns:
            The new columns, float32 (B,) each.
        """
        ...

    def score(self, columns: Columns, /) -> NDArray[np.floating[Any]]:
        """Returns the score of each sample: floats (B,), NaN = unseen."""
        ...


@runtime_checkable
class FitsBudget(Protocol):
    """A method whose class chooses the arguments for a budget."""

    def at_budget(self, budget: float, /) -> Policy:
        """Returns the method for a budget, a share of full training's sample visits in (0, 1]."""
        ...


def in_batch(policy: SeesBatch, losses: NDArray[Any]) -> NDArray[Any]:
    """Returns the values to record for a batch of losses, float32; non-finite losses stay.

    Raises:
        ValueError: The policy does not return a finite number for each.
    """
    if losses.dtype.kind != "f" or losses.ndim != 1:
        return losses  # which the table refuses
    with np.errstate(over="ignore"):
        values = losses.astype(np.float32)
    finite = np.isfinite(values)
    if finite.any():
        with np.errstate(over="ignore"):
            seen = np.asarray(policy.in_batch(values[finite]), np.float32)
        if seen.shape != (np.count_nonzero(finite),) or not np.isfinite(seen).all():
            raise ValueError(
                f"policy {policy!r}: in_batch must return a number for each of the "
                f"{np.count_nonzero(finite)} losses, finite in float32, got shape {seen.shape}"
            )
        values[finite] = seen
    return values


def period(every: int | None, epochs: int) -> int:
    """Returns the number of epochs between two selections: `every`, or else epochs // 20."""
    return max(1, epochs // 20) if every is None else every


def takes_signals(policy: object) -> bool:
    """Returns whether signals of rewards are recorded for a policy in place of losses.

    These do not rise with the difficulty of a sample, so there are no suspects. Such a policy says
    so: `signals = True`, as those of `seta.rl`.
    """
    return bool(getattr(policy, "signals", False))


def stored_by(policy: object) -> str:
    """Returns what is stored of each sample for a policy, or for a method: a name for messages."""
    if takes_signals(policy):
        return "signals of rewards"
    if isinstance(policy, SeesBatch) and not isinstance(policy, KeepsScore):
        return "differences to the mean of a batch"
    return "losses"


def method_of(description: str) -> object | None:
    """Returns the method that a saved description of a policy names; None: none of ours."""
    from seta import rl  # which imports this module

    name = description.split("(")[0]
    return REGISTRY.get(name) or getattr(rl, name, None)


def score_of(policy: Policy, epochs: int, *, warm: bool = False) -> KeepsScore | None:
    """Returns the policy if it keeps a score, else None.

    Args:
        policy: Any policy.
        epochs: Length of the run.
        warm: Whether losses are known before it.

    Raises:
        ValueError, TypeError: Its columns, `every` or `counted` are invalid, or its scores would
            never be used.
    """
    columns = policy.columns if isinstance(policy, KeepsScore) else ()
    if not set(counted_columns(policy)) <= set(columns):
        raise ValueError(
            f"policy.counted must name some of the columns {columns}, got "
            f"{counted_columns(policy)} of {policy!r}: only columns that a policy keeps (columns, "
            "fold, score, every) can be counted"
        )
    if not isinstance(policy, KeepsScore):
        return None
    every = integer("policy.every", period(policy.every, epochs), 1, _EVERY)
    if every >= epochs > 1 and not warm:
        raise ValueError(
            f"policy.every must be less than epochs={epochs}, got {every} of {policy!r}: scores "
            "are updated in epochs that are multiples of it, here only in epoch 0, when no loss is "
            "known. Give a smaller value, or None to follow the length of the run"
        )
    one = np.ones(1, np.float32)
    folded = policy.fold({name: one * np.nan for name in policy.columns}, one)
    if set(folded) != set(policy.columns) or np.shape(policy.score(folded)) != (1,):
        raise ValueError(
            f"policy {policy!r}: fold must return its columns {policy.columns}, got "
            f"{tuple(folded)}, and score one number for each sample"
        )
    return policy


def counted_columns(policy: object) -> tuple[str, ...]:
    """Returns the names of the columns whose histograms the policy asks for."""
    return tuple(getattr(policy, "counted", ()))


def is_stratified(policy: Policy) -> bool:
    """Returns whether the policy requires the class of each sample."""
    return bool(getattr(policy, "stratified", False))


def takes_strata(policy: Policy) -> bool:
    """Returns whether the policy uses the class of each sample if classes are given."""
    return getattr(policy, "stratified", False) is not False


def curve_of(policy: Policy, histogram: LossHistogram, epoch: int, epochs: int) -> KeepCurve:
    """Calls a policy and validates the curve that it returns.

    Raises:
        TypeError: The policy does not return a `KeepCurve`.
        ValueError: The curve does not fit the histogram, or has invalid values.
    """
    curve = policy(histogram, epoch, epochs)
    if not isinstance(curve, KeepCurve):
        raise TypeError(
            f"policy {policy!r} must return a KeepCurve, got {type(curve).__name__}: "
            "return seta.KeepCurve(keep, ...), with one keep probability per histogram bin"
        )
    curve.validate(histogram)
    return curve


REGISTRY: dict[str, Callable[[], Policy]] = {}
"""The methods by name, filled by `seta.policies`. Your own policy needs no entry."""


def get(name: str, *, budget: float | None = None) -> Policy:
    """Returns a method by its name, with default arguments or those for a budget.

    Args:
        name: Name of the method, upper or lower case: "SeTa", "InfoBatch", ...
        budget: Share of full training's sample visits, in (0, 1]. A method with a class method
            `at_budget` is made by it; other methods get their defaults. This does not limit the
            run: give `budget=` to the pruner or loader as well. None: the defaults.

    Raises:
        ValueError: There is no such method (the message lists all), or the budget is invalid.

    Examples:
        >>> import seta.policies
        >>> seta.policies.get("random", budget=0.6)
        Random(prune_ratio=0.4)
    """
    for known, method in REGISTRY.items():
        if known.lower() == name.lower():
            return method() if budget is None else _at_budget(method, budget)
    raise ValueError(
        f"unknown method {name!r}: choose one of {', '.join(REGISTRY)}, "
        "or pass a function (histogram, epoch, epochs) -> KeepCurve"
    )


def _at_budget(method: Callable[[], Policy], budget: float) -> Policy:
    if not 0 < budget <= 1:
        raise ValueError(
            f"budget must lie in (0, 1], got {budget!r}: the share of full training's sample "
            "visits, 0.7 to save 30 %"
        )
    return method.at_budget(budget) if isinstance(method, FitsBudget) else method()
