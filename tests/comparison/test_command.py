"""`seta compare`: what a command line names, and what a person sees."""

import io
import json
import os
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

import seta
from seta.commands import app
from seta.comparison import table as tables
from seta.comparison.cells import cells_of
from seta.comparison.result import Stopped
from seta.comparison.target import TargetError, find, made
from tests.comparison import training

BASE = ["--epochs", "4", "--batch-size", "32", "--seeds", "1", "--methods", "SeTa"]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a training script, as a user has one."""
    text = Path(training.__file__).read_text(encoding="utf-8")
    (tmp_path / "my_training.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_training", raising=False)
    yield tmp_path
    sys.modules.pop("my_training", None)


def command(*arguments):
    return CliRunner().invoke(app, ["compare", *arguments], env={"COLUMNS": "160"})


def test_a_script_is_compared_and_files_are_named(project):
    found = command("my_training.py:run", "--data", "points", *BASE, "--lower-is-better", "all")
    assert found.exit_code == 0, found.output
    assert "Full at equal cost 0.5" in found.stdout and "No verdict before 3 seeds" in found.stdout
    for name in ("comparison.md", "comparison.html", "comparison.png"):
        assert os.path.join("seta-compare", name) in found.stdout
        assert (project / "seta-compare" / name).stat().st_size > 100
    assert len((project / "seta-compare" / "runs.jsonl").read_text().splitlines()) == 3
    assert "[3/3] SeTa 0.5, seed 0" in found.stderr


def test_what_is_given_is_what_runs(project):
    found = command(
        "my_training:run", "--data", "my_training:points", "--strata", "classes", *BASE[:-2],
        "--methods", "RCAP,Random", "--budgets", "0.5, 0.25", "--fraction", "0.5", "--out", "here",
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    rows = [json.loads(line) for line in (project / "here" / "runs.jsonl").read_text().splitlines()]
    assert [(row["method"], row["budget"]) for row in rows] == [
        ("Full", 1.0),
        *((m, b) for b in (0.5, 0.25) for m in ("Full at equal cost", "RCAP", "Random")),
    ]
    assert {row["n"] for row in rows} == {256} and "(256,)" in rows[0]["settings"]["strata"]
    assert "A pilot, on 50 %" in found.stdout


def test_runs_that_fail_make_the_exit_code(project):
    (project / "my_training.py").write_text("def run(loader, seed): return None\nset = [1] * 64\n")
    found = command("my_training.py:run", "--data", "set", *BASE[:2], "--batch-size", "8")
    assert found.exit_code == 1 and "Runs that failed" in found.stdout, found.output
    assert "Full, seed 0: RuntimeError: run trained 0 of the 4 epochs" in found.stdout
    assert "comparison.md" not in found.stdout


@pytest.mark.parametrize("arguments, message", [
    (["my_training.py", "--data", "points"], "run must name a file or module and what is in it"),
    (["nothing.py:run", "--data", "points"], "run: there is no file nothing.py"),
    (["nothing:run", "--data", "points"], "run: there is no module 'nothing' here"),
    (["my_training.py:walk", "--data", "points"], "run: my_training.py has no 'walk'"),
    (["my_training.py:run", "--data", "pointz"], "--data: my_training.py has no 'pointz'"),
    (["my_training.py:run", "--data", "local_points", "--jobs", "2"], "the data set, and what"),
    (["my_training.py:run", "--data", "points", "--budgets", "2"], "budgets must lie in (0, 1)"),
    (["my_training.py:run", "--data", "points", "--budgets", "half"], "--budgets must be numbers"),
])  # fmt: skip
def test_what_is_not_there_is_told_in_a_line(project, arguments, message):
    found = command(*arguments, *BASE)
    assert found.exit_code == 2 and message in found.stderr, found.output
    assert "Traceback" not in found.stderr


def test_a_fault_of_the_script_itself_is_not_hidden(project):
    (project / "broken.py").write_text("import no_such_module_of_mine\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_of_mine"):
        find("broken.py:run", option="run")


@pytest.mark.parametrize("option", ["run", "--data", "--strata", "--loader"])
@pytest.mark.parametrize("code, message", [
    ("def own(*_: 0\n", "own: SyntaxError: "),
    ("import no_such_module_of_mine\n", "own: ModuleNotFoundError: No module named"),
    ("\nraise ValueError('boom')\n", "own: ValueError: boom (line 2 of faulty.py): see that"),
    ("import sys\nsys.exit(3)\n", "own: SystemExit: 3 (line 2 of faulty.py): see that"),
])  # fmt: skip
def test_faults_of_own_files_are_told_with_option_and_line(project, option, code, message):
    (project / "faulty.py").write_text(code)
    given = {"run": "my_training.py:run", "--data": "my_training.py:points"}
    run, *options = [text for at in (given | {option: "faulty.py:own"}).items() for text in at][1:]
    found = command(run, *options, *BASE)
    assert found.exit_code == 2 and f"error: {option} faulty.py:{message}" in found.stderr
    assert "line 1" in found.stderr or "line 2" in found.stderr
    assert found.stderr.count("\n") == 1 and not (project / "seta-compare").exists()


def test_a_fault_in_a_function_that_makes_the_data_is_told_with_its_line(project):
    (project / "faulty.py").write_text("def run(): pass\ndef data():\n    return int('x')\n")
    found = command("faulty.py:run", "--data", "data", *BASE)
    assert found.exit_code == 2 and "--data data: ValueError: invalid literal" in found.stderr
    assert "(line 3 of faulty.py)" in found.stderr


@pytest.mark.parametrize("out", ["file", "file/in", "dir", "table"])
def test_a_folder_that_cannot_be_used_is_told_before_any_run(project, out):
    (project / "file").touch()
    (project / "dir/runs.jsonl").mkdir(parents=True)
    (project / "table/comparison.md").mkdir(parents=True)
    found = command("my_training.py:run", "--data", "points", *BASE, "--out", out)
    assert found.exit_code == 2 and found.stderr.count("\n") == 1, found.stderr
    assert f"error: --out {out}: cannot be used ([Errno" in found.stderr


def test_a_file_named_as_another_module_is_refused(project):
    for folder in ("one", "other"):
        (project / folder).mkdir()
        (project / folder / "my_data.py").write_text(f"train = {folder!r}\n")
    (project / "random.py").write_text("def run(loader, seed): return 0\n")
    assert find("one/my_data.py:train", option="run") == "one"
    with pytest.raises(TargetError, match=r"--data: other/my_data\.py must have a name .*rename"):
        find("other/my_data.py:train", option="--data")
    with pytest.raises(TargetError, match=r"run: random\.py must have a name that no other module"):
        find("random.py:run", option="run")
    assert find("one/../one/my_data.py:train", option="run") == "one"
    sys.modules.pop("my_data")


def test_a_function_that_makes_the_data_is_called_and_a_data_set_is_not():
    assert len(made(training.points)) == training.N
    data = training.Points()
    assert made(data) is data
    with pytest.raises(TargetError, match="--data must name"):
        find("points", option="--data")


def made_up():
    """Runs of three methods with figures as wide as those of images."""

    def line(method, budget, seed, gain):
        visits = round(40_960 * budget)
        return {
            "method": method, "budget": budget, "seed": seed, "visits": visits, "seconds": 12.34,
            "metrics": {"accuracy %": 91.0 + gain + seed / 3}, "full_visits": 40_960, "saved": 0,
        }  # fmt: skip

    methods = {("Full", 1.0): 0, ("Full at equal cost", 0.5): -3, ("InfoBatchQuantiles", 0.5): 2}
    return [
        line(*of, seed, gain * (1 + seed / 5)) for of, gain in methods.items() for seed in range(3)
    ]


@pytest.mark.parametrize(
    "width, left_out",
    [
        (60, "visits, seconds, cost %, seeds, to Full"),
        (80, "visits, seconds, cost %, seeds"),
        (120, ""),
        (200, ""),
    ],
)
def test_a_table_leaves_columns_out_where_a_terminal_is_narrow_and_cuts_none(width, left_out):
    shown = on_terminal(width)
    assert max(map(len, shown.splitlines())) <= width and "…" not in shown
    words = " ".join(shown.split())
    assert ("12.3" in shown, "40,960" in shown) == (not left_out, not left_out)
    assert (f"Not shown at this width: {left_out}." if left_out else "12.3") in words
    for figure in ("Full at equal cost 0.5", "InfoBatchQuantiles 0.5", "91.33 ± 0.33", "better"):
        assert figure in shown


def test_a_table_becomes_rows_where_a_terminal_is_very_narrow():
    shown = on_terminal(40)
    assert max(map(len, shown.splitlines())) <= 40 and "…" not in shown
    rows = [" ".join(row.split()) for row in shown.splitlines()]
    at = rows.index("Full at equal cost 0.5")
    assert rows[at + 1 : at + 4] == ["seeds 3", "visits 20,480", "cost % 50.0"]
    assert "seconds 12.3" in rows and "Not shown" not in shown


def on_terminal(width):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(seta.Comparison(cells_of(made_up()), made_up()).table(console))
    return console.file.getvalue()


def test_a_pipe_gets_whole_lines():
    found = seta.compare(
        training.run, training.Points(), epochs=4, batch_size=32, methods=["SeTa"], seeds=1,
        progress=False,
    )  # fmt: skip
    shown = found.table(Console(file=io.StringIO(), width=20))
    assert str(shown).splitlines() == [found.title, "", *tables.for_text(found.cells).splitlines()]


def test_ctrl_c_hands_over_what_there_is(tmp_path):
    calls = []

    def third(loader, seed):
        calls.append(seed)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return training.run(loader, seed)

    options = {"epochs": 4, "batch_size": 32, "seeds": 2, "out": tmp_path, "progress": False}
    with pytest.raises(Stopped) as stop:
        seta.compare(third, training.Points(), methods=["SeTa"], **options)
    assert [line["method"] for line in stop.value.comparison.lines] == [
        "Full", "Full at equal cost",
    ]  # fmt: skip
    assert (tmp_path / "comparison.png").stat().st_size > 0
    assert len(seta.compare(third, training.Points(), methods=["SeTa"], **options).lines) == 6


def test_ctrl_c_shows_what_there_is(project):
    (project / "my_training.py").write_text(
        (project / "my_training.py").read_text()
        + "\ndef stops(loader, seed):\n    if seed: raise KeyboardInterrupt\n"
        "    return run(loader, seed)\n"
    )
    found = command("my_training.py:stops", "--data", "points", *BASE[:4], "--seeds", "3")
    assert found.exit_code == 130 and "stopped: the same command goes on" in found.stderr
    assert "SeTa 0.5" in found.stdout and "comparison.md" in found.stdout
