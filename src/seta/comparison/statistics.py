"""Means, spreads, and differences between methods, paired by seed.

A run and its reference share a seed: the net that they begin with, the order, the augmentation. So
the difference is taken seed by seed, and its interval is Student's t over these differences: as
narrow as the pairing makes it, and wide where there are few seeds. Needs scipy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import sqrt
from statistics import fmean, stdev

CONFIDENCE = 0.95
ROUNDING = 2.0**-22
"""Spread of equal differences, as a share of the values, that the rounding of float32 may give."""

MOST_SEEDS = 1000
"""More than these are asked of nobody."""

MOST_DIGITS = 8
"""Behind the point."""


@dataclass(frozen=True)
class Difference:
    """A mean difference, paired by seed.

    Attributes:
        mean: Of the differences, in the unit of the values.
        half: Half of the width of the interval; None with one pair, which gives no interval.
        seeds: Number of pairs.
        interpolated: Whether the reference lies between two runs, and was not run itself.
        confidence: Of the interval, in (0, 1).
    """

    mean: float
    half: float | None
    seeds: int
    interpolated: bool = False
    confidence: float = CONFIDENCE

    @property
    def low(self) -> float | None:
        """The lower end of the interval."""
        return None if self.half is None else self.mean - self.half

    @property
    def high(self) -> float | None:
        """The upper end of the interval."""
        return None if self.half is None else self.mean + self.half

    @property
    def sign(self) -> int:
        """1 or -1 if the whole interval lies above or below zero; 0 if zero is in it, or none.

        Equal differences, which accuracies counted on few samples may have, give an interval of no
        width, and no verdict: that seeds agree by chance says nothing of the next one.
        """
        if not self.half or not abs(self.mean) > self.half:
            return 0
        return 1 if self.mean > 0 else -1

    def digits(self, least: int, scale: float = 1.0) -> int:
        """Returns with how many digits behind the point it reads as what it is.

        More than `least` where a clear one would read as if zero were in it: `+1.10 ± 1.10`.

        Args:
            least: At least so many.
            scale: What it is multiplied with before it is written.
        """
        mean, half = abs(self.mean) * scale, (self.half or 0.0) * scale
        while self.sign and least < MOST_DIGITS:
            if round(mean, least) > round(half, least) and round(mean - half, least):
                break
            least += 1
        return least

    @property
    def seeds_needed(self) -> int | None:
        """How many seeds would tell the mean from zero, if it and the spread stay as they are.

        Those of new seeds scatter around them, so that about every second such attempt succeeds.
        None with one pair or an interval of no width, and where `MOST_SEEDS` do not suffice.
        """
        if not self.half:
            return None
        wanted, numbers = abs(self.mean), range(2, MOST_SEEDS + 1)
        found = (n for n in numbers if width(self._spread, n, self.confidence) < wanted)
        return next(found, None)

    def stands_out(self, count: int) -> bool:
        """Returns whether it is clear as the best of so many differences, too (Bonferroni)."""
        if count <= 1:
            return bool(self.sign)
        confidence = 1 - (1 - self.confidence) / count
        return bool(self.sign) and width(self._spread, self.seeds, confidence) < abs(self.mean)

    @property
    def _spread(self) -> float:
        """The sample standard deviation over the seeds."""
        return (self.half or 0.0) * sqrt(self.seeds) / quantile(self.seeds, self.confidence)


def paired_difference(
    values: Mapping[int, float],
    reference: Mapping[int, float],
    *,
    confidence: float = CONFIDENCE,
    interpolated: bool = False,
) -> Difference | None:
    """Returns the mean of `values - reference` over the seeds that both have.

    Args:
        values: By seed.
        reference: By seed.
        confidence: Of the interval, in (0, 1).
        interpolated: Handed on to the result.

    Returns:
        None if they have no seed in common. Differences that are equal but for the rounding of
        float32, in which many metrics are counted, have an interval of no width.
    """
    seeds = sorted(values.keys() & reference.keys())
    if not seeds:
        return None
    differences = [values[seed] - reference[seed] for seed in seeds]
    half = None
    if len(seeds) > 1:
        spread = stdev(differences)
        largest = max(abs(by_seed[seed]) for seed in seeds for by_seed in (values, reference))
        half = width(spread, len(seeds), confidence) if spread > ROUNDING * largest else 0.0
    return Difference(fmean(differences), half, len(seeds), interpolated, confidence)


def width(spread: float, seeds: int, confidence: float = CONFIDENCE) -> float:
    """Returns half of the width of Student's interval, for the mean of so many values, >= 2."""
    return quantile(seeds, confidence) * spread / sqrt(seeds)


@cache
def quantile(seeds: int, confidence: float = CONFIDENCE) -> float:
    """Returns Student's quantile for the mean of so many values, >= 2."""
    from scipy.stats import t as student

    return float(student.ppf((1 + confidence) / 2, seeds - 1))


def mean_and_spread(values: Mapping[int, float]) -> tuple[float, float | None] | None:
    """Returns mean and sample standard deviation over the seeds; None, for the spread, with one."""
    numbers = list(values.values())
    if not numbers:
        return None
    return fmean(numbers), stdev(numbers) if len(numbers) > 1 else None


def between(points: Sequence[tuple[float, float]], x: float) -> float | None:
    """Returns the straight line between the two points around x; None outside of them.

    >>> between([(0.5, 70.0), (1.0, 80.0)], 0.6)
    72.0
    """
    for (left, low), (right, high) in pairwise(points):
        if left <= x <= right:
            return high if right == left else low + (high - low) * (x - left) / (right - left)
    return None
