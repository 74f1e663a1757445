"""What a policy is, what it may say beside its curve, and the methods by name.

A policy is asked for a curve when an epoch begins. One that has more members gets more, and pays
for it: `in_batch` sees losses as the batch that they came in (`SeesBatch`); `columns`, `fold` and
`score` keep something of each sample, and a score in place of its latest loss (`KeepsScore`), and
`counted` names the columns whose histograms it sees beside that of the scores
(`LossHistogram.columns`); `stratified = True` asks for the histogram by class
(`LossHistogram.by_stratum`), `stratified = None` where classes are given. What a policy has to
remember from one epoch to the next it leaves in `KeepCurve.notes`, and finds in
`LossHistogram.notes`: a run keeps it, and so do its states.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram
from seta.engine.numbers import integer

_EVERY = "the epochs from one choice to the next"


class Policy(Protocol):
    """What makes a keep curve: a frozen dataclass with `__call__`, or a plain function.

    Each rank makes the curve, on whatever CPU it has. The last bits of probabilities may differ
    (those of `numpy.exp` and of BLAS do): the number of samples does not hang on them, and which
    they are only where two of 2**32 coins meet. A comparison of the policy's own should be one of
    exact numbers: counts, centres, `histogram.mean()`.
    """

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns the curve of an epoch.

        Args:
            histogram: Of the latest losses, before the epoch.
            epoch: 0 .. epochs - 1.
            epochs: Length of the run.
        """
        ...


Columns = Mapping[str, NDArray[np.float32]]


@runtime_checkable
class SeesBatch(Protocol):
    """A policy that looks at a loss beside those of the batch that it came in."""

    def in_batch(self, losses: NDArray[np.float32], /) -> NDArray[np.floating[Any]]:
        """Returns what is recorded in place of the losses of a batch.

        Of several processes each has batches of its own.

        Args:
            losses: float32 (B,), finite, B >= 1, of one batch.

        Returns:
            Floats (B,).
        """
        ...


@runtime_checkable
class KeepsScore(Protocol):
    """A policy that judges samples by a score, made of what it keeps of each.

    One more member may say which of its columns are counted: `counted`, a tuple of their names. Of
    each, `histogram.columns[name]` is the histogram over all samples, as the column is when the
    epoch begins, whether scores are taken anew in it or not; NaN = unseen, and so is what is not
    finite. Costs what another histogram does.

    Attributes:
        columns: Names of what is kept of a sample, each a float32, for 4 bytes a sample.
        every: Scores are taken anew when an epoch begins whose number divides by it, >= 1; from one
            time to the next histogram and scores stay as they are. None: see `period`.
    """

    columns: tuple[str, ...]
    every: int | None

    def fold(self, columns: Columns, losses: NDArray[np.float32], /) -> Columns:
        """Takes losses into the columns, sample by sample.

        Args:
            columns: float32 (B,) each, NaN before a sample's first loss.
            losses: float32 (B,), finite.

        Returns:
            The columns, changed.
        """
        ...

    def score(self, columns: Columns, /) -> NDArray[np.floating[Any]]:
        """Returns the scores, sample by sample: floats (B,), NaN = unseen."""
        ...


@runtime_checkable
class FitsBudget(Protocol):
    """A method that is made with other arguments at a budget: said by its class, not its values."""

    def at_budget(self, budget: float, /) -> Policy:
        """Returns the method for a share of full training's sample visits, in (0, 1]."""
        ...


def in_batch(policy: SeesBatch, losses: NDArray[Any]) -> NDArray[Any]:
    """Returns what is recorded of a batch of losses, float32; those not finite stay as they are.

    Raises:
        ValueError: The policy does not answer with a finite number for each.
    """
    if losses.dtype.kind != "f" or losses.ndim != 1:
        return losses  # which the table refuses
    with np.errstate(over="ignore"):
        values = losses.astype(np.float32)
    finite = np.isfinite(values)
    if finite.any():
        seen = np.asarray(policy.in_batch(values[finite]))
        if seen.shape != (np.count_nonzero(finite),) or not np.isfinite(seen).all():
            raise ValueError(
                f"policy {policy!r}: in_batch must return a finite number for each of the "
                f"{np.count_nonzero(finite)} losses, got shape {seen.shape}"
            )
        values[finite] = seen
    return values


def period(every: int | None, epochs: int) -> int:
    """Returns the epochs from one choice to the next: as said, or else a twentieth of the run."""
    return max(1, epochs // 20) if every is None else every


def score_of(policy: Policy, epochs: int, *, warm: bool = False) -> KeepsScore | None:
    """Returns the policy if it keeps a score, else None.

    Args:
        policy: Any policy.
        epochs: Length of the run.
        warm: Whether losses are known before it.

    Raises:
        ValueError, TypeError: What it says of its columns does not hold; or it would never judge by
            them.
    """
    columns = policy.columns if isinstance(policy, KeepsScore) else ()
    if not set(counted_columns(policy)) <= set(columns):
        raise ValueError(
            f"policy.counted must name some of the columns {columns}, got "
            f"{counted_columns(policy)} of {policy!r}: only what a policy keeps by columns, fold, "
            "score and every is counted"
        )
    if not isinstance(policy, KeepsScore):
        return None
    every = integer("policy.every", period(policy.every, epochs), 1, _EVERY)
    if every >= epochs > 1 and not warm:
        raise ValueError(
            f"policy.every must be less than epochs={epochs}, got {every} of {policy!r}: samples "
            "are chosen anew in each epoch whose number divides by it, here only in epoch 0, when "
            "no loss is known. Give a smaller one, or None to follow the length of the run"
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
    """Returns the names of the columns whose histograms the policy looks at."""
    return tuple(getattr(policy, "counted", ()))


def is_stratified(policy: Policy) -> bool:
    """Returns whether the policy looks at the losses class by class, and cannot do without."""
    return bool(getattr(policy, "stratified", False))


def takes_strata(policy: Policy) -> bool:
    """Returns whether the policy looks at the losses class by class where classes are given."""
    return getattr(policy, "stratified", False) is not False


def curve_of(policy: Policy, histogram: LossHistogram, epoch: int, epochs: int) -> KeepCurve:
    """Asks a policy for its curve, and checks what it answers.

    Raises:
        TypeError: It is no curve.
        ValueError: It is none for this histogram, or has values that no curve may have.
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
"""The methods by name, filled by `seta.policies`. A policy of your own needs no entry."""


def get(name: str, *, budget: float | None = None) -> Policy:
    """Returns the method of that name, in any case of letters.

    Args:
        name: As the registry has it.
        budget: Share of full training's sample visits, in (0, 1], for which the method is made, if
            it says how, by a class method `at_budget(budget)`. All others have their defaults, and
            so they all have without a budget: to keep to one is then the pruner's part.

    Raises:
        ValueError: There is none of that name; the message lists them all. Or the budget is none.
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
