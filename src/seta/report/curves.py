"""The picture of a method: loss histograms under the keep curves that a policy made of them.

Draws what a `Pruner` tells (its histogram and its curve), without pyplot and so without a window, a
display or global state. A panel costs a tenth of a second. The colours are those of Okabe and Ito,
which people with any kind of colour vision can tell apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from seta.engine.curves.bars import Floats, bars_of
from seta.engine.curves.cluster import DifficultyGroups
from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram
from seta.extras import blank_figure
from seta.report.units import many

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Snapshot", "curves_figure", "keep_curve_panel"]

TRAINED, LEFT_OUT, CURVE, INK = "#56B4E9", "#C9C9C9", "#D55E00", "#333333"
_MARGIN = 0.03  # of the width, so that nothing touches the frame
_DIGIT = 0.0225  # of the width: a digit of the number of a group
_HEADROOM = 1.2  # times the tallest bar, and certainty, so that the strip of groups fits above


@dataclass(frozen=True)
class Snapshot:
    """An epoch's histogram and keep curve, as a `Pruner` has them when the epoch begins.

    Attributes:
        title: Which epoch it is.
        histogram: Of the losses before the epoch.
        curve: What the policy made of it.
        judged: What the histogram is of: the loss of a sample, or its score.
    """

    title: str
    histogram: LossHistogram
    curve: KeepCurve
    judged: str = "loss"


def curves_figure(snapshots: Sequence[Snapshot], *, title: str) -> "Figure":
    """Returns a figure with a panel for each epoch, and one legend below all of them.

    Args:
        snapshots: At least one; their histograms must have losses.
        title: Of the figure.
    """
    size = (3.4 * max(2, len(snapshots)), 4.6)
    figure = blank_figure(figsize=size, dpi=150, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    entries: dict[str, Artist] = {}
    panels = list(figure.subplots(1, len(snapshots), squeeze=False)[0])
    for axes, snapshot in zip(panels, snapshots, strict=True):
        probability = keep_curve_panel(axes, snapshot)
        if axes is panels[0]:
            axes.set_ylabel("samples")
        if axes is panels[-1]:
            probability.set_ylabel("keep probability", color=CURVE)
        else:
            probability.yaxis.set_visible(False)
        for drawn in (axes, probability):
            handles, labels = drawn.get_legend_handles_labels()
            entries.update(zip(labels, handles, strict=True))
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=min(len(entries), 2 * max(2, len(panels)) - 1),
        frameon=False,
        fontsize=10,
    )
    return figure


def keep_curve_panel(axes: "Axes", snapshot: Snapshot) -> "Axes":
    """Draw a loss histogram, what of it is trained on and left out, and the keep curve over it.

    The difficulty groups, if the curve has any, lie as a numbered strip above, easiest first, those
    in the window dark; their sizes stand under the title. A number that has no room is left out.

    Args:
        axes: Axes to draw into.
        snapshot: What to draw; its histogram must have losses.

    Returns:
        The axes of the keep probability, which share the loss axis.
    """
    histogram, curve = snapshot.histogram, snapshot.curve
    edges, every, kept, logarithmic = bars_of(histogram, curve)
    axes.stairs(every, edges, baseline=kept, fill=True, color=LEFT_OUT, label="left out")
    axes.stairs(kept, edges, fill=True, color=TRAINED, label="trained on (expected)")
    if logarithmic:
        _log_axis(axes, edges)
    axes.set(ylim=(0, every.max() * _HEADROOM))
    axes.margins(x=_MARGIN)
    axes.autoscale(axis="x")
    axes.set_xlabel(f"{snapshot.judged} of the sample{' (log scale)' if logarithmic else ''}")
    probability = axes.twinx()
    values, borders = _steps(histogram, curve)
    if curve.strata is not None:  # each bin has other classes: the mean of a bar tells more
        values, borders = _carried(kept / np.maximum(every, 1), every > 0), edges
    probability.stairs(values, borders, baseline=None, color=CURVE, lw=2, label="keep curve")
    probability.set(ylim=(0, _HEADROOM), yticks=[0, 0.5, 1])
    probability.tick_params(axis="y", colors=CURVE)
    probability.set_xlim(axes.get_xlim())
    for part in (axes, probability):
        part.spines["top"].set_visible(False)
    said = [snapshot.title]
    if histogram.unseen:
        said.append(f"{many(histogram.unseen, 'sample')} without a loss so far")
    if curve.groups is not None and curve.window is not None:
        said.append(_groups(probability, curve.groups, curve.window, edges))
    axes.set_title("\n".join(said), fontsize=10)
    return probability


def _log_axis(axes: "Axes", edges: Floats) -> None:
    """Lay the losses out in logarithms, with ticks that have room, each with its number."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_xscale("log")
    ratio = edges[-1] / edges[0]
    if ratio < 300:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if ratio < 30 else (1, 3)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def _steps(histogram: LossHistogram, curve: KeepCurve) -> tuple[Floats, Floats]:
    """The keep curve with a step only where it changes: probabilities and edges in losses.

    Where no sample lies, it goes on as at the sample before.
    """
    keep = _carried(curve.mean_keep(histogram), histogram.counts > 0)
    changes = np.flatnonzero(np.diff(keep)) + 1
    starts = np.concatenate([[0], changes])
    return keep[starts], histogram.edges[np.append(starts, histogram.bins)]


def _carried(values: Floats, known: NDArray[np.bool_]) -> Floats:
    """Values where they are known, and elsewhere the one before, or else the first."""
    at = np.flatnonzero(known)
    before = np.searchsorted(at, np.arange(len(values)), side="right") - 1
    return values[at[np.maximum(before, 0)]]


def _groups(axes: "Axes", groups: DifficultyGroups, window: tuple[int, int], edges: Floats) -> str:
    """Draw the strip of groups over the curve; returns their sizes in words."""
    bounds = np.clip(groups.bounds, edges[0], edges[-1])
    for bound in bounds[1:-1]:
        axes.axvline(bound, ymax=1.05 / _HEADROOM, color=INK, lw=0.8, ls=(0, (2, 2)))
    for group, (low, high) in enumerate(pairwise(bounds)):
        inside = window[0] <= group < window[1]
        axes.fill_between(
            [low, high],
            1.07,
            1.16,
            fc=INK if inside else "white",
            ec=INK,
            lw=0.8,
            label="group in the window" if inside else "group outside",
        )
        left, right = axes.transAxes.inverted().transform(
            axes.transData.transform([(low, 1), (high, 1)])
        )[:, 0]
        if right - left > _DIGIT * (1 + len(str(group))):
            axes.text(
                (left + right) / 2,
                1.113 / _HEADROOM,
                str(group),
                transform=axes.transAxes,
                color="white" if inside else INK,
                fontsize=8,
                ha="center",
                va="center",
            )
    return "groups of " + " | ".join(f"{size:,}" for size in groups.sizes)
