"""The picture of a comparison: is any method better than full training for fewer epochs?

On the left, the figure of each contender above what it cost, beside Full's own curve. Methods at
one budget share one cost there, and have no bars; so the panel on the right has a row for each: its
difference to Full at equal cost, with the interval, in marks and in figures. Between `cells` and a
file. Drawn without pyplot, and so without global state. Sizes are inches, those of texts and marks
points.

A method has the same marker and colour in both panels. The colours are those of Okabe and Ito,
which people with any kind of colour vision can tell apart. In grey, markers say which method it is,
filled ones and words what is clear.
"""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from itertools import groupby
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from seta.comparison.cells import Cells
from seta.comparison.chart import Chart, Row, chart_of, literal, number, padded
from seta.comparison.styles import BLACK
from seta.engine.files import writing
from seta.extras import blank_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

DPI = 150
WIDTH, ALONE = 11.0, 6.4  # the picture with both panels, and with the left one alone
PLOT, LOW, HIGH = 4.9, 2.9, 6.0  # the left panel with its margin; its least and greatest height
ROW, ROOMY, LINE = 0.2, 0.28, 0.14  # a row at least and at most, a line of text
MORE = 0.5  # that an axis may reach beyond 100 %, for the marks there
SMALL, TEXT, PANEL, TITLE = 8.0, 8.5, 9.5, 12.0
INK, GRID, BAR = "#1a1a1a", "#dddddd", "#d6d6d6"
TINTS = {1: "#d9ebf7", -1: "#fbe3d3"}


def draw(cells: Cells, *, title: str, measure: str | None = None) -> Figure:
    """Returns the picture of a comparison, be it complete or under way.

    Args:
        cells: Of any number of contenders; with none, Full's own curve is drawn alone.
        title: Of the picture.
        measure: The figure that is drawn; without, the one that counts first.

    Raises:
        ValueError: The comparison has no such figure.
    """
    chart = chart_of(cells, measure)
    width = WIDTH if chart.rows else ALONE
    heading = wrap(literal(title), int(8.2 * width)) or [""]
    notes = wrap(_notes(chart), int(17.5 * width))
    row = max(ROW, LINE * max((len(row.name) for row in chart.rows), default=1) + 0.04)
    left = min(max(row * chart.slots, LOW), HIGH)
    right = chart.slots * max(row, min(ROOMY, left / max(chart.slots, 1)))
    above = 0.42 + 0.22 * len(heading)
    below = 0.43 + LINE * (max(len(_differences(chart)), 1) + len(notes))
    height = above + max(left, right) + below

    figure = blank_figure(figsize=(width, height), dpi=DPI, facecolor="white")
    figure.text(0.12 / width, 1 - 0.1 / height, "\n".join(heading), fontsize=TITLE, color=INK,
                fontweight="bold", va="top")  # fmt: skip
    figure.text(0.12 / width, 0.08 / height, "\n".join(notes), fontsize=SMALL, color=INK)

    def panel(start: float, end: float, high: float) -> Axes:
        """Axes between two distances from the left edge, below the heading."""
        box = (start / width, 1 - (above + high) / height, (end - start) / width, high / height)
        return figure.add_axes(box, facecolor="white")

    margin = 0.78 + LINE * len(_label(chart))
    _cost_panel(panel(margin, PLOT if chart.rows else ALONE - 0.3, left), chart)
    if chart.rows:
        start = PLOT + 0.3 + _names_width(chart)
        end = WIDTH - 0.2 - max(_inches(row.says(chart.decimals), bold=True) for row in chart.rows)
        _row_panel(panel(start, end, right), chart, wide=end - start)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes a picture as a PNG, or as an SVG if the suffix says so; makes the folder if needed.

    Raises:
        ValueError: The suffix is another one.
    """
    kind = path.suffix.lower()
    if kind not in (".png", ".svg"):
        raise ValueError(f"path must end in .png or .svg, got {path.name!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    content = BytesIO()
    figure.savefig(content, format=kind[1:], dpi=DPI, facecolor="white")
    writing.whole(path, content.getvalue())


def _cost_panel(axes: Axes, chart: Chart) -> None:
    """The left panel: the figure of all runs above their cost, each at its true place."""
    _frame(axes, "What each method reaches, and what it costs")
    _full(axes, chart)
    for row in sorted(chart.rows, key=lambda row: abs(row.verdict)):
        if row.mean is not None:
            _mark(axes, row, 100 * row.cell.cost, row.mean)
    costs = [100 * cell.cost for cell in chart.cells.cells.values()] or [0.0, 100.0]
    axes.set_xlim(*padded(costs, 0.12))
    low, high = padded(_heights(chart), 0.07)
    means = [known[0] for known in map(chart.known, chart.cells.cells.values()) if known]
    if "%" in chart.measure and all(0 <= mean <= 100 for mean in means):
        low, high = max(low, -MORE), min(high, 100 + MORE)
    axes.set_ylim(low, high)
    for row in chart.rows:
        if row.mean is not None and not low <= row.mean <= high:
            edge = (low, "v") if row.mean < low else (high, "^")
            _arrow(axes, row, (100 * row.cell.cost, edge[0]), edge[1])
    axes.set_xlabel("cost: share of full training's sample visits", fontsize=TEXT, color=INK)
    axes.set_ylabel("\n".join(_label(chart)), fontsize=TEXT, color=INK)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:.4g} %")
    _figures(axes.yaxis, (low, high))
    axes.grid(color=GRID, lw=0.6)
    if not axes.containers:
        axes.text(0.5, 0.5, "no figures yet", transform=axes.transAxes, ha="center",
                  fontsize=TEXT, color=INK)  # fmt: skip


def _full(axes: Axes, chart: Chart) -> None:
    """Full's own curve, its spread over the seeds, and the height of Full at equal cost."""
    points = [(cell, *known) for cell in chart.cells.curve if (known := chart.known(cell))]
    if not points:
        return
    cells, means, spreads = zip(*points, strict=True)
    costs = [100 * cell.cost for cell in cells]
    axes.errorbar(costs, means, spreads if any(spreads) else None, color=BLACK, marker="o", ms=5,
                  lw=1.3, ecolor=BAR, elinewidth=11, capsize=0, zorder=2, label="Full")  # fmt: skip
    budgets = {row.cell.budget for row in chart.rows}
    for cell, cost, mean, spread in zip(cells, costs, means, spreads, strict=True):
        if cell is chart.cells.full:
            axes.annotate("Full", (cost, mean + spread), (0, 5), textcoords="offset points",
                          ha="center", fontsize=TEXT, color=INK, fontweight="bold",
                          zorder=6)  # fmt: skip
        elif cell.budget in budgets:
            axes.plot(cost, mean, "_", color=BLACK, ms=52, mew=1.0, zorder=2.5)


def _heights(chart: Chart) -> Iterable[float]:
    """What the left panel shows: all but what lies too far off, and Full's shortest runs."""
    shortest = min((row.cell.cost for row in chart.rows), default=0.0) - 0.02
    for cell in chart.cells.curve:
        if (known := chart.known(cell)) and cell.cost >= shortest:
            yield from (known[0] - known[1], known[0] + known[1])
    for row in chart.rows:
        if row.mean is not None:
            way = 0.0 if row.way is None else row.way.mean
            yield row.mean - way + min(max(way, chart.limits[0]), chart.limits[1])


def _row_panel(axes: Axes, chart: Chart, *, wide: float) -> None:
    """The right panel, of a width: a row per contender, under a heading per budget."""
    names = -_names_width(chart) / wide
    _frame(axes, "Is it better than full training for fewer epochs?", at=names)
    axes.set_xlim(*chart.limits)
    axes.set_ylim(chart.slots - 0.5, -0.5)
    axes.axvline(0, color=BLACK, lw=1.1, zorder=2)
    places: list[int] = []
    at = 0
    for budget, group in groupby(chart.rows, key=lambda row: row.cell.budget):
        axes.text(names, at + 0.1, _heading(chart, budget), transform=axes.get_yaxis_transform(),
                  fontsize=TEXT, color=INK, fontweight="bold", va="center", zorder=5,
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5})  # fmt: skip
        for row in group:
            at += 1
            _row(axes, chart, row, at)
            places.append(at)
        at += 1
    axes.set_yticks(places, ["\n".join(row.name) for row in chart.rows])
    axes.tick_params(axis="y", length=0, labelsize=TEXT)
    axes.locator_params(axis="x", nbins=max(2, int(wide / 0.55)))
    _figures(axes.xaxis, chart.limits)
    axes.set_xlabel("\n".join(_differences(chart)), fontsize=TEXT, color=INK)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=GRID, lw=0.6)


def _row(axes: Axes, chart: Chart, row: Row, at: int) -> None:
    """One row: mark and bar, and the same in figures."""
    if row.verdict:
        axes.axhspan(at - 0.5, at + 0.5, color=TINTS[row.verdict], lw=0, zorder=0.5)
    if row.way is not None:
        _mark(axes, row, row.way.mean, at, half=row.way.half)
        low, high = chart.limits
        if row.ends[0] < low:
            _arrow(axes, row, (low, at), "<")
        if row.ends[1] > high:
            _arrow(axes, row, (high, at), ">")
    axes.annotate(row.says(chart.decimals), (1, at), (6, 0), axes.get_yaxis_transform(),
                  "offset points", va="center_baseline", fontsize=SMALL, color=INK,
                  fontweight="bold" if row.verdict else "normal",
                  annotation_clip=False)  # fmt: skip


def _mark(axes: Axes, row: Row, x: float, y: float, *, half: float | None = None) -> None:
    """A contender's mark, with a bar for its interval, if that is to be seen."""
    clear = row.verdict != 0
    axes.errorbar(x, y, xerr=half, fmt=row.style.marker, color=row.style.colour,
                  ms=row.style.size, mew=1.3,
                  mfc=row.style.colour if clear else "white", elinewidth=1.6 if clear else 1.1,
                  capsize=2.5, zorder=4 if clear else 3, label=row.cell.name)  # fmt: skip


def _arrow(axes: Axes, row: Row, at: tuple[float, float], marker: str) -> None:
    """Points to what lies outside."""
    axes.plot(*at, marker, color=row.style.colour, ms=6, clip_on=False, zorder=5)


def _heading(chart: Chart, budget: float | None) -> str:
    """What stands above the rows of a budget."""
    if budget is None:
        return "As published, at costs of their own"
    known = chart.known(chart.cells.equal_cost(budget))
    figure = number(known[0], chart.decimals) if known else "not known yet"
    return f"{100 * budget:.4g} % of the visits (Full at equal cost: {figure})"


def _label(chart: Chart) -> list[str]:
    """The name of the figure, in lines; and which way is better, which no line breaks."""
    better = "lower" if chart.lower else "higher"
    name = f"{chart.measure} ({better}\u00a0is\u00a0better)" if chart.measure else ""
    return wrap(literal(name), 42)


def _differences(chart: Chart) -> list[str]:
    """The name of the differences, in lines; none where there are none."""
    better = "left" if chart.lower else "right"
    name = f"{chart.measure}: difference to Full at equal cost ({better}\u00a0is\u00a0better)"
    return wrap(literal(name), 46) if chart.rows else []


def _notes(chart: Chart) -> str:
    """How the picture is read, in the sentences that this one needs."""
    cells, notes = chart.cells, []
    if seeds := sorted({len(cell.lines) for cell in cells.cells.values()}):
        number = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"{seeds[0]}"
        notes.append("One seed." if seeds == [1] else f"{number} seeds each.")
    if len(cells.curve) > 1:
        notes.append("Black line: Full, for as many epochs as the cost pays for.")
    if any(known and known[1] for known in map(chart.known, cells.curve)):
        notes.append("Grey bars: the standard deviation of Full over its seeds.")
    ways = [row.way for row in chart.rows if row.way]
    if any(way.half is not None for way in ways):
        level, chance = 100 * cells.confidence, f"1 in {round(1 / cells.chance)}"
        chance = f"at most {chance}" if cells.several_looks else chance
        notes += [
            f"Bars on the right: {level:g} % interval of the difference to Full at equal cost, "
            "paired by seed.",
            "Filled marks: the interval leaves out zero; hollow marks: it does not.",
            f"Of methods that change nothing, {chance} gets a filled mark by chance.",
        ]
    elif ways:
        notes.append("Hollow marks: nothing is clear, as an interval needs two seeds.")
    elif chart.rows:
        notes.append("Hollow marks: there is nothing yet to compare with.")
    if any(map(chart.outside, chart.rows)):
        notes.append("Arrows: it goes on outside; the row has the figures.")
    return " ".join(notes)


def _frame(axes: Axes, title: str, at: float = 0.0) -> None:
    """What all panels have: no frame above and at the right, a title that begins at the left."""
    axes.set_axisbelow(True)
    axes.grid(False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(labelsize=SMALL, colors=INK)
    axes.annotate(title, (at, 1), (0, 8), "axes fraction", "offset points", fontsize=PANEL,
                  color=INK, annotation_clip=False)  # fmt: skip


def _names_width(chart: Chart) -> float:
    """Inches of the names of the rows, and of the room between them and the rows."""
    return 0.1 + max(map(_inches, {line for row in chart.rows for line in row.name}))


def _inches(text: str, *, bold: bool = False) -> float:
    """The width of a line of text, between two strokes that see to it that none is empty."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(size=TEXT, weight="bold" if bold else "normal")
    return float(TextPath((0, 0), f"|{text}|", prop=font).vertices[:, 0].max()) / 72


def _figures(axis: Axis, limits: tuple[float, float]) -> None:
    """Writes the figures of an axis out, unless they would be very long."""
    from matplotlib.ticker import ScalarFormatter

    if 1e-5 < max(map(abs, limits)) < 1e7:
        plain = ScalarFormatter(useOffset=False)
        plain.set_scientific(False)
        axis.set_major_formatter(plain)
    else:
        axis.set_major_formatter(lambda at, _: f"{at:.5g}".replace("-", "\N{MINUS SIGN}"))
