"""What the programs share: the command line, what it asks of `seta.compare`, and wrong labels."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from comparison import METHODS, Settings, options, wrong_visits
from torch.utils.data import TensorDataset

import seta

SETTINGS = Settings(samples=100, epochs=5, batch_size=8, workers=0)


def compared(settings, wrong=None):
    """Compares on losses that need no net; returns the comparison, and what each run trained."""
    seen = []

    def run(loader, seed):
        seen.append([])
        for _ in range(loader.epochs):
            for (batch,) in loader:
                seen[-1] += batch.int().tolist()
                loader.update(batch)
        return {"Right %": 50.0, **wrong_visits(loader, wrong)}

    found = seta.compare(
        run,
        TensorDataset(torch.arange(float(settings.samples))),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        lower_is_better=[] if wrong is None else settings.lower,
        progress=False,
        **settings.asked,
    )
    return found, seen


def test_the_share_of_wrong_labels_is_that_of_the_batches(tmp_path):
    wrong = np.arange(100) % 10 == 3
    found, seen = compared(replace(SETTINGS, out=tmp_path), wrong)
    assert len(found.lines) == len(seen) == 5
    for line, samples in zip(found.lines, seen, strict=True):
        assert line["metrics"]["Wrong %"] == pytest.approx(100 * np.mean(wrong[samples]))


def test_without_known_wrong_labels_there_is_no_share(tmp_path):
    found, _ = compared(replace(SETTINGS, out=tmp_path))
    assert not found.failures
    assert {tuple(line["metrics"]) for line in found.lines} == {("Right %",)}
    assert replace(SETTINGS, data=tmp_path).lower == []


def test_runs_are_those_that_were_asked_for(tmp_path):
    asked = replace(SETTINGS, out=tmp_path, methods=("Random",), budget=0.5, seeds=2, seed=4)
    found, _ = compared(asked)
    assert [(line["method"], line["seed"]) for line in found.lines] == [
        (method, seed) for seed in (4, 5) for method in ("Full", "Full at equal cost", "Random")
    ]
    assert {line["visits"] for line in found.lines} == {480, 240}


def test_runs_on_other_data_are_not_taken_for_these(tmp_path):
    settings = replace(SETTINGS, out=tmp_path)
    _, seen = compared(settings)
    _, again = compared(settings)
    assert (len(seen), len(again)) == (5, 0)
    with pytest.raises(ValueError, match="test samples was 1000 and is 7"):
        compared(replace(settings, test_samples=7))


@pytest.mark.parametrize("method", METHODS)
def test_any_method_may_be_asked_for(method):
    assert options("A program.", SETTINGS, ["--method", method]).methods == (method,)


def test_options_are_those_given_and_the_defaults_of_the_program(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/lines.py"])
    assert options("A program.", SETTINGS, []) == replace(SETTINGS, out=Path("runs/lines"))
    given = "--method SeTa --method RS2 --budget 0.5 --epochs 3 --samples 7 --seed 4 --workers 2"
    more = ["--data", str(tmp_path), "--out", "there", "--test-samples", "9", "--batch-size", "2"]
    settings = options("A program.", SETTINGS, [*given.split(), *more, "--seeds", "3"])
    assert settings == Settings(7, 3, 2, 9, 0.5, ("SeTa", "RS2"), 3, 4, 2, tmp_path, Path("there"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "1"], "1: must be a share of the visits, in (0, 1)"),
        (["--budget", "half"], "half: must be a share of the visits, in (0, 1)"),
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
