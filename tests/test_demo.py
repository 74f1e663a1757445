"""The main job as a whole: what it prints, what it leaves, what Ctrl-C leaves."""

import io
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from typer.testing import CliRunner

from seta.commands import app
from seta.comparison import lines
from seta.demo.settings import CASES, DURATION, METHODS

FILES = ("comparison.md", "comparison.html", "comparison.png", "keep-curves.png", "samples.html")
SHORT = ("--seeds", 1, "--epochs", 4)
SMALL = ("--case", "plain", *SHORT)
PLAIN = CASES["plain"].methods
FULL = 1078 - 1078 % 64  # samples of an epoch of full training: every batch is full


def demo(*options, code=0):
    threads = torch.get_num_threads()
    result = CliRunner().invoke(app, ["demo", *map(str, options)], env={"COLUMNS": "100"})
    assert result.exit_code == code, result.output
    assert torch.get_num_threads() == threads
    return result


def runs(folder, case="plain"):
    return lines.read(folder / case / "runs.jsonl")


def colours(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return len(image.convert("RGB").getcolors(1 << 24))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The plain case with one seed and four epochs: its result and its folder."""
    out = tmp_path_factory.mktemp("demo") / "deep" / "results"
    return demo(*SMALL, "--out", out), out


def test_the_table_holds_every_method_and_the_files_are_named(small):
    result, out = small
    for method in ("Full", "Full at equal cost 0.5", *(f"{name} 0.5" for name in PLAIN)):
        assert f"\n{method} " in result.stdout
    for name in FILES:
        assert str(out / "plain" / name) in result.stdout
        assert (out / "plain" / name).stat().st_size > 0
    assert "\x1b" not in result.output
    assert "[7/7] RS2 0.5, seed 0: accuracy % " in result.stderr


def test_the_data_is_named_before_the_runs_and_in_the_files(small):
    result, out = small
    assert "1,078 images to train on, 719 held out" in result.stdout
    for name in ("comparison.md", "comparison.html"):
        text = (out / "plain" / name).read_text()
        assert "seta demo: scikit-learn" in text and "on 719 held-out images" in text


def test_full_is_always_there_and_all_others_train_half_of_its_visits(small):
    visits = {line["method"]: line["visits"] for line in runs(small[1])}
    assert list(visits) == ["Full", "Full at equal cost", *PLAIN]
    assert visits.pop("Full") == 4 * FULL
    assert set(visits.values()) == {2 * FULL}


def test_the_lines_say_what_was_trained_on_what(small):
    for line in runs(small[1]):
        settings = line["settings"]
        assert settings["data"] == "scikit-learn's handwritten digits"
        assert (settings["n"], settings["held_out"], settings["epochs"]) == (1078, 719, 4)
        assert "(1078,)" in settings["strata"] and settings["device"] == line_device()
        assert 20 < line["metrics"]["accuracy %"] <= 100


def line_device():
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("name", ["comparison.png", "keep-curves.png"])
def test_the_pictures_are_not_blank(small, name):
    assert colours(small[1] / "plain" / name) > 50


def test_a_second_call_makes_no_run_again(small):
    result, out = small[0], small[1] / "plain"
    before = {path.name: path.read_bytes() for path in out.glob("*.jsonl")}
    picture = (out / "keep-curves.png").stat().st_mtime_ns
    again = demo(*SMALL, "--out", small[1])
    assert again.stdout == result.stdout and again.stderr == ""
    assert {path.name: path.read_bytes() for path in out.glob("*.jsonl")} == before
    assert (out / "keep-curves.png").stat().st_mtime_ns == picture


def test_a_changed_setting_is_told_and_nothing_is_lost(small):
    out = small[1] / "plain"
    before = (out / "runs.jsonl").read_bytes()
    told = demo(*SMALL[:-1], 5, "--out", small[1], code=2).stderr
    assert told.startswith(
        f"error: {out}: out holds runs that were made otherwise: epochs was 4 and is 5"
    )
    assert (out / "runs.jsonl").read_bytes() == before


@pytest.mark.slow
def test_methods_and_budgets_may_be_repeated_in_any_case(tmp_path):
    demo(
        "--method", "rcap", "--method", "UCB", "--method", "ucb", "--budget", 0.5, "--budget", 0.25,
        "--seeds", 2, "--epochs", 2, "--case", "plain", "--out", tmp_path,
    )  # fmt: skip
    found = [(line["method"], line["budget"], line["seed"]) for line in runs(tmp_path)]
    at_budgets = [(m, b) for b in (0.5, 0.25) for m in ("Full at equal cost", "RCAP", "UCB")]
    assert found == [(*of, seed) for seed in (0, 1) for of in [("Full", 1.0), *at_budgets]]


def test_pictures_are_of_the_runs_that_are_there(tmp_path):
    options = ("--case", "plain", "--seeds", 1, "--epochs", 2, "--out", tmp_path)
    demo("--method", "SeTa", *options)
    page, picture = (tmp_path / "plain" / name for name in FILES[:-3:-1])
    before = picture.read_bytes()
    demo("--method", "Learnable", *options)
    assert "a run of Learnable knows" in page.read_text() and picture.read_bytes() != before
    (tmp_path / "plain" / "runs.jsonl").unlink()
    shown = demo("--method", "Full", *options).stdout
    assert not page.exists() and not picture.exists() and picture.name not in shown


def test_full_alone_shows_what_fewer_epochs_cost(tmp_path):
    output = demo("--method", "full", *SMALL[:-1], 1, "--out", tmp_path).output
    assert [line["method"] for line in runs(tmp_path)] == ["Full", "Full at equal cost"]
    assert (tmp_path / "plain" / "comparison.png").is_file()
    assert not (tmp_path / "plain" / "keep-curves.png").exists() and "keep-curves" not in output


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A demo as it is without options, but for one seed and four epochs."""
    out = tmp_path_factory.mktemp("demo")
    return demo(*SHORT, "--out", out), out


def test_without_options_the_plain_case_comes_first_and_the_one_where_choosing_pays_last(whole):
    result, out = whole
    plain, wrong = (result.stdout.index(f"\n{out / case}/comp") for case in ("plain", "wrong"))
    assert plain < result.stdout.rindex("30 % of the labels wrong, 1,078 samples") < wrong
    methods = [line["method"] for line in runs(out, "wrong")]
    assert methods == ["Full", "Full at equal cost", *CASES["wrong"].methods]
    assert (out / "wrong" / "samples.html").stat().st_size > 0
    assert "323 of the 1,078 labels trained on are wrong" in result.stdout


def test_how_long_it_takes_is_said_alike_everywhere():
    help_text = " ".join(demo("--help").output.split())
    assert f"Without options it takes {DURATION}." in help_text
    root = Path(__file__).resolve().parents[1]
    assert f"on real data, in {DURATION};" in (root / "Makefile").read_text(encoding="utf-8")


def test_classes_of_unequal_size_are_a_case(tmp_path):
    output = demo("--case", "Unequal", *SHORT, "--method", "RCAP", "--out", tmp_path).output
    assert "The most frequent class has 107 images to train on, the rarest 5;" in output
    full, *_ = runs(tmp_path, "unequal")
    assert full["settings"]["n"] == 367 and full["settings"]["held_out"] == 719
    assert not (tmp_path / "plain").exists()


def stripes():
    """200 images of two kinds that a net tells apart."""
    labels = np.arange(200) % 2
    images = np.random.default_rng(0).normal(100, 20, size=(200, 20, 20, 3))
    images[labels == 1, :, ::2] += 60
    return images.clip(0, 255).astype(np.uint8), labels


def as_npz(path):
    images, labels = stripes()
    np.savez(path, x=images, y=labels)


def as_parquet(path):
    images, labels = stripes()
    column = []
    for image in images:
        out = io.BytesIO()
        Image.fromarray(image).save(out, "PNG")
        column.append({"bytes": out.getvalue(), "path": None})
    parquet.write_table(pa.table({"img": column, "label": labels}), path)


@pytest.mark.parametrize(
    "save, name",
    [(as_npz, "mine.npz"), pytest.param(as_parquet, "mine.parquet", marks=pytest.mark.slow)],
)
def test_images_of_the_users_own_can_be_trained_on(tmp_path, save, name):
    save(tmp_path / name)
    options = ("--data", tmp_path / name, "--method", "SeTa", "--seeds", 1, "--epochs", 8)
    output = demo(*options, "--out", tmp_path / "out").output
    assert f"{name}: 160 images to train on, 40 held out, 20 x 20 x 3, 2 labels" in output
    assert f"Trained on 160 of the 200 images of {name}" in output
    full, *_ = runs(tmp_path / "out")
    assert full["method"] == "Full" and full["metrics"]["accuracy %"] > 80
    less = demo(*options, "--limit", 100, "--out", tmp_path / "out", code=2)
    assert "n was 160 and is 100" in less.stderr


def test_other_images_in_a_file_of_the_same_name_are_noticed(tmp_path):
    as_npz(tmp_path / "mine.npz")
    options = ("--data", tmp_path / "mine.npz", "--method", "Full", "--seeds", 1, "--epochs", 1)
    demo(*options, "--out", tmp_path / "out")
    images, labels = stripes()
    np.savez(tmp_path / "mine.npz", x=images[::-1], y=labels)
    assert "checksum was " in demo(*options, "--out", tmp_path / "out", code=2).stderr


def test_cifar10_is_learned_a_little(tmp_path, monkeypatch):
    folder = Path(os.environ.get("SETA_DATA", "")).resolve()
    if "SETA_DATA" not in os.environ or not (folder / "cifar10-test.parquet").is_file():
        pytest.skip("needs cifar10-{train,test}.parquet in the folder that SETA_DATA names")
    monkeypatch.chdir(tmp_path)
    demo("--data", folder / "cifar10-train.parquet", "--test", folder / "cifar10-test.parquet",
         "--limit", 600, "--epochs", 5, "--seeds", 1, "--method", "SeTa")  # fmt: skip
    assert min(line["metrics"]["accuracy %"] for line in runs(Path("seta-demo"))) > 15


@pytest.mark.parametrize("limit", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 0))])
def test_every_method_runs_on_a_few_images(tmp_path, limit):
    images = np.random.default_rng(0).integers(0, 255, (60, 6, 5), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=images, y=np.arange(60) % 4)
    every = [part for name in METHODS for part in ("--method", name)]
    options = ("--data", tmp_path / "a.npz", "--limit", limit, "--epochs", 2, "--seeds", 1)
    demo(*options, *every, "--out", tmp_path / "out")
    visits = {line["method"]: line["visits"] for line in runs(tmp_path / "out")}
    assert set(visits) == {"Full at equal cost", *METHODS}
    full = visits.pop("Full")
    assert set(visits.values()) == {full // 2}


def test_half_of_one_image_is_refused(tmp_path):
    as_npz(tmp_path / "a.npz")
    told = demo("--data", tmp_path / "a.npz", "--limit", 1, "--out", tmp_path / "out", code=2)
    assert "1 image to train on" in told.stdout
    assert ": budget leaves epoch 0 without a sample, got 0.5 of 1 samples" in told.stderr


def test_a_run_that_fails_makes_the_exit_code(tmp_path, monkeypatch):
    monkeypatch.setattr("seta.demo.train.accuracy", lambda net, held_out: float("nan"))
    output = demo("--method", "Full", *SMALL, "--out", tmp_path, code=1).output
    assert "Runs that failed" in output and "a run that diverged" in output
    assert not runs(tmp_path) and not (tmp_path / "plain" / "comparison.png").exists()


def interrupted(out, ready, *options):
    """Start a demo, wait until it is ready, press Ctrl-C; returns the process's results."""
    process = subprocess.Popen(
        [sys.executable, "-m", "seta", "demo", "--out", str(out), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and not ready():
        if time.monotonic() > deadline:
            process.kill()
        time.sleep(0.02)
    for _ in range(3):  # CPython ignores one that falls into a callback, as imports make them
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            output, errors = process.communicate(timeout=30)
            return process.returncode, output, errors
    process.kill()
    raise AssertionError(f"Ctrl-C did not end it: {process.communicate()}")


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT, which Windows does not have")
def test_ctrl_c_leaves_what_was_measured_and_the_same_command_goes_on(tmp_path):
    options = ("--case", "plain", "--epochs", "6", "--method", "SeTa", "--seeds", "2")
    code, output, errors = interrupted(tmp_path, lambda: len(runs(tmp_path)) >= 3, *options)
    assert code == 130
    assert "stopped: the same command goes on" in errors and "Traceback" not in errors
    made = runs(tmp_path)
    assert 3 <= len(made) < 6
    assert "\nSeTa 0.5 " in output and "Stopped before all runs were made." in output
    assert "Stopped before all" in (tmp_path / "plain" / "comparison.md").read_text()
    assert "\x1b" not in output
    for name in FILES:
        path = tmp_path / "plain" / name
        assert str(path) in output and path.stat().st_size > 0
    result = demo(*options, "--out", tmp_path)
    assert runs(tmp_path)[: len(made)] == made and len(runs(tmp_path)) == 6
    assert "Stopped" not in result.stdout + (tmp_path / "plain" / "comparison.md").read_text()


@pytest.mark.processes
@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT, which Windows does not have")
def test_ctrl_c_before_anything_was_measured_is_no_error(tmp_path):
    ready = (tmp_path / "plain" / ".lock").exists
    code, _, errors = interrupted(tmp_path, ready, "--epochs", "9999")
    # Where the interrupt falls into code that is run from text, as dataclasses make it, CPython
    # ends itself by the signal whatever the exit code; a shell sees 130 either way.
    assert code in (130, -signal.SIGINT)
    assert "stopped" in errors and "Traceback" not in errors
    assert not runs(tmp_path) and not (tmp_path / "plain" / "comparison.png").exists()
