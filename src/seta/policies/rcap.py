"""RCAP: within each class the hard samples rather, and no class left behind."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.fit import filled
from seta.engine.curves.histogram import LossHistogram
from seta.engine.curves.sums import dot, exp
from seta.policies import checks

_LEAST = 2.0**-970  # weights below count as this one: far behind all others, but not never


@dataclass(frozen=True)
class RCAP:
    """Gives each class a quota by its losses and size, and fills it by softmax of the losses.

    A class's quota is proportional to sqrt(mean loss x share of the samples), and all quotas
    together make the share 1 - r; within a class samples are kept with probabilities proportional
    to exp(loss / b). Losses above log C count as log C, that of a guess among C classes. Weight 1.

    Source: RCAP, UAI 2025. Differences: probabilities are cut at 1 and the rest of the class raised
    instead of drawing one by one; what a quota exceeds its class by goes to the others. Until all
    classes have losses every sample is kept with probability 1 - r; a sample without a loss counts
    as one of the mean loss of its class.

    Needs `strata`, the class of each sample: 1 byte per sample up to 256 classes, which the caller
    holds.

    Args:
        prune_ratio: r in [0, 1).
        temperature: b > 0; the smaller, the more hard samples are preferred.
    """

    prune_ratio: float = 0.3
    temperature: float = 1.0

    stratified: ClassVar[bool] = True

    @classmethod
    def at_budget(cls, budget: float, /) -> RCAP:
        """Returns the method whose ratio makes up a budget."""
        return cls(prune_ratio=checks.ratio_at(budget))

    def __post_init__(self) -> None:
        """Checks the arguments."""
        checks.ratio(self, "prune_ratio")
        meaning = "the scale of the losses in the softmax, 0.25 to 3 in the paper"
        checks.positive(self, "temperature", meaning)

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns for each class its softmax, fitted to its quota."""
        counts = histogram.by_stratum
        if counts is None:
            counts = histogram.cells[None]
        sizes, seen = counts.sum(axis=1), counts[:, :-1].sum(axis=1)
        if not (seen[sizes > 0] > 0).all():
            return KeepCurve.constant(histogram, 1 - self.prune_ratio)
        most = float(Decimal(max(2, int(np.count_nonzero(sizes)))).ln(Context(prec=28)))
        losses = np.clip(histogram.centres, 0.0, most)
        means = np.array([dot(row, losses) for row in counts[:, :-1]]) / np.maximum(seen, 1)
        quotas = _quotas(np.sqrt(means * sizes), sizes, (1 - self.prune_ratio) * int(sizes.sum()))
        with np.errstate(over="ignore"):  # of a temperature near 0
            weights = exp((np.append(losses, means) - most) / self.temperature)
        of_bins, of_means = np.split(np.maximum(weights, _LEAST), [len(losses)])
        keep = np.ones(counts.shape)
        for row, of_mean, quota, of_class in zip(keep, of_means, quotas, counts, strict=True):
            row[:] = _filled(np.append(of_bins, of_mean), of_class, quota)
        if histogram.by_stratum is None:
            return KeepCurve(keep[0, :-1], float(keep[0, -1]))
        return KeepCurve(keep[:, :-1], keep[:, -1])


def _quotas(
    wanted: NDArray[np.float64], sizes: NDArray[np.int64], total: float
) -> NDArray[np.float64]:
    """Returns shares of the total in proportion to what is wanted, none above its size."""
    # A class of losses of 0 comes last, but comes.
    wanted = np.maximum(wanted, _LEAST) / np.maximum(sizes, 1)
    return sizes * _filled(wanted, sizes, total)


def _filled(
    weights: NDArray[np.float64], counts: NDArray[np.int64], total: float
) -> NDArray[np.float64]:
    """Returns probabilities in proportion to weights above 0, cut at 1, that make up the total."""
    if total >= int(counts.sum()):
        return np.ones(len(weights))
    return filled(weights, counts, total)[0]
