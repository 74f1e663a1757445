"""Seeds that nobody needs: a method is told apart already, or will not be.

An interval that is looked at after every seed leaves out zero too often, since each look is a
chance. So all looks share the 5 %: of k looks each has an interval of 1 - 0.05 / k.
"""

from __future__ import annotations

from collections.abc import Iterable

from seta.comparison.cells import Cells, Key
from seta.comparison.contenders import REFERENCES
from seta.comparison.statistics import CONFIDENCE
from seta.comparison.trial import Job

FIRST = 3
"""Seeds before the first look: two make an interval that says nothing."""


def confidence_of(seeds: int, *, early: bool) -> float:
    """Returns the confidence of intervals that are looked at once, or after each seed."""
    looks = max(1, seeds - FIRST + 1) if early else 1
    return 1 - (1 - CONFIDENCE) / looks


class Rounds:
    """Says which runs are still wanted.

    Args:
        seeds: Of the comparison.
        contenders: Methods and budgets that are planned, references or not.
    """

    def __init__(self, seeds: int, contenders: Iterable[Key]) -> None:
        self._seeds = seeds
        self._ended: dict[Key, tuple[int, str]] = {}
        self._others = {at for at in contenders if at[0] not in REFERENCES}

    def notes(self, cells: Cells) -> list[str]:
        """Returns what was ended, and why; workers finish the runs that they were at."""
        said = []
        for at, (count, reason) in self._ended.items():
            now = len(cells.cells[at].lines)
            more = f"; the table has {now}, with those under way then" if now > count else ""
            said.append(f"{reason}{more}.")
        return said

    def wanted(self, job: Job, cells: Cells) -> bool:
        """Returns whether a run is still wanted, after those that there are.

        A method is done with where its interval leaves out zero, or where more seeds than there are
        are needed for an even chance of that, by the mean and the spread so far. Seeds that agree
        exactly say neither. References run as long as any method that is planned.
        """
        for cell in cells.contenders:
            way = cells.to_equal_cost(cell)
            at = (cell.method, cell.budget)
            if way is None or not way.half or way.seeds < FIRST or at in self._ended:
                continue
            if way.sign:
                reason = f"told apart after {way.seeds} seeds"
            elif way.seeds < self._seeds and self._hopeless(way.seeds_needed):
                reason = (
                    f"ended after {way.seeds} seeds, since {self._seeds} have less than an even "
                    "chance to tell it apart"
                )
            else:
                continue
            self._ended[at] = len(cell.lines), f"{cell.name}: {reason}"
        method, budget = job.contender.method, job.contender.budget
        if method in REFERENCES:
            return not self._others or bool(self._others - self._ended.keys())
        return (method, budget) not in self._ended

    def _hopeless(self, needed: int | None) -> bool:
        return needed is None or needed > self._seeds
