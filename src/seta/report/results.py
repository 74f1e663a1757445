"""What was measured: a run, row by row, and what its method's runs come to.

Stands between the training runs, which append one row per epoch, and the tables and plots, which
read. Numpy-free and cheap; an unfinished run is kept and marked, never passed off as a finished
one, and an accuracy is always that of the last epoch, never of the best.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

__all__ = ["MethodSummary", "Run", "counted_runs", "mean_curve", "summarise"]


@dataclass
class Run:
    """One training run: a method and a seed.

    Attributes:
        method: The name under which the runs of a method are put together.
        seed: The seed of weights, order and draws.
        epochs: Epochs that the run was planned to have.
        rows: One mapping per epoch that has ended: `accuracy` (0..1, held-out images), `visits`
            (samples trained up to now), `saved` (0..1 of full training), `seconds` (of training,
            up to now).
    """

    method: str
    seed: int
    epochs: int
    rows: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """Whether all planned epochs have been measured."""
        return len(self.rows) >= self.epochs

    def last(self, key: str) -> float:
        """The figure of the last measured epoch."""
        return float(self.rows[-1][key])


@dataclass(frozen=True)
class MethodSummary:
    """A method's runs put together: means, and the spread of the accuracy.

    Attributes:
        method: Name of the method.
        runs: Number of runs that the figures come from.
        accuracy: Mean over the runs of the last epoch's accuracy, 0..1.
        spread: Sample standard deviation of the same; None with a single run.
        visits: Mean number of samples trained.
        saved: Mean of 1 - visits / visits of full training.
        seconds: Mean wall time of the training, without the evaluation.
        stopped: (epochs measured, epochs planned) if no run has finished: the figures are those of
            a run that was stopped; None otherwise.
    """

    method: str
    runs: int
    accuracy: float
    spread: float | None
    visits: float
    saved: float
    seconds: float
    stopped: tuple[int, int] | None = None


def summarise(runs: Iterable[Run]) -> list[MethodSummary]:
    """Put runs together by method, in the order in which the methods first appear.

    Only finished runs count; where a method has none, its furthest unfinished run stands for it,
    marked as such. Runs without a row are left out.
    """
    by_method: dict[str, list[Run]] = {}
    for run in runs:
        if run.rows:
            by_method.setdefault(run.method, []).append(run)
    return [_summary(method, of_method) for method, of_method in by_method.items()]


def _summary(method: str, runs: Sequence[Run]) -> MethodSummary:
    counted = counted_runs(runs)
    furthest = counted[0]
    accuracies = [run.last("accuracy") for run in counted]
    return MethodSummary(
        method=method,
        runs=len(counted),
        accuracy=fmean(accuracies),
        spread=stdev(accuracies) if len(accuracies) > 1 else None,
        visits=fmean(run.last("visits") for run in counted),
        saved=fmean(run.last("saved") for run in counted),
        seconds=fmean(run.last("seconds") for run in counted),
        stopped=None if furthest.finished else (len(furthest.rows), furthest.epochs),
    )


def counted_runs(runs: Sequence[Run]) -> list[Run]:
    """The runs of one method that may be averaged: the finished ones, or else the furthest one.

    Args:
        runs: At least one, each with at least one row.
    """
    finished = [run for run in runs if run.finished]
    return finished or [max(runs, key=lambda run: len(run.rows))]


def mean_curve(runs: Sequence[Run]) -> tuple[list[float], list[float], list[float]]:
    """Accuracy against samples trained, averaged over the runs of one method epoch by epoch.

    Returns:
        Mean visits, mean accuracy and spread (standard deviation; 0 with one run), one entry per
        epoch that all averaged runs have in common.
    """
    counted = counted_runs(runs)
    visits: list[float] = []
    means: list[float] = []
    spreads: list[float] = []
    for rows in zip(*(run.rows for run in counted), strict=False):
        accuracies = [float(row["accuracy"]) for row in rows]
        visits.append(fmean(float(row["visits"]) for row in rows))
        means.append(fmean(accuracies))
        spreads.append(stdev(accuracies) if len(accuracies) > 1 else 0.0)
    return visits, means, spreads
