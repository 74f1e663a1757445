"""Learnable: a walk over all samples, without training on the hard ones that are not learnt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram
from seta.engine.curves.policy import Columns
from seta.engine.curves.sums import dot
from seta.policies import checks
from seta.policies.quotas import fill, quotas
from seta.policies.rs2 import RS2

LEAST, MOST = 2.0**-40, 2.0**40  # losses outside count as these
FAR = 2.0**84  # what is divided by it lies below all of them, and is still a normal float32
JUDGED = 2.0**-42  # between the two, so that no bin holds some of both


@dataclass(frozen=True)
class Learnable:
    """Leaves out hard samples, as many as the run shows not to be learnt; walks over the rest.

    Whether hard samples are worth their visits is asked of the run itself. From its second look to
    its fourth the loss of a sample comes down or it does not. Among samples of about the same mean
    loss over these three looks (a twentieth of all on either side), clearly more than half come
    down where samples are learnt, hard ones too; it is half, as for tossed coins, where they are
    not: wrong labels, mostly. A level is in doubt as far as the share that came down falls short of
    0.58, and a standard deviation of chance in its favour; all levels together give the share d of
    all samples in doubt. Levels easier than one that is learnt are not in doubt.

    The samples of the highest running mean losses pay for it: trust falls in a line over the 2 d
    hardest, from 1 (or 1 / 2 d, where d is above a half) to 0. Samples are kept in proportion to
    trust, but for a fifth at least: below, the weight falls with trust. So they are still looked
    at, their losses stay up to date, and those that are learnt after all come back. Coins walk as
    those of RS2, and until the first samples get their fourth look the curve is RS2's. Samples
    without a loss are trusted.

    Where the classes of the samples are given (`strata`), the 2 d hardest are those of each class,
    and each class has a quota in proportion to sqrt(mean loss x samples), as RCAP's (a loss counts
    as log C at most), both of what is trusted in it, as soon as all classes have losses.

    Hurts where a net has hardly begun to learn, or learns very slowly, when samples get their
    fourth look: half of them come down by chance, and the doubt stays. Where learnt and other
    samples have the same losses, d is too small; of a few hundred samples, by chance it is small.

    Source: our own; how it was found, and what failed: `benchmarks/accuracy/LAB.md`. The mean over
    the three looks and the way between them have noise in common, which cancels: samples chosen by
    an earlier loss would come down just because they were chosen by a high one.

    Keeps 8 bytes per sample. Losses count as 1e-12 at least, negative ones too, and 1e12 at most.

    Args:
        prune_ratio: r in [0, 1); under a budget, 1 - budget.
    """

    prune_ratio: float = 0.3

    stratified: ClassVar[None] = None
    columns: ClassVar[tuple[str, ...]] = ("level", "early")
    counted: ClassVar[tuple[str, ...]] = ("early",)
    every: ClassVar[int] = 1
    rate: ClassVar[float] = 0.5
    """The part of the newest loss in the level, after the fourth look."""
    learnt: ClassVar[float] = 0.58
    """The share that has to come down for all of a level to be trusted."""
    window: ClassVar[float] = 0.1
    """The share of the samples that make up a level."""
    audit: ClassVar[float] = 0.2
    """How often samples without trust are looked at, beside trusted ones."""

    @classmethod
    def at_budget(cls, budget: float, /) -> Learnable:
        """Returns the method whose ratio makes up a budget."""
        return cls(prune_ratio=checks.ratio_at(budget))

    def __post_init__(self) -> None:
        """Checks the ratio."""
        checks.ratio(self, "prune_ratio")

    def fold(self, columns: Columns, losses: NDArray[np.float32], /) -> Columns:
        """Returns the level, and what the early looks say.

        The level is the mean of looks 2, 3, 4, then a running mean. `early` is 0 after one look;
        after two and three it holds the loss of the second, divided by `FAR`, minus after three;
        from the fourth on it is the level of then, minus if the loss had gone up.
        """
        level, early = (columns[name].astype(np.float64) for name in self.columns)
        loss = np.clip(losses.astype(np.float64), LEAST, MOST)
        waiting = np.abs(early) < LEAST
        looks = [np.isnan(level), early == 0, waiting & (early > 0), waiting]
        rate = np.select(looks, [1.0, 1.0, 1 / 2, 1 / 3], self.rate)
        level = np.where(looks[0], loss, level + rate * (loss - level))
        judged = np.where(loss <= -early * FAR, level, -level)
        early = np.select(looks, [0 * loss, loss / FAR, -early, judged], early)
        return {"level": level.astype(np.float32), "early": early.astype(np.float32)}

    def score(self, columns: Columns, /) -> NDArray[np.floating[Any]]:
        """Returns the levels."""
        return columns["level"]

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns the curve; one for each class, where there are classes."""
        walk = RS2(self.prune_ratio)(histogram, epoch, epochs)
        counts = histogram.cells[None] if histogram.by_stratum is None else histogram.by_stratum
        sizes, unseen = counts.sum(axis=1), counts[:, -1]
        there = sizes > 0
        if np.any(unseen[there] == sizes[there]):
            return walk
        trust = self.trust(histogram, counts[:, :-1])
        guess = log(max(2, int(np.count_nonzero(there))))
        wanted = self._wanted(counts[:, :-1], trust, np.minimum(histogram.centres, guess), unseen)
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
        """Returns sqrt(mean loss x samples) of what is trusted, by class: float64 (classes,)."""
        trusted = np.array([dot(*row) for row in zip(counts, trust, strict=True)])
        sums = np.array([dot(row, t * losses) for row, t in zip(counts, trust, strict=True)])
        means: NDArray[np.float64] = np.maximum(sums, 0.0) / np.maximum(trusted, LEAST)
        return np.sqrt(means * (trusted + unseen))

    def trust(self, histogram: LossHistogram, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns how far samples are trusted, in [0, 1]: float64 (classes, bins).

        Args:
            histogram: With the histogram of `early`; without, all are trusted.
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
        """Returns the share of samples in doubt, in [0, 1]; none is before its fourth look.

        Args:
            early: Of the column of that name.
        """
        level = np.abs(early.centres)
        order = np.argsort(level, kind="stable")
        order = order[(level[order] >= JUDGED) & (early.counts[order] > 0)]
        if not len(order):
            return 0.0
        counts = early.counts[order]
        ends = np.append(0, np.cumsum(counts))
        down = np.append(0, np.cumsum(np.where(early.centres[order] > 0, counts, 0)))
        judged = int(ends[-1])
        # Windows are of whole bins, so that ranks on unlike machines compare the same numbers.
        width = max(1, int(self.window * judged))
        low = np.clip((ends[1:] + ends[:-1] - width) // 2, 0, judged - width)
        first = np.searchsorted(ends, low, "right") - 1
        last = np.searchsorted(ends, low + width, "left")
        sizes = ends[last] - ends[first]
        share = (down[last] - down[first]) / sizes
        chance = 0.5 / np.sqrt(sizes)  # the standard deviation of the share of tossed coins
        trust = np.clip((share + chance - 0.5) / (self.learnt - 0.5), 0.0, 1.0)
        if (trust == 1).any():
            trust[: int(np.argmax(trust))] = 1.0  # what is easier than what is learnt
        return (judged - dot(counts, trust)) / early.seen
