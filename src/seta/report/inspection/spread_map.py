"""The data map: how many samples have which mean and which spread of their losses.

Mean against spread, as in "Dataset Cartography" (Swayamdipta et al., EMNLP 2020, arXiv 2009.10795),
which shows confidence against variability. As counts in cells, so that it takes the same space for
any number of samples; each cell names some of its samples, chosen by a fixed seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seta.report.inspection.facts import Facts
from seta.report.inspection.scales import Scale

CELLS = 40  # along each side
EXAMPLES = 20  # of a cell, at most
_SEED = 0
_OUTSIDE = 0.001
_LOOKED_AT = 200_000  # means that a median is taken of


@dataclass(frozen=True, eq=False)
class SpreadMap:
    """Cells of mean and spread that have samples, and some of their samples.

    Attributes:
        mean: The axis of the means.
        spread: That of the spreads.
        columns: int64 (cells,), place of each cell on the axis of the means.
        lines: int64 (cells,), on that of the spreads.
        counts: int64 (cells,), its samples, at least 1.
        examples: For each cell int64 (up to 20,), rows of `Facts`.
        left: Samples with fewer than two losses, which have no spread.
        regions: Shares of the samples on the map that are easy, ambiguous and hard.
        levels: Medians of the means in the hard region, and of the others; NaN where it is empty.
    """

    mean: Scale
    spread: Scale
    columns: NDArray[np.int64]
    lines: NDArray[np.int64]
    counts: NDArray[np.int64]
    examples: list[NDArray[np.int64]]
    left: int
    regions: dict[str, float]
    levels: tuple[float, float]

    @property
    def total(self) -> int:
        """Samples on the map."""
        return int(self.counts.sum())


def map_of(facts: Facts) -> SpreadMap | None:
    """Returns the map; None where no sample has had two losses, or the run was not tracked."""
    if facts.mean is None or facts.spread is None:
        return None
    rows = np.flatnonzero(np.isfinite(facts.spread) & np.isfinite(facts.mean))
    if not len(rows):
        return None
    means, spreads = facts.mean[rows], facts.spread[rows]
    mean = Scale.over(means, CELLS, outside=_OUTSIDE, root=True)
    spread = Scale.over(spreads, CELLS, outside=_OUTSIDE, root=True)
    across, up = mean.bar_of(means), spread.bar_of(spreads)
    cells = up * np.int16(CELLS) + across
    counts = np.bincount(cells, minlength=CELLS * CELLS)
    order = np.argsort(cells, kind="stable")  # of int16: a radix sort
    ends = np.cumsum(counts)
    there = np.flatnonzero(counts)
    generator = np.random.default_rng(_SEED)
    examples = []
    for cell in there.tolist():
        some = generator.choice(int(counts[cell]), min(EXAMPLES, int(counts[cell])), replace=False)
        examples.append(rows[order[ends[cell] - counts[cell] + np.sort(some)]])
    table = counts.reshape(CELLS, CELLS)
    return SpreadMap(
        mean,
        spread,
        there % CELLS,
        there // CELLS,
        counts[there],
        examples,
        len(facts.samples) - len(rows),
        _regions(table),
        (_median(means[across >= CELLS // 2]), _median(means[across < CELLS // 2])),
    )


def _median(values: NDArray[np.float32]) -> float:
    some = values[:: max(1, len(values) // _LOOKED_AT)]
    return float(np.median(some)) if len(some) else float("nan")


def _regions(table: NDArray[np.int64]) -> dict[str, float]:
    """Returns which share lies where: the upper half of the means, and else by the spread.

    By halves of the axes, as they are drawn, so that what the eye sees and the figure agree. A high
    mean goes first: unlike that of a confidence, the spread of losses grows with their mean, so
    that wrong labels have high spreads, too.
    """
    half, total = CELLS // 2, int(table.sum())
    parts = {
        "easy": table[:half, :half],
        "ambiguous": table[half:, :half],
        "hard": table[:, half:],
    }
    return {name: int(part.sum()) / total for name, part in parts.items()}


def coarse(found: SpreadMap, parts: int = 8) -> NDArray[np.int64]:
    """Returns the counts in fewer cells, for a table: int64 (parts, parts), spread before mean."""
    table = np.zeros((parts, parts), np.int64)
    width = CELLS // parts
    np.add.at(table, (found.lines // width, found.columns // width), found.counts)
    return table
