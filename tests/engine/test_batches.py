"""The batches of an epoch, without a loader."""

from itertools import chain

import numpy as np
import pytest

from seta.engine import Pruner
from seta.engine.batches import batches


class Share:
    """One of several processes, as far as a plan needs it."""

    def __init__(self, rank, size):
        self.rank = self.process = rank
        self.size = self.processes = size


def seen(n=100, policy="SeTa", **options):
    return Pruner(n, policy, losses=np.linspace(0, 1, n), **{"epochs": 6, "seed": 1, **options})


def indices_of(walk):
    return [indices.tolist() for indices, _ in walk]


def flat(lists):
    return list(chain.from_iterable(lists))


@pytest.mark.parametrize("batch_size", [1, 7, 50, 1000])
def test_the_batches_are_the_plan_in_its_order(batch_size):
    pruner = seen()
    plan = pruner.begin_epoch().indices.tolist()
    parts = indices_of(batches(pruner, batch_size))
    assert flat(parts) == plan
    assert {len(part) for part in parts[:-1]} <= {batch_size}


def test_it_begins_an_epoch_and_ends_none():
    pruner = seen()
    walk = batches(pruner, 10)
    assert pruner.epoch == 0
    assert indices_of(walk) == indices_of(batches(pruner, 10))
    assert pruner.epoch == 0 and not pruner.history


def test_indices_are_int64_and_weights_float32():
    for indices, weights in batches(seen(), 10):
        assert (indices.dtype, weights.dtype) == (np.int64, np.float32)
        assert indices.shape == weights.shape
        assert (weights == 1).all()


def test_a_full_epoch_under_a_budget_has_full_batches_alone():
    pruner = seen(n=103, budget=0.6, unit=8)
    steps = 0
    while pruner.next_epoch < pruner.epochs:
        for indices, _ in batches(pruner, 8):
            assert len(indices) == 8
            pruner.record(indices, indices / 103)
            steps += 1
        pruner.end_epoch()
    assert steps == sum(pruner.lengths) // 8


def test_weights_are_those_of_the_plan_whatever_was_recorded_before():
    pruner = seen(policy="InfoBatch")
    plan = pruner.begin_epoch()
    weight_of = dict(zip(plan.indices.tolist(), plan.weights.tolist(), strict=True))
    assert set(weight_of.values()) == {1.0, 2.0}
    for indices, weights in batches(pruner, 9):
        assert weights.tolist() == [weight_of[i] for i in indices.tolist()]
        pruner.record(indices, np.full(len(indices), 7.0))


def test_what_was_done_before_a_resume_is_left_out():
    pruner = seen(policy="InfoBatch")
    parts = [(i.tolist(), w.tolist()) for i, w in batches(pruner, 10)]
    for indices, _ in list(batches(pruner, 10))[:2]:
        pruner.record(indices, np.full(10, 5.0))
    other = seen(policy="InfoBatch")
    other.load_state_dict(pruner.state_dict())
    assert [(i.tolist(), w.tolist()) for i, w in batches(other, 10, done=20)] == parts[2:]
    assert indices_of(batches(other, 10, done=len(other.selection))) == []


def test_each_rank_has_its_share_in_equally_many_batches():
    pruners = [seen(policy="Full", n=103, ranks=Share(rank, 4)) for rank in range(4)]
    walks = [indices_of(batches(pruner, 8)) for pruner in pruners]
    plan = pruners[0].begin_epoch().indices.tolist()
    assert [[len(part) for part in walk] for walk in walks] == 4 * [[8, 8, 8, 1]]
    assert sorted(flat(flat(walks))) == sorted(plan[:100])
    first = [walk[:1] for walk in walks]
    assert sorted(flat(flat(first))) == sorted(plan[:32])
    assert indices_of(batches(pruners[2], 8, done=32)) == walks[2][1:]


def test_batches_of_an_epoch_that_has_ended_are_refused():
    pruner = seen()
    walk = batches(pruner, 10)
    next(walk)
    pruner.end_epoch()
    pruner.begin_epoch()
    with pytest.raises(RuntimeError, match=r"batches of epoch 0, which has ended: call batches\("):
        next(walk)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0: the samples of"),
        ({"batch_size": 2.5}, TypeError, "batch_size must be an integer, got 2.5"),
        ({"batch_size": 2, "done": -1}, ValueError, "done must be at least 0, got -1: the samples"),
    ],
)
def test_bad_arguments_are_refused_at_once(options, error, message):
    with pytest.raises(error, match=message):
        batches(seen(), **options)


def test_after_the_run_there_are_no_batches():
    pruner = seen(epochs=1)
    pruner.begin_epoch()
    pruner.end_epoch()
    with pytest.raises(ValueError, match="epoch 1 lies beyond the run of epochs=1"):
        batches(pruner, 10)
