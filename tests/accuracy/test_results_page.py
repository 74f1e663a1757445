"""`docs/results.md` is what the committed lines give, and its prose has no figure typed by hand."""

import re

import pytest

from benchmarks.accuracy.report import DOCS, LINES, check, write
from benchmarks.accuracy.report.page import SUMMARY
from tests.accuracy.synthetic import lines, store


def test_the_page_is_what_the_committed_lines_give(tmp_path):
    if not list(LINES.glob("*.jsonl")):  # then, that there could be one
        write(store(tmp_path / "lines", lines(seeds=2)), tmp_path / "results.md", suites={})
        assert check(tmp_path / "lines", tmp_path / "results.md", suites={}) == []
        return
    assert check() == []


@pytest.mark.skipif(not SUMMARY.exists(), reason="no summary is written yet")
def test_the_summary_types_no_figure_by_hand():
    prose = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", SUMMARY.read_text(), flags=re.DOTALL)
    assert re.findall(r"[-+]?\d+\.\d+", prose) == []


@pytest.mark.skipif(not DOCS.exists(), reason="no page is committed yet")
def test_the_summary_asks_for_runs_that_there_are():
    head, _, _ = DOCS.read_text().partition("## How to read")
    assert "**not run**" not in head
