"""Plots of what methods reach for what they cost: on the way, and at the end.

Draw into axes that they are given, from `Run`s; no global state of matplotlib is touched. The
colours are those of Okabe and Ito, which people with any kind of colour vision can tell apart; line
styles and markers differ, too.
"""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from seta.report.results import Run, counted_runs, mean_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["accuracy_panel", "last_epoch_panel"]


class _Style(NamedTuple):
    """How a method is drawn."""

    colour: str
    line: str
    marker: str


_STYLES = {
    "Full": _Style("#000000", "-", "o"),
    "Full at equal cost": _Style("#0072B2", "--", "s"),
    "Random": _Style("#009E73", "-.", "^"),
    "InfoBatch": _Style("#CC79A7", ":", "D"),
    "SeTa": _Style("#D55E00", "-", "v"),
    "Static": _Style("#E69F00", "--", "P"),
}

_MARKERS = "X*hp<>8dH"  # of other methods


def accuracy_panel(axes: "Axes", runs: Sequence[Run], order: Sequence[str]) -> None:
    """Draw accuracy against samples trained: a line per method, a band for its spread.

    The vertical axis is cut off below the final accuracies, where methods can be told apart; the
    marker is the last epoch, which is what the table says.

    Args:
        axes: Axes to draw into.
        runs: Runs of any number of methods and seeds.
        order: The methods, in the order of the legend.
    """
    last: list[float] = []
    for method, style, of_method in _by_method(runs, order):
        visits, means, spreads = (np.asarray(part) for part in mean_curve(of_method))
        low, high = 100 * (means - spreads), 100 * (means + spreads)
        axes.fill_between(visits, low, high, color=style.colour, alpha=0.1, lw=0)
        axes.plot(
            visits,
            100 * means,
            style.line,
            color=style.colour,
            lw=1.8,
            marker=style.marker,
            markevery=[-1],
            ms=8,
            mec="white",
            label=method,
        )
        last += [float(low[-1]), float(high[-1])]
    if last:
        reach = max(4.0, 3 * (max(last) - min(last)))
        axes.set_ylim(max(0.0, min(last) - reach), min(100.0, max(last) + 0.3 * reach))


def last_epoch_panel(axes: "Axes", runs: Sequence[Run], order: Sequence[str]) -> None:
    """Draw the accuracy of the last epoch: a dot per seed, the mean with its deviation.

    Args:
        axes: Axes to draw into.
        runs: Runs of any number of methods and seeds.
        order: The methods, from above to below.
    """
    names = []
    for place, (method, style, of_method) in enumerate(_by_method(runs, order)):
        values = [100 * run.last("accuracy") for run in of_method]
        deviation = stdev(values) if len(values) > 1 else 0.0
        heights = place + 0.18 + 0.06 * np.arange(len(values)) % 0.25
        axes.plot(values, heights, "o", color=style.colour, ms=4, alpha=0.6)
        axes.errorbar(
            fmean(values),
            place,
            xerr=deviation,
            color=style.colour,
            lw=1.8,
            capsize=4,
            marker=style.marker,
            ms=8,
            mec="white",
        )
        names.append(method)
    if axes.get_xlim()[1] > 100.2:
        axes.set_xlim(right=100.2)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(max(len(names), 1) - 0.5, -0.5)


def _by_method(runs: Sequence[Run], order: Sequence[str]) -> list[tuple[str, _Style, list[Run]]]:
    """What to call each method that has been run, how to draw it, and its runs that count."""
    found = []
    for number, method in enumerate(order):
        of_method = [run for run in runs if run.method == method and run.rows]
        if of_method:
            style = _STYLES.get(method, _Style(f"C{number}", "-", _MARKERS[number % len(_MARKERS)]))
            counted = counted_runs(of_method)
            far, whole = len(counted[0].rows), counted[0].epochs
            name = method if far >= whole else f"{method}\n(stopped at {far}/{whole})"
            found.append((name, style, counted))
    return found
