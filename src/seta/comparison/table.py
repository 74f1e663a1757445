"""The table of a comparison: one set of texts, for the terminal, for Markdown and for HTML.

Figures come from `Cells`; here they are only written down. What is clearly better or worse is bold
and says so in a word, so that nothing hangs on colour.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from seta.comparison.cells import Cell, Cells
from seta.comparison.contenders import EQUAL_COST, FULL
from seta.comparison.statistics import Difference
from seta.comparison.verdict import digits_of, interval, number

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

NONE = "–"  # noqa: RUF001

COLUMNS = ("method", "budget", "seeds", "visits", "cost", "seconds")
"""Of the rows, beside those of each figure."""


def columns_of(measure: str) -> list[str]:
    """Returns the columns that a figure has in the rows."""
    ways = (f"{measure}_to_{to}" for to in ("full", "equal_cost"))
    ends = ("", "_low", "_high", "_clear")
    return [measure, f"{measure}_spread", *(f"{way}{end}" for way in ways for end in ends)]


def rows(cells: Cells) -> list[dict[str, Any]]:
    """Returns the figures of each contender as plain data, for a data frame.

    Columns: `method`, `budget`, `seeds`, `visits` and `seconds` (of a run), `cost` (share of full
    training's visits), and for each measure `NAME`, `NAME_spread`, and `NAME_to_full`,
    `NAME_to_equal_cost` with `_low`, `_high` and `_clear`: 1 better, -1 worse, 0 not told apart.
    """
    return [_row(cells, cell) for cell in cells.cells.values()]


def _row(cells: Cells, cell: Cell) -> dict[str, Any]:
    row: dict[str, Any] = {
        "method": cell.method,
        "budget": cell.budget,
        "seeds": len(cell.lines),
        "visits": cell.visits,
        "cost": cell.cost,
        "seconds": cell.seconds,
    }
    for measure in cells.measures:
        figures: list[Any] = [*(cell.mean_and_spread(measure) or (None, None))]
        for way in (cells.to_full(cell, measure), cells.to_equal_cost(cell, measure)):
            figures += [way and way.mean, way and way.low, way and way.high]
            figures.append(cells.better(way, measure))
        row |= zip(columns_of(measure), figures, strict=True)
    return row


def texts(cells: Cells, measure: str) -> tuple[list[str], list[list[str]]]:
    """Returns the headings for a measure, and a row of texts for each contender."""
    headings = ["method", "seeds", "visits", "cost %", measure, f"to {FULL}", f"to {EQUAL_COST}"]
    digits = digits_of(cells, measure)
    body = [
        [
            cell.name,
            str(len(cell.lines)),
            f"{cell.visits:,.0f}",
            f"{100 * cell.cost:.1f}",
            _level(cell, measure, digits),
            _way(cells, cells.to_full(cell, measure), measure, digits),
            _way(cells, cells.to_equal_cost(cell, measure), measure, digits),
            f"{cell.seconds:.1f}",
        ]
        for cell in cells.cells.values()
    ]
    return [*headings, "seconds"], body


def direction(cells: Cells, measure: str) -> str:
    """Returns a figure, and which way it is better: "loss (lower is better)"."""
    return f"{measure} ({'lower' if measure in cells.lower else 'higher'} is better)"


def legend(cells: Cells) -> str:
    """Returns what the figures of the table are."""
    return (
        "Means over the seeds and their standard deviation; differences are paired by seed, with "
        f"half of the width of their {100 * cells.confidence:.4g} % interval."
    )


def _level(cell: Cell, measure: str, digits: int) -> str:
    """Returns mean and standard deviation, such as `81.70 ± 0.20`."""
    found = cell.mean_and_spread(measure)
    if found is None:
        return NONE
    mean, spread = found
    text = number(mean, digits)
    return text if spread is None else f"{text} ± {number(spread, digits)}"


def _way(cells: Cells, way: Difference | None, measure: str, digits: int) -> str:
    if way is None:
        return NONE
    word = {0: "", 1: " better", -1: " worse"}[cells.better(way, measure)]
    return interval(way, digits) + word


SPARE = ("visits", "seconds", "cost %", "seeds", f"to {FULL}")
"""The columns that a terminal goes without where it is narrow, the first one first."""


def for_terminal(cells: Cells, title: str) -> Group:
    """Returns the tables for a terminal, one for each measure, made with rich."""
    from rich.console import Group
    from rich.text import Text

    from seta.fitting import FittingTable

    parts: list[RenderableType] = []
    for measure in cells.measures:
        headings, body = texts(cells, measure)
        headings[headings.index(f"to {EQUAL_COST}")] = f"to {FULL} at\nequal cost"
        clear = [number for number, row in enumerate(body) if any(map(_clear, row))]
        parts.append(Text(f"{title}; {direction(cells, measure)}", style="bold"))
        parts.append(FittingTable(headings, body, spare=SPARE, bold=clear))
    return Group(*parts, legend(cells))


def for_text(cells: Cells) -> str:
    """Returns the tables as plain text."""
    tables = (f"{direction(cells, one)}\n{_text(*texts(cells, one))}" for one in cells.measures)
    return "\n\n".join([*tables, legend(cells)])


def _text(headings: list[str], body: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(headings, *body, strict=True)]
    lines = []
    for first, *others in (headings, *body):
        pairs = zip(others, widths[1:], strict=True)
        padded = [first.ljust(widths[0]), *(text.rjust(width) for text, width in pairs)]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def for_markdown(cells: Cells) -> str:
    """Returns the tables in Markdown, ending in a line break."""
    parts = []
    for measure in cells.measures:
        headings, body = texts(cells, measure)
        parts.append(f"{direction(cells, measure)}\n".replace("|", "\\|"))
        parts.append(markdown(headings, [[_bold(text) for text in row] for row in body]))
    return "\n".join([*parts, legend(cells)]) + "\n"


def for_html(cells: Cells) -> str:
    """Returns the tables in HTML."""
    tables = (_html(direction(cells, one), *texts(cells, one)) for one in cells.measures)
    return "\n".join(tables) + f"\n<p>{escape(legend(cells))}</p>\n"


def _html(caption: str, headings: list[str], body: list[list[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in headings)
    lines = [f"<tr>{head}</tr>"]
    for first, *others in body:
        data = "".join(f"<td>{_strong(text)}</td>" for text in others)
        lines.append(f'<tr><th scope="row">{escape(first)}</th>{data}</tr>')
    return f"<table>\n<caption>{escape(caption)}</caption>\n" + "\n".join(lines) + "\n</table>"


def _clear(text: str) -> bool:
    return text.endswith((" better", " worse"))


def _strong(text: str) -> str:
    return f"<strong>{escape(text)}</strong>" if _clear(text) else escape(text)


def _bold(text: str) -> str:
    return f"**{text}**" if _clear(text) else text


def markdown(headings: Sequence[str], body: Iterable[Sequence[str]], *, words: int = 1) -> str:
    """Returns a Markdown table with aligned pipes, ending in a line break.

    Args:
        headings: One per column.
        body: One text per heading and row; pipes are escaped.
        words: How many columns, from the left, are words; the others are figures, to the right.
    """
    lines = [[_escaped(text) for text in row] for row in (headings, *body)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]

    def line(row: Sequence[str]) -> str:
        pairs = zip(row, widths, strict=True)
        padded = [t.ljust(w) if i < words else t.rjust(w) for i, (t, w) in enumerate(pairs)]
        return f"| {' | '.join(padded)} |\n"

    rule = ["-" * w if i < words else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "".join(line(row) for row in (lines[0], rule, *lines[1:]))


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
