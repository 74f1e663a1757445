"""The charts of a page, in the language of Vega-Lite (https://vega.github.io/vega-lite).

Colours that begin with @ are those of the page, which differ between light and dark. The others are
those of Okabe and Ito, which people with any kind of colour vision can tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seta.report.curves import CURVE, TRAINED
from seta.report.inspection.parts import Spec

INK, GREY = "@ink", "@grey"
RULE = {"type": "rule", "strokeDash": [3, 3], "color": INK}


def top(height: int, **rest: Any) -> Spec:
    """Returns what all charts have in common: as wide as the page."""
    return {
        "width": "container",
        "height": height,
        "autosize": {"type": "fit", "contains": "padding"},
        **rest,
    }


def axis(title: str, *, kind: str = "linear", domain: Sequence[float]) -> Spec:
    """Returns an axis of numbers.

    Args:
        title: Of it.
        kind: "linear", "log" or "sqrt".
        domain: Its ends.
    """
    named = {"log": f"{title} (log scale)", "sqrt": f"{title} (square-root scale)"}
    return {
        "type": "quantitative",
        "title": named.get(kind, title),
        "scale": {"type": kind, "domain": list(domain), "nice": False},
        "axis": {"grid": False, "labelOverlap": "greedy", "labelSeparation": 8},
    }


def _counted(title: str, first: float, last: float) -> Spec:
    """Returns an axis of whole numbers, such as epochs."""
    found = axis(title, domain=(first, last))
    return {**found, "axis": {**found["axis"], "format": "d", "tickMinStep": 1}}


def epochs_chart(rows: Sequence[dict[str, Any]], *, budget: bool) -> Spec:
    """Returns the chart of samples trained and left out by epoch.

    Args:
        rows: `start`, `end`, `epoch`, `trained`, `full`, `due` of one epoch or of some.
        budget: Whether there is a line for what was due.
    """
    x = {**_counted("epoch", rows[0]["start"], rows[-1]["end"]), "field": "start"}
    tooltip = [
        {"field": "epoch", "title": "epoch"},
        {"field": "trained", "title": "trained", "format": ",.0f"},
        {"field": "full", "title": "full training", "format": ",.0f"},
    ]
    encoding = {"x": x, "x2": {"field": "end"}, "tooltip": tooltip}

    def bar(colour: str, low: Spec, high: str) -> Spec:
        y = {"field": high, "type": "quantitative", "title": "samples", "axis": {"grid": False}}
        return {
            "mark": {"type": "rect", "color": colour, "stroke": "@paper", "strokeWidth": 0.5},
            "encoding": {**encoding, "y": y, "y2": low},
        }

    layers = [bar(TRAINED, {"datum": 0}, "trained"), bar(GREY, {"field": "trained"}, "full")]
    if budget:
        layers.append(
            {
                "mark": {"type": "rule", "color": CURVE, "strokeWidth": 2},
                "encoding": {
                    "x": x,
                    "x2": {"field": "end"},
                    "y": {"field": "due", "type": "quantitative"},
                },
            }
        )
    return top(180, data={"values": list(rows)}, layer=layers)


def losses_chart(judged: str, *, kind: str, domain: Sequence[float], keep: bool) -> Spec:
    """Returns the histogram of losses under the keep curve; the page fills in an epoch's data.

    Data sets: `bars` with `low`, `high`, `kept`, `samples`; `curve` with `loss`, `keep`; `groups`
    with `low`, `high`, `middle`, `number`, `inside`.

    Args:
        judged: What the losses are called.
        kind: Of their axis, see `axis`.
        domain: Its ends.
        keep: Whether there are keep curves.
    """
    x = axis(judged, kind=kind, domain=domain)
    ends = {"x": {**x, "field": "low"}, "x2": {"field": "high"}}
    below = {"range": [{"expr": "height"}, {"expr": "20"}]}  # the strip of groups
    count = {
        "type": "quantitative",
        "title": "samples",
        "axis": {"grid": False},
        "scale": {**below, "nice": False},
    }
    tooltip = [
        {"field": "low", "title": f"{judged} from", "format": ".4g"},
        {"field": "high", "title": "to", "format": ".4g"},
        {"field": "samples", "title": "samples", "format": ",.0f"},
        {"field": "kept", "title": "kept (expected)", "format": ",.0f"},
    ]

    def bar(colour: str, low: Spec, high: str) -> Spec:
        return {
            "data": {"name": "bars"},
            "mark": {"type": "rect", "color": colour},
            "encoding": {**ends, "y": {**count, "field": high}, "y2": low, "tooltip": tooltip},
        }

    probability = {
        "type": "quantitative",
        "title": "keep probability",
        "scale": {**below, "domain": [0, 1], "nice": False},
        "axis": {"values": [0, 0.5, 1], "grid": False, "titleColor": CURVE, "labelColor": CURVE},
    }
    curve = {
        "data": {"name": "curve"},
        "mark": {"type": "line", "interpolate": "step-after", "color": CURVE, "strokeWidth": 2},
        "encoding": {
            "x": {**x, "field": "loss"},
            "y": {**probability, "field": "keep"},
            "order": {"field": "at", "type": "quantitative"},
        },
    }
    colour = {"condition": {"test": "datum.inside", "value": INK}, "value": "@paper"}
    strip = [
        {
            "mark": {"type": "rect", "stroke": "@soft", "strokeWidth": 1},
            "encoding": {**ends, "y": {"value": 0}, "y2": {"value": 15}, "color": colour},
        },
        {
            "mark": {"type": "text", "fontSize": 11, "baseline": "middle"},
            "encoding": {
                "x": {**x, "field": "middle"},
                "y": {"value": 8},
                "text": {"field": "number"},
                "color": {"condition": {"test": "datum.inside", "value": "@paper"}, "value": INK},
            },
        },
    ]
    bars = [bar(TRAINED, {"datum": 0}, "kept"), bar(GREY, {"field": "kept"}, "samples")]
    return top(
        260,
        datasets={"bars": [], "curve": [], "groups": []},
        layer=[
            {"layer": bars},
            *([{"layer": [curve]}] if keep else []),
            {"data": {"name": "groups"}, "layer": strip},
        ],
        resolve={"scale": {"y": "independent"}},
    )


def counts_chart(rows: Sequence[dict[str, Any]], title: str, *, from_on: float | None) -> Spec:
    """Returns bars of how many samples have which count.

    Args:
        rows: `low`, `high`, `samples`, `text`.
        title: What is counted.
        from_on: Where a line marks the starved; None: none.
    """
    x = _counted(title, rows[0]["low"], rows[-1]["high"])
    bars = {
        "data": {"values": list(rows)},
        "mark": {"type": "rect", "color": TRAINED, "stroke": "@paper", "strokeWidth": 0.5},
        "encoding": {
            "x": {**x, "field": "low"},
            "x2": {"field": "high"},
            "y": {"field": "samples", "type": "quantitative", "title": "samples",
                  "axis": {"grid": False}},
            "y2": {"datum": 0},
            "tooltip": [
                {"field": "text", "title": title},
                {"field": "samples", "title": "samples", "format": ","},
            ],
        },
    }  # fmt: skip
    line: Spec = {"data": {"values": [{}]}, "mark": {**RULE, "color": CURVE, "strokeWidth": 2},
                  "encoding": {"x": {**x, "datum": from_on}}}  # fmt: skip
    return top(160, layer=[bars] if from_on is None else [bars, line])


def classes_chart(rows: Sequence[dict[str, Any]]) -> Spec:
    """Returns bars of the visits per sample of each class, beside those of all samples.

    Args:
        rows: `name`, `place`, `visits`, in the order to show them in.
    """
    return top(
        50 + 22 * len(rows),
        layer=[
            {
                "data": {"values": list(rows)},
                "mark": {"type": "bar", "color": TRAINED},
                "encoding": {
                    "y": {"field": "name", "type": "nominal", "title": None, "sort": None,
                          "axis": {"labelLimit": 110}},
                    "x": {"field": "visits", "type": "quantitative",
                          "title": "visits per sample, 1 = as all samples",
                          "axis": {"grid": False}},
                    "tooltip": [{"field": "name", "title": "class"},
                                {"field": "visits", "title": "visits per sample", "format": ".3f"}],
                },
            },
            {"data": {"values": [{}]}, "mark": RULE,
             "encoding": {"x": {"datum": 1, "type": "quantitative"}}},
        ],
    )  # fmt: skip
