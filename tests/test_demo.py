"""The main job as a whole: what it prints, what it leaves, what Ctrl-C leaves."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from seta.commands import app
from seta.demo.settings import METHODS, takes_cost, typed_methods
from seta.report.figure import SIZE

ALL = ("Full", "Full at equal cost", "Random", "InfoBatch", "SeTa")
SMALL = ("--seeds", 1, "--epochs", 4, "--prune-ratio", 0.3)
FULL = 1078 - 1078 % 64  # samples of an epoch of full training: every batch is full


def demo(*options, code=0):
    threads = torch.get_num_threads()
    result = CliRunner().invoke(app, ["demo", *map(str, options)], env={"COLUMNS": "100"})
    assert result.exit_code == code, result.output
    assert torch.get_num_threads() == threads
    return result


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A demo of all methods, one seed, four epochs: its output and its folder."""
    out = tmp_path_factory.mktemp("demo") / "deep" / "results"
    return demo(*SMALL, "--out", out).output, out


def epochs_of(rows, method):
    return [row for row in rows if row["kind"] == "epoch" and row["method"] == method]


def test_the_table_holds_every_method_and_the_files_are_named(small):
    output, out = small
    for method in ALL:
        assert f" {method} " in output
    for name in ("rows.jsonl", "summary.md", "demo.png"):
        assert str(out / name) in output
        assert (out / name).stat().st_size > 0
    assert "\x1b" not in output


def test_the_first_row_says_what_was_run_on_what(small):
    setup = read(small[1] / "rows.jsonl")[0]
    assert setup["kind"] == "setup"
    assert (setup["train_images"], setup["held_out_images"], setup["classes"]) == (1078, 719, 10)
    assert setup["torch"] == torch.__version__
    assert setup["methods"] == list(ALL)


def test_there_is_a_row_per_epoch_and_kept_and_pruned_add_up(small):
    rows = read(small[1] / "rows.jsonl")
    for method in set(ALL) - {"Full at equal cost"}:
        assert [row["epoch"] for row in epochs_of(rows, method)] == [0, 1, 2, 3]
    for row in rows:
        if row["kind"] == "epoch":
            assert row["pruning"]["kept"] + row["pruning"]["pruned"] == 1078
            assert row["pruning"]["trained"] == row["pruning"]["kept"]
            assert 0 <= row["accuracy"] <= 1


def test_visits_and_saving_follow_from_the_epochs(small):
    rows = read(small[1] / "rows.jsonl")
    for method in ALL:
        of_method = epochs_of(rows, method)
        assert of_method[-1]["visits"] == sum(row["pruning"]["kept"] for row in of_method)
        assert of_method[-1]["saved"] == pytest.approx(1 - of_method[-1]["visits"] / (4 * FULL))
    assert {row["saved"] for row in epochs_of(rows, "Full")} == {0}


def test_full_at_equal_cost_has_as_many_whole_epochs_as_setas_visits(small):
    rows = read(small[1] / "rows.jsonl")
    visits = epochs_of(rows, "SeTa")[-1]["visits"]
    assert len(epochs_of(rows, "Full at equal cost")) == round(visits / FULL) < 4


def test_random_trains_exactly_as_many_samples_as_seta(small):
    rows = {row["method"]: row for row in read(small[1] / "rows.jsonl") if row["kind"] == "run"}
    seta, random = rows["SeTa"], rows["Random"]
    assert random["visits"] == seta["visits"] < 4 * FULL
    assert random["policy"] == f"Random(prune_ratio={1 - seta['visits'] / (4 * FULL)!r})"
    assert seta["policy"].startswith("SeTa(prune_ratio=0.3, groups=5, window=0.9")


def test_the_run_rows_and_the_summary_say_what_the_table_says(small):
    output, out = small
    summary = (out / "summary.md").read_text()
    runs = [row for row in read(out / "rows.jsonl") if row["kind"] == "run"]
    assert len(runs) == len(ALL)
    for run in runs:
        for text in (f"{100 * run['accuracy']:.2f}", f"{run['visits']:,}"):
            assert text in output
            assert text in summary


def test_the_plot_is_a_picture_of_the_stated_size(small):
    with Image.open(small[1] / "demo.png") as image:
        assert image.format == "PNG"
        assert image.size == SIZE
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50


def test_one_epoch_of_full_training_alone_is_a_demo_too(tmp_path):
    output = demo("--methods", "full", "--seeds", 1, "--epochs", 1, "--out", tmp_path).output
    assert "Full" in output
    assert (tmp_path / "demo.png").is_file()


def test_two_seeds_give_a_spread_and_an_earlier_demo_is_replaced(tmp_path):
    (tmp_path / "rows.jsonl").write_text("of an earlier demo")
    options = ["--methods", "infobatch,static", "--epochs", 2, "--seeds", 2]
    output = demo(*options, "--out", tmp_path).output
    for method in ("InfoBatch", "Static"):
        assert re.search(rf" {method} +\d+\.\d\d ± \d+\.\d\d ", output)
    rows = read(tmp_path / "rows.jsonl")
    assert [row["kind"] for row in rows].count("setup") == 1
    assert {row["seed"] for row in rows[1:]} == {0, 1}


def test_images_of_the_users_own_can_be_trained_on(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    images = rng.normal(size=(200, 20, 20, 3))
    images[labels == 1, :, ::2] += 3  # stripes
    np.savez(tmp_path / "mine.npz", x=images, y=labels)
    output = demo("--data", tmp_path / "mine.npz", "--methods", "full,seta", "--seeds", 1,
                  "--epochs", 6, "--out", tmp_path / "out").output  # fmt: skip
    assert "mine.npz: 160 images to train on, 40 held out, 20 x 20 x 3, 2 labels" in output
    last = read(tmp_path / "out" / "rows.jsonl")[-1]
    assert last["kind"] == "run"
    assert last["accuracy"] > 0.8


def test_cifar10_is_learned_a_little(tmp_path, monkeypatch):
    folder = Path(os.environ.get("SETA_DATA", "")).resolve()
    if "SETA_DATA" not in os.environ or not (folder / "cifar10-test.parquet").is_file():
        pytest.skip("needs cifar10-{train,test}.parquet in the folder that SETA_DATA names")
    monkeypatch.chdir(tmp_path)
    demo("--data", folder / "cifar10-train.parquet", "--test", folder / "cifar10-test.parquet",
         "--limit", 600, "--epochs", 5, "--seeds", 1, "--methods", "full,seta")  # fmt: skip
    runs = [row for row in read(Path("seta-demo/rows.jsonl")) if row["kind"] == "run"]
    assert min(run["accuracy"] for run in runs) > 0.15


def interrupted(out, wait_for, *options):
    """Start a demo, wait for a row of a kind, press Ctrl-C; returns the process's results."""
    process = subprocess.Popen(
        [sys.executable, "-m", "seta", "demo", "--out", str(out), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    rows, deadline = out / "rows.jsonl", time.monotonic() + 120
    sign = f'"kind": "{wait_for}"'
    while process.poll() is None and not (rows.is_file() and sign in rows.read_text()):
        if time.monotonic() > deadline:
            process.kill()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT, which Windows does not have")
def test_ctrl_c_leaves_what_was_measured(tmp_path):
    code, output, errors = interrupted(tmp_path, "run", "--epochs", "9", "--seeds", "99")
    assert code == 130
    assert errors == ""
    rows = read(tmp_path / "rows.jsonl")
    assert rows[-1]["kind"] == "stopped"
    finished = rows[-1]["finished_runs"]
    assert f"Stopped: {finished} of 495 runs were finished." in output
    assert 1 <= finished < 495
    assert " Full " in output
    assert "Stopped before all runs" in (tmp_path / "summary.md").read_text()
    assert "\x1b" not in output
    with Image.open(tmp_path / "demo.png") as image:
        assert image.size == SIZE


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT, which Windows does not have")
def test_ctrl_c_before_anything_was_measured_is_no_error(tmp_path):
    code, output, errors = interrupted(tmp_path, "setup", "--epochs", "9999")
    assert code == 130
    assert "Traceback" not in errors
    assert "Stopped" in output
    assert read(tmp_path / "rows.jsonl")[-1]["kind"] == "stopped"


@pytest.mark.parametrize("limit", [1, 3, 0])
def test_every_method_runs_on_a_few_images(tmp_path, limit):
    images = np.random.default_rng(0).integers(0, 255, (60, 6, 5), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=images, y=np.arange(60) % 4)
    out = tmp_path / "out"
    output = demo(
        "--data", tmp_path / "a.npz", "--limit", limit, "--epochs", 2, "--seeds", 1, "--out", out,
        "--methods", typed_methods(),
    ).output  # fmt: skip
    rows = {row["method"]: row for row in read(out / "rows.jsonl") if row["kind"] == "run"}
    assert set(rows) == set(METHODS)
    for method, row in rows.items():
        assert f" {method} " in output
        if takes_cost(method):
            assert row["visits"] == rows["SeTa"]["visits"]
