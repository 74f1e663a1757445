"""The chart of the data map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seta.report.curves import CURVE
from seta.report.inspection.charts import INK, RULE, top
from seta.report.inspection.parts import Spec


def map_chart(
    cells: Sequence[dict[str, Any]],
    labels: Sequence[dict[str, Any]],
    *,
    axes: Sequence[Spec],
    halves: tuple[float, float],
) -> Spec:
    """Returns the map of means and spreads.

    Args:
        cells: `cell`, `mean`, `mean_to`, `spread`, `spread_to`, `samples`.
        labels: `text`, `mean`, `spread` of what is written over it.
        axes: Of the means, and of the spreads.
        halves: Where the regions meet.
    """
    x, y = axes
    place = {
        "x": {**x, "field": "mean"},
        "x2": {"field": "mean_to"},
        "y": {**y, "field": "spread"},
        "y2": {"field": "spread_to"},
    }
    count = {
        "field": "samples",
        "type": "quantitative",
        "title": "samples",
        "scale": {"type": "log", "range": ["@few", "@many"]},
        "legend": {"orient": "top", "direction": "horizontal", "gradientLength": 150},
    }
    tooltip = [
        {"field": "samples", "title": "samples", "format": ","},
        {"field": "mean", "title": "mean from", "format": ".3g"},
        {"field": "spread", "title": "spread from", "format": ".3g"},
    ]
    return top(
        360,
        params=[{"name": "chosen", "value": -1}],
        layer=[
            {
                "data": {"values": list(cells)},
                "mark": {"type": "rect", "cursor": "pointer"},
                "encoding": {**place, "color": count, "tooltip": tooltip},
            },
            {
                "data": {"values": list(cells)},
                "transform": [{"filter": "datum.cell === chosen"}],
                "mark": {"type": "rect", "filled": False, "stroke": CURVE, "strokeWidth": 3},
                "encoding": place,
            },
            {"mark": RULE, "data": {"values": [{}]}, "encoding": {"x": {**x, "datum": halves[0]}}},
            {
                "data": {"values": [{"low": x["scale"]["domain"][0]}]},
                "mark": RULE,
                "encoding": {
                    "y": {**y, "datum": halves[1]},
                    "x": {**x, "field": "low"},
                    "x2": {"datum": halves[0]},
                },
            },
            {
                "data": {"values": list(labels)},
                "mark": {
                    "type": "text", "fontSize": 14, "fontWeight": "bold", "color": INK,
                    "stroke": "@paper", "strokeWidth": 3, "strokeJoin": "round",
                },
                "encoding": _at(x, y),
            },
            {
                "data": {"values": list(labels)},
                "mark": {"type": "text", "fontSize": 14, "fontWeight": "bold", "color": INK},
                "encoding": _at(x, y),
            },
        ],
    )  # fmt: skip


def _at(x: Spec, y: Spec) -> Spec:
    return {
        "x": {**x, "field": "mean"},
        "y": {**y, "field": "spread"},
        "text": {"field": "text"},
    }
