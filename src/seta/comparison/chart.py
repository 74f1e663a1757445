"""What the picture of a comparison draws: its contenders as rows, and what is shown of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import floor, inf, log10
from statistics import median
from textwrap import wrap

from seta.comparison.cells import Cell, Cells
from seta.comparison.statistics import Difference
from seta.comparison.styles import OTHERS, STYLES, Style

NAME, LINES = 24, 3  # letters in a line of a method's name, and lines of it, at most
WORDS = {1: "better", -1: "worse", 0: ""}
FAR = 4.0
"""Intervals that reach so many times as far as the median one are cut off, so that others show."""


@dataclass(frozen=True)
class Row:
    """A contender as it is drawn.

    Attributes:
        cell: Its runs.
        style: Of its marks.
        mean: Its figure, the mean over the seeds; None if it was not measured.
        way: Its difference to Full at equal cost, if there is one.
        verdict: 1 if it is clearly better, -1 if clearly worse, else 0.
    """

    cell: Cell
    style: Style
    mean: float | None
    way: Difference | None
    verdict: int

    @property
    def ends(self) -> tuple[float, ...]:
        """The ends of its interval; of one seed, its difference; none if it has none."""
        if self.way is None:
            return ()
        half = self.way.half or 0.0
        return (self.way.mean - half, self.way.mean + half)

    @property
    def name(self) -> list[str]:
        """The name of the method, in lines."""
        return wrap(literal(self.cell.method), NAME, max_lines=LINES, placeholder=" …") or [""]

    def says(self, decimals: int) -> str:
        """The row in figures and words."""
        if self.mean is None:
            return "not measured"
        if self.way is None:
            return "no Full at equal cost"
        half, decimals = self.way.half, self.way.digits(decimals)
        spread = " (one seed)" if half is None else f" ± {number(half, decimals)}"
        return f"{number(self.way.mean, decimals, '+')}{spread}  {WORDS[self.verdict]}".rstrip()


@dataclass(frozen=True)
class Chart:
    """What both panels draw.

    Attributes:
        cells: The comparison.
        measure: The figure.
        rows: Its contenders, from above to below.
        limits: The least and the greatest difference that is shown.
    """

    cells: Cells
    measure: str
    rows: Sequence[Row]
    limits: tuple[float, float]

    @property
    def lower(self) -> bool:
        """Whether lower is better."""
        return self.measure in self.cells.lower

    @property
    def decimals(self) -> int:
        """Those that give the greatest difference three digits."""
        return max(0, 2 - floor(log10(max(map(abs, self.limits)))))

    @property
    def slots(self) -> int:
        """Rows of the right panel, with a heading per budget."""
        return len(self.rows) + len({row.cell.budget for row in self.rows})

    def known(self, cell: Cell | None) -> tuple[float, float] | None:
        """Mean and spread of a cell, 0 with one seed; None if it was not measured."""
        found = cell.mean_and_spread(self.measure) if cell else None
        return found and (found[0], found[1] or 0.0)

    def outside(self, row: Row) -> bool:
        """Whether the interval of a row reaches beyond what is shown."""
        return any(not self.limits[0] <= end <= self.limits[1] for end in row.ends)


def chart_of(cells: Cells, measure: str | None) -> Chart:
    """What is to be drawn."""
    if measure is None:
        measure = cells.measures[0] if cells.measures else ""
    elif measure not in cells.measures:
        known = ", ".join(cells.measures) or "none, as there are no runs"
        raise ValueError(f"measure must be one of those of the runs ({known}), got {measure!r}")
    rows = _rows(cells, measure)
    return Chart(cells, measure, rows, _limits(rows))


def _rows(cells: Cells, measure: str) -> list[Row]:
    """All contenders, by budget: the best first, those that cannot be compared last."""
    own = dict.fromkeys(cell.method for cell in cells.contenders if cell.method not in STYLES)
    styles = STYLES | {method: OTHERS[n % len(OTHERS)] for n, method in enumerate(own)}
    found = []
    for cell in cells.contenders:
        known, way = cell.mean_and_spread(measure), cells.to_equal_cost(cell, measure)
        mean, verdict = known and known[0], cells.better(way, measure)
        found.append(Row(cell, styles[cell.method], mean, way, verdict))
    sign = 1 if measure in cells.lower else -1
    return [
        row
        for _, group in groupby(found, key=lambda row: row.cell.budget)
        for row in sorted(group, key=lambda row: sign * row.way.mean if row.way else inf)
    ]


def _limits(rows: Sequence[Row]) -> tuple[float, float]:
    """The differences that are shown: zero and all intervals, but those that reach too far."""
    reaches = [reach for row in rows if (reach := max(map(abs, row.ends), default=0.0)) > 0]
    if not reaches:
        most = 0.05 * max((abs(row.mean or 0.0) for row in rows), default=0.0) or 1.0
        return -most, most
    most = max(reach for reach in reaches if reach <= FAR * median(reaches))
    ends = [min(max(end, -most), most) for row in rows for end in row.ends]
    low, high = min(ends), max(ends)
    return padded((min(low, -0.15 * high, 0.0), max(high, -0.15 * low, 0.0)), 0.06)


def padded(values: Iterable[float], share: float) -> tuple[float, float]:
    """The least and the greatest value, with room for a share of their distance on both sides."""
    found = list(values) or [0.0, 1.0]
    low, high = min(found), max(found)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        return low - (0.05 * abs(low) or 1.0), high + (0.05 * abs(high) or 1.0)
    room = share * (high - low)
    return low - room, high + room


def number(value: float, decimals: int, sign: str = "") -> str:
    """A number as it is written; very small ones with an exponent."""
    text = f"{value:{sign}.{decimals}f}" if decimals <= 7 else f"{value:{sign}.1e}"
    return text.replace("-", "\N{MINUS SIGN}")


def literal(text: str) -> str:
    """A text in which a dollar is a dollar, and begins no formula."""
    return text.replace("$", r"\$")
