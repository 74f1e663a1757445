import io

from rich.console import Console

from seta.report.results import MethodSummary
from seta.report.tables import results_markdown, results_table

SUMMARIES = [
    MethodSummary("Full at equal cost", 3, 0.98765, 0.00123, 12345.4, 0.4, 1.26),
    MethodSummary("SeTa", 1, 0.5, None, 7000, 0.395, 10.0, stopped=(12, 40)),
]


def printed(table, width):
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue()


def test_the_table_shows_mean_spread_visits_and_saving():
    text = printed(results_table(SUMMARIES, title="what it is"), 80)
    assert "what it is" in text
    (line,) = (line for line in text.splitlines() if "equal cost" in line)
    assert line.split() == ["Full", "at", "equal", "cost", "98.77", "±", "0.12", "12,345", "40.0",
                            "1.3", "3"]  # fmt: skip


def test_a_stopped_run_says_how_far_it_came_and_shows_no_spread():
    (line,) = (
        line for line in printed(results_table(SUMMARIES), 80).splitlines() if "SeTa" in line
    )
    assert line.split() == ["SeTa", "50.00", "7,000", "39.5", "10.0", "12/40", "epochs"]


def test_the_widest_table_fits_eighty_columns():
    widest = [MethodSummary("Full at equal cost", 3, 0.98765, 0.12345, 1234567, 0.4, 1234.5)]
    text = printed(results_table([*widest, SUMMARIES[1]]), 80)
    assert "…" not in text
    assert "98.77 ± 12.35" in text


def test_the_markdown_table_has_the_same_figures():
    header, rule, first, second = results_markdown(SUMMARIES).splitlines()
    assert header.split("|")[1].strip() == "Method"
    assert rule.startswith("| ---") and rule.endswith("-: |")
    assert [cell.strip() for cell in first.strip("|").split("|")] == [
        "Full at equal cost", "98.77 ± 0.12", "12,345", "40.0", "1.3", "3",
    ]  # fmt: skip
    assert "12/40 epochs" in second
    assert len({len(line) for line in (header, rule, first, second)}) == 1
