"""A line tells what its run did: visits, accuracy of the end, wrong labels, schedule."""

import json

import numpy as np
import pytest
import torch

from benchmarks.accuracy.run import hardest_group, make_line
from seta.comparison.contenders import AT_BUDGET, EQUAL_COST, SMALLER, Contender
from seta.policies import REGISTRY
from tests.accuracy.fake_task import FakeTask

HERE = [name for name in AT_BUDGET if not Contender(name, 0.5).needs_classes]


def made(task, method, budget, *, epochs=5, seed=0, **options):
    contender = Contender(method, budget)
    return make_line(
        task, contender, suite="fake", variant="", seed=seed, full_epochs=epochs, **options
    )


@pytest.mark.parametrize("budget", [0.7, 0.5, 0.3])
def test_all_methods_train_exactly_the_same_visits_at_a_budget(budget):
    task = FakeTask()
    visits = {method: made(task, method, budget)["visits"] for method in (*HERE, EQUAL_COST)}
    assert set(visits.values()) == {int(round(budget * 10) * 64 * 5 / 10 / 8) * 8}


@pytest.mark.parametrize("method", ["Full", EQUAL_COST, "SeTa", "Static", "InfoBatch as published"])
def test_every_batch_of_every_method_is_full(method):
    task = FakeTask(n=67)
    line = made(task, method, {"Full": 1.0, "InfoBatch as published": None}.get(method, 0.5))
    assert set(task.trials[-1].sizes) == {8}
    assert line["full_visits"] == 64 * 5 and line["n"] == 67
    if line["budget"] == 0.5:
        assert line["visits"] == 64 * 5 / 2


def test_full_in_smaller_batches_trains_the_visits_of_the_budget_in_the_steps_of_full():
    task = FakeTask(n=67)
    line = made(task, SMALLER, 0.5)
    assert task.trials[-1].sizes == [4] * (5 * 8) and line["visits"] == 64 * 5 / 2
    assert line["full_visits"] == 64 * 5


def test_the_accuracy_is_that_of_the_last_epoch_never_the_best():
    task = FakeTask()
    falling = iter([0.9, 0.8, 0.2])
    make_trial = task.trial

    def trial(seed):
        one = make_trial(seed)
        one.evaluate = lambda: {"accuracy": next(falling)}
        return one

    task.trial = trial
    line = made(task, "Full", 1.0, epochs=3)
    assert line["accuracy"] == 0.2
    assert [accuracy for *_, accuracy in line["accuracies"]] == [0.9, 0.8, 0.2]


@pytest.mark.parametrize(
    ("epochs", "at"), [(3, [1, 2, 3]), (10, [2, 4, 6, 8, 10]), (47, [9, 18, 27, 36, 45, 47])]
)
def test_some_five_evaluations_and_always_one_at_the_end(epochs, at):
    line = made(FakeTask(n=8), "Full", 1.0, epochs=epochs)
    assert [done for done, *_ in line["accuracies"]] == at
    assert line["accuracies"][-1][1] == line["visits"] == line["full_visits"] == 8 * epochs


@pytest.mark.parametrize("method", ["SeTa", "Random", "InfoBatch as published"])
def test_the_share_of_wrong_labels_is_that_of_the_samples_trained(method):
    task = FakeTask(wrong=0.3)
    seen = []
    get = task.dataset.__getitems__
    type(task.dataset).__getitems__ = lambda self, indices: seen.extend(indices) or get(indices)
    try:
        line = made(task, method, None if "published" in method else 0.5)
    finally:
        del type(task.dataset).__getitems__
        type(task.dataset).__getitems__ = get.__func__
    assert line["wrong_share"] == pytest.approx(task.wrong[seen].mean())
    assert line["wrong_share_of_data"] == task.wrong.mean()
    assert sum(row["wrong"] for row in line["rows"]) == task.wrong[seen].sum()
    assert len(line["hardest_by_epoch"]) == 5


def test_the_hardest_group_is_held_against_the_wrong_labels():
    losses = np.repeat(np.float32([0.1, 1.0, 2.0, 3.0, 9.0]), 4)
    losses[0] = np.nan
    wrong = np.zeros(20, bool)
    wrong[[0, 16, 17, 18]] = True  # one that was never seen, three of the four hardest
    assert hardest_group(losses, wrong) == {"precision": 0.75, "recall": 0.75}
    nothing = hardest_group(np.full(20, np.nan, np.float32), wrong)
    assert nothing == {"precision": None, "recall": 0.0}


@pytest.mark.parametrize(("method", "budget"), [("SeTa", 0.3), (EQUAL_COST, 0.7), ("Full", 1.0)])
def test_the_schedule_follows_the_visits_to_the_end(method, budget):
    task = FakeTask()
    line = made(task, method, budget)
    progress = task.trials[-1].progress
    steps = np.array([0, *progress]) * line["visits"]
    assert progress[-1] == 1.0
    assert np.diff(steps).max() <= 8.001  # each by its batch of at most 8


def test_two_equal_runs_have_equal_lines_and_leave_the_random_state_alone():
    task = FakeTask(wrong=0.2)
    before = torch.get_rng_state()
    first, second = (timeless(made(task, "SeTa", 0.5)) for _ in range(2))
    assert first == second
    assert torch.equal(before, torch.get_rng_state())
    assert timeless(made(task, "SeTa", 0.5, seed=1)) != first


def timeless(line):
    """A line without its times, as it comes back from a file."""
    clocks = ("seconds", "cpu_seconds", "select_seconds", "eval_seconds", "machine", "date")
    kept = {name: value for name, value in line.items() if name not in clocks}
    for row in kept["rows"]:
        row.pop("select_seconds", None), row.pop("train_seconds", None)
    return json.loads(json.dumps(kept))


def test_a_line_is_json_and_says_how_it_was_made():
    line = made(FakeTask(), "SeTa", 0.5)
    assert json.loads(json.dumps(line, allow_nan=False))["metrics"]["odd"] is None
    assert line["policy"] == repr(REGISTRY["SeTa"]())
    assert line["task"] == {"n": 64, "wrong": None}
    assert {"seta", "torch", "numpy", "python"} <= set(line["versions"])
    assert line["seconds"] > 0 and line["threads"] >= 1 and line["machine"]["device"] == "cpu"
    assert (line["wrong_share"], line["hardest"]) == (None, None)


def test_epochs_are_told_as_they_end():
    told = []
    made(FakeTask(), "Random", 0.5, epochs=2, on_epoch=lambda *what: told.append(what[:2]))
    assert told == [(1, 32), (2, 64)]


def test_a_method_that_needs_classes_is_refused_where_there_are_none():
    with pytest.raises(ValueError, match="RCAP needs the class of each sample"):
        made(FakeTask(classes=False), "RCAP", 0.5)
