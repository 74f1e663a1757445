"""The lines of runs put together: a cell is a contender's runs, beside Full and Full at equal cost.

Between the file of lines, and table, picture and verdict, which write down what is computed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from seta.comparison.contenders import EQUAL_COST, FULL, METHODS
from seta.comparison.lines import Line
from seta.comparison.statistics import (
    CONFIDENCE,
    Difference,
    mean_and_spread,
    paired_difference,
)

Key = tuple[str, "float | None"]
WHOLE: Key = (FULL, 1.0)


@dataclass(frozen=True)
class Cell:
    """The runs of a contender.

    Attributes:
        method: Its name.
        budget: Share of full training's visits; 1.0 of Full.
        lines: By seed.
    """

    method: str
    budget: float | None
    lines: Mapping[int, Line]

    @property
    def name(self) -> str:
        """What a person reads in a table: the method, and its share of the visits."""
        return self.method if self.budget in (None, 1.0) else f"{self.method} {self.budget:.4g}"

    @property
    def words(self) -> str:
        """The same in a sentence: "SeTa at 50 %"."""
        at = self.budget
        return self.method if at in (None, 1.0) else f"{self.method} at {100 * at:.4g} %"

    @property
    def reference(self) -> bool:
        """Whether it is Full, or Full at equal cost."""
        return self.method in (FULL, EQUAL_COST)

    @property
    def visits(self) -> float:
        """Samples trained, the mean over the seeds."""
        return fmean(line["visits"] for line in self.lines.values())

    @property
    def cost(self) -> float:
        """Samples trained, as a share of full training's."""
        return fmean(line["visits"] / line["full_visits"] for line in self.lines.values())

    @property
    def seconds(self) -> float:
        """Wall time of a run, the median over the seeds."""
        return float(median(line["seconds"] for line in self.lines.values()))

    def values(self, measure: str) -> dict[int, float]:
        """A figure by seed; without those that are not known."""
        found = ((seed, line["metrics"].get(measure)) for seed, line in self.lines.items())
        return {seed: value for seed, value in found if value is not None}

    def mean_and_spread(self, measure: str) -> tuple[float, float | None] | None:
        """Mean and standard deviation of a figure over the seeds."""
        return mean_and_spread(self.values(measure))


@dataclass(frozen=True)
class Cells:
    """All cells of a comparison, in the order in which they are listed: Full first.

    Attributes:
        cells: By contender.
        measures: Names of the figures, the one that counts first.
        lower: Those of them that are better when they are lower.
        confidence: Of all intervals.
    """

    cells: Mapping[Key, Cell]
    measures: Sequence[str]
    lower: frozenset[str] = frozenset()
    confidence: float = CONFIDENCE

    @property
    def several_looks(self) -> bool:
        """Whether intervals are wider, since they are looked at after each seed."""
        return self.confidence > CONFIDENCE

    @property
    def chance(self) -> float:
        """That an interval leaves out zero where nothing differs; at some look, if several."""
        return 1 - min(self.confidence, CONFIDENCE)

    @property
    def full(self) -> Cell | None:
        """The runs on all samples in all epochs."""
        return self.cells.get(WHOLE)

    def equal_cost(self, budget: float | None) -> Cell | None:
        """The runs on all samples in as many epochs as a budget pays for."""
        return self.cells.get((EQUAL_COST, budget))

    @property
    def curve(self) -> list[Cell]:
        """Full for all lengths that it was run for, the shortest first."""
        found = [cell for cell in self.cells.values() if cell.reference]
        return sorted(found, key=lambda cell: cell.cost)

    @property
    def contenders(self) -> list[Cell]:
        """All that prune."""
        return [cell for cell in self.cells.values() if not cell.reference]

    def to_full(self, cell: Cell, measure: str | None = None) -> Difference | None:
        """How far a cell lies from Full; None for Full itself, or with no seed in common."""
        return None if cell.method == FULL else self.between(cell, self.full, measure)

    def to_equal_cost(self, cell: Cell, measure: str | None = None) -> Difference | None:
        """How far a cell lies from Full at equal cost; None for references."""
        if cell.reference:
            return None
        return self.between(cell, self.equal_cost(cell.budget), measure)

    def to_cheaper(self, cell: Cell) -> list[tuple[Cell, Difference | None]]:
        """How far a cell lies from Full in fewer epochs than it pays for, the fewest first."""
        at = cell.budget or 0.0
        cheaper = [one for one in self.curve if one.budget is not None and one.budget < at]
        return [(one, self.between(cell, one)) for one in cheaper]

    def better(self, way: Difference | None, measure: str | None = None) -> int:
        """1 or -1 where a difference is clearly for the better or the worse; 0 otherwise."""
        sign = 0 if way is None else way.sign
        return -sign if (measure or self.measures[0]) in self.lower else sign

    def between(
        self, cell: Cell, beside: Cell | None, measure: str | None = None
    ) -> Difference | None:
        """How far a cell lies from another one; None with no seed in common."""
        if beside is None:
            return None
        name = measure or self.measures[0]
        return paired_difference(cell.values(name), beside.values(name), confidence=self.confidence)


def cells_of(
    lines: Iterable[Line],
    *,
    measures: Sequence[str] = (),
    lower: Iterable[str] = (),
    confidence: float = CONFIDENCE,
) -> Cells:
    """Puts lines together by contender, whatever their order.

    Args:
        lines: Of runs.
        measures: The figures that count, in order; without, all that runs have measured, in the
            order of Full's first seed, or else of the first run that is listed.
        lower: Those that are better when they are lower.
        confidence: Of the intervals.
    """
    found: dict[Key, dict[int, Line]] = {}
    for line in lines:
        found.setdefault((line["method"], line["budget"]), {})[line["seed"]] = line
    ordered = sorted(found, key=_place)
    cells = {at: Cell(*at, dict(sorted(found[at].items()))) for at in ordered}
    listed = (line for cell in cells.values() for line in cell.lines.values())
    names = measures or dict.fromkeys(name for line in listed for name in line["metrics"])
    return Cells(cells, list(names), frozenset(lower), confidence)


def _place(key: Key) -> tuple[bool, float, int, str]:
    """Full, then by budget, the largest first, in the order of the methods; own ones by name."""
    method, budget = key
    place = METHODS.index(method) if method in METHODS else len(METHODS)
    return (key != WHOLE, -(budget or 0.0), place, method)
