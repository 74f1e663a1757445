"""What a comparison comes to, in words: rules over its intervals, each of them written down here.

A difference is *clear* where its whole interval lies on one side of zero (`Cells.better`). The
first sentence says what to do; those after it say of what it is made.

The *shortest* run that loses nothing is Full at equal cost at the smallest budget below 1 that does
not look worse than Full by more than half of the half-width of its interval. Once a budget is
clearly worse than Full, smaller ones count only if they are clearly better than Full.

1. No method has three seeds in common with Full at equal cost: no verdict.
2. Methods win that are clearly better than Full at equal cost, unless the shortest run costs less
   and is as good (`_cheaper`). If there is neither, those win that are clearly better than Full.
   Winners that another one clearly beats at no more cost drop out. Use the best of the others:
   those come first that would be clear with an interval for the best of as many methods and budgets
   as were judged; if there is none, it is to be confirmed with new seeds.
3. None wins: cut epochs to the shortest run. If there is none, train in full where even the largest
   budget is clearly worse than Full; otherwise it is undecided.

All of that is about the figure that counts; of the others, what they tell clearly is said last.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from math import floor, log10
from typing import NamedTuple, TypeGuard

from seta.comparison.cells import Cell, Cells
from seta.comparison.statistics import MOST_DIGITS, Difference

LEAST_SEEDS = 3
FINE = 1e-6
"""A spread below this share of the figures is that of rounding."""

LARGE = 1e9
"""From here on, a figure is written with an exponent."""

MOST_WORTH = 100
"""A difference that takes more seeds to tell is worth none."""


class Way(NamedTuple):
    """A cell, and how far it is from a reference."""

    cell: Cell
    way: Difference


def verdict(cells: Cells) -> list[str]:
    """Returns the verdict on the figure that counts, the first sentence saying what to do."""
    return _Verdict(cells).sentences()


def digits_of(cells: Cells, measure: str) -> int:
    """Returns how many digits behind the point tell two figures apart: two of the least spread.

    That is of the figures over the seeds, or of the half-widths of their differences.
    """
    every = list(cells.cells.values())
    figures = [abs(value) for cell in every for value in cell.values(measure).values()]
    largest = max(figures, default=1.0)
    found = (cell.mean_and_spread(measure) for cell in every)
    ways = (to(cell, measure) for cell in every for to in (cells.to_full, cells.to_equal_cost))
    spreads = [one[1] for one in found if one is not None and one[1]]
    spreads += [way.half for way in ways if way is not None and way.half]
    least = min((one for one in spreads if one > FINE * largest), default=largest / 100)
    return max(0, min(MOST_DIGITS, 1 - floor(log10(least)))) if least > 0 else 2


def number(value: float, digits: int, *, signed: bool = False) -> str:
    """Returns a figure with so many digits behind the point; nothing is written as -0.00.

    Where the most digits do not show it, or it is very large, it has an exponent.
    """
    if abs(value) >= LARGE:
        return f"{value:{'+' if signed else ''}.2e}"
    if digits == MOST_DIGITS and 0 < abs(value) < 100 * 10.0**-MOST_DIGITS:
        return f"{value:{'+' if signed else ''}.2e}"
    rounded = round(value, digits) + 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.{digits}f}"


def interval(way: Difference, digits: int) -> str:
    """Returns a difference and half of the width of its interval, such as `+0.35 ± 0.46`."""
    digits = way.digits(digits)
    text = number(way.mean, digits, signed=True)
    return text if way.half is None else f"{text} ± {number(way.half, digits)}"


class _Verdict:
    def __init__(self, cells: Cells) -> None:
        self.cells = cells
        self.measure = cells.measures[0] if cells.measures else ""
        self.digits = digits_of(cells, self.measure)
        ways = ((cell, cells.to_equal_cost(cell)) for cell in cells.contenders)
        self.ways: list[Way] = []
        self.not_judged: list[str] = []
        for cell, way in ways:
            if _enough(way):
                self.ways.append(Way(cell, way))
            else:
                self.not_judged.append(f"{cell.words} ({_seeds(way)})")
        self.up = -1 if self.measure in cells.lower else 1
        self.ways.sort(key=lambda one: -self.up * one.way.mean)  # the best first
        costs = ((cell, cells.to_full(cell)) for cell in cells.curve if cell.cost < 1)
        self.costs = [Way(cell, way) for cell, way in costs if _enough(way)][::-1]
        before = list(takewhile(lambda one: cells.better(one.way) >= 0, self.costs))
        self.free = [one for one in self.costs if one in before or cells.better(one.way) > 0]
        safe = [
            one
            for one in self.free
            if -self.up * one.way.mean <= 0.5 * (one.way.half or 0.0)
            and not any(
                self._sign(cells.between(longer.cell, one.cell)) > 0 for longer in self.free
            )
        ]
        self.shortest = safe[-1] if safe else None
        self.winners = self._winners()

    def _winners(self) -> list[Way]:
        """Methods that are worth what they cost, the best first."""
        cells, found = self.cells, [one for one in self._of(1) if not self._cheaper(one.cell)]
        if not found and not self.shortest:
            full = ((cell, cells.to_full(cell)) for cell in cells.contenders)
            better = [Way(cell, way) for cell, way in full if _enough(way) and self._sign(way) > 0]
            found = [one for one in better if self._sign(cells.to_equal_cost(one.cell)) >= 0]
        left = [one for one in found if not self._beaten(one.cell, found)]
        return sorted(left, key=lambda one: not one.way.stands_out(len(self.ways)))

    def _beaten(self, cell: Cell, others: Sequence[Way]) -> bool:
        """Whether another one is clearly better at no more cost."""
        some = (one.cell for one in others if _at(one.cell) <= _at(cell))
        return any(self._sign(self.cells.between(one, cell)) > 0 for one in some)

    def _cheaper(self, cell: Cell) -> tuple[Cell, Difference | None] | None:
        """Full in fewer epochs that makes a method superfluous, and how far the method is from it.

        It is clearly better than the method; or it is the shortest run, and the method is not
        known to be clearly better than it, nor clearly better than Full if that run is not.
        """
        to_full, short = self._sign(self.cells.to_full(cell)), self.shortest
        for one, way in self.cells.to_cheaper(cell):
            rival = short is not None and one is short.cell and to_full <= self._sign(short.way)
            if self._sign(way) < (1 if rival else 0):
                return one, way
        return None

    def sentences(self) -> list[str]:
        if all(len(cell.lines) < LEAST_SEEDS for cell in self.cells.cells.values()):
            return [
                f"No verdict before {LEAST_SEEDS} seeds: two make an interval that is wider than "
                "any difference worth knowing."
            ]
        return [
            self._what_to_do(),
            *self._best_of_many(),
            *self._epochs(),
            *self._clear(1),
            *self._clear(-1),
            *self._open(),
            *self._by_chance(),
            *self._left_out(),
            *self._others(),
        ]

    def _what_to_do(self) -> str:
        if not self.ways and (self.cells.contenders or not self.costs):
            return (
                f"No verdict: no method has {LEAST_SEEDS} seeds in common with Full at equal cost."
            )
        if self.winners:
            best = self.winners[0].cell
            return f"Use {best.words}: {self._stands(best)}{self._time(best)}."
        here = "that was judged" if self.not_judged else "here"
        nothing = f"nothing {here} is clearly better than Full at equal cost"
        for best, _ in self._of(1)[:1]:
            if cheaper := self._cheaper(best):
                least, way = cheaper
                but = f"but with {_seeds(way)} in common not judged beside"
                end = ""
                if _enough(way):
                    but, end = "but not than", f", {interval(way, self.digits)}"
                nothing = (
                    f"{best.words} is clearly better than Full at equal cost, {but} "
                    f"{_share(least)} of the epochs, which cost less{end}"
                )
        if not self.cells.contenders:
            nothing = "no method was run"
        if not self.costs:
            few = f"Full has fewer than {LEAST_SEEDS} seeds in common with Full at equal cost"
            return f"{'Full was not run' if self.cells.full is None else few}: {nothing}."
        if not self.shortest and not self.free:
            return (
                f"Train in full, unless the saving is worth it: {nothing}, and "
                f"{_share(self.costs[0].cell)} of the epochs are clearly worse than all of them."
            )
        least, way = self.shortest or self.free[-1]
        text, share = interval(way, self.digits), _share(least)
        if self.cells.better(way) > 0:
            return f"Cut epochs: {nothing}, and {share} of the epochs gain, {text}."
        if not self.shortest:
            return (
                f"Undecided: {nothing}, and {share} of the epochs look worse than all of them, "
                f"{text}; {_seeds(way)} are too few to tell it from zero{_more(way)}."
            )
        worst = number(self._worst(way), self.digits)
        return (
            f"Cut epochs, if up to {worst} worse is acceptable: {nothing}, and {share} of the "
            f"epochs lose nothing that {_seeds(way)} can tell, {text}."
        )

    def _best_of_many(self) -> list[str]:
        """A winner that may have won by chance, since many were judged."""
        count = len(self.ways)
        if not self.winners or self.winners[0].way.stands_out(count):
            return []
        return [f"Confirm it with new seeds: the best of {count} may look as good by chance."]

    def _time(self, cell: Cell) -> str:
        """Says so where a method took as long as Full."""
        full = self.cells.full
        if full is None or cell.seconds < full.seconds:
            return ""
        seconds = f"{cell.seconds:.3g} s a run beside {full.seconds:.3g} s of Full"
        return f"; but it took no less time, {seconds}"

    def _others(self) -> list[str]:
        """What the other figures tell clearly."""
        said = []
        for measure in self.cells.measures[1:]:
            found: dict[int, list[str]] = {}
            for cell in self.cells.contenders:
                way = self.cells.to_equal_cost(cell, measure)
                found.setdefault(self._sign(way, measure), []).append(cell.words)
            for sign, word in ((1, "better"), (-1, "worse")):
                if sign in found:
                    names = joined(found[sign])
                    said.append(f"By {measure}, clearly {word} than Full at equal cost: {names}.")
        return said

    def _worst(self, way: Difference) -> float:
        """How much worse than a reference a contender may be, at the far end of its interval."""
        return max(0.0, (way.half or 0.0) - self.up * way.mean)

    def _epochs(self) -> list[str]:
        """What fewer epochs cost."""
        said = []
        for cell, way in self.costs:
            text = interval(way, self.digits)
            ends = (
                f": {text} to all, not told apart",
                f" are clearly better than all of them, {text}: longer runs may learn wrong labels "
                "by heart",
                f" are clearly worse than all of them, {text}",
            )
            said.append(f"{_share(cell)} of the epochs{ends[self.cells.better(way)]}.")
        return said

    def _clear(self, sign: int) -> list[str]:
        """Methods that are clearly better (1) or worse (-1)."""
        told = [one.cell for one in self.winners[:1]]  # by the first sentence
        some = [cell for cell, _ in self._of(sign) if cell not in told]
        return [f"{cell.words} is {self._stands(cell)}." for cell in some]

    def _open(self) -> list[str]:
        """Methods that are not told apart, and what it would take."""
        some = self._of(0)
        if not some:
            return []
        counts = sorted({one.way.seeds for one in some})
        seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        named = ", ".join(f"{cell.words} {interval(way, self.digits)}" for cell, way in some)
        said = [f"Not told apart from Full at equal cost by {seeds} seeds: {named}."]
        best, needed = some[0], some[0].way.seeds_needed
        if self.up * best.way.mean > 0 and needed is not None and needed <= MOST_WORTH:
            mean = interval(best.way, self.digits)
            said.append(
                f"About {needed} seeds have an even chance to tell {best.cell.words}, {mean}, from "
                "zero, if it is what it seems."
            )
        return said

    def _by_chance(self) -> list[str]:
        """How many intervals mislead; where all looks share a chance, it is that of all of them."""
        count, cells = len(self.ways), self.cells
        if count < 4:
            return []
        about = "at most" if cells.several_looks else "about"
        return [
            f"Of {count} intervals {about} {cells.chance * count:.1f} leave out zero by chance."
        ]

    def _left_out(self) -> list[str]:
        """Methods of which too few runs there are, as when some have failed."""
        if not self.not_judged:
            return []
        few = f"fewer than {LEAST_SEEDS} seeds in common with Full at equal cost"
        return [f"Not judged, with {few}: {', '.join(self.not_judged)}."]

    def _of(self, sign: int) -> list[Way]:
        return [one for one in self.ways if self.cells.better(one.way) == sign]

    def _sign(self, way: Difference | None, measure: str | None = None) -> int:
        return self.cells.better(way, measure) if _enough(way) else 0

    def _stands(self, cell: Cell) -> str:
        """How a cell stands to both references: first to that which it is better than."""
        to_equal_cost, to_full = self.cells.to_equal_cost(cell), self.cells.to_full(cell)
        said = [self._beside("Full at equal cost", to_equal_cost), self._beside("Full", to_full)]
        return ", and ".join(said if self._sign(to_equal_cost) else said[::-1])

    def _beside(self, name: str, way: Difference | None) -> str:
        """How a cell stands to a reference."""
        if way is None:
            return f"not compared with {name}"
        if not _enough(way):
            return f"not judged beside {name}, with {_seeds(way)} in common"
        words = ("not told apart from", "clearly better than", "clearly worse than")
        return f"{words[self._sign(way)]} {name}, {interval(way, self.digits)}"


def _enough(way: Difference | None) -> TypeGuard[Difference]:
    return way is not None and way.half is not None and way.seeds >= LEAST_SEEDS


def _more(way: Difference) -> str:
    needed = way.seeds_needed
    few = needed is not None and needed <= MOST_WORTH
    return f"; with about {needed} the chance is even" if few else ""


def _at(cell: Cell) -> float:
    return cell.budget or cell.cost


def _share(cell: Cell) -> str:
    return f"{100 * _at(cell):.3g} %"


def _seeds(way: Difference | None) -> str:
    count = 0 if way is None else way.seeds
    return f"{count} seed{'' if count == 1 else 's'}"


def joined(texts: Sequence[str]) -> str:
    """Returns texts as a person lists them: "A, B and C"."""
    *first, last = texts
    return f"{', '.join(first)} and {last}" if first else last
