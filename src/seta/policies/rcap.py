"""RCAP: within each class the hard samples rather, and no class left behind."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from seta.engine.curve import KeepCurve
from seta.engine.fit import factor_of
from seta.engine.histogram import LossHistogram
from seta.policies import checks


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

    def __post_init__(self) -> None:
        """Checks the arguments."""
        checks.ratio("prune_ratio", self.prune_ratio)
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise ValueError(
                f"temperature must be above 0 and finite, got {self.temperature!r}: the scale of "
                "the losses in the softmax, 0.25 to 3 in the paper"
            )

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns for each class its softmax, fitted to its quota."""
        counts = histogram.by_stratum
        if counts is None:
            counts = histogram.cells[None]
        sizes, seen = counts.sum(axis=1), counts[:, :-1].sum(axis=1)
        if not (seen[sizes > 0] > 0).all():
            return KeepCurve.constant(histogram, 1 - self.prune_ratio)
        most = math.log(max(2, int(np.count_nonzero(sizes))))
        losses = np.clip(histogram.centres, 0.0, most)
        means = counts[:, :-1] @ losses / np.maximum(seen, 1)
        quotas = _quotas(np.sqrt(means * sizes), sizes, (1 - self.prune_ratio) * sizes.sum())
        keep = np.ones(counts.shape)
        for row, mean, quota, of_class in zip(keep, means, quotas, counts, strict=True):
            row[:] = _filled(
                np.exp((np.append(losses, mean) - most) / self.temperature), of_class, quota
            )
        if histogram.by_stratum is None:
            return KeepCurve(keep[0, :-1], float(keep[0, -1]))
        return KeepCurve(keep[:, :-1], keep[:, -1])


def _quotas(
    wanted: NDArray[np.float64], sizes: NDArray[np.int64], total: float
) -> NDArray[np.float64]:
    """Returns shares of the total in proportion to what is wanted, none above its size."""
    least = np.finfo(float).tiny * 2.0**50  # a class of losses of 0 comes last, but comes
    wanted = np.maximum(wanted, least) / np.maximum(sizes, 1)
    return sizes * _filled(wanted, sizes, total)


def _filled(
    weights: NDArray[np.float64], counts: NDArray[np.int64], total: float
) -> NDArray[np.float64]:
    """Returns probabilities in proportion to weights above 0, cut at 1, that make up the total."""
    if total >= counts.sum():
        return np.ones(len(weights))
    return np.minimum(factor_of(weights, counts, total) * weights, 1.0)
