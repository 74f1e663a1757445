"""The batches of an epoch, without a loader."""

from itertools import chain

import numpy as np
import pytest

from seta.engine import Pruner
from seta.engine.batches import batches
from tests.virtual_ranks import on_ranks


def seen(n=100, policy="SeTa", **options):
    options = {"epochs": 6, "seed": 1, "batch_size": 10, **options}
    return Pruner(n, policy, losses=np.linspace(0, 1, n), **options)


def indices_of(walk):
    return [indices.tolist() for indices, _ in walk]


def flat(lists):
    return list(chain.from_iterable(lists))


@pytest.mark.parametrize("batch_size", [1, 7, 50, 1000])
def test_the_batches_are_the_plan_in_its_order(batch_size):
    pruner = seen(batch_size=batch_size)
    plan = pruner.begin_epoch().indices.tolist()
    parts = indices_of(batches(pruner))
    assert flat(parts) == plan
    assert {len(part) for part in parts} == {min(batch_size, 100)}


@pytest.mark.parametrize("drop_last, sizes", [(False, [8] * 12 + [4]), (True, [8] * 12)])
def test_only_an_epoch_that_keeps_all_has_a_smaller_batch(drop_last, sizes):
    pruner = seen(policy="Full", batch_size=8, drop_last=drop_last)
    assert [len(part) for part in indices_of(batches(pruner))] == sizes


def test_it_begins_an_epoch_and_ends_none():
    pruner = seen()
    walk = batches(pruner)
    assert pruner.epoch == 0
    assert indices_of(walk) == indices_of(batches(pruner))
    assert pruner.epoch == 0 and not pruner.history


def test_indices_are_int64_and_weights_float32():
    for indices, weights in batches(seen()):
        assert (indices.dtype, weights.dtype) == (np.int64, np.float32)
        assert indices.shape == weights.shape
        assert (weights == 1).all()


def test_a_full_epoch_under_a_budget_has_full_batches_alone():
    pruner = seen(n=103, budget=0.6, batch_size=8)
    steps = 0
    while pruner.next_epoch < pruner.epochs:
        for indices, _ in batches(pruner):
            assert len(indices) == 8
            pruner.record(indices, indices / 103)
            steps += 1
        pruner.end_epoch()
    assert steps == sum(pruner.lengths) // 8


def test_weights_are_those_of_the_plan_whatever_was_recorded_before():
    pruner = seen(policy="InfoBatch")
    plan = pruner.begin_epoch()
    weight_of = dict(zip(plan.indices.tolist(), plan.weights.tolist(), strict=True))
    # Of 50 easy samples 30 are kept, so that there are 8 whole batches.
    assert sorted(set(weight_of.values())) == [1.0, pytest.approx(50 / 30)]
    for indices, weights in batches(pruner):
        assert weights.tolist() == [weight_of[i] for i in indices.tolist()]
        pruner.record(indices, np.full(len(indices), 7.0))


def test_what_was_done_before_a_resume_is_left_out():
    pruner = seen(policy="InfoBatch")
    parts = [(i.tolist(), w.tolist()) for i, w in batches(pruner)]
    for indices, _ in list(batches(pruner))[:2]:
        pruner.record(indices, np.full(10, 5.0))
    other = seen(policy="InfoBatch")
    other.load_state_dict(pruner.state_dict(done=20))
    assert other.done == 20
    assert [(i.tolist(), w.tolist()) for i, w in batches(other)] == parts[2:]
    other.load_state_dict(pruner.state_dict(done=len(pruner.selection)))
    assert indices_of(batches(other)) == []
    other.end_epoch()
    assert other.done == 0 and indices_of(batches(other))


def test_each_rank_has_its_share_in_equally_many_batches():
    def walk(ranks):
        pruner = seen(policy="Full", n=103, ranks=ranks, batch_size=8)
        walked, plan = indices_of(batches(pruner)), pruner.begin_epoch().indices.tolist()
        pruner.load_state_dict(pruner.state_dict(done=32))
        return walked, indices_of(batches(pruner)), plan

    walks, rests, (plan, *_) = zip(*on_ranks(4, walk)[0], strict=True)
    assert [[len(part) for part in walk] for walk in walks] == 4 * [[8, 8, 8, 1]]
    assert sorted(flat(flat(walks))) == sorted(plan[:100])
    first = [walk[:1] for walk in walks]
    assert sorted(flat(flat(first))) == sorted(plan[:32])
    assert list(rests) == [walk[1:] for walk in walks]


def test_batches_of_an_epoch_that_has_ended_are_refused():
    pruner = seen()
    walk = batches(pruner)
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
    ],
)
def test_bad_arguments_are_refused_at_once(options, error, message):
    with pytest.raises(error, match=message):
        seen(**options)


def test_after_the_run_there_are_no_batches():
    pruner = seen(epochs=1)
    pruner.begin_epoch()
    pruner.end_epoch()
    with pytest.raises(ValueError, match="epoch 1 lies beyond the run of epochs=1"):
        batches(pruner)
