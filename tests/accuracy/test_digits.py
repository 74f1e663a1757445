"""The digits suite in a reduced form, as a person starts it: all methods, at equal visits."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.accuracy.report import write
from benchmarks.accuracy.suites import SUITES
from seta.comparison import lines
from seta.comparison.contenders import METHODS, PUBLISHED

pytestmark = [pytest.mark.processes, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
FULL = 3 * (1078 - 1078 % 32)  # visits: every batch is full


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lines")
    command = ["--suite", "digits", "--variants", "improving", "--epochs", "3", "--seeds", "1"]
    command += ["--budgets", "0.5", "--jobs", "2", "--out", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.accuracy", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def found(folder):
    return lines.read(folder / "digits.jsonl")


def test_every_method_runs_on_real_images_at_equal_visits(found):
    assert sorted(line["method"] for line in found) == sorted(METHODS)
    for line in found:
        if line["budget"] == 0.5:
            assert line["visits"] == FULL // 2 // 32 * 32, line["method"]
        assert line["visits"] == sum(row["trained"] for row in line["rows"])
        assert line["method"] in PUBLISHED or line["saved"] == 1 - line["visits"] / FULL


def test_every_method_learns_something(found):
    for line in found:
        assert line["accuracy"] > 0.3, line["method"]  # chance is 0.1
        assert line["accuracy"] == line["accuracies"][-1][2]


def test_a_line_says_what_made_it(found):
    for line in found:
        assert {"seta", "torch", "numpy", "python"} <= set(line["versions"])
        assert line["machine"]["cores"] >= 1 and line["threads"] == 1
        assert line["task"]["data"] == "digits" and line["policy"] and line["source"]
        assert line["seconds"] > 0 and line["select_seconds"] >= 0


def test_a_page_is_made_of_it(folder, tmp_path):
    page = tmp_path / "results.md"
    write(folder, page, suites={"digits": SUITES["digits"]})
    text = page.read_text()
    for method in METHODS:
        assert method in text
    assert (tmp_path / "results" / "digits-improving.png").stat().st_size > 10_000
