"""A loss histogram with few bars, for plots, and the part of each bar that is trained."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram

Floats = NDArray[np.float64]

BARS = 44


class Bars(NamedTuple):
    """The bars of an epoch.

    Attributes:
        edges: float64 (bars + 1,), where each begins and the last one ends.
        samples: int64 (bars,), samples with a loss there.
        kept: float64 (bars,), how many of them the keep curve is expected to keep.
        logarithmic: Whether the edges are laid out in the logarithms of losses.
    """

    edges: Floats
    samples: NDArray[np.int64]
    kept: Floats
    logarithmic: bool


def bars_of(histogram: LossHistogram, curve: KeepCurve) -> Bars:
    """Returns the bars of a histogram that has losses."""
    edges, logarithmic = _edges_of(histogram)
    values = np.clip(histogram.centres, edges[0], edges[-1])
    kept, _ = np.histogram(values, edges, weights=histogram.counts * curve.mean_keep(histogram))
    samples, _ = np.histogram(values, edges, weights=histogram.counts)
    return Bars(edges, samples.astype(np.int64), kept.astype(np.float64), logarithmic)


def _edges_of(histogram: LossHistogram) -> tuple[Floats, bool]:
    """Returns the edges of bars, and whether they are laid out in the logarithms of losses."""
    occupied = np.flatnonzero(histogram.counts)
    low, high = histogram.edges[occupied[0]], histogram.edges[occupied[-1] + 1]
    if high - low <= 1e-5 * max(abs(low), abs(high), 1e-3):  # all the same
        pad = max(0.1 * abs(high), 1e-3)
        return np.linspace(low - pad, high + pad, BARS + 1), False
    if low < 0:
        return np.linspace(low, high, BARS + 1), False
    positive = histogram.edges[1:][occupied]  # a loss of exactly 0 goes into the first bar
    low = max(low, float(positive[positive > high * 1e-9].min()) * 0.5, high * 1e-9)
    if high / low < 3:
        return np.linspace(low, high, BARS + 1), False
    return np.geomspace(low, high, BARS + 1), True
