"""What a policy leaves for its next epoch: in the row, in states, and in the next histogram."""

import copy
from dataclasses import dataclass

import numpy as np
import pytest

import seta
from seta import KeepCurve, LossHistogram, Pruner


@dataclass(frozen=True)
class Counting:
    """Counts the epochs by its notes, and keeps a tenth more in each."""

    wrong: float | None = None

    def __call__(self, histogram, epoch, epochs):
        seen = histogram.notes.get("seen", 0.0)
        assert seen == epoch
        notes = {"seen": seen + 1 if self.wrong is None else self.wrong}
        return KeepCurve(np.full(histogram.bins, seen / 10), 0.5, notes=notes)


def train(pruner, epochs):
    for _ in range(epochs):
        indices = pruner.share().indices
        pruner.record(indices, np.ones(len(indices), np.float32))
        pruner.end_epoch()
    return pruner


def test_notes_reach_the_next_epoch_and_the_row():
    pruner = train(Pruner(100, Counting(), epochs=5, budget=0.5, batch_size=10), 5)
    assert [row["notes"] for row in pruner.history] == [{"seen": at} for at in (1.0, 2, 3, 4, 5)]
    assert pruner.histogram.notes == {"seen": 4.0}


def test_a_look_ahead_changes_nothing():
    pruner = train(Pruner(100, Counting(), epochs=5), 2)
    pruner.table()
    pruner.why(3)
    assert train(pruner, 1).history[-1]["notes"] == {"seen": 3}


def test_without_notes_a_row_has_none():
    pruner = train(Pruner(10, "Random", epochs=1), 1)
    assert "notes" not in pruner.history[0] and not pruner.histogram.notes


@pytest.mark.parametrize("begun", [False, True])
def test_a_resumed_run_has_the_notes(tmp_path, begun):
    pruner = train(Pruner(100, Counting(), epochs=5), 2)
    if begun:
        pruner.begin_epoch()
    seta.save(pruner.state_dict(), tmp_path / "state")
    other = Pruner(100, Counting(), epochs=5)
    other.load_state_dict(seta.load(tmp_path / "state"))
    assert [row["notes"]["seen"] for row in train(other, 3).history] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), "1", True])
def test_notes_that_are_no_finite_numbers_are_refused(wrong):
    with pytest.raises((TypeError, ValueError), match=r"KeepCurve.notes\['seen'\] must"):
        Pruner(10, Counting(wrong), epochs=2).begin_epoch()
    histogram = LossHistogram.from_losses(np.ones(3, np.float32))
    KeepCurve(np.ones(1), notes={"seen": 1}).validate(histogram)


@pytest.mark.parametrize("damaged", [5, {"seen": None}, {"seen": float("nan")}])
def test_a_state_with_damaged_notes_is_refused(damaged):
    pruner = train(Pruner(100, Counting(), epochs=5), 2)
    state = copy.deepcopy(pruner.state_dict())
    state["run"]["history"][1]["notes"] = damaged
    with pytest.raises(ValueError, match=r"run.history\[1\].notes"):
        Pruner(100, Counting(), epochs=5).load_state_dict(state)
