"""The Pruner's arguments: each refusal names the argument, the value, the rule and the way out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from math import fsum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seta.engine.curves.policy import Policy, get, is_stratified, takes_strata
from seta.engine.numbers import integer as integer
from seta.engine.rows import Row
from seta.engine.steps import Budget, Steps, shares_of
from seta.engine.table.columns import check_indices
from seta.engine.table.ranks import Ranks
from seta.engine.table.table import SHARDED_FROM, Sharding

Reorder = Callable[[NDArray[Any]], ArrayLike]
Listener = Callable[[Row], object]

_EPOCHS = "give the number of epochs of the whole run"
_SHORTEST = 16  # of the lengths of epochs


def policy(policy: Policy | str, share: float | None = None) -> Policy:
    """Returns the policy, looked up if it is a name.

    Args:
        policy: The policy, or its name.
        share: Share of full training's sample visits, in (0, 1], for which a named policy is made;
            None: with its defaults.
    """
    if isinstance(policy, str):
        return get(policy, budget=share)
    if isinstance(policy, type) or not callable(policy):
        raise TypeError(
            "policy must be a method such as seta.SeTa(), its name, or a function "
            f"(histogram, epoch, epochs) -> KeepCurve, got {policy!r}"
        )
    return policy


def always_keep(indices: ArrayLike | None, n: int) -> NDArray[np.int64] | None:
    """Returns the indices sorted, each once; None where there are none."""
    return None if indices is None else _samples("always_keep", indices, n)


def traced(track: bool | ArrayLike, n: int) -> NDArray[np.int64] | None:
    """Returns the samples whose trajectories the user named, sorted; None: none."""
    return None if isinstance(track, (bool, np.bool_)) else _samples("track", track, n)


def _samples(name: str, indices: ArrayLike, n: int) -> NDArray[np.int64] | None:
    array = np.asarray(indices)
    if not array.size:
        return None
    if array.dtype == np.bool_:
        raise ValueError(
            f"{name} must be indices, got a mask of shape {array.shape}: give "
            "numpy.flatnonzero(mask)"
        )
    check_indices(array, n, name=name)
    samples = np.unique(array).astype(np.int64)
    samples.flags.writeable = False
    return samples


def strata(
    strata: ArrayLike | None, n: int, policy: Policy
) -> NDArray[np.unsignedinteger[Any]] | None:
    """Returns the strata in the smallest dtype if the policy uses them; else None."""
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
            f"got {array.dtype} of shape {array.shape}: give one class per sample"
        )
    if int(array.min()) < 0 or int(array.max()) >= n:
        raise ValueError(
            f"strata must lie in 0..{n - 1}, got values from {array.min()} to {array.max()}: "
            "number the classes from 0 on (numpy.unique(classes, return_inverse=True)[1])"
        )
    return array.astype(np.min_scalar_type(int(array.max()))) if takes_strata(policy) else None


def classes(classes: ArrayLike, n: int) -> NDArray[np.integer[Any]]:
    """Returns the class of each sample, which may be any integers."""
    array = np.asarray(classes)
    if array.shape != (n,) or array.dtype.kind not in "iu":
        raise ValueError(
            f"classes must be integers of shape ({n},), the class of each sample, "
            f"got {array.dtype} of shape {array.shape}: for names, give "
            "numpy.unique(names, return_inverse=True)[1]"
        )
    return array


def epochs(epochs: int | None) -> int:
    """Returns the length of the run."""
    return integer("epochs", epochs, 1, _EPOCHS)


def sizes(n: int, batch_size: int, drop_last: bool, ranks: Ranks | None) -> Steps:
    """Returns the sizes of a run; refuses those under which an epoch would be empty."""
    batch_size = integer("batch_size", batch_size, 1, "the samples of one batch on each rank")
    result = Steps(n, batch_size, 1 if ranks is None else ranks.size, bool(drop_last))
    if n < result.ranks:
        raise ValueError(
            f"n, the samples of the dataset, must be at least one for each of the {result.ranks} "
            f"ranks, got {n}: train on fewer ranks"
        )
    if not result.most:
        raise ValueError(
            "batch_size must leave a whole global batch with drop_last=True, got batch_size="
            f"{batch_size} on {result.ranks} {'rank' if result.ranks == 1 else 'ranks'} for {n} "
            "samples: choose a smaller one, or drop_last=False"
        )
    return result


def lengths(
    sizes: Steps,
    budget: Budget | None,
    epochs: int | None,
    steps: int | None,
    always_keep: NDArray[np.int64] | None,
) -> list[int] | None:
    """Returns the samples of each epoch under a budget; None where there is none.

    Args:
        sizes: Of the run.
        budget: Share of full training's visits.
        epochs: Length of the run; or
        steps: Its batches, on each rank.
        always_keep: Samples of every epoch.
    """
    if always_keep is not None and len(always_keep) > sizes.most:
        raise ValueError(
            f"always_keep has {len(always_keep)} samples, more than the {sizes.most} of an epoch "
            "with drop_last=True: keep fewer, or drop_last=False"
        )
    if (epochs is None) == (steps is None):
        raise ValueError(
            f"either epochs or steps must be given, got epochs={epochs} and steps={steps}: the "
            "length of the whole run, in epochs, or under a budget in batches"
        )
    if budget is None:
        if steps is not None:
            raise ValueError(
                f"steps={steps} needs a budget, since without one the number of epochs is not "
                "known: give budget=, or epochs= in place of steps="
            )
        return None
    result = (
        sizes.lengths(budget, integer("epochs", epochs, 1, _EPOCHS))
        if epochs is not None
        else sizes.run_of(integer("steps", steps, 1, "the batches of the whole run"), budget)
    )
    _check_always_keep(always_keep, result)
    return result


def share(budget: Budget | None, epochs: int) -> float | None:
    """Returns the share of full training's visits that a budget allows; None without one.

    Of several shares, it is their mean. The batch size has no part in it: a run may go on with
    another number of ranks, and its method must be the same.
    """
    if budget is None:
        return None
    shares = [float(share) for share in islice(shares_of(budget), epochs)]
    return shares[0] if len(set(shares)) == 1 else fsum(shares) / epochs


def resized_lengths(
    sizes: Steps,
    budget: Budget,
    lengths: list[int],
    before: int,
    batches: int | None,
    always_keep: NDArray[np.int64] | None,
) -> list[int]:
    """Returns the samples of each epoch of a run whose sizes change on its way.

    Args:
        sizes: From now on.
        budget: Share of full training's visits.
        lengths: As they were laid out.
        before: How many epochs are over.
        batches: On each rank, that are left of a run of so many; None: it is one of epochs.
        always_keep: Samples of every epoch.
    """
    over, left = lengths[:before], lengths[before:]
    if left:
        if batches is None:
            left = sizes.lengths(budget, len(lengths), before)
        else:
            left = sizes.run_of(batches, budget, before)
        _check_always_keep(always_keep, left)
    if len(over + left) != len(lengths):
        raise ValueError(
            f"n={sizes.n} makes the steps of this run {len(over + left)} epochs, and it was "
            f"planned with {len(lengths)}: make a new Pruner with losses= of this one"
        )
    return over + left


def _check_always_keep(always_keep: NDArray[np.int64] | None, lengths: list[int]) -> None:
    """Refuses more samples of every epoch than an epoch has."""
    if always_keep is not None and len(always_keep) > min(lengths):
        raise ValueError(
            f"always_keep has {len(always_keep)} samples, more than the {min(lengths)} of the "
            "shortest epoch under the budget: raise the budget, or keep fewer"
        )


def check_shares(sizes: Steps, lengths: list[int] | None, share_size: Callable[[int], int]) -> None:
    """Refuses lengths of which some rank would get no batch.

    Args:
        sizes: Of the run.
        lengths: Samples of each epoch; None: not known.
        share_size: Says how many of so many samples the rank with the fewest gets (`Table`).
    """
    # The more samples, the more for each; but for a few, where there are hardly any.
    for length in sorted(set(lengths or ()))[:_SHORTEST]:
        if not sizes.whole(share_size(length), length):
            raise ValueError(
                f"budget leaves a rank without a batch of {sizes.batch_size} in an epoch of "
                f"{length} samples, since the shards of {sizes.n} samples are distributed over "
                f'{sizes.ranks} ranks: use sharding="replicated", or raise the budget'
            )


def sharding(sharding: Sharding | None, n: int, ranks: Ranks | None) -> Sharding:
    """Returns how the losses are held; None: chosen by the number of samples."""
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
    listeners: list[Any]
    if callable(on_epoch) or not isinstance(on_epoch, Iterable):
        listeners = [on_epoch]
    else:
        listeners = list(on_epoch)
    for listener in listeners:
        if not callable(listener):
            raise TypeError(f"on_epoch must be a function of the epoch's row, got {listener!r}")
    return listeners


def done(done: int, epoch: int | None, kept: int) -> None:
    """Refuses a position that an epoch does not have."""
    number = integer("done", done, 0, "the samples of the open epoch that are trained")
    if number > kept:
        of = "since no epoch is open" if epoch is None else f"the samples of epoch {epoch}"
        raise ValueError(
            f"done must be at most {kept}, {of}, got {number}: count from 0 in every epoch"
        )


def changed(names: Iterable[str]) -> set[str]:
    """Returns the names of the arguments that may differ from a saved run."""
    if names is None or isinstance(names, str):
        raise TypeError(f'changed must be a list of names, such as ["epochs"], got {names!r}')
    return set(names)


def reordered(reorder: Reorder, indices: NDArray[Any]) -> NDArray[Any]:
    """Returns the result of `reorder` for an epoch's indices; refuses what is no permutation."""
    result = np.asarray(reorder(indices.copy()))
    if result.dtype.kind not in "iu":
        raise TypeError(
            f"reorder must return integers, the indices that it was given, got {result.dtype}"
        )
    if result.shape != indices.shape or not np.array_equal(np.sort(result), np.sort(indices)):
        raise ValueError(
            f"reorder must return the {len(indices)} indices that it was given, each once, "
            f"in another order; got an array of shape {result.shape} that is no such permutation"
        )
    return result.astype(indices.dtype)
