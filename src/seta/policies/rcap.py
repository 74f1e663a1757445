"""RCAP: gives each class a quota, and prefers hard samples within the class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram
from seta.engine.curves.sums import dot, exp, total
from seta.policies import checks
from seta.policies.quotas import LEAST, fill, guess, quotas


@dataclass(frozen=True)
class RCAP:
    """Assigns each class a quota by its losses, and prefers samples of high loss within the class.

    The quota of a class is proportional to sqrt(mean loss x share of the samples); the quotas add
    up to the share 1 - r. Within a class, keep probabilities are proportional to exp(loss / b).
    Losses above log C, the loss of a uniform guess among C classes, count as log C. All weights
    are 1.

    Source: Hassan, Khare, Paik, "RCAP: Robust, Class-Aware, Probabilistic Dynamic Dataset Pruning",
    UAI 2025, PMLR 286:1648-1662. Differences: probabilities are cut at 1 and the others of the
    class raised, instead of drawing samples one by one; if a quota exceeds its class, the excess
    goes to the other classes. Until any sample has a loss, every sample is kept with probability
    1 - r. A sample without a loss counts as one with the mean loss of its class, and a class
    without losses as one with the mean loss of the others.

    Needs `strata=`, the class of each sample (1 byte per sample for up to 256 classes).

    Args:
        prune_ratio: r, the share of samples to prune, in [0, 1).
        temperature: b > 0; smaller values prefer hard samples more.
    """

    prune_ratio: float = 0.3
    temperature: float = 1.0

    stratified: ClassVar[bool] = True

    @classmethod
    def at_budget(cls, budget: float, /) -> RCAP:
        """Returns the method with the prune ratio that corresponds to a budget, 1 - budget."""
        return cls(prune_ratio=checks.ratio_at(budget))

    def __post_init__(self) -> None:
        """Checks the arguments."""
        checks.ratio(self, "prune_ratio")
        meaning = "the scale of the losses in the softmax, 0.25 to 3 in the paper"
        checks.positive(self, "temperature", meaning)

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns, by class, probabilities proportional to exp(loss / b) that fill its quota."""
        counts = histogram.by_stratum
        if counts is None:
            counts = histogram.cells[None]
        sizes, seen = counts.sum(axis=1), counts[:, :-1].sum(axis=1)
        if not seen.any():
            return KeepCurve.constant(histogram, 1 - self.prune_ratio)
        most = guess(sizes)
        losses = np.clip(histogram.centres, 0.0, most)
        sums = np.array([dot(row, losses) for row in counts[:, :-1]])
        means = np.where(seen > 0, sums / np.maximum(seen, 1), total(sums) / int(seen.sum()))
        shares = quotas(np.sqrt(means * sizes), sizes, (1 - self.prune_ratio) * int(sizes.sum()))
        with np.errstate(over="ignore"):  # of a temperature near 0
            weights = exp((np.append(losses, means) - most) / self.temperature)
        of_bins, of_means = np.split(np.maximum(weights, LEAST), [len(losses)])
        keep = np.ones(counts.shape)
        for row, of_mean, share, of_class in zip(keep, of_means, shares, counts, strict=True):
            row[:] = fill(np.append(of_bins, of_mean), of_class, share)
        if histogram.by_stratum is None:
            return KeepCurve(keep[0, :-1], float(keep[0, -1]))
        return KeepCurve(keep[:, :-1], keep[:, -1])
