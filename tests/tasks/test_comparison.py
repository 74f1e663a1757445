"""What the programs share: the plan of each method, the table, the file, the command line."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from comparison import METHODS, OTHERS, Settings, compare, options, plan
from torch import nn
from torch.utils.data import TensorDataset

import seta
from seta import policies

SETTINGS = Settings(samples=100, epochs=5, batch_size=8, workers=0)


def run(settings, methods, wrong=None):
    """Runs `compare` on a linear fit; returns its rows, and the samples that each run saw."""
    seen = []

    def train(settings, run, watch):
        inputs = torch.arange(float(settings.samples))[:, None] / settings.samples
        net = nn.Linear(1, 1)
        loader = seta.PrunedDataLoader(
            TensorDataset(inputs),
            run.policy,
            epochs=run.epochs,
            budget=run.budget,
            batch_size=settings.batch_size,
            drop_last=True,
            count_kept=True,
        )
        seen.append([])
        for _ in range(run.epochs):
            for (batch,) in watch(loader):
                seen[-1] += (batch[:, 0] * settings.samples).round().int().tolist()
                loader.update((net(batch) - batch).square().mean(dim=1))
        return net, loader

    def show(settings, net):
        path = settings.out / "predictions.txt"
        path.write_text("fine")
        return path

    rows = compare(
        "Lines",
        settings,
        methods,
        train=train,
        evaluate=lambda settings, net: {"Right %": 50.0, "Error": 0.25},
        show=show,
        wrong=wrong,
    )
    return rows, seen[1:]  # the first is the warm-up


@pytest.mark.parametrize("epochs", [1, 4, 5, 7])
@pytest.mark.parametrize("budget", [0.3, 0.6, 0.75, 1.0])
def test_all_methods_but_full_train_the_same_visits(epochs, budget, tmp_path):
    settings = replace(SETTINGS, epochs=epochs, budget=budget, out=tmp_path)
    rows, _ = run(settings, METHODS)
    assert rows[0].visits == rows[0].full_visits == epochs * 96  # in batches of 8
    for row in rows[1:]:
        assert row.visits == int(budget * epochs * 96 + 1e-6) // 8 * 8, row.method


def test_a_rest_that_fills_no_batch_is_left_out():
    few = replace(SETTINGS, epochs=7, budget=0.3, batch_size=16)
    assert plan("Full at equal cost", few).budget == [1.0, 1.0]


def test_full_at_equal_cost_has_fewer_epochs_and_a_part():
    assert plan("Full at equal cost", SETTINGS).budget == [1.0, 1.0, 1.0]
    cut = plan("Full at equal cost", replace(SETTINGS, budget=0.5))
    assert (cut.policy, cut.epochs, cut.budget) == (seta.Full(), 3, [1.0, 1.0, 0.5])


@pytest.mark.parametrize("method", OTHERS)
def test_any_method_may_be_asked_for_and_is_made_for_the_budget(method, tmp_path):
    assert options("A program.", SETTINGS, ["--method", method])[1] == [method]
    assert plan(method, SETTINGS).policy == policies.get(method, budget=0.6)
    rows, _ = run(replace(SETTINGS, out=tmp_path), [method])
    assert rows[0].visits == 288


def test_visits_and_their_wrong_share_are_those_of_the_batches(tmp_path):
    wrong = np.arange(100) % 10 == 3
    rows, seen = run(replace(SETTINGS, out=tmp_path), METHODS, wrong)
    for row, samples in zip(rows, seen, strict=True):
        assert row.visits == len(samples)
        assert row.wrong == pytest.approx(np.mean(wrong[samples]))


def test_the_table_and_the_file_say_what_was_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/lines.py", "--epochs", "5"])
    monkeypatch.setenv("COLUMNS", "100")
    rows, _ = run(replace(SETTINGS, out=tmp_path), ["Full", "SeTa"], np.arange(100) < 4)
    shown = capsys.readouterr().out
    assert "Lines; 4.0% of the samples have wrong labels" in shown
    lines = {line.split()[0]: line.split() for line in shown.splitlines() if line.strip()}
    assert lines["Full"][1:5] == ["50.0", "0.25", "480", "0.0"]
    assert lines["SeTa"][1:5] == ["50.0", "0.25", "288", "40.0"]
    file = json.loads((tmp_path / "lines.json").read_text())
    assert file["command"] == "python examples/tasks/lines.py --epochs 5"
    assert [row["visits"] for row in file["rows"]] == [row.visits for row in rows] == [480, 288]
    assert file["settings"]["samples"] == 100
    assert file["versions"]["seta"] == seta.__version__
    assert str(tmp_path) not in json.dumps(file)


def test_without_known_wrong_labels_there_is_no_share(tmp_path, capsys):
    rows, _ = run(replace(SETTINGS, out=tmp_path), ["Full"])
    assert rows[0].wrong is None
    assert "wrong labels" not in capsys.readouterr().out


def test_options_are_those_given_and_the_defaults_of_the_program(tmp_path):
    settings, methods = options("A program.", SETTINGS, [])
    assert (settings, methods) == (SETTINGS, list(METHODS))
    given = "--method SeTa --method Full --budget 0.5 --epochs 3 --samples 7 --seed 4 --workers 2"
    more = ["--data", str(tmp_path), "--out", "there", "--test-samples", "9", "--batch-size", "2"]
    settings, methods = options("A program.", SETTINGS, given.split() + more)
    assert methods == ["SeTa", "Full"]
    assert settings == Settings(7, 3, 2, 9, 0.5, 4, 2, tmp_path, Path("there"))


def test_what_was_measured_before_a_failure_is_in_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["lines.py"])
    settings = replace(SETTINGS, out=tmp_path)
    with pytest.raises(ValueError, match="unknown method 'Nothing'"):
        run(settings, ["Full", "Nothing"])
    file = json.loads((tmp_path / "lines.json").read_text())
    assert [row["method"] for row in file["rows"]] == ["Full"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "1.5"], "1.5: must be a share of the visits, in (0, 1]"),
        (["--budget", "half"], "half: must be a share of the visits, in (0, 1]"),
        (["--epochs", "0"], "0: must be a whole number from 1 on"),
        (["--workers", "two"], "two: must be a whole number from 0 on"),
        (["--data", "nowhere"], "nowhere: there is no such folder"),
        (["--method", "Best"], "invalid choice: 'Best'"),
    ],
)
def test_what_is_not_allowed_is_said(arguments, message, capsys):
    with pytest.raises(SystemExit):
        options("A program.", SETTINGS, arguments)
    assert message in capsys.readouterr().err
