"""How fast this machine chooses: real epoch starts, timed for some seconds.

The one part of `seta.plan` with a clock. Times a `Pruner` on made-up losses with all threads that
it would use; sizes grow up to what the run has, or to 4 million samples. The two largest tell what
grows with the samples from what does not, such as the cost of each class.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import numpy as np

from seta.engine import parallel
from seta.engine.pruner import Pruner
from seta.plan.lengths import alike, gamma_losses
from seta.plan.outline import Plan
from seta.plan.times import Calibration

__all__ = ["calibrate"]

_SIZES = (250_000, 1_000_000, 4_000_000)
_ENOUGH = 1.0  # seconds after which no larger size is tried
_EPOCHS = 100  # of which the first few are timed, long before any annealing


def calibrate(plan: Plan) -> Calibration:
    """Times epoch starts of the kind that each rank of a run has.

    Args:
        plan: The run: its method, the samples of a rank, whether lengths are exact.
    """
    share = plan.visits / plan.full_visits
    began, took = time.perf_counter(), []
    largest = min(plan.rows, _SIZES[-1])  # sizes nearer than half of it would tell noise apart
    for size in (*(size for size in _SIZES if 2 * size <= largest), largest):
        choose, order, record = _time(plan, size, share if plan.exact else None)
        took.append((size, choose))
        if len(took) > 1 and time.perf_counter() - began > _ENOUGH:
            break
    each, fixed = growing(took)
    threads, cores = parallel.available_threads(), available_cores()
    return Calibration(size, 1e9 * each, order, record, threads, cores, fixed)


def growing(took: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Returns what grows with the samples, in seconds per sample, and what does not, in seconds.

    Args:
        took: (samples, seconds), by rising size; the last two count. Where the larger one took no
            longer, or there is one, all counts as growing.
    """
    size, seconds = took[-1]
    if len(took) > 1:
        smaller, less = took[-2]
        each = (seconds - less) / (size - smaller)
        if each > 0:
            fixed = max(0.0, seconds - each * size)
            return (seconds - fixed) / size, fixed
    return seconds / size, 0.0


def _time(plan: Plan, n: int, share: float | None) -> tuple[float, float, float]:
    """Returns seconds of an epoch start, and ns per sample of its order and of recording.

    Odd and even epochs have different windows: the dearer kind counts. Of each kind the best of two
    counts, unless they take long: the rest is what else the machine was busy with.
    """
    budget = None if share is None else min(1.0, max(share, 1 / n))
    losses, classes = gamma_losses(n), plan.request.classes
    pruner = Pruner(
        n,
        plan.policy,
        epochs=_EPOCHS,
        budget=budget,
        losses=losses,
        sharding=plan.request.sharding,
        strata=None if classes is None else alike(n, classes),
    )
    choose, order, record = [], [], []
    start = time.perf_counter()
    for epoch in range(5):
        if epoch > 2 and time.perf_counter() - start > _ENOUGH:
            break
        began = time.perf_counter()
        selection = pruner.begin_epoch(epoch)
        choose.append(time.perf_counter() - began)
        began = time.perf_counter()
        chosen = np.concatenate(list(selection.blocks()))
        order.append((time.perf_counter() - began) / len(chosen))
        values = losses[chosen]
        began = time.perf_counter()
        pruner.record(chosen, values)
        record.append((time.perf_counter() - began) / len(chosen))
    return _dearer(choose), 1e9 * _dearer(order), 1e9 * _dearer(record)


def _dearer(seconds: list[float]) -> float:
    """Returns the dearer of odd and even epochs; the first, which warms up, is left out."""
    return max(min(seconds[1::2]), min(seconds[2::2]))


def available_cores() -> int:
    """Returns the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
