"""The Pruner's arguments: each refusal names the argument, the value, the rule and the way out."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seta.engine.budget import Budget, epoch_lengths
from seta.engine.losses import check_indices
from seta.engine.policy import Policy, get, is_stratified
from seta.engine.ranks import Ranks
from seta.engine.rows import Row
from seta.engine.table import SHARDED_FROM, Sharding

Reorder = Callable[[NDArray[Any]], ArrayLike]
Listener = Callable[[Row], object]


def policy(policy: Policy | str) -> Policy:
    """Returns the policy, looked up where it is a name."""
    if isinstance(policy, str):
        return get(policy)
    if isinstance(policy, type) or not callable(policy):
        raise TypeError(
            "policy must be a method such as seta.SeTa(), its name, or a function "
            f"(histogram, epoch, epochs) -> KeepCurve, got {policy!r}"
        )
    return policy


def integer(name: str, value: int, least: int, remedy: str) -> int:
    """Returns an integer of at least `least`, as an int."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}: {remedy}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}: {remedy}")
    return number


def always_keep(indices: ArrayLike | None, n: int) -> NDArray[np.int64] | None:
    """Returns the indices sorted, each once; None where there are none."""
    if indices is None:
        return None
    array = np.asarray(indices)
    if not array.size:
        return None
    check_indices(array, n, name="always_keep")
    return np.unique(array).astype(np.int64)


def strata(
    strata: ArrayLike | None, n: int, policy: Policy
) -> NDArray[np.unsignedinteger[Any]] | None:
    """Returns the strata, as narrow as they can be, if the policy looks at them; else None."""
    if strata is None:
        if is_stratified(policy):
            raise ValueError(
                f"strata=None, but policy {policy!r} looks at the losses class by class: give "
                "strata=, the class of each sample, integers from 0 on"
            )
        return None
    array = np.asarray(strata)
    if array.shape != (n,) or array.dtype.kind not in "iu":
        raise ValueError(
            f"strata must be integers of shape ({n},), the class of each sample, "
            f"got {array.dtype} of shape {array.shape}"
        )
    if int(array.min()) < 0 or int(array.max()) >= n:
        raise ValueError(
            f"strata must lie in 0..{n - 1}, got values from {array.min()} to {array.max()}: "
            "number the classes from 0 on (numpy.unique(classes, return_inverse=True)[1])"
        )
    return array.astype(np.min_scalar_type(int(array.max()))) if is_stratified(policy) else None


def lengths(
    budget: Budget | None, n: int, epochs: int, unit: int, always_keep: NDArray[np.int64] | None
) -> list[int] | None:
    """Returns the samples of each epoch under a budget; None where there is none."""
    unit = integer("unit", unit, 1, "the samples of one global batch")
    if budget is None:
        return None
    if unit > n:
        raise ValueError(
            f"unit, the samples of one global batch (batch size x ranks), must be at most the {n} "
            f"samples of the dataset, got {unit}: choose a smaller batch size, or, on one process, "
            "drop_last=False"
        )
    result = epoch_lengths(budget, n, epochs, unit)
    if always_keep is not None and len(always_keep) > min(result):
        raise ValueError(
            f"always_keep has {len(always_keep)} samples, more than the {min(result)} of the "
            "shortest epoch under the budget: raise the budget, or keep fewer"
        )
    return result


def sharding(sharding: Sharding | None, n: int, ranks: Ranks | None) -> Sharding:
    """Returns how the losses are held, chosen by their number where it is not said."""
    if sharding is None:
        apart = ranks is not None and ranks.processes == ranks.size
        return "sharded" if apart and n >= SHARDED_FROM else "replicated"
    if sharding not in ("replicated", "sharded"):
        raise ValueError(
            f'sharding must be "replicated" (all losses in each process) or "sharded" (each its '
            f"part), got {sharding!r}; None chooses by the size of the dataset"
        )
    return sharding


def listeners(on_epoch: Listener | Iterable[Listener] | None) -> list[Listener]:
    """Returns one listener, several or none as a list."""
    if on_epoch is None:
        return []
    listeners = [on_epoch] if callable(on_epoch) else list(on_epoch)
    for listener in listeners:
        if not callable(listener):
            raise TypeError(f"on_epoch must be a function of the epoch's row, got {listener!r}")
    return listeners


def reordered(reorder: Reorder, indices: NDArray[Any]) -> NDArray[Any]:
    """Returns what the user's hook makes of the indices; refuses what is no permutation."""
    result = np.asarray(reorder(indices.copy()))
    if result.shape != indices.shape or not np.array_equal(np.sort(result), np.sort(indices)):
        raise ValueError(
            f"reorder must return the {len(indices)} indices that it was given, each once, "
            f"in another order; got an array of shape {result.shape} that is no such permutation"
        )
    return result.astype(indices.dtype)
