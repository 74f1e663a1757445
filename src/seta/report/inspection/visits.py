"""How often samples were trained, how long they were left out, and which classes starve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.report.inspection.charts import classes_chart, counts_chart
from seta.report.inspection.classes import ClassRow, visits_of
from seta.report.inspection.facts import Facts
from seta.report.inspection.parts import Chart, Finding, Section, Table, rounded
from seta.report.units import many, percent

_BARS = 40
_CLASSES = 30
_STARVES = 0.5  # of the visits per sample of all
_MANY = 0.01  # starved samples, from which on that is a warning: some few are so by chance


def visits_section(facts: Facts, limit: int) -> Section | None:
    """Returns the section on visits; None where no epoch has begun.

    Args:
        facts: Of the run.
        limit: Epochs left out from which on a sample is starved.
    """
    if not facts.begun:
        return None
    visits = visits_of(facts)
    charts = []
    if visits is not None:
        what = "visits" if facts.visits is not None else "epochs that kept it"
        charts.append(_chart("visits", what, visits, None))
    never = facts.left_out >= facts.begun
    out = np.where(never, facts.begun, facts.left_out)
    line = limit - 0.5 if bool((out >= limit).any()) else None
    charts.append(_chart("left-out", "epochs since it was last trained", out, line))
    figures = [("never trained", _of(int(never.sum()), len(never)))]
    if visits is not None:
        figures.insert(0, ("visits of a sample, mean", f"{visits.mean():.3g}"))
    return Section(
        "visits",
        "Visits, and how long samples were left out",
        f"Up to now {many(facts.begun, 'epoch has', 'epochs have')} begun.",
        _starved(facts, never, limit),
        figures,
        charts,
    )


def _of(count: int, total: int) -> str:
    if not count:
        return "no samples"
    return f"{many(count, 'sample')} ({percent(count / total)})"


def _starved(facts: Facts, never: NDArray[np.bool_], limit: int) -> list[Finding]:
    starved = int((facts.left_out >= limit).sum())
    found = []
    if starved and not facts.signals:  # prompts that teach nothing are meant to wait
        found.append(
            Finding(
                f"{_of(starved, len(never))} {'has' if starved == 1 else 'have'} not been trained "
                f"for {limit} epochs or more: the model may forget them, and what is known of "
                "them is old.",
                "See the list of the starved below; prune less, name those that matter in "
                "always_keep=, or give the last epochs a budget of 1 (budget=[...], one for each "
                "epoch).",
                warning=starved >= _MANY * len(never),
            )
        )
    unseen = int(never.sum())
    if unseen and facts.over == facts.epochs:
        found.append(
            Finding(
                f"The run is over, and {_of(unseen, len(never))} "
                f"{'was' if unseen == 1 else 'were'} never trained.",
                "Give more epochs or a larger budget, or name those that matter in always_keep=.",
                warning=True,
            )
        )
    return found


def _chart(key: str, title: str, values: NDArray[Any], from_on: float | None) -> Chart:
    counts = np.bincount(values)
    width = -(-len(counts) // _BARS)
    rows: list[dict[str, Any]] = []
    for first in range(0, len(counts), width):
        last = first + width - 1
        rows.append(
            {
                "low": first - 0.5,
                "high": last + 0.5,
                "samples": int(counts[first : last + 1].sum()),
                "text": str(first) if width == 1 else f"{first} to {last}",
            }
        )
    table = Table(
        f"Samples by {title}",
        (title, "samples"),
        [(row["text"], f"{row['samples']:,}") for row in rows],
    )
    spec = counts_chart(rows, title, from_on=from_on)
    return Chart(key, f"Samples by {title}", spec, table)


def classes_section(rows: Sequence[ClassRow], measure: str) -> Section | None:
    """Returns the section on classes; None where there is one at most.

    Args:
        rows: Of the classes.
        measure: What their `loss` is a mean of, see `Facts.measure`.
    """
    if len(rows) < 2:
        return None
    starving = [row for row in rows if row.visits is not None and row.visits < _STARVES]
    findings = []
    if starving:
        names = ", ".join(row.name for row in starving[:5]) + (" ..." if len(starving) > 5 else "")
        findings.append(
            Finding(
                f"{many(len(starving), 'class has', 'classes have')} less than half of the visits "
                f"per sample of all: {names}. What is easy on the whole is left out, and a class "
                "may be forgotten.",
                "Compare the accuracy by class with that of full training; use a method that looks "
                "at classes (RCAP, strata=), or prune less.",
                warning=True,
            )
        )
    known = [row for row in rows if row.visits is not None]
    few = known[:_CLASSES]
    if len(known) > _CLASSES:
        few = [*known[: _CLASSES // 2], *known[-_CLASSES // 2 :]]
    shown = [{"name": row.name, "visits": rounded(row.visits or 0.0)} for row in few]
    cut = f" The {_CLASSES} with the fewest and the most visits are drawn." * (
        len(known) > len(few)
    )
    table = Table(
        "Classes, those with the fewest visits first",
        (
            "class",
            "samples",
            "share of data",
            "visits per sample",
            f"mean {measure}",
            "never trained",
        ),
        [
            (
                row.name,
                f"{row.samples:,}",
                percent(row.share),
                "unknown" if row.visits is None else f"{row.visits:.2f}",
                "none" if row.loss is None else f"{row.loss:.4g}",
                f"{row.never:,}",
            )
            for row in rows[:1000]
        ],
    )
    lead = f"Visits per sample of each class; 1 is the mean of all samples.{cut}"
    if not known:
        lead = "How often samples were trained is known in runs made with track=True."
    elif not starving:
        least, most = known[0].visits or 0, known[-1].visits or 0
        lead = (
            f"No class starves: visits per sample lie between {least:.2f} ({known[0].name}) and "
            f"{most:.2f} ({known[-1].name}) of the mean of all samples."
        )
    chart = Chart("classes", "Visits per sample by class", classes_chart(shown), table)
    return Section(
        "classes",
        "By class",
        lead,
        findings,
        charts=[chart] if starving else [],
        tables=[] if starving else [table],
    )
