"""The open epoch: weights that stay, losses that wait elsewhere, an epoch that did not begin."""

import copy
import logging
import pickle

import numpy as np
import pytest

import seta
from seta import KeepCurve, Pruner
from seta.engine.rows import CLOCKED
from tests.combinations import some_of
from tests.virtual_ranks import on_ranks

N = 720


def loss_of(samples, epoch):
    return (np.asarray(samples) * 7919 % 97 / 64 + epoch / 8).astype(np.float32)


def made(policy="InfoBatch", **options):
    options = {"epochs": 4, "seed": 2, "threads": 1, "batch_size": 10, **options}
    return Pruner(N, policy, **options)


def train(pruner, epochs=1):
    for _ in range(epochs):
        share = pruner.share().indices.astype(np.int64)
        pruner.record(share, loss_of(share, pruner.epoch))
        pruner.end_epoch()
    return pruner


def without_times(row):
    return {key: value for key, value in row.items() if key not in CLOCKED}


# Weights.


@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_weights_are_fixed_when_an_epoch_begins(size, sharding):
    def weights(ranks):
        ranks = ranks if size > 1 else None
        pruner = train(made(ranks=ranks, sharding=sharding, always_keep=[0, 7, 12]))
        selection, everything = pruner.begin_epoch(), np.arange(N)
        before = pruner.weights_of(everything)
        for losses in (0.0, 100.0, np.nan):  # far below all losses, and far above
            share = pruner.share().indices.astype(np.int64)
            pruner.record(share, np.full(len(share), losses))
            assert np.array_equal(pruner.weights_of(everything), before)
            assert np.array_equal(pruner.weights_of(selection.indices), selection.weights)
        assert (before[[0, 7, 12]] == 1).all()
        pruner.end_epoch()
        pruner.begin_epoch()
        return before, pruner.weights_of(everything)

    for before, after in on_ranks(size, weights)[0]:
        assert len(set(before.tolist())) == 2
        assert not np.array_equal(before, after)


@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
@pytest.mark.parametrize("before, after", [(1, 1), (1, 2), (2, 2), (2, 3), (3, 1)])
def test_weights_stay_through_a_resume(before, after, sharding):
    """Of the samples that were trained, too: where ranks were unequally far some come again."""

    def save(ranks):
        ranks = ranks if before > 1 else None
        pruner = train(made(ranks=ranks, sharding=sharding, always_keep=[0, 7, 12]))
        share = pruner.share().indices.astype(np.int64)[:40]
        pruner.record(share, np.full(len(share), 100.0))
        return pruner.state_dict(), weights_held(pruner)

    def go_on(ranks):
        ranks = ranks if after > 1 else None
        pruner = made(ranks=ranks, sharding=sharding, always_keep=[0, 7, 12])
        pruner.load_state_dict(states if sharding == "sharded" else states[:1])
        return weights_held(pruner)

    def weights_held(pruner):
        held = np.arange(N) if pruner.held is None else pruner.held[pruner.held < N]
        return dict(zip(held.tolist(), pruner.weights_of(held).tolist(), strict=True))

    states, parts = zip(*on_ranks(before, save)[0], strict=True)
    expected = {sample: weight for part in parts for sample, weight in part.items()}
    found = on_ranks(after, go_on)[0]
    assert {sample: weight for part in found for sample, weight in part.items()} == expected
    assert len(expected) == N and len(set(expected.values())) == 2


def by_value(histogram, epoch, epochs):
    """A curve with as many weights as bins."""
    return KeepCurve.constant(histogram, 0.5) if not histogram.seen else KeepCurve(
        np.full(histogram.bins, 0.5), weight=1 + np.arange(histogram.bins) / histogram.bins
    )  # fmt: skip


def test_a_curve_may_have_more_weights_than_a_byte_tells_apart():
    losses = np.linspace(1, 2, N, dtype=np.float32)
    pruner = made(by_value, losses=losses)
    selection = pruner.begin_epoch()
    expected = 1 + pruner.histogram.bin_of(losses[selection.indices]) / pruner.histogram.bins
    assert len(set(selection.weights.tolist())) > 256
    np.testing.assert_allclose(selection.weights, expected, rtol=1e-6)
    pruner.record(selection.indices, np.zeros(len(selection)))
    other = made(by_value)
    other.load_state_dict(pruner.state_dict())
    assert np.array_equal(other.weights_of(selection.indices), selection.weights)


# What counts as trained.


@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
@pytest.mark.parametrize("size", [1, 3])
def test_a_sample_counts_as_trained_once_an_epoch(size, sharding):
    def twice(ranks):
        ranks = ranks if size > 1 else None
        pruner = made("Full", ranks=ranks, sharding=sharding)
        for _ in range(2):
            share = pruner.share().indices.astype(np.int64)
            for part in (share[:10], share, share[:10], np.repeat(share[:3], 2)):
                pruner.record(part, loss_of(part, 0))
            pruner.end_epoch()
        return pruner.history, pruner.saved

    for rows, saved in on_ranks(size, twice)[0]:
        assert [row["trained"] for row in rows] == [N, N]
        assert [row["saved"] for row in rows] == [0, 0] and saved == 0


@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
def test_the_row_tells_how_many_samples_no_epoch_has_trained(sharding, caplog):
    def random(ranks):
        pruner, seen, never = made("Random", ranks=ranks, sharding=sharding, epochs=3), set(), []
        for _ in range(3):
            seen |= set(pruner.share().indices.tolist())
            never.append(train(pruner).history[-1]["never_trained"])
        return seen, never

    with caplog.at_level(logging.WARNING, logger="seta"):
        results, _ = on_ranks(2, random)
    (one, never), (other, same) = results
    assert never == same == sorted(never, reverse=True)
    assert never[-1] == N - len(one | other) > 0
    assert len(caplog.messages) == 2  # of each rank one, when the run ends
    assert caplog.messages[0] == (
        f"the run ends with {never[-1]} of {N} samples never trained: more epochs, a larger budget "
        "or always_keep= would reach them"
    )


def test_losses_that_are_not_finite_are_told_of_once(caplog):
    pruner = made("Random", epochs=4)
    for epoch in range(4):
        share = pruner.share().indices
        losses = np.full(len(share), np.nan if epoch else 1.0, np.float32)
        pruner.record(share, losses)
        pruner.end_epoch()
    told = [text for text in caplog.messages if "not finite" in text]
    assert len(told) == 1
    count = pruner.history[1]["trained"]
    assert told[0].startswith(f"epoch 1: {count} of {count} recorded losses were not finite")


@pytest.mark.parametrize("method", ["SeTa", "InfoBatch", "InfoBatchQuantiles"])
def test_two_epochs_in_which_no_loss_is_chosen_by_are_told_of(method, caplog):
    made_of = {"epochs": 2, "budget": [1, 0.5]}
    Pruner(40, method, **{**made_of, "epochs": 3, "budget": 0.5})
    Pruner(40, method, **made_of, losses=np.ones(40))
    Pruner(40, getattr(seta, method)(delta=1), **made_of)
    assert not caplog.messages
    Pruner(40, method, **made_of)
    assert "chooses by the loss in none of 2 epochs" in caplog.messages[0]


def test_a_run_that_trains_each_sample_ends_without_a_word(caplog):
    with caplog.at_level(logging.WARNING, logger="seta"):
        pruner = train(made("Full", epochs=2), 2)
    assert [row["never_trained"] for row in pruner.history] == [0, 0]
    assert not caplog.messages


# Losses that wait elsewhere.


class Waiting:
    """Holds losses back until they are drained."""

    def __init__(self, pruner):
        self.pruner, self.parts = pruner, []
        pruner.attach(self)

    def add(self, samples, losses):
        self.parts.append((samples, losses))

    def drain(self):
        parts, self.parts = self.parts, []
        for samples, losses in parts:
            self.pruner.record(samples, losses)

    def clear(self):
        self.parts = []


def waiting(**options):
    """Returns a pruner, and what holds the losses of 5 samples of its open epoch."""
    pruner = made("Full", **options)
    holder = Waiting(pruner)
    pruner.begin_epoch()
    holder.add(np.arange(5), np.full(5, 3.0))
    return pruner, holder


@pytest.mark.parametrize(
    "act",
    [
        lambda p: p.begin_epoch(1),
        lambda p: p.end_epoch(),
        lambda p: p.state_dict(),
        lambda p: p.losses,
        lambda p: p.left_out,
        lambda p: p.saved,
        lambda p: copy.deepcopy(p),
        lambda p: pickle.dumps(p),
    ],
)
def test_losses_that_wait_are_taken_into_their_epoch_whoever_needs_them(act):
    pruner, holder = waiting()
    act(pruner)
    assert not holder.parts
    if pruner.epoch == 0:
        pruner.end_epoch()
    assert [row["trained"] for row in pruner.history] == [5]
    assert (pruner.losses[:5] == 3).all() and np.isnan(pruner.losses[5:]).all()


def test_asking_again_for_the_open_epoch_waits_for_no_loss():
    pruner, holder = waiting()
    pruner.begin_epoch(), pruner.begin_epoch(0), pruner.share(), pruner.weights_of(np.arange(3))
    assert holder.parts and not pruner.begun


def test_what_is_attached_twice_is_drained_once():
    pruner, holder = waiting()
    pruner.attach(holder)
    other = Waiting(pruner)
    other.add(np.array([7]), np.array([2.0]))
    assert pruner.losses[[4, 7]].tolist() == [3, 2]
    assert pruner.end_epoch()["trained"] == 6


def test_a_state_that_is_loaded_clears_the_losses_that_wait():
    saved = train(made("Full")).state_dict()
    pruner, holder = waiting()
    with pytest.raises(ValueError, match="saved with seed=2"):
        waiting(seed=3)[0].load_state_dict(saved)
    with pytest.raises(ValueError, match="not a state of a Pruner"):
        pruner.load_state_dict({})
    assert holder.parts  # nothing was changed
    pruner.load_state_dict(saved)
    assert not holder.parts and pruner.epoch is None
    assert np.array_equal(pruner.losses, saved["table"]["losses"])


def test_losses_that_wait_are_taken_before_the_ranks_exchange():
    def one(ranks):
        pruner = made("Full", ranks=ranks)
        holder = Waiting(pruner)
        share = pruner.share().indices.astype(np.int64)
        holder.add(share, loss_of(share, 0))
        return pruner.end_epoch()["trained"], pruner.losses

    for trained, losses in on_ranks(2, one)[0]:
        assert trained == N
        np.testing.assert_array_equal(losses, loss_of(np.arange(N), 0))


# An epoch that did not begin.


@pytest.mark.parametrize("policy", ["SeTa", "InfoBatch", "RS2", seta.UCB(every=1)])
@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
def test_an_epoch_that_is_forgotten_is_drawn_again_alike(policy, sharding):
    pruner, plain = (made(policy, count_kept=True, sharding=sharding) for _ in range(2))
    for _ in range(4):
        looked = pruner.begin_epoch()
        counted = pruner.kept_counts
        assert not pruner.begun
        pruner.forget_epoch()
        assert pruner.epoch is None and pruner.selection is None and pruner.kept == 0
        again = pruner.begin_epoch()
        assert again.epoch == looked.epoch and np.array_equal(again.indices, looked.indices)
        assert np.array_equal(pruner.kept_counts, counted)
        train(pruner), train(plain)
    assert np.array_equal(pruner.kept_counts, plain.kept_counts)
    assert [*map(without_times, pruner.history)] == [*map(without_times, plain.history)]


def test_one_rank_may_look_and_forget_without_the_others():
    def look(ranks):
        pruner = made(ranks=ranks)
        if ranks.rank == 1:
            pruner.begin_epoch()
            pruner.forget_epoch()
        return train(pruner, 2).history

    results, group = on_ranks(3, look)
    assert len({str([*map(without_times, rows)]) for rows in results}) == 1
    assert {what for what, _ in group.calls[1:]} == {f"end_epoch() of epoch {e}" for e in (0, 1)}


def test_an_epoch_with_losses_is_not_forgotten():
    pruner = made()
    with pytest.raises(RuntimeError, match="needs an open epoch without losses, got none open"):
        pruner.forget_epoch()
    pruner, holder = waiting()
    with pytest.raises(RuntimeError, match=r"got epoch 0, which has some: end_epoch\(\) ends one"):
        pruner.forget_epoch()
    assert pruner.begun and not holder.parts
    assert pruner.end_epoch()["trained"] == 5 and not pruner.begun


@some_of(
    "sizes, gather, sharding",
    [(1, 1), (2, 1), (2, 2), (2, 3), (1, 2)],
    [True, False],
    ["replicated", "sharded"],
)
def test_an_epoch_that_was_trained_before_a_resume_is_not_forgotten(sizes, gather, sharding):
    before, after = sizes

    def save(ranks, batches=1):
        pruner = train(made(ranks=ranks if before > 1 else None, sharding=sharding))
        share = pruner.share().indices.astype(np.int64)[: 10 * batches]
        pruner.record(share, loss_of(share, 1))
        return pruner.state_dict(gather=gather)  # which batches are done is not said

    def look(ranks, states):
        pruner = made(ranks=ranks if after > 1 else None, sharding=sharding)
        pruner.load_state_dict(states)
        return pruner.begun

    states = on_ranks(before, save)[0]
    whole = states[0]["table"]["parts"] == 1
    given = states[:1] if whole else states
    assert on_ranks(after, lambda ranks: look(ranks, given))[0] == [True] * after
    states = on_ranks(before, lambda ranks: save(ranks, batches=0))[0]
    given = states[:1] if whole else states
    assert on_ranks(after, lambda ranks: look(ranks, given))[0] == [False] * after


@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
def test_a_rest_smaller_than_a_batch_of_each_rank_is_an_epoch_that_is_over(sharding):
    def save(ranks):
        pruner = train(made(ranks=ranks, sharding=sharding))
        share = pruner.share().indices.astype(np.int64)[:-10]
        pruner.record(share, loss_of(share, 1))
        return pruner.state_dict(done=2 * len(share))

    def go_on(ranks):
        pruner = made(ranks=ranks, sharding=sharding)
        pruner.load_state_dict(states)
        left = len(pruner.share())
        return left, pruner.end_epoch()["trained"], len(train(pruner).history)

    states = on_ranks(2, save)[0]
    states = states if sharding == "sharded" else states[:1]
    for left, trained, epochs in on_ranks(3, go_on)[0]:
        assert left == 0 and 0 < trained < N and epochs == 3


# Copies, and states of before.


@some_of(
    "how, batches, sharding, policy",
    [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))],
    [0, 2],
    ["replicated", "sharded"],
    ["SeTa", "InfoBatch", seta.UCB(every=2), seta.RCAP()],
    together=2,
)
def test_a_copy_goes_on_as_the_original_does(how, batches, sharding, policy):
    strata = np.arange(N) % 3 if isinstance(policy, seta.RCAP) else None
    if strata is not None and sharding == "sharded":
        pytest.skip("a policy that looks at strata needs all losses in each process")
    pruner = train(made(policy, count_kept=True, strata=strata, sharding=sharding), 2)
    if batches:
        part = pruner.share().indices.astype(np.int64)[: 10 * batches]
        pruner.record(part, np.full(len(part), 9.0))
    other = how(pruner)
    untouched = other.losses.copy()
    train(pruner, 2)
    assert np.array_equal(other.losses, untouched, equal_nan=True)
    train(other, 2)
    assert np.array_equal(other.losses, pruner.losses, equal_nan=True)
    assert np.array_equal(other.kept_counts, pruner.kept_counts)
    assert [*map(without_times, other.history)] == [*map(without_times, pruner.history)]


def test_a_copy_has_its_own_losses_that_wait():
    pruner, holder = waiting()
    other, held = copy.deepcopy((pruner, holder))
    held.add(np.array([9]), np.array([1.0]))
    assert other.losses[9] == 1 and np.isnan(pruner.losses[9])


def test_counts_that_a_state_lacks_do_not_wrap_where_its_epoch_is_forgotten():
    saved = Pruner(20, "Random", epochs=3)
    saved.begin_epoch()
    pruner = Pruner(20, "Random", epochs=3, count_kept=True)
    pruner.load_state_dict(saved.state_dict())
    pruner.forget_epoch()
    assert pruner.kept_counts.tolist() == [0] * 20
