"""Bars that a person can tell apart, for losses of any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LOOKED_AT = 200_000  # values that the ends of an axis are taken from
_RATIO = 10  # of the ends, from which on an axis is logarithmic
_WIDEST = 1e8


@dataclass(frozen=True, eq=False)
class Scale:
    """An axis in bars.

    Attributes:
        edges: float64 (bars + 1,), ascending.
        kind: How it is laid out: "linear", "log" or "sqrt".
    """

    edges: NDArray[np.float64]
    kind: str = "linear"

    @classmethod
    def over(
        cls, values: NDArray[Any], bars: int, *, outside: float = 0.0, root: bool = False
    ) -> Scale:
        """Returns an axis for values; those beyond its ends belong to the bars at the ends.

        Logarithmic where the values span a factor of ten or more, linear where some are negative.

        Args:
            values: Floats; those that are not finite are left aside.
            bars: How many.
            outside: The share of values that may lie beyond each end.
            root: Lay them out in square roots, in place of logarithms.
        """
        some = values[:: max(1, len(values) // _LOOKED_AT)] if outside else values
        finite = some[np.isfinite(some)].astype(np.float64)
        if not len(finite):
            return cls(np.linspace(0, 1, bars + 1))
        low, high = _ends(finite, outside)
        if high - low <= 1e-5 * max(abs(low), abs(high), 1e-30):  # all the same
            pad = max(0.1 * abs(high), 1e-3)
            return cls(np.linspace(low - pad, high + pad, bars + 1))
        positive = finite[finite > 0]
        if low < 0 or len(positive) < 0.5 * len(finite):
            return cls(np.linspace(low, high, bars + 1))
        if root:
            return cls(np.linspace(low**0.5, high**0.5, bars + 1) ** 2, "sqrt")
        if low == 0:
            low, _ = _ends(positive, max(outside, 0.001))
        low = max(low, high / _WIDEST)
        if high / low < _RATIO:
            return cls(np.linspace(low, high, bars + 1))
        return cls(np.geomspace(low, high, bars + 1), "log")

    @property
    def bars(self) -> int:
        """How many there are."""
        return len(self.edges) - 1

    def bar_of(self, values: NDArray[Any]) -> NDArray[np.int16]:
        """Returns the bar of each value: int16; those beyond the ends are in the last ones."""
        with np.errstate(over="ignore"):  # an edge above all values of their type is infinite
            inner = self.edges[1:-1].astype(values.dtype)
        bars = np.searchsorted(inner, values, side="right")
        return bars.astype(np.int16)


def _ends(finite: NDArray[np.float64], outside: float) -> tuple[float, float]:
    if outside:
        low, high = np.quantile(finite, [outside, 1 - outside])
    else:
        low, high = finite.min(), finite.max()
    return float(low), float(high)
