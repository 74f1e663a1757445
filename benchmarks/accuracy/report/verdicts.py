"""Verdicts: every cell of a study beside a reference, and how often a method comes out on top.

What the page of all suites says in tables and in its picture is counted here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmarks.accuracy.report.statistics import to_reference
from benchmarks.accuracy.report.studies import CONTROLS, CURVE, Study, ordered
from seta.comparison.contenders import EQUAL_COST
from seta.comparison.statistics import Difference


class Verdict(NamedTuple):
    """A method on a task at a budget, beside a reference."""

    study: Study
    method: str
    budget: float | None
    way: Difference


class Tally(NamedTuple):
    """How many intervals lie above zero, hold it, and lie below it."""

    better: int
    even: int
    worse: int

    @property
    def balance(self) -> float:
        """The share of the better ones less that of the worse ones, in [-1, 1]."""
        return (self.better - self.worse) / max(1, sum(self))


def verdicts(studies: Iterable[Study], reference: str = EQUAL_COST) -> list[Verdict]:
    """All that can be compared with a reference: methods, rivals, other references at a budget.

    With one seed there is a difference and no interval.
    """
    own = CURVE if reference == EQUAL_COST else (reference,)
    ways = (
        (study, method, budget, to_reference(study, method, budget, reference))
        for study in studies
        for method, budget in study.cells
        if method not in own and budget in (*study.budgets, None)
    )
    return [Verdict(*at, way) for *at, way in ways if way is not None]


def pruning(some: Iterable[Verdict]) -> list[Verdict]:
    """Those of the methods that prune, without references and rivals."""
    return [one for one in some if one.method not in CONTROLS]


def clear(some: Iterable[Verdict], sign: int) -> list[Verdict]:
    """Those that are clearly better (1) or worse (-1), the farthest from zero first."""
    return sorted((v for v in some if v.way.sign == sign), key=lambda v: -abs(v.way.mean))


def tally(some: Iterable[Verdict]) -> Tally:
    """Counts the verdicts that have an interval."""
    signs = [one.way.sign for one in some if one.way.half is not None]
    return Tally(*(signs.count(sign) for sign in (1, 0, -1)))


def standing(methods: Iterable[str], some: Sequence[Verdict]) -> list[str]:
    """References and rivals, then the methods, by their balance, the best first."""
    balances = {m: tally(one for one in some if one.method == m).balance for m in methods}
    return sorted(ordered(balances), key=lambda m: (m not in CONTROLS, -balances[m]))
