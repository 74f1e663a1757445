"""The figure of a comparison: why samples were left out, above what each method reached.

Puts the panels of `curves` and `plots` on one page and writes it as a PNG, without pyplot and so
without a window, a display or global state. Takes about two seconds, half of them the import of
matplotlib.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seta.report.curves import CURVE, Snapshot, keep_curve_panel
from seta.report.plots import accuracy_panel, last_epoch_panel
from seta.report.results import Run

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure, SubFigure

__all__ = ["SIZE", "comparison_figure", "save_figure"]

SIZE = (2000, 1500)  # pixels
_DPI = 150


def comparison_figure(
    snapshots: Sequence[Snapshot],
    runs: Sequence[Run],
    order: Sequence[str],
    *,
    title: str,
    looked_at: str = "the run",
) -> "Figure":
    """Draw keep curves and accuracies on one page.

    Args:
        snapshots: At most four epochs; with none, the accuracies have the page to themselves.
        runs: The runs whose accuracies are drawn.
        order: The methods, in the order of the legend.
        title: Of the page.
        looked_at: Which run the snapshots are of.
    """
    from matplotlib.figure import Figure

    width, height = (side / _DPI for side in SIZE)
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    figure.suptitle(title, fontsize=14, fontweight="bold")
    ratios = (1, 1.1) if snapshots else (1,)
    *above, below = figure.subfigures(len(ratios), 1, height_ratios=ratios, squeeze=False)[:, 0]
    if above:
        _keep_curves(above[0], snapshots, looked_at)
    _accuracies(below, runs, order)
    return figure


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as a PNG of `SIZE` pixels."""
    figure.savefig(path, format="png", dpi=_DPI)


def _keep_curves(part: "SubFigure", snapshots: Sequence[Snapshot], looked_at: str) -> None:
    """A panel per epoch, one legend under all of them."""
    what = f"(a) Which losses an epoch of {looked_at} trains on"
    _heading(part, f"{what}; groups are numbered from easy to hard")
    panels = list(part.subplots(1, len(snapshots), squeeze=False)[0])
    entries: dict[str, Artist] = {}
    for axes, snapshot in zip(panels, snapshots, strict=True):
        probability = keep_curve_panel(axes, snapshot)
        if axes is panels[0]:
            axes.set_ylabel("samples")
        if axes is panels[-1]:
            probability.set_ylabel("keep probability", color=CURVE)
        else:
            probability.set_yticklabels([])
        for drawn in (axes, probability):
            handles, labels = drawn.get_legend_handles_labels()
            entries.update(zip(labels, handles, strict=True))
    part.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=len(entries),
        frameon=False,
        fontsize=10,
    )


def _accuracies(part: "SubFigure", runs: Sequence[Run], order: Sequence[str]) -> None:
    """The accuracies of all methods: on the way, and at the end."""
    _heading(
        part,
        "(b) Accuracy on held-out images: mean and standard deviation over the seeds; on the right "
        "the last epoch, a dot per seed",
    )
    way, end = part.subplots(1, 2, width_ratios=(2.1, 1))
    accuracy_panel(way, runs, order)
    last_epoch_panel(end, runs, order)
    way.set(xlabel="samples trained (visits)", ylabel="accuracy %")
    way.xaxis.set_major_formatter("{x:,.0f}")
    end.set_xlabel("accuracy % after the last epoch")
    for axes in (way, end):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    if way.lines:
        way.set_xlim(left=0)
        way.legend(loc="lower right", frameon=False, fontsize=10)


def _heading(part: "SubFigure", text: str) -> None:
    """The title of a part, flush left."""
    part.suptitle(text, x=0.01, ha="left", fontsize=12)
