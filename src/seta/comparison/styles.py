"""How methods are drawn, the same in all pictures: a marker and a colour for each.

A family of methods shares a colour of Okabe and Ito, which people with any kind of colour vision
can tell apart; the marker tells a method from the others of its family, in grey too.
"""

from __future__ import annotations

from typing import NamedTuple

from seta.comparison.contenders import EQUAL_COST, FULL, SMALLER


class Style(NamedTuple):
    """How a method is drawn."""

    colour: str
    marker: str
    size: float = 7.0  # points


BLACK, _BLUE, _SKY, _GREEN = "#000000", "#0072B2", "#56B4E9", "#009E73"
_ORANGE, _RED, _PURPLE = "#E69F00", "#D55E00", "#CC79A7"
STYLES = {
    FULL: Style(BLACK, "o"),
    EQUAL_COST: Style(BLACK, "o"),
    SMALLER: Style(BLACK, "H", 8.0),
    "Random": Style(_GREEN, "^"),
    "RS2": Style(_GREEN, "v"),
    "Static": Style(_GREEN, "P", 8.0),
    "SeTa": Style(_RED, "s"),
    "SeTa as published": Style(_RED, "o"),
    "Learnable": Style(_SKY, "8"),
    "InfoBatch": Style(_PURPLE, "D", 6.5),
    "InfoBatch as published": Style(_PURPLE, "o"),
    "InfoBatchQuantiles": Style(_PURPLE, "d", 8.0),
    "RePB": Style(_PURPLE, "X", 8.0),
    "BLS": Style(_BLUE, "<"),
    "EpsilonGreedy": Style(_BLUE, ">"),
    "UCB": Style(_BLUE, "h", 8.0),
    "OrderDP": Style(_ORANGE, "*", 10.0),
    "RCAP": Style(_ORANGE, "p", 8.0),
}
_COLOURS, _MARKERS = (_SKY, _ORANGE, _BLUE, _PURPLE, _GREEN, _RED), "DsX^Pvp"
OTHERS = tuple(
    style
    for style in (Style(_COLOURS[n % 6], _MARKERS[n % 7]) for n in range(42))
    if style[:2] not in {known[:2] for known in STYLES.values()}
)
"""Of methods that are not in the table, in turn."""
