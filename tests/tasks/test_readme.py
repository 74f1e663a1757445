"""The README of the programs: its figures are those of the committed runs, none is missing."""

import json
import re
from pathlib import Path

import scale

TASKS = Path(scale.__file__).parent
README = (TASKS / "README.md").read_text("utf-8")
METHODS = ["Full", "Full at equal cost", "Learnable", "SeTa", "InfoBatch"]
ROW = re.compile(r"^\| \[(\w+)\]\(results/(\w+)/comparison\.md\), ([^|]+?) \| (.*) \|$", re.M)


def lines_of(name):
    """The runs of a program, by method."""
    text = (TASKS / "results" / name / "runs.jsonl").read_text("utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    return {line["method"]: line for line in lines}


def short(value):
    return f"{value:.3g}" if value < 10 else f"{value:.1f}"


def test_every_program_is_in_the_table_with_the_figures_of_its_runs():
    programs = {
        path.stem for path in TASKS.glob("*.py") if "\nDEFAULTS = " in path.read_text("utf-8")
    }
    rows = ROW.findall(README)
    unmeasured = re.search(r"Not measured yet [^:]*: ([^.]*)\.", README)
    named = set(re.findall(r"`(\w+)`", unmeasured[1])) if unmeasured else set()
    assert sorted([*named, *(name for name, *_ in rows)]) == sorted(programs)
    for name, linked, measure, cells in rows:
        lines = lines_of(name)
        assert linked == name
        assert list(lines) == METHODS
        assert {next(iter(line["metrics"])) for line in lines.values()} == {measure}
        assert cells.split(" | ") == [short(line["metrics"][measure]) for line in lines.values()]


def test_runs_have_the_defaults_of_their_program_and_equal_visits():
    for name, *_ in ROW.findall(README):
        full, *others = lines_of(name).values()
        text = (TASKS / f"{name}.py").read_text("utf-8")
        (samples, epochs) = re.search(
            r"\nDEFAULTS = .*samples=([\d_]+), epochs=(\d+)", text
        ).groups()
        assert (full["n"], full["epochs"]) == (int(samples), int(epochs))
        for line in others:
            assert line["visits"] == others[0]["visits"]
            assert abs(line["visits"] / full["visits"] - 0.6) < 0.01


def test_the_figures_of_the_scale_are_those_of_their_runs():
    files = [TASKS / "results" / f"{name}-scale.json" for name in scale.PROGRAMS]
    first, second = (json.loads(file.read_text("utf-8"))["figures"] for file in files)
    for name, value in first.items():
        cells = [f"{v:,}" if isinstance(v, int) else f"{v:,.2f}" for v in (value, second[name])]
        assert f"| {name} | {' | '.join(cells)} |" in README


def test_links_of_the_page_lead_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (TASKS / target).exists(), target
