"""The committed pages are what the committed lines give; no figure is typed by hand."""

import re

import pytest

from benchmarks.accuracy.report import LINES, check, write
from benchmarks.accuracy.report.page import HERE
from benchmarks.accuracy.report.questions import QUESTIONS
from seta.comparison.contenders import AT_BUDGET
from tests.accuracy.synthetic import lines, store

TEMPLATES = {path.name: path.read_text() for path in HERE.glob("*.jinja")}


def test_the_pages_are_what_the_committed_lines_give(tmp_path):
    if not list(LINES.glob("*.jsonl")):  # then, that there could be some
        write(store(tmp_path / "lines", lines(seeds=2)), tmp_path / "results.md", suites={})
        assert check(tmp_path / "lines", tmp_path / "results.md", suites={}) == []
        return
    assert check() == []


@pytest.mark.parametrize("text", [*TEMPLATES.values(), *QUESTIONS.values()])
def test_no_figure_of_a_run_is_typed_by_hand(text):
    prose = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", text, flags=re.DOTALL)
    assert re.findall(r"[-+]?\d+\.\d+", prose) == []


@pytest.mark.parametrize("text", [*TEMPLATES.values(), *QUESTIONS.values()])
def test_no_prose_asserts_what_a_method_does(text):
    """Methods are named by the figures alone: a sentence on one would not change with the lines."""
    prose = re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", text, flags=re.DOTALL)
    named = [name for name in AT_BUDGET if re.search(rf"\b{name}\b", prose)]
    assert named == []
