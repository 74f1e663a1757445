"""The picture of the verdict: methods x tasks, a panel per budget, a colour and figure per cell.

The colours go from red through white to blue, which people with any kind of colour vision can tell
apart. A cell whose interval leaves out zero has a frame and a bold figure; one that was not run is
grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.accuracy.report.studies import CONTROLS, distinct
from benchmarks.accuracy.report.tables import saved
from benchmarks.accuracy.report.verdicts import Verdict, standing
from seta.comparison.verdict import number
from seta.extras import blank_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

MOST = 5.0
"""Points of accuracy at which the colours end."""

WIDTH, WIDEST, ROW = 9.6, 0.46, 0.215  # inches: the picture, a column at most, a row
HEAD, NAMES, LETTER = 0.65, 1.75, 0.067  # inches: the heading, names of methods, a letter of tasks
PALE, INK = "#efefef", "#1a1a1a"


class Panel(NamedTuple):
    """The cells of one budget; None: of the runs as published, whatever they save."""

    budget: float | None
    methods: list[str]
    tasks: list[str]
    cells: dict[tuple[str, str], Verdict]


def panels(some: Sequence[Verdict]) -> list[Panel]:
    """A panel per budget, methods in the same order in all; the widest first, then by budget."""
    order, found = standing({one.method for one in some}, some), []
    for budget in sorted({one.budget for one in some}, key=lambda budget: -(budget or 0.0)):
        cells = {(v.method, v.study.title): v for v in some if v.budget == budget}
        ran = {method for method, _ in cells}
        tasks = distinct(task for _, task in cells)
        found.append(Panel(budget, [method for method in order if method in ran], tasks, cells))
    widest = max(found, key=lambda panel: len(panel.tasks))
    return sorted(found, key=lambda panel: panel is not widest)


def draw(some: Sequence[Verdict], reference: str) -> Figure:
    """Draws all verdicts beside one reference; there has to be one."""
    found = panels(some)
    most = max(len(panel.tasks) for panel in found)
    column = min(WIDEST, (WIDTH - NAMES - 0.1) / most)
    lines = _lines(found, column)
    height = HEAD + sum(map(_height, lines)) + 0.1
    figure = blank_figure(figsize=(WIDTH, height))
    _heading(figure, reference)
    top = height - HEAD
    for line in lines:
        left = 0.0
        for panel in line:
            wide, high = column * len(panel.tasks), ROW * len(panel.methods)
            low = top - _names(line) - high
            box = ((left + NAMES) / WIDTH, low / height, wide / WIDTH, high / height)
            draw_panel(figure.add_axes(box), panel)
            left += NAMES + wide
        top -= _height(line)
    return figure


def _lines(found: Sequence[Panel], column: float) -> list[list[Panel]]:
    """Puts panels beside each other, as many as there is room for."""
    lines: list[list[Panel]] = []
    room = 0.0
    for panel in found:
        wide = NAMES + column * len(panel.tasks)
        if wide > room:
            lines.append([])
            room = WIDTH
        lines[-1].append(panel)
        room -= wide
    return lines


def _names(line: Sequence[Panel]) -> float:
    """Inches for the names of the tasks, which stand upright, and some room above them."""
    parts = (part for panel in line for task in panel.tasks for part in task.split(", "))
    return 0.3 + LETTER * max(map(len, parts))


def _height(line: Sequence[Panel]) -> float:
    return _names(line) + ROW * max(len(panel.methods) for panel in line)


def _heading(figure: Figure, reference: str) -> None:
    """What is shown, and the scale of the colours."""
    height = figure.get_figheight()
    lines = {
        f"Distance to {reference}, in points of accuracy": (0.1, 12, "bold"),
        "framed and bold: the 95 % interval excludes zero; grey: not run": (0.38, 9, "normal"),
    }
    for text, (down, size, weight) in lines.items():
        figure.text(0.01, 1 - down / height, text, fontsize=size, fontweight=weight, va="top")
    axes = figure.add_axes((0.68, 1 - 0.28 / height, 0.3, 0.13 / height))
    bar = figure.colorbar(_scale(), cax=axes, orientation="horizontal", extend="both")
    bar.set_ticks([-MOST, 0, MOST], labels=[f"{MOST:g} worse", "0", f"{MOST:g} better"])
    bar.ax.tick_params(labelsize=8, length=2)


def draw_panel(axes: Axes, panel: Panel) -> None:
    """Draws the cells of one budget, references and rivals above a line."""
    for row, method in enumerate(panel.methods):
        for column, task in enumerate(panel.tasks):
            _cell(axes, column, row, panel.cells.get((method, task)))
    axes.set(xlim=(0, len(panel.tasks)), ylim=(len(panel.methods), 0))
    axes.set_yticks([row + 0.5 for row in range(len(panel.methods))], panel.methods, fontsize=8.5)
    tasks = [task.replace(", ", "\n") for task in panel.tasks]
    axes.set_xticks([at + 0.5 for at in range(len(tasks))], tasks, fontsize=8, rotation=90)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    title = saved(panel.budget) or "as published"
    axes.annotate(title, (0, 1), (-4, 6), "axes fraction", "offset points", ha="right",
                  fontsize=10, fontweight="bold")  # fmt: skip
    axes.spines[:].set_visible(False)
    if above := sum(method in CONTROLS for method in panel.methods):
        axes.axhline(above, color=INK, lw=1.2, clip_on=False)


def _cell(axes: Axes, column: int, row: int, one: Verdict | None) -> None:
    """Draws one cell: colour, figure, and a frame where the verdict is clear."""
    from matplotlib.patches import Rectangle

    points = 100 * one.way.mean if one else 0.0
    face = _scale().to_rgba(points) if one else PALE
    axes.add_patch(Rectangle((column, row), 1, 1, facecolor=face, edgecolor="white", lw=1.2))
    if one is None:
        return
    if one.way.sign:
        inner = ((column + 0.05, row + 0.08), 0.9, 0.84)
        axes.add_patch(Rectangle(*inner, fill=False, edgecolor=INK, lw=1.1))
    text = number(points, 1 if abs(points) < 9.95 else 0, signed=True)
    axes.text(column + 0.5, row + 0.53, text, ha="center", va="center", fontsize=7.5,
              color="white" if abs(points) > 0.8 * MOST else INK,
              fontweight="bold" if one.way.sign else "normal")  # fmt: skip


def _scale() -> ScalarMappable:
    """Points to colours; the darkest of the map are left out, on which no frame is seen."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    kept = [0.12 + 0.76 * step / 200 for step in range(201)]
    return ScalarMappable(Normalize(-MOST, MOST), ListedColormap(colormaps["RdBu"](kept)))
