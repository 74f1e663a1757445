"""All that a page says, as plain values: sections, findings, lists, and what its script reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.report.inspection.classes import Classes, rows_of
from seta.report.inspection.cost import cost_section
from seta.report.inspection.facts import Facts
from seta.report.inspection.items import Items, Shown
from seta.report.inspection.lists import Listed, lists_of, starving_from, suspicion_of
from seta.report.inspection.losses import losses_section
from seta.report.inspection.map_section import map_section
from seta.report.inspection.parts import Finding, Section, rounded
from seta.report.inspection.spread_map import SpreadMap, map_of
from seta.report.inspection.visits import classes_section, visits_section
from seta.report.units import many

ITEMS = 600  # loaded of a data set, at most ...
_LISTED = 40  # ... of which so many of each list come first
_CURVE = 60  # epochs of a small loss curve, at most
_TOLD = {
    "loss": "loss is the latest",
    "success rate": "success rate is that of the latest group of rewards",
    "score": "score is what the method chooses by",
    "mean": "mean and spread are those of all losses of the sample",
    "suspicion": "suspicion is how far its losses stay above typical ones",
    "visits": "visits is how many epochs trained it",
    "left out": "left out is how many epochs ago that was last, 0 for the latest",
}


@dataclass(frozen=True)
class Sample:
    """A row of a list: texts.

    Attributes:
        index: Of the sample.
        label: Its class; "" where that is not known.
        figures: As many as `Content.columns`.
    """

    index: int
    label: str
    figures: list[str]


@dataclass(frozen=True)
class SampleList:
    """A list of samples.

    Attributes:
        listed: How it was made.
        rows: Its samples.
        followed: Whether there are loss curves of some.
    """

    listed: Listed
    rows: list[Sample]
    followed: bool


@dataclass(frozen=True)
class Content:
    """What a page says.

    Attributes:
        title: Of the page.
        about: Short facts: what was run, and when its state is from.
        notes: What the page lacks, and how to have it.
        sections: With charts.
        lists: Of samples.
        columns: Names of the figures of a listed sample.
        items: What is shown of samples, by index.
        data: What the script of the page reads, but for the charts.
    """

    title: str
    about: list[str]
    notes: list[str]
    sections: list[Section]
    lists: list[SampleList]
    columns: list[str]
    items: dict[int, Shown]
    data: dict[str, Any]

    @property
    def findings(self) -> list[tuple[str, Finding]]:
        """The findings of all sections, warnings first, each with the key of its section."""
        found = [(part.key, finding) for part in self.sections for finding in part.findings]
        return sorted(found, key=lambda pair: not pair[1].warning)

    @property
    def columns_told(self) -> str:
        """What the columns of the lists are, in a sentence or two."""
        told = "; ".join(_TOLD[name] for name in self.columns if name in _TOLD)
        curves = (
            f" The curves are the {self.columns[0]} by epoch, of the samples that the run follows; "
            "track=[...] names more."
            if self.data["curves"]
            else ""
        )
        return f"In the tables, {told}.{curves}"


def content_of(
    facts: Facts, *, classes: Classes | None, items: Items | None, title: str, moment: str | None
) -> Content:
    """Returns what a page says of a run.

    Args:
        facts: Of the run.
        classes: Of the samples, where they are known.
        items: The data set, where it is given.
        title: Of the page.
        moment: When the state is from, as text; None: not known.
    """
    limit, where, suspects = starving_from(facts), map_of(facts), suspicion_of(facts, classes)
    lists = lists_of(facts, suspects, limit, by_class=classes is not None)
    sections = [
        cost_section(facts),
        losses_section(facts),
        map_section(facts, where, None if classes is None else classes.count),
        visits_section(facts, limit),
        None if classes is None else classes_section(rows_of(facts, classes), facts.measure),
    ]
    there = [section for section in sections if section is not None]
    loaded = {} if items is None else items.load(_wanted(facts, lists, where))
    columns, told = _columns(facts, suspects)
    listed = {int(facts.samples[row]) for one in lists for row in one.rows}
    curves = _curves(facts, listed, where)
    samples = []
    for one in lists:
        rows = [_sample(facts, classes, int(row), told) for row in one.rows]
        samples.append(SampleList(one, rows, any(str(row.index) in curves for row in rows)))
    data = {
        "lists": {one.listed.key: [row.index for row in one.rows] for one in samples},
        "items": {str(index): shown for index, shown in loaded.items()},
        "curves": curves,
        **{key: value for section in there for key, value in section.data.items()},
    }
    return Content(
        title, _about(facts, moment), _notes(facts, items), there, samples, columns, loaded, data
    )


def _about(facts: Facts, moment: str | None) -> list[str]:
    budget = facts.settings["budget"]
    share = (
        "" if budget is None else f", budget {budget if isinstance(budget, float) else 'by epoch'}"
    )
    where = many(facts.over, "epoch is", "epochs are") + f" over, of {facts.epochs}"
    if facts.open is not None:
        where += f"; epoch {facts.open['epoch']} is open"
    about = [f"{facts.n:,} samples", f"{facts.settings['policy']}{share}", where]
    return [*about, f"state from {moment}"] if moment else about


def _notes(facts: Facts, items: Items | None) -> list[str]:
    notes = []
    if len(facts.samples) < facts.n:
        notes.append(
            f"This is a part of the run: {len(facts.samples):,} of its {facts.n:,} samples. Give "
            "the states of all ranks for the whole."
        )
    if facts.signals:
        notes.append(
            "The run recorded rewards, not losses: the page has no data map and no suspects."
        )
    if facts.visits is None:
        more = "success rates" if facts.signals else "the data map and suspects"
        notes.append(f"The run was not tracked: visits, {more} are there with track=True.")
    if items is None:
        notes.append("No data set was given: samples are shown by their index alone.")
    return notes


def _wanted(facts: Facts, lists: Sequence[Listed], where: SpreadMap | None) -> list[int]:
    """Returns the samples to load: the first of each list in turn, then those of the map."""
    columns = [facts.samples[one.rows[:_LISTED]].tolist() for one in lists]
    if where is not None:
        order = np.argsort(-where.counts, kind="stable")
        cells = [facts.samples[where.examples[cell]].tolist() for cell in order]
        columns.append(_in_turn(cells))
    listed, mapped = columns[: len(lists)], columns[len(lists) :]
    wanted = [*_in_turn(listed), *(sample for samples in mapped for sample in samples)]
    return list(dict.fromkeys(wanted))[:ITEMS]


def _in_turn(columns: Sequence[Sequence[int]]) -> list[int]:
    """Returns the first of each, then the second of each, and so on."""
    rows = zip_longest(*columns)
    return [sample for row in rows for sample in row if sample is not None]


def _columns(facts: Facts, suspects: NDArray[np.float32] | None) -> tuple[list[str], list[Any]]:
    """Returns the names of the figures of a sample, and their columns."""
    named = {
        facts.measure: facts.latest,
        "mean": facts.mean,
        "spread": facts.spread,
        "visits": facts.visits if facts.visits is not None else facts.kept,
        "left out": facts.left_out,
        "suspicion": suspects,
    }
    there = {name: column for name, column in named.items() if column is not None}
    return list(there), list(there.values())


def _sample(facts: Facts, classes: Classes | None, row: int, columns: Sequence[Any]) -> Sample:
    index = int(facts.samples[row])
    label = "" if classes is None else classes.names[int(classes.of[index])]
    return Sample(index, label, [_figure(column[row]) for column in columns])


def _figure(value: Any) -> str:
    if isinstance(value, np.floating):
        return f"{value:.4g}" if np.isfinite(value) else ""
    return f"{int(value):,}"


def _curves(
    facts: Facts, listed: set[int], where: SpreadMap | None
) -> dict[str, list[float | None]]:
    """Returns the loss curves of the samples that the page names, where the run kept them."""
    if facts.trace is None or not len(facts.trace.losses):
        return {}
    named = set(listed)
    for rows in [] if where is None else where.examples:
        named.update(facts.samples[rows].tolist())
    found = {}
    for at, sample in enumerate(facts.trace.samples.tolist()):
        curve = facts.trace.curve(at) if sample in named else []
        if any(loss is not None for loss in curve):
            step = -(-len(curve) // _CURVE)
            parts = [curve[at : at + step] for at in range(0, len(curve), step)]
            last = [[loss for loss in part if loss is not None][-1:] for part in parts]
            found[str(sample)] = [rounded(part[0]) if part else None for part in last]
    return found
