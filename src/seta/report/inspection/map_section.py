"""The data map as a section: the chart, its regions in words, and examples of each cell."""

from __future__ import annotations

import math

import numpy as np

from seta.report.inspection.charts import axis
from seta.report.inspection.facts import Facts
from seta.report.inspection.map_chart import map_chart
from seta.report.inspection.parts import Chart, Finding, Section, Table, rounded
from seta.report.inspection.scales import Scale
from seta.report.inspection.spread_map import CELLS, SpreadMap, coarse
from seta.report.units import many, percent

_MEANINGS = {
    "easy": "easy (low mean, low spread)",
    "ambiguous": "ambiguous (low mean, high spread)",
    "hard": "hard (high mean)",
}
_MUCH = 0.05
_APART = 4  # times as high: a group of its own, and not the upper end of all
_EARLY = 0.5  # of the samples: where more are worse than a guess, nothing is learnt yet


def map_section(facts: Facts, found: SpreadMap | None, classes: int | None) -> Section | None:
    """Returns the section on the data map; None where there is none.

    Args:
        facts: Of the run.
        found: The map.
        classes: How many there are; None: not known.
    """
    if found is None:
        return None
    figures = [(_MEANINGS[name], percent(share)) for name, share in found.regions.items() if share]
    if found.left:
        figures.append(("not shown, fewer than two losses", f"{found.left:,}"))
    findings = []
    hard = found.regions["hard"]
    high, low = found.levels
    if hard >= _MUCH and high >= _APART * low:
        findings.append(
            Finding(
                f"{percent(hard)} of the samples lie in the hard region: their mean loss is "
                f"{high:.3g} (the median), that of the others {low:.3g}. Wrong labels lie there, "
                "and what the model cannot learn.",
                "Click into that region, and see whether the labels of the suspects below are "
                "right.",
                warning=True,
            )
        )
    worse = None if classes is None else _worse_than_a_guess(facts, classes)
    if worse is not None and not findings:  # these are mostly the same samples
        findings.append(worse)
    return Section(
        "map",
        "Data map",
        "Each cell is a number of samples: the mean of their losses over their visits, and how "
        "much these vary. The dotted lines are at half of each axis. Click a cell to see some of "
        "its samples, or use the arrow keys or the buttons below the map.",
        findings,
        figures,
        [Chart("map", "Data map: mean against spread of the losses", _spec(found), _table(found))],
        data={
            "cells": [
                {
                    "cell": cell,
                    "column": int(found.columns[cell]),
                    "line": int(found.lines[cell]),
                    "samples": int(found.counts[cell]),
                    "text": _text(found, cell),
                    "examples": facts.samples[found.examples[cell]].tolist(),
                }
                for cell in range(len(found.counts))
            ]
        },
    )


def _worse_than_a_guess(facts: Facts, classes: int) -> Finding | None:
    """Returns what there is to say of samples whose mean loss is above that of a guess."""
    guess = math.log(max(classes, 1))
    if facts.mean is None or facts.visits is None or classes < 2 or np.nanmin(facts.mean) < 0:
        return None
    often = facts.visits > 1
    worse = int(((facts.mean > guess) & often).sum())
    share = worse / max(1, int(often.sum()))
    if not 0 < share < _EARLY:
        return None
    return Finding(
        f"{many(worse, 'sample has', 'samples have')} a mean loss above {guess:.3g} "
        f"({percent(share)}): worse than a guess among {classes} classes, if the loss is a "
        "cross-entropy. They are hard, or wrongly labelled.",
        "Look at the suspects below.",
    )


def _text(found: SpreadMap, cell: int) -> str:
    mean, spread = found.mean.edges, found.spread.edges
    column, line = int(found.columns[cell]), int(found.lines[cell])
    return (
        f"mean {mean[column]:.3g} to {mean[column + 1]:.3g}, "
        f"spread {spread[line]:.3g} to {spread[line + 1]:.3g}"
    )


def _spec(found: SpreadMap) -> dict[str, object]:
    mean, spread = found.mean.edges, found.spread.edges
    cells = [
        {
            "cell": cell,
            "mean": rounded(mean[column]),
            "mean_to": rounded(mean[column + 1]),
            "spread": rounded(spread[line]),
            "spread_to": rounded(spread[line + 1]),
            "samples": int(samples),
        }
        for cell, (column, line, samples) in enumerate(
            zip(found.columns, found.lines, found.counts, strict=True)
        )
    ]
    places = {"easy": (0.25, 0.25), "ambiguous": (0.25, 0.9), "hard": (0.75, 0.25)}
    labels = [
        {"text": name, "mean": _at(found.mean, across), "spread": _at(found.spread, up)}
        for name, (across, up) in places.items()
    ]
    axes = [
        axis(title, kind=scale.kind, domain=(scale.edges[0], scale.edges[-1]))
        for title, scale in (("mean of the losses", found.mean), ("spread", found.spread))
    ]
    halves = mean[CELLS // 2], spread[CELLS // 2]
    return map_chart(cells, labels, axes=axes, halves=halves)


def _at(scale: Scale, share: float) -> float:
    """Returns what lies at a share of an axis as it is drawn."""
    place = share * scale.bars
    below = math.floor(place)
    low, high = scale.edges[below], scale.edges[below + 1]
    return float(low + (place - below) * (high - low))


def _table(found: SpreadMap, parts: int = 8) -> Table:
    counts, width = coarse(found, parts), CELLS // parts
    mean, spread = found.mean.edges[::width], found.spread.edges[::width]
    headers = ["spread up to", *(f"mean up to {edge:.3g}" for edge in mean[1:])]
    rows = [
        [f"{spread[line + 1]:.3g}", *(f"{count:,}" for count in counts[line])]
        for line in reversed(range(parts))
    ]
    return Table("Samples by mean and spread, in larger cells", headers, rows)
