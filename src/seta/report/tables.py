"""Results as a table: for the terminal (rich) and for a file (Markdown).

Reads `MethodSummary` and nothing else. Both tables are made from the same cells, so that what was
shown is what was written.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from seta.report.results import MethodSummary

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["HEADERS", "cells", "results_markdown", "results_table"]

HEADERS = ("Method", "Accuracy %", "Samples trained", "Saved %", "Seconds", "Runs")


def cells(summary: MethodSummary) -> tuple[str, ...]:
    """One row of the table, a text per header."""
    accuracy = f"{100 * summary.accuracy:.2f}"
    if summary.spread is not None:
        accuracy += f" ± {100 * summary.spread:.2f}"
    runs = str(summary.runs)
    if summary.stopped:
        runs = "{}/{} epochs".format(*summary.stopped)
    visits = f"{summary.visits:,.0f}"
    saved = f"{100 * summary.saved:.1f}"
    return summary.method, accuracy, visits, saved, f"{summary.seconds:.1f}", runs


def results_table(summaries: Sequence[MethodSummary], *, title: str | None = None) -> "Table":
    """The results as a rich table."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE, padding=(0, 1, 0, 0)
    )
    method, *figures = HEADERS
    table.add_column(method, no_wrap=True)
    for header in figures:
        table.add_column(header.replace("Samples ", "Samples\n"), justify="right", no_wrap=True)
    for summary in summaries:
        row = cells(summary)
        table.add_row(*row, style="dim" if summary.stopped else None)
    return table


def results_markdown(summaries: Sequence[MethodSummary]) -> str:
    """The results as a Markdown table, ending in a line break."""
    rows = [HEADERS, *(cells(summary) for summary in summaries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADERS))]
    lines = [_markdown_row(row, widths) for row in rows]
    rule = [
        "-" * width if column == 0 else "-" * (width - 1) + ":"
        for column, width in enumerate(widths)
    ]
    lines.insert(1, _markdown_row(rule, widths))
    return "\n".join(lines) + "\n"


def _markdown_row(row: Sequence[str], widths: Sequence[int]) -> str:
    """A line of a Markdown table: text to the left, figures to the right."""
    first, *figures = row
    padded = [first.ljust(widths[0])]
    padded += [text.rjust(width) for text, width in zip(figures, widths[1:], strict=True)]
    return "| " + " | ".join(padded) + " |"
