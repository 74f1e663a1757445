"""What each program is asked: in a reduced form, through real loaders with real workers."""

import importlib
import json
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

import seta
from tests.tasks import own_folder

SMALL = {"samples": 48, "epochs": 3, "batch_size": 6, "test_samples": 24}


def reduced(program, folder, **changed):
    """The defaults of a program, for seconds instead of minutes."""
    return replace(program.DEFAULTS, out=folder, **{**SMALL, **changed})


def prints_of(batch, size):
    """What tells the samples of a batch apart: their content, without what pads it."""
    parts = batch.values() if isinstance(batch, dict) else batch
    tensors = [part for part in parts if torch.is_tensor(part) and part.shape[:1] == (size,)]
    found = []
    for row in range(size):
        content = []
        for tensor in tensors:
            flat = tensor[row].reshape(-1)
            used = torch.nonzero((flat != 0) & (flat != -100))
            content.append(flat[: int(used[-1]) + 1 if len(used) else 0].tolist())
        found.append(hash(str(content)))
    return found


def losses_land_on_the_right_samples(name, folder, monkeypatch):
    """Each recorded loss is that which the net gave for the sample's own content."""
    program = importlib.import_module(name)
    settings = reduced(program, folder, workers=2)
    samples = program.train_set(settings)
    given = {}
    visits = Counter()
    losses = program.losses

    def watched(net, batch):
        each = losses(net, batch)
        assert each.dtype == torch.float32
        for mark, loss in zip(prints_of(batch, len(each)), each.tolist(), strict=True):
            given[mark] = loss
            visits[mark] += 1
        return each

    monkeypatch.setattr(program, "losses", watched)
    loader = seta.PrunedDataLoader(
        samples,
        "SeTa",
        epochs=settings.epochs,
        budget=settings.budget,
        batch_size=settings.batch_size,
        drop_last=True,
        num_workers=settings.workers,
        count_kept=True,
    )
    program.train(loader)
    alone = [loader.collate_fn([samples[i]]) for i in range(settings.samples)]
    marks = [prints_of(batch, 1)[0] for batch in alone]
    assert len(set(marks)) == settings.samples, "two samples have the same content"
    assert given.keys() <= set(marks), "a worker made another sample than this process"
    recorded = loader.pruner.losses
    for index, mark in enumerate(marks):
        if mark in given:
            assert recorded[index] == np.float32(given[mark])
        else:
            assert np.isnan(recorded[index])
    kept = loader.pruner.kept_counts
    share = visits.total() / (settings.samples * settings.epochs)
    assert abs(share - settings.budget) < 0.06  # in whole batches
    assert all(visits[mark] <= kept[index] for index, mark in enumerate(marks))
    assert len(set(given.values())) > len(given) / 2, "the losses do not tell samples apart"


def samples_are_functions_of_their_index(name, folder):
    """At any size of the data, and in any order."""
    program = importlib.import_module(name)
    few = program.train_set(reduced(program, folder, samples=20))
    many = program.train_set(reduced(program, folder, samples=15_000_000))
    assert len(many) == 15_000_000
    for index in (19, 3):
        assert same(few[index], many[index])
        assert same(few[index], few[index])
    assert not same(many[14_999_999], many[14_999_998])


def labels_are_wrong_where_it_is_said(name, folder, monkeypatch):
    """Some 4 % of them; all other samples are as they would be if none were wrong."""
    program = importlib.import_module(name)
    settings = reduced(program, folder, samples=20_000)
    flags = program.wrong(settings)
    assert flags.dtype == np.bool_
    assert 0.03 < flags.mean() < 0.05
    given = program.train_set(settings)
    looked_at = [*range(30), *np.flatnonzero(flags)[:10].tolist()]
    samples = [given[index] for index in looked_at]
    monkeypatch.setattr(program, "WRONG", 0.0)
    right = program.train_set(settings)
    assert not program.wrong(settings).any()
    for index, sample in zip(looked_at, samples, strict=True):
        assert same(sample, right[index]) != flags[index]


def same(first, second):
    """Whether two samples are equal, whatever they are made of."""
    if isinstance(first, dict):
        return all(same(first[key], second[key]) for key in first)
    if isinstance(first, (tuple, list)):
        return all(same(a, b) for a, b in zip(first, second, strict=True))
    return np.array_equal(np.asarray(first), np.asarray(second))


def the_program_runs_to_its_end(name, folder, monkeypatch, capsys):
    """All five runs, the tables, the predictions, the share of wrong labels."""
    lines = run(name, folder / "all", monkeypatch)
    shown = capsys.readouterr().out
    methods = ["Full", "Full at equal cost", "Learnable", "SeTa", "InfoBatch"]
    assert [line["method"] for line in lines] == methods
    for method in methods:
        assert f"\n{method}" in shown
    assert "Runs that failed" not in shown
    assert (folder / "all" / "comparison.md").is_file()
    assert list((folder / "all").glob("predictions.*"))
    assert all(0 <= line["metrics"]["Wrong %"] <= 100 for line in lines)


def a_folder_of_the_users_own_is_trained_on(name, folder, monkeypatch, capsys):
    """All of its samples, whose wrong labels nobody knows; a file that is missing is named."""
    (folder / "mine").mkdir()
    own_folder.make(name, folder / "mine")
    data = f"--data={folder / 'mine'}"
    lines = run(name, folder / "out", monkeypatch, data, "--method=SeTa")
    assert "Wrong %" not in capsys.readouterr().out
    visits = own_folder.TRAIN * SMALL["epochs"]
    assert [line["method"] for line in lines] == ["Full", "Full at equal cost", "SeTa"]
    assert lines[0]["visits"] == visits
    assert 0 <= round(0.6 * visits) - lines[2]["visits"] < SMALL["batch_size"]  # whole batches
    (folder / "empty").mkdir()
    with pytest.raises((FileNotFoundError, ValueError), match=r"train\.jsonl is not there"):
        run(name, folder / "out", monkeypatch, f"--data={folder / 'empty'}")


def run(name, folder, monkeypatch, *more):
    """The lines of the runs that a program makes, run as by its command in a reduced form."""
    program = importlib.import_module(name)
    arguments = [f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items()]
    arguments += ["--workers=0", f"--out={folder}", *more]
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
    program.main()
    text = (folder / "runs.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]
