"""`seta inspect`: what it finds, writes, says, and follows."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import seta
from seta.commands import app
from tests.report.runs import pruner_of, sharded_states, train

SCRIPT = """
import numpy as np
images = [(np.full((8, 8), at % 9), at % 2) for at in range(600)]
labels = np.arange(600) % 2
def train_set(): return images
def shown(item): return f"a label of {item[1]}"
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a script and the state of a run, as a user has one."""
    (tmp_path / "my_training.py").write_text(SCRIPT)
    seta.save(train(pruner_of(), 3).state_dict(), tmp_path / "run.seta")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_training", raising=False)
    yield tmp_path
    sys.modules.pop("my_training", None)


def call(*arguments):
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)], env={"COLUMNS": "160"})


def test_a_page_is_written_and_named(project):
    found = call("run.seta")
    assert found.exit_code == 0, found.output
    assert found.output.startswith("report.html (1.")
    assert "state from 20" in (project / "report.html").read_text()


def test_the_data_set_is_found_as_compare_finds_it(project):
    found = call("run.seta", "--data", "my_training.py:train_set", "--classes", "labels", "--show",
                 "shown", "--title", "My run", "--out", "here.html")  # fmt: skip
    assert found.exit_code == 0, found.output
    text = (project / "here.html").read_text()
    assert "a label of 1" in text and "<h1>My run</h1>" in text and "By class" in text


def test_parts_of_a_sharded_table_are_given_together(project):
    for at, state in enumerate(sharded_states()[0]):
        seta.save(state, project / f"part-{at}.seta")
    assert call("part-0.seta", "part-1.seta").exit_code == 0
    assert "This is a part of the run" not in (project / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.seta"], "there is no file none.seta: give what seta.save"),
        (["my_training.py"], "my_training.py is no state that seta reads: give what seta.save"),
        (["run.seta", "--data", "my_training.py:other"], "--data: my_training.py has no 'other'"),
        (["run.seta", "--data", "my_training.py"], "--data must name a file or module"),
        (["run.seta", "--out", "."], "--out must be the name of a file, got the folder"),
        (["run.seta", "--out", "none/a.html"], "none, the folder of a.html, is not there"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(project, arguments, message):
    found = call(*arguments)
    assert found.exit_code == 2 and found.output.count("\n") == 1, found.output
    assert found.output.startswith("error: ") and message in found.output
    assert not (project / "report.html").exists()


@pytest.mark.processes
def test_follow_writes_the_page_again_until_it_is_stopped(project):
    page, pipe = project / "report.html", subprocess.PIPE
    command = [sys.executable, "-m", "seta", "inspect", "run.seta", "--follow"]
    os.rename("run.seta", "later.seta")  # a training that has not ended its first epoch
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout.readline().startswith("waiting for run.seta, which is not there")
            os.rename("later.seta", "run.seta")
            assert process.stdout.readline().startswith("report.html (")
            assert "3 epochs are over" in page.read_text()
            assert process.stdout.readline() == "waiting for the next state; Ctrl-C ends it\n"
            os.remove("run.seta")  # as a trainer that does not replace its file
            assert process.stdout.readline().startswith("not now: ")
            seta.save(train(pruner_of(), 4).state_dict(), project / "run.seta")
            while not (line := process.stdout.readline()).startswith("report.html ("):
                assert line.startswith("not now: ")
            assert "4 epochs are over" in page.read_text()
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130 and error == "stopped\n"


@pytest.mark.processes
@pytest.mark.slow
def test_the_example_finds_the_errors_that_it_plants(tmp_path):
    example = Path(__file__).resolve().parents[2] / "examples" / "inspect_digits.py"
    command = [sys.executable, example, "--epochs", "6", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    share = re.search(r"report\.html: (\d+)% of the first 100 suspects are wrong", done.stdout)
    assert int(share[1]) > 80
    assert "digit 7" in (tmp_path / "report.html").read_text()
