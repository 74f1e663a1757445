"""The figures that the summary names: jinja2 calls these by name, so that none is typed by hand.

`summary.md` says, for instance, `SeTa: {{ difference("digits", "improving", "SeTa", 0.5) }}`.
A task that was not run gives "**not run**", which shows on the page and stops nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from benchmarks.accuracy.contenders import EQUAL_COST, FULL
from benchmarks.accuracy.report.measures import ACCURACY, EXTRA, Measure
from benchmarks.accuracy.report.statistics import (
    Difference,
    mean_and_spread,
    saved_time,
    share,
    time_ratios,
    to_curve,
    to_full,
    values_of,
)
from benchmarks.accuracy.report.studies import REFERENCES, Study
from benchmarks.accuracy.report.tables import (
    clear_differences,
    hardest_share,
    level,
    number,
    paired_to,
    percent,
    spread_of,
)

ABSENT = "**not run**"


@dataclass(frozen=True)
class Figures:
    """What can be asked of the studies; each method returns a text for a sentence.

    `task` is always the suite and its variant, `budget` a share of Full's visits or None for a run
    as published. The names are those of the lines.
    """

    studies: Sequence[Study]

    def functions(self) -> dict[str, Callable[..., object]]:
        """All of them by name, for jinja2."""
        names = [name for name in vars(type(self)) if not name.startswith("_")]
        return {name: getattr(self, name) for name in names if name not in ("functions", "studies")}

    def accuracy(
        self, suite: str, variant: str, method: str = "Full", budget: float | None = 1.0
    ) -> str:
        """Such as `81.70 ± 0.20 %`."""
        text = level(self._study(suite, variant).cell(method, budget), ACCURACY)
        return f"{text} %" if text[0].isdigit() else ABSENT

    def difference(self, suite: str, variant: str, method: str, budget: float | None) -> str:
        """To Full: such as `-0.35 points (95 % interval -0.81 to 0.11)`."""
        study = self._study(suite, variant)
        return _in_words(to_full(study, study.cell(method, budget)), ACCURACY)

    def distance(self, suite: str, variant: str, method: str, budget: float | None) -> str:
        """To Full's own curve at the same visits, written as `difference` is."""
        return _in_words(to_curve(self._study(suite, variant), method, budget), ACCURACY)

    def against(
        self, suite: str, variant: str, method: str, other: str, budget: float | None
    ) -> str:
        """To another method at the same budget, written as `difference` is."""
        study = self._study(suite, variant)
        return _in_words(paired_to(study, (method, budget), (other, budget), ACCURACY), ACCURACY)

    def metric(self, suite: str, variant: str, method: str, budget: float | None, key: str) -> str:
        """A metric of the evaluation, mean and spread, in the unit of its column."""
        text = level(self._study(suite, variant).cell(method, budget), _measure(suite, key))
        return text if text[0] in "-0123456789" else ABSENT

    def metric_difference(
        self, suite: str, variant: str, method: str, budget: float | None, key: str
    ) -> str:
        """A metric's difference to Full, written as `difference` is, in the unit of its column."""
        study = self._study(suite, variant)
        return _in_words(to_full(study, study.cell(method, budget), key), _measure(suite, key))

    def saved(
        self, suite: str, variant: str, method: str, budget: float | None, of: str = "samples"
    ) -> str:
        """The share saved of `samples`, `wall` or `cpu` time: such as `49.9 %`."""
        study = self._study(suite, variant)
        cell = study.cell(method, budget)
        if not cell:
            return ABSENT
        if of == "samples":
            return f"{percent(fmean(1 - share(line) for line in cell.values()), 1)} %"
        found = saved_time(study, cell, {"wall": "seconds", "cpu": "cpu_seconds"}[of])
        return ABSENT if found is None else f"{percent(found, 1)} %"

    def best(self, suite: str, variant: str, budget: float) -> str:
        """The method of the highest mean accuracy at a budget, Full at equal cost among them."""
        return (self._ranked(suite, variant, budget) or [ABSENT])[0]

    def ranking(self, suite: str, variant: str, budget: float, top: int = 3) -> str:
        """The best methods at a budget, such as `RS2 (78.30), SeTa (78.12)`."""
        study = self._study(suite, variant)
        names = self._ranked(suite, variant, budget)[:top]
        means = [mean_and_spread(values_of(study.cell(m, budget), "accuracy")) for m in names]
        texts = [f"{name} ({100 * m[0]:.2f})" for name, m in zip(names, means, strict=True) if m]
        return ", ".join(texts) or ABSENT

    def worse(self, suite: str, variant: str, budget: float, to: str = "Full") -> str:
        """Names the methods that are clearly worse than Full, or Full at equal cost."""
        return self._clear(suite, variant, budget, to, -1)

    def better(self, suite: str, variant: str, budget: float, to: str = "Full") -> str:
        """Names the methods that are clearly better than Full, or Full at equal cost."""
        return self._clear(suite, variant, budget, to, 1)

    def wrong(self, suite: str, variant: str, method: str, budget: float | None) -> str:
        """The share of wrong labels among the samples trained, such as `12.3 %`."""
        cell = self._study(suite, variant).cell(method, budget)
        figures = mean_and_spread(values_of(cell, "wrong_share"))
        return f"{percent(figures[0], 1)} %" if figures else ABSENT

    def hardest(self, suite: str, variant: str, method: str, budget: float | None, of: str) -> str:
        """`precision` or `recall` of the hardest group against the wrong labels: `61 %`."""
        found = hardest_share(self._study(suite, variant).cell(method, budget), of)
        return ABSENT if found is None else f"{percent(found, 0)} %"

    def time_per_sample(self, suite: str, variant: str, key: str = "seconds") -> str:
        """Time per sample of pruned runs, Full = 1: `1.013 (0.998 to 1.031)`."""
        study = self._study(suite, variant)
        pruned = [c for at, c in study.cells.items() if at[0] not in REFERENCES]
        return (
            spread_of([r for c in pruned for r in time_ratios(study, c, key, per_visit=True)])
            if pruned
            else ABSENT
        )

    def across(
        self, method: str, budget: float | None, variants: str = "", to: str = "Full"
    ) -> str:
        """Median and range of the mean differences over all tasks, in points.

        Args:
            method: Name of the method.
            budget: Share of Full's visits.
            variants: Only tasks whose variant contains this, such as `improving`.
            to: `Full` or `Full at equal cost`.
        """
        some = [study for study in self.studies if variants in study.variant]
        ways = [way for study in some if (way := _way(study, method, budget, to))]
        means = [100 * way.mean for way in ways]
        if not means:
            return ABSENT
        ends = " to ".join(number(end, 2, signed=True) for end in (min(means), max(means)))
        middle = number(median(means), 2, signed=True)
        return f"{middle} points ({ends} over {len(means)} tasks)"

    def tally(self, method: str, budget: float | None, sign: int, to: str = "Full") -> str:
        """In how many tasks a method is clearly worse (-1), not told apart (0), or better (1).

        Returns:
            Such as `12 of 15`.
        """
        ways = [_way(study, method, budget, to) for study in self.studies]
        signs = [way.sign for way in ways if way]
        return f"{signs.count(sign)} of {len(signs)}" if signs else ABSENT

    def runs(self, suite: str | None = None) -> str:
        """How many runs there are, in all or of a suite."""
        chosen = [s for s in self.studies if suite in (None, s.suite)]
        return f"{sum(len(study.lines) for study in chosen):,}"

    def seeds(
        self, suite: str, variant: str, method: str = "Full", budget: float | None = 1.0
    ) -> str:
        """How many seeds a cell has."""
        return str(len(self._study(suite, variant).cell(method, budget)))

    def intervals(self) -> str:
        """How many intervals to Full's own curve there are: `312`."""
        return f"{clear_differences(self.studies)[0]:,}"

    def clear_intervals(self) -> str:
        """How many of these leave out zero."""
        return f"{clear_differences(self.studies)[1]:,}"

    def _study(self, suite: str, variant: str) -> Study:
        found = [s for s in self.studies if (s.suite, s.variant) == (suite, variant)]
        return found[0] if found else Study(suite, variant, {})

    def _ranked(self, suite: str, variant: str, budget: float) -> list[str]:
        study = self._study(suite, variant)
        cells = {m: values_of(study.cell(m, budget), "accuracy") for m in study.methods}
        means = {m: found[0] for m in cells if (found := mean_and_spread(cells[m]))}
        return sorted(means, key=lambda method: -means[method])

    def _clear(self, suite: str, variant: str, budget: float, to: str, sign: int) -> str:
        study = self._study(suite, variant)
        methods = self._ranked(suite, variant, budget)
        ways = {method: _way(study, method, budget, to) for method in methods if method != to}
        if not ways:
            return ABSENT
        return ", ".join(m for m, way in ways.items() if way and way.sign == sign) or "none"


def _way(study: Study, method: str, budget: float | None, to: str) -> Difference | None:
    if to == EQUAL_COST:
        return to_curve(study, method, budget)
    if to == FULL:
        return to_full(study, study.cell(method, budget))
    raise ValueError(f"to must be {FULL!r} or {EQUAL_COST!r}; got {to!r}")


def _measure(suite: str, key: str) -> Measure:
    known = {measure.key: measure for measure in EXTRA.get(suite, ())}
    return known.get(key, Measure(key, key, 1.0, 3))


def _in_words(way: Difference | None, of: Measure) -> str:
    if way is None:
        return ABSENT
    unit = " points" if of.scale == 100 else ""
    text = number(way.mean * of.scale, of.digits, signed=True) + unit
    if way.low is None or way.high is None:
        return f"{text} (one seed, no interval)"
    ends = " to ".join(number(end * of.scale, of.digits) for end in (way.low, way.high))
    return f"{text} (95 % interval {ends})"
