"""A picture per task, and one of tasks that differ in their share of wrong labels.

Drawn without pyplot, and so without global state.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from benchmarks.accuracy.report.statistics import share, to_curve, values_of
from benchmarks.accuracy.report.studies import CURVE, Cell, Study, ordered
from seta.comparison.cells import WHOLE, Key
from seta.comparison.contenders import EQUAL_COST
from seta.comparison.statistics import mean_and_spread
from seta.comparison.styles import BLACK, OTHERS, STYLES, Style
from seta.extras import blank_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

OURS = "Learnable"
STEP = 0.0115  # how far apart, in shares of Full's visits, marks of one budget stand
DPI = 125
WIDTH = 9.6  # inches: 1,200 pixels, twice the width of a page's text at most
COLOURS = 256  # of the stored palette: by coverage, so that few thin marks keep their colour


def write(figure: Figure, path: Path) -> None:
    """Writes a picture as a PNG of at most 100 kB or so."""
    from PIL import Image

    raw = BytesIO()
    figure.savefig(raw, format="png", dpi=DPI)
    image = (
        Image.open(raw)
        .convert("RGB")
        .quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    )
    image.save(path, optimize=True)


def draw(study: Study) -> Figure:
    """Draws a study: above, accuracy against visits; below, a panel per budget."""
    methods = study.compared(*study.budgets)
    heights = [4.2, 0.9 + 0.21 * len(methods)][: 2 if methods else 1]
    figure = blank_figure(figsize=(WIDTH, sum(heights)), dpi=DPI, layout="constrained")
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    parts[0].suptitle(study.title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    accuracy_panel(parts[0].subplots(), study)
    for part in parts[1:]:
        _distances(part, study, methods)
    return figure


def _distances(part: SubFigure, study: Study, methods: Sequence[str]) -> None:
    """The lower part: a panel per budget, all of one scale."""
    heading = "Points of accuracy above or below Full at equal cost: mean over seeds, 95 % interval"
    part.suptitle(heading, x=0.01, ha="left", fontsize=10)
    panels = part.subplots(1, len(study.budgets), sharex=True, sharey=True, squeeze=False)[0]
    for axes, budget in zip(panels, study.budgets, strict=True):
        distance_panel(axes, study, budget, methods)


BY_WRONG_SHARE = "Accuracy by share of wrong labels, at half of full training's visits"
HALF = 0.5


def draw_by_wrong_share(group: Sequence[Study]) -> Figure:
    """Draws how accuracy falls with wrong labels: Full, and all that train half of its visits.

    Args:
        group: Studies that differ in the share of wrong labels alone, by that share.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 4.2), dpi=DPI, layout="constrained")
    figure.suptitle(BY_WRONG_SHARE, x=0.01, ha="left", fontsize=12, fontweight="bold")
    axes = figure.subplots()
    shares = [100 * study.wrong_share for study in group]
    step = 0.008 * (shares[-1] - shares[0])
    compared = ordered({method for study in group for method in study.compared(HALF)})
    keys = [WHOLE, *((method, HALF) for method in (EQUAL_COST, *compared))]
    for place, key in enumerate(keys):
        found = [(x, *_point(cell)[1:]) for x, study in zip(shares, group, strict=True)
                 if (cell := study.cell(*key))]  # fmt: skip
        if not found:
            continue
        x, y, spread = zip(*found, strict=True)
        style, own = style_of(key[0]), key[0] == OURS
        axes.errorbar([at + step * (place - (len(keys) - 1) / 2) for at in x], y, spread,
                      color=style.colour, marker=style.marker, ms=style.size, mec="white", mew=0.6,
                      ls="--" if key == WHOLE else "-", lw=2.4 if own else 1.2, capsize=2.5,
                      elinewidth=0.9, zorder=3 if own else 2,
                      label="Full: all visits" if key == WHOLE else key[0])  # fmt: skip
    axes.set(
        xlabel="training labels that are wrong, % (test labels are right)",
        ylabel="accuracy %: mean and spread over seeds",
    )
    axes.set_xticks(shares)
    if axes.containers:
        axes.legend(frameon=False, fontsize=9)
    _plain(axes)
    return figure


def accuracy_panel(axes: Axes, study: Study) -> None:
    """Accuracy against the share of Full's visits: Full's own curve as a line, methods as marks.

    The methods at one budget are spread out sideways over a grey column, so that none hides
    another; the dashed line across it is the height of Full at equal cost. The axis is cut off
    below the lowest of them, where only short runs of Full would lie.
    """
    for budget in study.budgets:
        half = STEP * (len(study.compared(budget)) + 1) / 2
        axes.axvspan(budget - half, budget + half, color="0.94", lw=0, zorder=0)
        if beside := study.cell(EQUAL_COST, budget):
            height = _point(beside)[1]
            axes.hlines(height, budget - half, budget + half, color=BLACK, lw=0.9, ls="--")
    curve = sorted(
        (_point(cell) for key, cell in study.cells.items() if key[0] in CURVE),
    )
    if curve:
        x, y, spread = zip(*curve, strict=True)
        axes.errorbar(x, y, spread, color=BLACK, marker="o", ms=4.5, lw=1.4, capsize=3,
                      elinewidth=1, label="Full, for more or fewer epochs", zorder=2)  # fmt: skip
    lowest = [_methods(axes, study, method) for method in study.compared(*study.budgets, None)]
    _frame(axes, min(lowest, default=None), curve)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8.5)


def _methods(axes: Axes, study: Study, method: str) -> float:
    """Draws a method's cells and returns the lowest end of its bars."""
    style, keys = style_of(method), [key for key in study.cells if key[0] == method]
    published = keys[0][1] is None
    points = [_point(study.cell(*key)) for key in keys]
    moves = [_move(study, key) for key in keys]
    x = [point[0] + move for point, move in zip(points, moves, strict=True)]
    y, spread = [point[1] for point in points], [point[2] for point in points]
    face = "white" if published else style.colour
    axes.errorbar(x, y, spread, fmt=style.marker, color=style.colour, mfc=face, ms=style.size,
                  mew=1.2 if published else 0.6, mec=style.colour if published else "white",
                  elinewidth=0.9, label=method, zorder=3)  # fmt: skip
    return min(low - bar for low, bar in zip(y, spread, strict=True))


def _move(study: Study, key: Key) -> float:
    """How far a mark is moved sideways, in shares of Full's visits."""
    if key[1] is None:
        return 0.0
    beside = study.compared(key[1])
    return STEP * (beside.index(key[0]) - (len(beside) - 1) / 2)


def _frame(axes: Axes, lowest: float | None, curve: Sequence[tuple[float, float, float]]) -> None:
    """Axes, grid and limits."""
    what = (
        "samples trained, as a share of Full's visits (filled marks of a grey column: its middle)"
    )
    axes.set(xlabel=what, ylabel="accuracy %")
    axes.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.0f} %")
    axes.set_xlim(left=0)
    if lowest is not None and curve:
        highest = max(y + bar for _, y, bar in curve)
        room = 0.08 * max(highest - lowest, 0.5)
        axes.set_ylim(lowest - room, max(axes.get_ylim()[1], highest + room))
    _plain(axes)


def distance_panel(axes: Axes, study: Study, budget: float, methods: Sequence[str]) -> None:
    """Distance of each method to Full's own curve at one budget, a row per method."""
    for place, method in enumerate(methods):
        way = to_curve(study, method, budget) if study.cell(method, budget) else None
        if way is not None:
            style = style_of(method)
            axes.errorbar(100 * way.mean, place, xerr=100 * (way.half or 0.0), fmt=style.marker,
                          color=style.colour, ms=style.size, mew=0.6, mec="white",
                          elinewidth=1.4, capsize=2.5)  # fmt: skip
    if not axes.lines:
        axes.text(0.5, 0.5, "Full at equal cost: not run", transform=axes.transAxes, ha="center")
    axes.axvline(0, color=BLACK, lw=1, zorder=1)
    axes.set_yticks(range(len(methods)), methods, fontsize=8.5)
    axes.set_ylim(len(methods) - 0.4, -0.6)
    axes.set_title(f"{100 * (1 - budget):.0f} % saved", fontsize=9.5)
    _plain(axes)


def style_of(method: str) -> Style:
    """How a method is drawn, in every picture."""
    return STYLES.get(method, OTHERS[0])


def _point(cell: Cell) -> tuple[float, float, float]:
    """Share of Full's visits, mean accuracy and its spread over the seeds, in percent."""
    mean, spread = mean_and_spread(values_of(cell, "accuracy")) or (0.0, None)
    return fmean(share(line) for line in cell.values()), 100 * mean, 100 * (spread or 0.0)


def _plain(axes: Axes) -> None:
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
