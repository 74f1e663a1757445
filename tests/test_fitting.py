"""Tables and figures on a terminal: what does not fit goes elsewhere, whole."""

import io

import pytest
from rich.console import Console

from seta.fitting import FigureList, FittingTable

ROWS = [["SeTa [0.5]", "1,234,567", "12.3"], ["Full", "9,876,543", "45.6"]]
HEADINGS = ["method", "visits of\nall epochs", "cost"]


def shown(thing, width, *, terminal=True):
    console = Console(
        file=io.StringIO(), width=width, force_terminal=terminal, color_system=None, highlight=False
    )
    console.print(thing)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_table_that_fits_is_whole():
    lines = shown(FittingTable(HEADINGS, ROWS, spare=["cost"]), 40)
    assert lines[1:] == [
        "              visits of",
        " method      all epochs  cost",
        " ────────────────────────────",
        " SeTa [0.5]   1,234,567  12.3",
        " Full         9,876,543  45.6",
        "",
    ]


def test_the_columns_that_matter_least_are_left_out_first_and_named():
    table = FittingTable(HEADINGS, ROWS, spare=["visits of\nall epochs", "cost"])
    text = "\n".join(shown(table, 25))
    assert "1,234,567" not in text and "12.3" in text
    assert " ".join(text.split()).endswith("Not shown at this width: visits of all epochs.")


def test_rows_become_blocks_where_no_columns_can_be_left_out():
    assert shown(FittingTable(HEADINGS, ROWS), 27) == [
        "", "SeTa [0.5]", "  visits of all epochs", "    1,234,567", "  cost", "    12.3",
        "", "Full", "  visits of all epochs", "    9,876,543", "  cost", "    45.6",
    ]  # fmt: skip


def test_the_last_row_may_be_a_total_below_a_line():
    lines = shown(FittingTable(HEADINGS, ROWS, total=True), 40)
    assert lines[4:7] == [" SeTa [0.5]   1,234,567  12.3", "", " Full         9,876,543  45.6"]


NOTE = "losses of all samples, 6 bytes each"


@pytest.mark.parametrize("terminal", [True, False])
def test_notes_stand_beside_their_figures_or_below_them(terminal):
    figures = FigureList({"Memory": [("always", "6 kB", NOTE)], "Run": [("cost [x]", "1,000", "")]})
    assert shown(figures, 80, terminal=terminal) == [
        "", "Memory", f"  always     6 kB   {NOTE}", "", "Run", "  cost [x]  1,000",
    ]  # fmt: skip
    assert shown(figures, 30, terminal=terminal) == [
        "", "Memory", "  always     6 kB", "    losses of all samples, 6", "    bytes each",
        "", "Run", "  cost [x]  1,000",
    ]  # fmt: skip
