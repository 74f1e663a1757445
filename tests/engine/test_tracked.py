"""Visits, mean and spread of each sample's losses, against lists of all of them."""

from collections import defaultdict

import numpy as np
import pytest

from seta import KeepCurve, Pruner
from tests.combinations import some_of
from tests.virtual_ranks import on_ranks

N, EPOCHS = 600, 6
POLICIES = ["SeTa", "UCB", "InfoBatch", "Learnable"]


def loss_of(samples, epoch):
    losses = np.cos(samples * 3.0 + epoch) + samples % 7
    losses[samples % 50 == 3] = np.nan  # these never have one
    return losses.astype(np.float32)


def pruner_of(policy, ranks=None, **options):
    given = {"track": True, "budget": 0.5, "seed": 1, "threads": 1, "batch_size": 12}
    if ranks is not None:
        given["batch_size"] //= ranks.size
    return Pruner(N, policy, epochs=EPOCHS, ranks=ranks, **{**given, **options})


def train(pruner, epochs, seen=None, batch=25):
    """Trains epochs; notes what was recorded, by sample."""
    for _ in range(epochs):
        share = pruner.share().indices
        for start in range(0, len(share), batch):
            part = share[start : start + batch]
            losses = loss_of(part, pruner.epoch)
            pruner.record(part, losses)
            if seen is not None:
                for sample, loss in zip(part.tolist(), losses.tolist(), strict=True):
                    if np.isfinite(loss):
                        seen[sample].append(loss)
        pruner.end_epoch()
    return pruner


def check(table, seen, *, latest=True):
    """The table of samples, against the lists of their losses."""
    visits, mean, spread = table["visits"], table["mean"], table["spread"]
    for row, sample in enumerate(table["index"].tolist()):
        losses = np.array(seen.get(sample, []))
        assert visits[row] == len(losses)
        if len(losses):
            assert mean[row] == pytest.approx(losses.mean(), rel=1e-5, abs=1e-5)
        else:
            assert np.isnan(mean[row])
        if len(losses) > 1:
            assert spread[row] == pytest.approx(losses.std(ddof=1), rel=1e-3, abs=1e-4)
        else:
            assert np.isnan(spread[row])
        if latest and len(losses):
            assert table["loss"][row] == np.float32(losses[-1])


@pytest.mark.parametrize("policy", POLICIES)
def test_alone_all_is_what_was_recorded(policy):
    seen = defaultdict(list)
    pruner = train(pruner_of(policy), EPOCHS, seen)
    check(pruner.table(), seen)


@some_of("policy, sharding", POLICIES, ["replicated", "sharded"])
def test_ranks_know_the_same(policy, sharding):
    def run(ranks):
        seen = defaultdict(list)
        pruner = train(pruner_of(policy, ranks, sharding=sharding), EPOCHS, seen)
        return seen, pruner.table()

    results, _ = on_ranks(3, run)
    seen = defaultdict(list)
    for own, _ in results:
        for sample, losses in own.items():
            seen[sample] += losses  # each sample is trained once an epoch
    for _, table in results:
        check(table, seen, latest=False)  # the order of the losses of all ranks is not known


@pytest.mark.parametrize("policy", POLICIES)
def test_selections_are_those_of_a_run_that_is_not_tracked(policy):
    plain, pruner = pruner_of(policy, track=False), pruner_of(policy)
    for _ in range(EPOCHS):
        assert np.array_equal(plain.begin_epoch().indices, pruner.begin_epoch().indices)
        train(plain, 1)
        train(pruner, 1)
    assert np.array_equal(plain.losses, pruner.losses, equal_nan=True)


@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
def test_it_goes_on_from_a_state_on_other_ranks_too(sharding):
    def first(ranks):
        pruner = train(pruner_of("UCB", ranks, sharding=sharding), 3)
        return pruner.state_dict(gather=False) if sharding == "sharded" else pruner.state_dict()

    states, _ = on_ranks(2, first)

    def second(ranks):
        pruner = pruner_of("UCB", ranks, sharding=sharding)
        pruner.load_state_dict(states if sharding == "sharded" else states[0])
        train(pruner, EPOCHS - 3)
        return pruner

    whole, _ = on_ranks(3, lambda ranks: train(pruner_of("UCB", ranks, sharding=sharding), EPOCHS))
    moved, _ = on_ranks(3, second)
    for one, other in zip(whole, moved, strict=True):
        for name, column in one.table().items():
            assert np.array_equal(column, other.table()[name], equal_nan=True), name


def test_a_warm_start_counts_as_no_visit():
    pruner = pruner_of("UCB", losses=np.ones(N, np.float32))
    assert not pruner.table()["visits"].any()


def test_a_run_may_be_tracked_from_a_state_on_that_was_not(caplog):
    before = train(pruner_of("UCB", track=False), 3).state_dict()
    pruner = pruner_of("UCB")
    pruner.load_state_dict(before)
    assert "are tracked from here on" in caplog.text
    seen = defaultdict(list)
    train(pruner, 3, seen)
    check(pruner.table(), seen, latest=False)  # samples not trained since have the loss of before


def test_what_was_tracked_may_be_dropped():
    state = train(pruner_of("UCB"), 3).state_dict()
    plain = pruner_of("UCB", track=False)
    plain.load_state_dict(state)
    assert "visits" not in plain.table() and "loss" not in plain.table()


@pytest.mark.parametrize("before, after", [("SeTa", "UCB"), ("UCB", "SeTa"), ("UCB", "Learnable")])
def test_another_policy_goes_on_with_what_was_tracked(before, after):
    seen = defaultdict(list)
    state = train(pruner_of(before), 3, seen).state_dict()
    pruner = pruner_of(after)
    pruner.load_state_dict(state, changed=["policy"])
    train(pruner, EPOCHS - 3, seen)
    check(pruner.table(), seen)


@pytest.mark.parametrize("before, after", [("UCB", "SeTa"), ("UCB", "UCB"), ("SeTa", "UCB")])
@pytest.mark.parametrize("track", [True, False])
def test_scores_that_stand_for_losses_are_told_of(before, after, track, caplog):
    state = train(pruner_of(before, track=track), 2).state_dict()
    pruner_of(after, track=track).load_state_dict(state, changed=["policy"])
    told = "stand for losses" in caplog.text
    assert told == ((before, after, track) == ("UCB", "SeTa", False))


@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
def test_a_policy_after_one_with_scores_sees_the_latest_losses(sharding):
    shown = []

    def policy(histogram, epoch, epochs):
        shown.append(histogram)
        return KeepCurve.constant(histogram, 1.0)

    def first(ranks):
        pruner = train(pruner_of("UCB", ranks, sharding=sharding), 3)
        return pruner.state_dict(gather=False), pruner.table()["loss"]

    saved, _ = on_ranks(2, first)
    states, losses = zip(*saved, strict=True)

    def second(ranks):
        pruner = pruner_of(policy, ranks, sharding=sharding)
        pruner.load_state_dict(states if sharding == "sharded" else states[0], changed=["policy"])
        pruner.begin_epoch()

    on_ranks(2, second)
    latest = np.concatenate(losses) if sharding == "sharded" else losses[0]
    latest = latest[np.isfinite(latest)]
    for histogram in shown:
        assert histogram.counts.sum() == len(latest)
        mean = np.average(histogram.centres, weights=histogram.counts)
        assert mean == pytest.approx(latest.mean(), rel=1e-3)
