"""What a comparison comes to, in words: rules over its intervals, each of them written down here.

A difference is *clear* where its whole interval lies on one side of zero (`Cells.better`). The
first sentence says what to do; those after it say of what it is made.

1. No method has three seeds in common with Full at equal cost: no verdict. Where some have and
   others have not, the others are named.
2. Some method is clearly better than Full at equal cost, and than Full in still fewer epochs: use
   the best of them. Those come first that would be clear with an interval for the best of as many
   methods and budgets as were judged; if there is none, it is to be confirmed with new seeds.
   Whether it is as good as Full, which costs more, is said beside it.
3. None is, and Full at equal cost is not clearly worse than Full at some budget: cut epochs, down
   to the smallest budget at which it does not look worse by more than half of the half-width of its
   interval. Undecided, where there is none.
4. None is, and Full at equal cost is clearly worse than Full at every budget: train in full, unless
   the loss is worth the saving.
5. None is, and fewer epochs cost clearly at some budgets alone: cut epochs down to the others.
6. Methods that are not told apart are named with the width of their intervals, and with the number
   of seeds that have an even chance to tell the best of these differences from zero, if it is what
   it seems.
7. All of that is about the figure that counts; of the others, what they tell clearly is said last.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10
from typing import NamedTuple, TypeGuard

from seta.comparison.cells import Cell, Cells
from seta.comparison.statistics import MOST_DIGITS, Difference

LEAST_SEEDS = 3
FINE = 1e-6
"""A spread below this share of the figures is that of rounding."""

MOST_WORTH = 100
"""A difference that takes more seeds to tell is worth none."""


class Way(NamedTuple):
    """A contender, and how far it is from Full at equal cost."""

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

    Where the most digits do not show it, it has an exponent.
    """
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
        sign = -1 if self.measure in cells.lower else 1
        self.ways.sort(key=lambda one: -sign * one.way.mean)  # the best first
        clear = [one for one in self.ways if cells.better(one.way) > 0]
        self.winners = [one for one in clear if self._cheaper(one.cell) is None]
        self.winners.sort(key=lambda one: not one.way.stands_out(len(self.ways)))
        costs = ((cell, cells.to_full(cell)) for cell in cells.curve)
        self.costs = [Way(cell, way) for cell, way in costs if _enough(way)][::-1]

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
        if self.winners:
            best, way = self.winners[0]
            return (
                f"Use {best.words}: clearly better than Full at equal cost, "
                f"{interval(way, self.digits)}, and {self._to_full(best)}{self._time(best)}."
            )
        if not self.ways and (self.cells.contenders or not self.costs):
            return (
                f"No verdict: no method has {LEAST_SEEDS} seeds in common with Full at equal cost."
            )
        free = [one for one in self.costs if self.cells.better(one.way) >= 0]
        here = "that was judged" if self.not_judged else "here"
        nothing = f"nothing {here} is clearly better than Full at equal cost"
        for best, _ in self._of(1)[:1]:
            if cheaper := self._cheaper(best):
                nothing = (
                    f"{best.words} is clearly better than Full at equal cost, but not than "
                    f"{_share(cheaper.cell)} of the epochs, which cost less, "
                    f"{interval(cheaper.way, self.digits)}"
                )
        if not self.cells.contenders:
            nothing = "no method was run"
        if not self.costs:
            few = f"Full has fewer than {LEAST_SEEDS} seeds in common with Full at equal cost"
            return f"{'Full was not run' if self.cells.full is None else few}: {nothing}."
        if not free:
            return (
                f"Train in full, unless the saving is worth it: {nothing}, and fewer epochs are "
                "clearly worse."
            )
        safe = [one for one in free if self._worst(one.way) <= 1.5 * (one.way.half or 0.0)]
        least, way = (safe or free)[-1]
        text, share = interval(way, self.digits), _share(least)
        if self.cells.better(way) > 0:
            return f"Cut epochs: {nothing}, and {share} of the epochs gain, {text}."
        worst = f"{number(self._worst(way), self.digits)} worse than with all of them"
        if not safe:
            return (
                f"Undecided: {nothing}, and {share} of the epochs look worse than all of them, "
                f"{text}; {_seeds(way)} are too few to tell it from zero{_more(way)}."
            )
        return (
            f"Cut epochs: {nothing}, and {share} of the epochs lose nothing that {_seeds(way)} can "
            f"tell, {text}; {worst} cannot be ruled out."
        )

    def _best_of_many(self) -> list[str]:
        """A winner that may have won by chance, since many were judged."""
        count = len(self.ways)
        if not self.winners or self.winners[0].way.stands_out(count):
            return []
        return [f"Confirm it with new seeds: the best of {count} may look as good by chance."]

    def _cheaper(self, cell: Cell) -> Way | None:
        """Full in the fewest epochs that cost less and than which a cell is not clearly better."""
        for one, way in self.cells.to_cheaper(cell):
            if _enough(way) and self.cells.better(way) < 1:
                return Way(one, way)
        return None

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
                sign = self.cells.better(way, measure) if _enough(way) else 0
                found.setdefault(sign, []).append(cell.words)
            for sign, word in ((1, "better"), (-1, "worse")):
                if sign in found:
                    names = joined(found[sign])
                    said.append(f"By {measure}, clearly {word} than Full at equal cost: {names}.")
        return said

    def _worst(self, way: Difference | None) -> float:
        """How much worse than a reference a contender may be, at the far end of its interval."""
        if way is None or way.low is None or way.high is None:
            return 0.0
        return max(0.0, way.high if self.measure in self.cells.lower else -way.low)

    def _epochs(self) -> list[str]:
        """What fewer epochs cost."""
        said = []
        for cell, way in self.costs:
            sign, text = self.cells.better(way), interval(way, self.digits)
            if sign < 0:
                said.append(
                    f"{_share(cell)} of the epochs are clearly worse than all of them, {text}: the "
                    "run still gains by the rest."
                )
            elif sign > 0:
                said.append(
                    f"{_share(cell)} of the epochs are clearly better than all of them, {text}: "
                    "longer runs may learn wrong labels by heart."
                )
            else:
                said.append(f"{_share(cell)} of the epochs: {text} to all, not told apart.")
        return said

    def _clear(self, sign: int) -> list[str]:
        """Methods that are clearly better (1) or worse (-1)."""
        word = {1: "better", -1: "worse"}[sign]
        return [
            f"{cell.words} is clearly {word} than Full at equal cost, "
            f"{interval(way, self.digits)}, and {self._to_full(cell)}."
            for cell, way in self._of(sign)
            if (cell, way) not in self.winners[:1]  # of which the first sentence tells
        ]

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
        gains = best.way.mean < 0 if self.measure in self.cells.lower else best.way.mean > 0
        if gains and needed is not None and needed <= MOST_WORTH:
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

    def _to_full(self, cell: Cell) -> str:
        """How a cell stands to Full."""
        way = self.cells.to_full(cell)
        if way is None:
            return "not compared with Full"
        if not _enough(way):
            return f"not judged beside Full, with {_seeds(way)} in common"
        sign = self.cells.better(way)
        if sign:
            word = "better" if sign > 0 else "worse"
            return f"clearly {word} than Full, {interval(way, self.digits)}"
        return f"not told apart from Full, {interval(way, self.digits)}"


def _enough(way: Difference | None) -> TypeGuard[Difference]:
    return way is not None and way.half is not None and way.seeds >= LEAST_SEEDS


def _more(way: Difference) -> str:
    needed = way.seeds_needed
    few = needed is not None and needed <= MOST_WORTH
    return f"; with about {needed} the chance is even" if few else ""


def _share(cell: Cell) -> str:
    return f"{100 * (cell.budget or cell.cost):.3g} %"


def _seeds(way: Difference | None) -> str:
    count = 0 if way is None else way.seeds
    return f"{count} seed{'' if count == 1 else 's'}"


def joined(texts: Sequence[str]) -> str:
    """Returns texts as a person lists them: "A, B and C"."""
    *first, last = texts
    return f"{', '.join(first)} and {last}" if first else last
