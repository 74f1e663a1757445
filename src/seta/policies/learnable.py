"""Learnable: takes turns like RS2, and prunes hard samples that the model does not learn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram
from seta.engine.curves.policy import Columns
from seta.engine.curves.sums import dot, total
from seta.policies import checks
from seta.policies.quotas import fill, guess, quotas
from seta.policies.rs2 import RS2

LEAST, MOST = 2.0**-40, 2.0**40  # losses outside count as these
FAR = 2.0**84  # what is divided or multiplied by it lies outside of them, and is a normal float32
JUDGED, RISEN = 2.0**-42, 2.0**42  # between these ranges, so that no bin holds some of two


@dataclass(frozen=True)
class Learnable:
    """Prunes the hard samples that the model does not learn; all others take turns, as in `RS2`.

    The method measures during the run whether hard samples are learned. For each sample it compares
    the loss at its sixth visit with the loss at its second. It groups samples by their mean loss
    over visits 2 to 6 (each group: a tenth of all samples, around a level of loss). Where samples
    are learned, more than half of the losses have fallen, even at high losses. Samples with wrong
    labels get worse while the others are learned. So a level is *in doubt* if fewer than half of
    its losses have fallen, by more than one standard deviation of tossed coins. Levels below the
    easiest one without doubt are not in doubt; if all are, nothing is. The share of all samples in
    doubt is d.

    *Trust* then falls linearly over the 2 d samples with the highest running mean loss, from 1 (or
    from 1 / (2 d), if d is above one half) to 0. The keep probability is proportional to
    max(trust, 0.2); below a trust of 0.2, the loss weight falls with trust as well. So doubted
    samples are still visited now and then, and return if they are learned after all. Until the
    first samples get their sixth visit, the curve is that of `RS2`. Samples without a loss are
    trusted.

    With classes (`strata`), the 2 d hardest samples are taken from each class. As soon as there are
    losses, each class has a quota proportional to sqrt(mean loss x samples), as in `RCAP`, computed
    over trusted samples, with losses above log C counted as log C. A class without losses counts
    with the mean loss of the others.

    Limitations: without `strata`, classes that are rare and learned late may be left out like wrong
    labels. Wrong labels are left out only where they prevail: d is smaller than their share, and 0
    if right ones outnumber them at every level, as may be with a tenth of wrong labels. If learned
    and other samples have equal losses, d is too small, too, and mostly so with a few hundred
    samples. Losses that stay exactly the same count as fallen.

    Source: developed in this project; `benchmarks/accuracy/LAB.md` has the experiments, including
    those that failed. The noise of the mean over visits 2 to 6 and the noise of the difference
    cancel; samples grouped by an earlier loss would fall by regression to the mean.

    Memory: 8 bytes per sample. Losses are clipped to [1e-12, 1e12].

    Args:
        prune_ratio: r, the share to prune, in [0, 1); under a budget, 1 - budget.
    """

    prune_ratio: float = 0.3

    stratified: ClassVar[None] = None
    columns: ClassVar[tuple[str, ...]] = ("level", "early")
    counted: ClassVar[tuple[str, ...]] = ("early",)
    every: ClassVar[int] = 1
    rate: ClassVar[float] = 0.5
    """Weight of the newest loss in the running mean, after the sixth visit."""
    window: ClassVar[float] = 0.1
    """Share of the samples that are compared at each level of loss."""
    audit: ClassVar[float] = 0.2
    """Keep probability of samples without trust, relative to trusted ones."""

    @classmethod
    def at_budget(cls, budget: float, /) -> Learnable:
        """Returns the method with the prune ratio that corresponds to a budget, 1 - budget."""
        return cls(prune_ratio=checks.ratio_at(budget))

    def __post_init__(self) -> None:
        """Checks the ratio."""
        checks.ratio(self, "prune_ratio")

    def fold(self, columns: Columns, losses: NDArray[np.float32], /) -> Columns:
        """Returns the level (the running mean loss), and what the early visits say.

        The level is the mean over visits 2 to 6, then a running mean. `early` is 0 after one visit.
        After visits 2 to 5 it is the loss s of the second, as s / `FAR`, -s / `FAR`, -s and
        -s `FAR`. From the sixth visit on it is the level at that visit, times `FAR` if it rose.
        """
        level, early = (columns[name].astype(np.float64) for name in self.columns)
        loss = np.clip(losses.astype(np.float64), LEAST, MOST)
        size = np.abs(early)
        near, waiting = size < JUDGED, early < 0
        visits = [
            np.isnan(level),
            early == 0,
            near & ~waiting,
            near,
            waiting & (size < RISEN),
            waiting,
        ]
        rate = np.select(visits[2:], [1 / 2, 1 / 3, 1 / 4, 1 / 5], self.rate)
        level = np.where(visits[0] | visits[1], loss, level + rate * (loss - level))
        judged = np.where(loss <= size / FAR, level, level * FAR)
        kept = [0 * loss, loss / FAR, -early, early * FAR, early * FAR, judged]
        early = np.select(visits, kept, early)
        return {"level": level.astype(np.float32), "early": early.astype(np.float32)}

    def score(self, columns: Columns, /) -> NDArray[np.floating[Any]]:
        """Returns the levels."""
        return columns["level"]

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns the curve; with classes, one for each class."""
        walk = RS2(self.prune_ratio)(histogram, epoch, epochs)
        counts = histogram.cells[None] if histogram.by_stratum is None else histogram.by_stratum
        sizes, unseen = counts.sum(axis=1), counts[:, -1]
        if not histogram.seen:
            return walk
        trust = self.trust(histogram, counts[:, :-1])
        losses = np.minimum(histogram.centres, guess(sizes))
        wanted = self._wanted(counts[:, :-1], trust, losses, unseen)
        shares = quotas(wanted, sizes, (1 - self.prune_ratio) * histogram.total)
        often = np.insert(np.maximum(trust, self.audit), histogram.bins, 1.0, axis=1)
        keep = np.stack([fill(*row) for row in zip(often, counts, shares, strict=True)])
        weight = np.minimum(trust / self.audit, 1.0) if trust.min() < 1 else None
        if histogram.by_stratum is None:
            keep, weight = keep[0], None if weight is None else weight[0]
        return replace(walk, keep=keep[..., :-1], unseen=keep[..., -1], weight=weight)

    @staticmethod
    def _wanted(
        counts: NDArray[np.int64],
        trust: NDArray[np.float64],
        losses: NDArray[np.float64],
        unseen: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Returns sqrt(mean loss x samples) of what is trusted, by class: float64 (classes,).

        A class without losses counts with the mean loss of the others.
        """
        trusted = np.array([dot(*row) for row in zip(counts, trust, strict=True)])
        sums = np.array([dot(row, t * losses) for row, t in zip(counts, trust, strict=True)])
        means: NDArray[np.float64] = np.maximum(sums, 0.0) / np.maximum(trusted, LEAST)
        means[~counts.any(axis=1)] = max(total(sums), 0.0) / max(total(trusted), LEAST)
        return np.sqrt(means * (trusted + unseen))

    def trust(self, histogram: LossHistogram, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns the trust of each class and bin, in [0, 1]: float64 (classes, bins).

        Args:
            histogram: With the histogram of `early`; without it, all samples are trusted.
            counts: int64 (classes, bins).
        """
        early = histogram.columns.get("early")
        doubt = self.doubt(early) if early else 0.0
        if not doubt:
            return np.ones(counts.shape)
        harder = np.cumsum(counts[:, ::-1], axis=1)[:, ::-1] - counts / 2
        doubted = 2 * doubt * np.maximum(counts.sum(axis=1, keepdims=True), 1)
        trust: NDArray[np.float64] = np.minimum(harder / doubted, 1.0)
        return trust

    def doubt(self, early: LossHistogram) -> float:
        """Returns the share of samples in doubt, in [0, 1]; no sample is before its sixth visit.

        Args:
            early: Histogram of the column of that name.
        """
        chosen = np.flatnonzero((early.centres >= JUDGED) & (early.counts > 0))
        if not len(chosen):
            return 0.0
        centres = early.centres[chosen]
        risen = (centres > RISEN).astype(int)
        # FAR is a power of two, so the bins of a level are alike whether its losses fell or rose.
        levels, place = np.unique(np.where(risen, centres / FAR, centres), return_inverse=True)
        both = np.zeros((2, len(levels)), np.int64)
        both[risen, place] = early.counts[chosen]
        counts = both.sum(axis=0)
        ends = np.append(0, np.cumsum(counts))
        down = np.append(0, np.cumsum(both[0]))
        judged = int(ends[-1])
        # Windows are of whole levels, so that ranks on unlike machines compare the same numbers.
        width = max(1, int(self.window * judged))
        low = np.clip((ends[1:] + ends[:-1] - width) // 2, 0, judged - width)
        first = np.searchsorted(ends, low, "right") - 1
        last = np.searchsorted(ends, low + width, "left")
        sizes = ends[last] - ends[first]
        share = (down[last] - down[first]) / sizes  # of losses that fell
        chance = 0.5 / np.sqrt(sizes)  # the standard deviation of the share of tossed coins
        trusted = share + chance >= 0.5
        if not trusted.any():
            return 0.0  # there is nothing that is learned, beside which these are not
        trusted[: int(np.argmax(trusted))] = True  # what is easier than what is learned
        return int(counts[~trusted].sum()) / early.seen
