"""A suite goes on where it was killed; what fails is told and does not stop the others."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.accuracy.__main__ import app
from benchmarks.accuracy.plan import Choice, jobs
from benchmarks.accuracy.run import make_line
from benchmarks.accuracy.suites import get, make_task
from seta.comparison import lines
from tests.accuracy.fake_task import BROKEN, SUITE
from tests.accuracy.test_run import timeless

FAKE = "tests.accuracy.fake_task:SUITE"
ROOT = Path(__file__).resolve().parents[2]


def start(*arguments, interrupts=signal.SIG_DFL):
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.accuracy", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, interrupts),
    )


def wait_for(condition, what, seconds=120):
    for _ in range(seconds * 50):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f"never came: {what}")


def gone(process):
    """Whether a process is over (a zombie that nobody waits for is, too)."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_a_suite_killed_in_the_middle_goes_on_and_ends_as_if_it_had_not_been(tmp_path):
    asked = ("--suite", FAKE, "--out", tmp_path, "--seeds", 1, "--jobs", 2)
    path = tmp_path / "fake.jsonl"
    first = start(*asked)
    wait_for(lambda: path.exists() and path.read_bytes().count(b"\n") >= 4, "the first lines")
    workers = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
    first.kill()
    first.communicate()
    wait_for(lambda: all(map(gone, workers)), "the end of the workers")
    before = lines.read(path)
    path.write_bytes(
        path.read_bytes() + b'{"suite":"fake","var'
    )  # as a kill in mid-write leaves it

    second = start(*asked)
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 0, output
    after = lines.read(path)
    planned = jobs(SUITE, Choice(seeds=1))
    assert 4 <= len(before) < len(planned)
    assert after[: len(before)] == before
    assert {lines.key(line) for line in after} == {job.key for job in planned}
    assert len(after) == len(planned)
    for line in after:
        assert timeless(line) == uninterrupted(line)


def uninterrupted(line):
    """The line of the same run, made here."""
    job = next(job for job in jobs(SUITE, Choice(seeds=1)) if job.key == lines.key(line))
    task = make_task(SUITE.variants[job.variant], None)
    task.pause = 0.0
    again = make_line(
        task,
        job.contender,
        suite=job.suite,
        variant=job.variant,
        seed=job.seed,
        full_epochs=job.full_epochs,
    )
    # Of the call; `versions` has a framework more where another test of this process imported it.
    call = {name: line[name] for name in ("jobs", "command", "threads", "versions")}
    return timeless(again | call)


@pytest.mark.slow
@pytest.mark.processes
def test_a_run_that_fails_is_told_and_the_others_go_on(tmp_path):
    process = start("--suite", "tests.accuracy.fake_task:BROKEN", "--out", tmp_path)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "RuntimeError: no seed 1 here" in output
    assert f"its process died with exit code -{signal.SIGKILL.value}" in output
    assert "2 of 4 runs are in broken.jsonl" in output
    assert [line["seed"] for line in lines.read(tmp_path / "broken.jsonl")] == [0, 3]
    assert len(jobs(BROKEN, Choice())) == 4


@pytest.mark.slow
@pytest.mark.processes
def test_a_method_with_a_comma_in_its_name_can_be_asked_for(tmp_path):
    methods = ("--methods", "Full, smaller batches, Hardest cut, share known,Full")
    suite = ("--suite", "noise-long", "--variants", "wrong=0.4", "--seeds", 1)
    result = called(*suite, *methods, "--out", tmp_path, "--dry-run")
    assert result.exit_code == 0 and "5 runs to make" in result.output


@pytest.mark.parametrize("interrupts", [signal.SIG_DFL, signal.SIG_IGN], ids=["shown", "hidden"])
def test_ctrl_c_ends_the_workers_and_says_how_to_go_on(tmp_path, interrupts):
    """In the background too, where a shell starts programs with interrupts ignored."""
    process = start("--suite", FAKE, "--out", tmp_path, interrupts=interrupts)
    path = tmp_path / "fake.jsonl"
    wait_for(path.exists, "the first line")
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped: the same command goes on" in output


def called(*arguments):
    return CliRunner(env={"SETA_DATA": None}).invoke(app, [str(one) for one in arguments])


def test_a_dry_run_lists_what_is_left_and_makes_nothing(tmp_path):
    some = ("--methods", "Full,Random", "--variants", "clean", "--seeds", 1, "--budgets", "0.5")
    result = called("--suite", FAKE, "--out", tmp_path, "--dry-run", *some)
    assert result.exit_code == 0 and "2 runs to make, 0 made" in result.output
    assert "480 visits at most" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--suite is missing: choose one of digits"),
        (("--suite", "digit"), "suite must be one of digits"),
        (("--suite", "nowhere:SUITE"), "'nowhere:SUITE' must name a module"),
        (("--suite", FAKE, "--methods", "Best"), "methods must be of Full"),
        (("--suite", FAKE, "--budgets", "half"), "--budgets must be numbers with commas"),
        (("--suite", FAKE, "--device", "tpu"), "--device must be cpu or cuda, got 'tpu'"),
        (("--suite", "tests.accuracy.fake_task:NEEDY"), "--data is missing, and suite 'needy'"),
    ],
)
def test_what_cannot_be_run_is_told_with_the_way_out(tmp_path, arguments, message):
    result = called("--out", tmp_path, *arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_lines_of_another_length_are_not_mixed_in(tmp_path):
    line = {"suite": "fake", "variant": "clean", "method": "Full", "budget": 1.0, "seed": 0}
    (tmp_path / "fake.jsonl").write_text(json.dumps(line | {"full_epochs": 9}) + "\n")
    result = called("--suite", FAKE, "--out", tmp_path)
    assert result.exit_code == 2
    assert "epochs is 5, but the file has a run of 9 (clean, Full, seed 0)" in result.output
    assert get(FAKE) is SUITE
