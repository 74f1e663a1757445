"""The figures of the pages' prose: lists, counts and short tables, which the templates ask for.

Each is a text that holds whatever the lines are: it names the tasks where a method is clearly
better, and nothing says in words that it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from benchmarks.accuracy.report.measures import ACCURACY
from benchmarks.accuracy.report.studies import (
    Study,
    missing,
    planned,
    slug,
    title,
)
from benchmarks.accuracy.report.tables import difference, saved, spread_of
from benchmarks.accuracy.report.topics import per_visit
from benchmarks.accuracy.report.verdicts import (
    Tally,
    Verdict,
    clear,
    pruning,
    standing,
    tally,
    verdicts,
)
from benchmarks.accuracy.suites import Suite
from seta.comparison.cells import Key
from seta.comparison.contenders import EQUAL_COST, FULL, REFERENCES
from seta.comparison.statistics import CONFIDENCE
from seta.comparison.table import NONE, markdown


@dataclass(frozen=True)
class Figures:
    """What can be asked of studies, and of the suites that plan them."""

    studies: Sequence[Study]
    suites: Mapping[str, Suite]

    def of(self, suite: str) -> Figures:
        """The same for one suite alone."""
        plans = {name: plan for name, plan in self.suites.items() if name == suite}
        return Figures([study for study in self.studies if study.suite == suite], plans)

    @cached_property
    def uncounted(self) -> list[str]:
        """The suites of which there are runs, and whose tasks do not count beside others."""
        suites = dict.fromkeys(study.suite for study in self.studies)
        left = [name for name in suites if name in self.suites and not self.suites[name].counts]
        return left if len(left) < len(suites) else []

    @cached_property
    def to(self) -> dict[str, list[Verdict]]:
        """The verdicts that count by reference, Full at equal cost first; of some at least."""
        studies = [study for study in self.studies if study.suite not in self.uncounted]
        order = sorted(REFERENCES, key=lambda reference: reference != EQUAL_COST)
        found = {reference: verdicts(studies, reference) for reference in order}
        return {reference: some for reference, some in found.items() if some}

    @cached_property
    def rivalry(self) -> list[Verdict]:
        """The verdicts of the methods that prune, beside Full at equal cost."""
        return pruning(self.to.get(EQUAL_COST, []))

    def has(self, method: str) -> bool:
        """Whether a method was run."""
        return any(method in study.methods for study in self.studies)

    def runs(self) -> str:
        """How many runs there are."""
        return f"{sum(len(study.lines) for study in self.studies):,}"

    def missing(self) -> list[str]:
        """What is planned and has no line."""
        return list(missing(self.suites.values(), self.studies))

    def tallies(self, methods: Iterable[str] = ()) -> str:
        """A row per method: in how many cells it is better / not told apart / worse.

        Args:
            methods: Those to tell of; none: all, and their sum.
        """
        found = {one.method for some in self.to.values() for one in some}
        chosen = found & set(methods) if methods else found
        rows = [
            [name, *(_counts(name, some, reference) for reference, some in self.to.items())]
            for name in standing(chosen, self.rivalry)
        ]
        if not methods:
            total = (_written(tally(pruning(some))) for some in self.to.values())
            rows.append(["**all that prune**", *total])
        return markdown(["method", *(f"to {name}" for name in self.to)], rows) if chosen else ""

    def by_task(self, pages: str = "") -> str:
        """A row per task: its runs, and what is clearly better or worse than Full at equal cost.

        Args:
            pages: Folder of the suites' pages, to link them; empty: no links.
        """
        found = {(study.suite, study.variant): study for study in self.studies}
        plans = {
            (suite.name, variant): cells
            for suite in self.suites.values()
            for variant, cells in planned(suite).items()
        }
        rows = []
        for at in dict.fromkeys([*plans, *found]):
            study = found.get(at)
            name = f"[{title(*at)}]({pages}/{slug(at[0])}.md)" if pages and study else title(*at)
            some = [one for one in self.of(at[0]).rivalry if one.study is study]
            rows.append((name, _made(study, plans.get(at)), _named(some, 1), _named(some, -1)))
        headers = ("task", "runs", "clearly better", "clearly worse")
        return markdown(headers, rows, words=4) if rows else ""

    def names(self, *, better: bool, worse: bool) -> str:
        """The methods that are, or are not, clearly better and worse in some cell."""
        methods = standing({one.method for one in self.rivalry}, self.rivalry)
        tallies = {m: tally(one for one in self.rivalry if one.method == m) for m in methods}
        asked = (better, worse)
        return _joined(m for m, t in tallies.items() if sum(t) and (t[0] > 0, t[2] > 0) == asked)

    def tasks_won(self) -> str:
        """In how many tasks some method is clearly better: such as `4 of 15`."""
        judged = {one.study.title for one in self.rivalry if one.way.half is not None}
        won = {one.study.title for one in self.rivalry if one.way.sign > 0}
        return f"{len(won)} of {len(judged)}"

    def farthest(self, sign: int) -> str:
        """The clear verdict that lies farthest above (1) or below (-1) Full at equal cost."""
        found = clear(self.rivalry, sign)
        if not found:
            return "none"
        method, budget = found[0].method, found[0].budget
        where = ", ".join(filter(None, (found[0].study.title, saved(budget))))
        return f"{method} in {where}: {difference(found[0].way, ACCURACY)}"

    def share(self, sign: int, reference: str = FULL, method: str | None = None) -> str:
        """How many intervals of a method, or of all that prune, are clear: such as `12 of 15`."""
        some = self.to.get(reference, [])
        counts = tally(v for v in some if v.method == method) if method else tally(pruning(some))
        return f"{counts[1 - sign]:,} of {sum(counts):,}"

    def intervals(self) -> str:
        """How many intervals to Full at equal cost there are."""
        return f"{sum(tally(self.rivalry)):,}"

    def clear_intervals(self) -> str:
        """How many of them leave out zero."""
        counts = tally(self.rivalry)
        return f"{counts.better + counts.worse:,}"

    def by_chance(self) -> str:
        """How many of them would leave out zero if no method made any difference."""
        return f"{(1 - CONFIDENCE) * sum(tally(self.rivalry)):,.0f}"

    def time(self, key: str) -> str:
        """Time per sample of pruned runs, Full = 1: `1.013 (0.998 to 1.031)`."""
        return spread_of([ratio for study in self.studies for ratio in per_visit(study, key)])


def _counts(method: str, some: Iterable[Verdict], reference: str) -> str:
    """The tally of one method."""
    mine = tally(one for one in some if one.method == method)
    return "reference" if method == reference else _written(mine)


def _written(counts: Tally) -> str:
    return " / ".join(map(str, counts)) if sum(counts) else NONE


def _made(study: Study | None, plan: Mapping[Key, set[int]] | None) -> str:
    """The runs that there are, of those planned."""
    if plan is None:
        return str(len(study.lines) if study else 0)
    made = sum(len(seeds & study.cell(*key).keys()) for key, seeds in plan.items()) if study else 0
    return f"{made} of {sum(map(len, plan.values()))}"


def _named(some: Sequence[Verdict], sign: int) -> str:
    """The methods that are clear, a line per budget, the farthest first."""
    lines: dict[str, list[str]] = {}
    for one in sorted(clear(some, sign), key=lambda one: -(one.budget or 0.0)):
        lines.setdefault(saved(one.budget), []).append(one.method)
    texts = (": ".join(filter(None, (at, ", ".join(names)))) for at, names in lines.items())
    return "<br>".join(texts) or ("none" if sum(tally(some)) else NONE)


def _joined(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
