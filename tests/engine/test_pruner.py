"""The pruner: the life of an epoch, its row, and every refusal."""

import json
import logging
import random

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import seta
from seta import KeepCurve, Pruner
from seta.engine.rows import CLOCKED
from tests.combinations import some_of
from tests.examples import examples
from tests.virtual_ranks import on_ranks


def losses_of(indices, epoch=0):
    """A loss that tells its sample and epoch."""
    return (np.asarray(indices) + epoch / 16).astype(np.float32)


def train(pruner, epochs):
    for _ in range(epochs):
        selection = pruner.begin_epoch()
        pruner.record(selection.indices, losses_of(selection.indices, selection.epoch))
        pruner.end_epoch()
    return pruner


def keep_none(histogram, epoch, epochs):
    return KeepCurve.constant(histogram, 0.0)


def hard_only(histogram, epoch, epochs):
    """A user's own policy: all above the median, and a fifth of the rest at five times weight."""
    hard = histogram.centres > histogram.quantile(0.5)
    return KeepCurve(np.where(hard, 1.0, 0.2), weight=np.where(hard, 1.0, 5.0), unbiased=True)


def test_asking_twice_for_one_epoch_gives_one_plan():
    pruner = Pruner(1000, "Random", epochs=3)
    first = pruner.begin_epoch()
    pruner.record(first.indices[:10], losses_of(first.indices[:10]))
    assert pruner.begin_epoch() is first
    assert pruner.begin_epoch(0) is first
    assert len(pruner.history) == 0


def test_beginning_another_epoch_ends_the_open_one():
    pruner = Pruner(10, "Full", epochs=5)
    pruner.begin_epoch(0)
    assert pruner.begin_epoch(1).epoch == 1
    assert [row["epoch"] for row in pruner.history] == [0]
    assert pruner.begin_epoch(4).epoch == 4  # an epoch may be left out


def test_losses_are_a_read_only_view_that_follows():
    pruner = Pruner(4, "Full", epochs=1)
    losses = pruner.losses
    assert losses.dtype == np.float32 and np.isnan(losses).all()
    pruner.begin_epoch()
    pruner.record([2], [0.5])
    assert losses[2] == 0.5
    with pytest.raises(ValueError, match="read-only"):
        losses[0] = 1


def test_the_row_tells_the_epoch():
    pruner = Pruner(1000, seta.SeTa(prune_ratio=0.2, groups=4, window=0.5), epochs=8)
    train(pruner, 2)
    selection = pruner.begin_epoch()
    pruner.record(selection.indices[:9], [1.0] * 7 + [float("nan"), float("inf")])
    row = pruner.end_epoch()
    assert row == pruner.history[2]
    assert json.loads(json.dumps(row)) == row
    assert row["kept"] == len(selection) and row["kept"] + row["pruned"] == row["samples"] == 1000
    assert row["trained"] == 9 and row["nonfinite"] == 2
    total = sum(r["trained"] for r in pruner.history)
    assert row["saved"] == pruner.saved == 1 - total / 3000
    assert len(row["group_sizes"]) == len(row["group_centres"]) == 4
    assert len(row["group_bounds"]) == 5
    assert sum(row["group_sizes"]) + row["unseen"] == 1000
    assert row["window"] == [2, 4]
    assert row["select_seconds"] > 0 and row["train_seconds"] > 0
    per_sample = row["train_seconds"] / 9
    assert row["saved_seconds"] == pytest.approx(991 * per_sample - row["select_seconds"])


@pytest.mark.parametrize("size", [1, 2])
def test_an_open_epoch_is_no_part_of_what_was_saved(size):
    def seen(ranks):
        pruner = Pruner(40, "Full", epochs=2, ranks=ranks if size > 1 else None)
        seen = []
        for _ in range(2):
            seen.append(pruner.saved)
            part = pruner.share().indices
            seen.append(pruner.saved)
            pruner.record(part[:5], np.ones(5))
            pruner.record(np.zeros(30, int), np.ones(30))
            seen.append(pruner.saved)
            pruner.record(part, np.ones(len(part)))
            pruner.end_epoch()
        return [*seen, pruner.saved]

    assert on_ranks(size, seen)[0] == [[0.0] * 7] * size


def test_how_long_samples_were_left_out_is_known():
    pruner = Pruner(3, "Full", epochs=9)
    for epoch in range(3):
        pruner.begin_epoch()
        pruner.record([epoch], [1.0])
        pruner.end_epoch()
    assert pruner.left_out.tolist() == [2, 1, 0]
    assert [row["longest_left_out"] for row in pruner.history] == [1, 2, 2]


def test_an_empty_selection_trains_one_sample_and_says_so(caplog):
    pruner = Pruner(50, keep_none, epochs=1)
    with caplog.at_level(logging.WARNING, logger="seta"):
        selection = pruner.begin_epoch()
    assert len(selection) == 1
    assert "kept none of 50 samples" in caplog.text


def test_samples_always_kept_are_never_pruned_and_weigh_one():
    pruner = Pruner(100, hard_only, epochs=6, always_keep=[7, 3, 7])
    for _ in range(6):
        selection = pruner.begin_epoch()
        indices = selection.indices.tolist()
        assert {3, 7} <= set(indices)
        if selection.weights is not None:
            weights = dict(zip(indices, selection.weights.tolist(), strict=True))
            assert weights[3] == weights[7] == 1.0
            assert 5.0 in weights.values() or selection.epoch == 0
        pruner.record(selection.indices, losses_of(selection.indices))


def test_weights_follow_the_curve_at_the_losses_of_the_epochs_start():
    pruner = train(Pruner(1000, hard_only, epochs=3), 1)
    before = pruner.losses.copy()
    selection = pruner.begin_epoch()
    median = np.nanmedian(before)
    expected = np.where(before[selection.indices] > median, 1.0, 5.0)
    assert np.mean(selection.weights == expected) > 0.99  # the median's own bin may go either way
    assert np.array_equal(pruner.weights_of(selection.indices), selection.weights)


def test_a_hook_reorders_the_selection():
    pruner = Pruner(100, "Random", epochs=1, reorder=np.sort)
    indices = pruner.begin_epoch().indices
    assert np.all(np.diff(indices.astype(int)) > 0) and indices.dtype == np.uint32


@pytest.mark.parametrize("hook", [lambda i: i[:-1], lambda i: np.zeros_like(i)])
def test_a_hook_that_loses_samples_is_refused(hook):
    with pytest.raises(ValueError, match=r"reorder must return the 100 indices .* each once"):
        Pruner(100, "Full", epochs=1, reorder=hook).begin_epoch()


def test_listeners_get_the_row():
    one, other = [], []
    train(Pruner(10, "Full", epochs=2, on_epoch=one.append), 2)
    pruner = train(Pruner(10, "Full", epochs=2, on_epoch=[one.append, other.append]), 2)
    assert [row["epoch"] for row in one] == [0, 1, 0, 1]
    other[0]["kept"] = -1
    assert pruner.history[0]["kept"] == 10


def test_a_warm_start_prunes_from_the_first_epoch():
    losses = np.arange(1000, dtype=np.float32)
    losses[5] = np.nan
    pruner = Pruner(1000, "InfoBatch", epochs=4, losses=losses)
    selection = pruner.begin_epoch()
    assert 700 < len(selection) < 800
    assert 5 in selection.indices
    assert pruner.histogram.unseen == 1


def test_kept_counts_are_taken_on_demand():
    pruner = Pruner(500, "Random", epochs=4, count_kept=True)
    expected = np.zeros(500, int)
    for _ in range(4):
        expected[pruner.begin_epoch().indices] += 1
        pruner.end_epoch()
    assert np.array_equal(pruner.kept_counts, expected)
    with pytest.raises(RuntimeError, match="count_kept=True"):
        _ = Pruner(5, "Random", epochs=1).kept_counts


def test_one_seed_gives_one_run_whatever_the_threads():
    runs = []
    for seed, threads in ((0, 1), (0, 3), (1, 1)):
        pruner = train(Pruner(200_000, "SeTa", epochs=5, seed=seed, threads=threads), 3)
        runs.append(pruner.begin_epoch().indices)
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0][:100], runs[2][:100])


def test_global_random_state_is_neither_read_nor_set():
    random.seed(1), np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()
    train(Pruner(1000, "SeTa", epochs=3), 3)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_half_of_the_losses_not_finite_does_no_harm():
    pruner = Pruner(1000, "SeTa", epochs=8)
    for epoch in range(8):
        selection = pruner.begin_epoch()
        losses = losses_of(selection.indices, epoch)
        losses[::2] = np.nan
        losses[::4] = np.inf
        pruner.record(selection.indices, losses)
        assert pruner.end_epoch()["nonfinite"] == len(losses[::2])
    assert not np.isinf(pruner.losses).any()


# Every refusal names the argument, what came and the way out.


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"n": 0}, ValueError, "n must be at least 1, got 0: a dataset needs at least one sample"),
        ({"n": 2.5}, TypeError, "n must be an integer, got 2.5"),
        ({"epochs": 0}, ValueError, "epochs must be at least 1, got 0: give the number of epochs"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"threads": 0}, ValueError, "threads must be at least 1, got 0"),
        ({"policy": "Sieve"}, ValueError, "unknown method 'Sieve': choose one of SeTa, Lear"),
        ({"policy": seta.SeTa}, TypeError, r"policy must be a method such as seta.SeTa\(\)"),
        ({"policy": 0.5}, TypeError, "got 0.5"),
        ({"always_keep": [10]}, IndexError, "always_keep must lie in 0..9 .* got 10"),
        ({"always_keep": [0.5]}, ValueError, "always_keep must be a one-dimensional array of int"),
        ({"losses": np.zeros(9)}, ValueError, r"losses must be floats of shape \(10,\)"),
        ({"on_epoch": [3]}, TypeError, "on_epoch must be a function of the epoch's row, got 3"),
    ],
)
def test_bad_arguments_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        Pruner(**{"n": 10, "policy": "Full", "epochs": 3, **changes})


def test_epochs_that_are_over_or_beyond_are_refused():
    pruner = train(Pruner(10, "Full", epochs=3), 2)
    with pytest.raises(ValueError, match="epoch 1 is over: the latest is 1"):
        pruner.begin_epoch(1)
    with pytest.raises(ValueError, match="epoch 3 lies beyond the run of epochs=3"):
        pruner.begin_epoch(3)
    pruner.begin_epoch(2)
    with pytest.raises(ValueError, match="epoch 0 is over: the latest is 2"):
        pruner.begin_epoch(0)
    pruner.end_epoch()
    with pytest.raises(ValueError, match=r"epoch 3 lies beyond .* \(0 to 2\)"):
        pruner.begin_epoch()


@pytest.mark.parametrize(
    "call",
    [
        lambda p: p.record([0], [1.0]),
        lambda p: p.end_epoch(),
        lambda p: p.weights_of(np.array([0])),
    ],
)
def test_what_needs_an_open_epoch_says_so(call):
    with pytest.raises(RuntimeError, match=r"no epoch is open: call begin_epoch\(\)"):
        call(Pruner(10, "Full", epochs=1))


def test_a_policy_must_return_a_curve():
    with pytest.raises(TypeError, match="must return a KeepCurve, got float"):
        Pruner(10, lambda h, e, n: 0.5, epochs=1).begin_epoch()
    with pytest.raises(ValueError, match=r"KeepCurve\.keep must have one entry for each of"):
        Pruner(10, lambda h, e, n: KeepCurve(np.ones(3)), epochs=1).begin_epoch()


# Saving and resuming.


@some_of(
    "policy, stop",
    ["SeTa", "InfoBatch", "Random", "Static", "Full", hard_only],
    [5, 0, 1, 40, 10**9],
)
def test_a_resumed_run_goes_on_as_if_nothing_had_happened(policy, stop):
    def run(save_at):
        pruner, seen, step = Pruner(300, policy, epochs=4, count_kept=True), [], 0
        while pruner.next_epoch < 4:
            done = 0
            selection = pruner.begin_epoch()
            while done < len(selection):
                batch = slice(done, done + 32)
                if step == save_at:
                    state = pruner.state_dict()
                    pruner = Pruner(300, policy, epochs=4, count_kept=True)
                    pruner.load_state_dict(state)
                    selection = pruner.begin_epoch()
                indices = selection.indices[batch]
                weights = pruner.weights_of(indices)
                seen.append((indices.tolist(), None if weights is None else weights.tolist()))
                pruner.record(indices, losses_of(indices * 7 % 31, selection.epoch))
                done, step = done + 32, step + 1
            pruner.end_epoch()
        rows = [{k: v for k, v in row.items() if k not in CLOCKED} for row in pruner.history]
        return seen, pruner.losses, pruner.left_out, pruner.kept_counts, rows

    expected, found = run(None), run(min(stop, len(run(None)[0]) - 1))
    assert expected[0] == found[0]
    for a, b in zip(expected[1:4], found[1:4], strict=True):
        assert np.array_equal(a, b, equal_nan=True)
    assert expected[4] == found[4]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"n": 11}, "saved with n=10, this pruner has n=11"),
        ({"epochs": 4}, "saved with epochs=3, this pruner has epochs=4"),
        ({"seed": 1}, "saved with seed=0, this pruner has seed=1"),
        ({"policy": seta.SeTa(groups=7)}, r"policy='SeTa\(.*groups=5.*this pruner has .*groups=7"),
        ({"always_keep": [1]}, "saved with always_keep=None, this pruner has always_keep='1 sam"),
        ({"budget": 0.5}, "saved with budget=None, this pruner has budget=0.5"),
    ],
)
def test_a_state_of_another_run_is_refused(changes, message):
    saved = train(Pruner(10, "SeTa", epochs=3), 1).state_dict()
    other = Pruner(**{"n": 10, "policy": "SeTa", "epochs": 3, **changes})
    with pytest.raises(ValueError, match=message):
        other.load_state_dict(saved)
    assert np.isnan(other.losses).all()


def test_changes_that_are_meant_are_taken():
    saved = train(Pruner(10, "SeTa", epochs=3), 1).state_dict()
    grown = Pruner(12, "InfoBatch", epochs=5, seed=4, budget=0.5)
    grown.load_state_dict(saved, changed=["n", "policy", "epochs", "seed", "budget"])
    assert np.array_equal(grown.losses[:10], saved["table"]["losses"], equal_nan=True)
    assert np.isnan(grown.losses[10:]).all()
    assert len(grown.begin_epoch()) == grown.lengths[1] and grown.epoch == 1
    shrunk = Pruner(7, "SeTa", epochs=3)
    shrunk.load_state_dict(saved, changed={"n"})
    assert np.array_equal(shrunk.losses, saved["table"]["losses"][:7], equal_nan=True)
    assert shrunk.begin_epoch().indices.max() < 7


def test_a_dataset_may_grow_and_shrink_at_its_end():
    pruner = train(Pruner(10, "Full", epochs=6, budget=0.5, always_keep=[2], count_kept=True), 1)
    before = pruner.losses.copy()
    pruner.resize(14)
    assert np.array_equal(pruner.losses[:10], before, equal_nan=True)
    assert np.isnan(pruner.losses[10:]).all()
    assert pruner.left_out[:10].min() == 0 and (pruner.left_out[10:] == 1).all()
    assert len(pruner.begin_epoch()) == 7
    with pytest.raises(RuntimeError, match=r"epoch 1 is open: call end_epoch\(\) before resize"):
        pruner.resize(12)
    pruner.end_epoch()
    pruner.resize(4)
    assert pruner.begin_epoch().indices.max() < 4
    pruner.end_epoch()
    with pytest.raises(IndexError, match=r"always_keep must lie in 0\.\.1"):
        pruner.resize(2)
    assert pruner.n == 4


def test_a_dataset_grows_whatever_scores_a_warm_start_allowed():
    policy = seta.EpsilonGreedy(every=4)  # not in 4 epochs, if no loss were known
    pruner = train(Pruner(10, policy, epochs=4, losses=np.ones(10, np.float32)), 1)
    pruner.resize(12)
    assert len(pruner.losses) == 12


def test_an_open_epoch_is_finished_as_it_was_begun():
    pruner = train(Pruner(100, "SeTa", epochs=4), 1)
    plan = pruner.begin_epoch().indices
    other = Pruner(100, "Full", epochs=4)
    other.load_state_dict(pruner.state_dict(), changed=["policy"])
    assert np.array_equal(other.begin_epoch().indices, plan)
    other.end_epoch()
    assert len(other.begin_epoch()) == 100
    with pytest.raises(ValueError, match=r"in the middle of epoch 1, for a dataset of 100 samples"):
        Pruner(90, "SeTa", epochs=4).load_state_dict(pruner.state_dict(), changed=["n"])


def test_a_loaded_open_epoch_has_its_selection():
    pruner = train(Pruner(100, "InfoBatch", epochs=4), 1)
    indices = pruner.begin_epoch().indices
    other = Pruner(100, "InfoBatch", epochs=4)
    other.load_state_dict(pruner.state_dict())
    assert other.selection.indices.tolist() == indices.tolist()


def test_only_known_changes_can_be_meant():
    pruner = Pruner(10, "SeTa", epochs=3)
    with pytest.raises(ValueError, match=r"changed must name some of n, .* got \['size'\]"):
        pruner.load_state_dict(pruner.state_dict(), changed=["size"])


@pytest.mark.parametrize("saved", [{}, {"format": "other"}, [1, 2]])
def test_what_is_no_state_is_refused(saved):
    with pytest.raises(ValueError, match="not a state of a Pruner"):
        Pruner(10, "SeTa", epochs=3).load_state_dict(saved)


class PrunerMachine(RuleBasedStateMachine):
    """Any interleaving of calls, against a plain dict of losses."""

    def __init__(self):
        super().__init__()
        self.pruner = Pruner(20, seta.SeTa(0.3, 3, 0.6), epochs=6, seed=1)
        self.losses, self.trained, self.plan, self.now = {}, 0, None, set()

    @precondition(lambda self: self.pruner.epoch is not None or self.pruner.next_epoch < 6)
    @rule()
    def begin(self):
        was = self.pruner.epoch
        plan = self.pruner.begin_epoch().indices.tolist()
        assert was is None or plan == self.plan
        assert plan and len(set(plan)) == len(plan)
        self.plan = plan

    @precondition(lambda self: self.pruner.epoch is not None)
    @rule(data=st.data())
    def record(self, data):
        indices = data.draw(st.lists(st.integers(0, 19), max_size=5, unique=True))
        values = data.draw(
            st.lists(st.floats(width=32), min_size=len(indices), max_size=len(indices))
        )
        self.pruner.record(np.array(indices, np.int64), np.array(values, np.float32))
        self.trained += len(set(indices) - self.now)
        self.now |= set(indices)
        finite = zip(indices, values, strict=True)
        self.losses.update({i: v for i, v in finite if np.isfinite(v)})

    @precondition(lambda self: self.pruner.epoch is not None)
    @rule()
    def end(self):
        row = self.pruner.end_epoch()
        assert row["kept"] + row["pruned"] == 20
        assert row["trained"] == len(self.now)
        self.plan, self.now = None, set()

    @rule()
    def reload(self):
        state = self.pruner.state_dict()
        self.pruner = Pruner(20, seta.SeTa(0.3, 3, 0.6), epochs=6, seed=1)
        self.pruner.load_state_dict(state)

    @invariant()
    def nothing_recorded_is_lost(self):
        expected = np.array([self.losses.get(i, np.nan) for i in range(20)], np.float32)
        assert np.array_equal(self.pruner.losses, expected, equal_nan=True)

    @invariant()
    def figures_add_up(self):
        rows = self.pruner.history
        assert self.pruner.saved == (rows[-1]["saved"] if rows else 0)
        if self.pruner.epoch is None:
            assert sum(row["trained"] for row in rows) == self.trained
            assert self.pruner.saved == (1 - self.trained / (20 * len(rows)) if rows else 0)


PrunerMachine.TestCase.settings = examples(60, stateful_step_count=30)
TestPrunerMachine = PrunerMachine.TestCase


def in_mid_epoch(**options):
    pruner = Pruner(100, "SeTa", epochs=3, seed=1, batch_size=10, **options)
    pruner.record(pruner.begin_epoch()[:20], np.ones(20, np.float32))
    return pruner


@pytest.mark.parametrize("saved, now", [(None, np.sort), (np.sort, None), (np.sort, np.flip)])
def test_a_half_trained_epoch_goes_on_in_its_own_order_or_not_at_all(saved, now):
    state = in_mid_epoch(reorder=saved).state_dict(done=20)
    other = Pruner(100, "SeTa", epochs=3, seed=1, batch_size=10, reorder=now)
    with pytest.raises(ValueError, match=r"epoch 0, whose samples have another order now: give"):
        other.load_state_dict(state)
    assert other.epoch is None and other.next_epoch == 0
    same = Pruner(100, "SeTa", epochs=3, seed=1, batch_size=10, reorder=saved)
    same.load_state_dict(state)
    between = in_mid_epoch(reorder=saved)
    between.end_epoch()
    other.load_state_dict(between.state_dict())  # between two epochs any order will do


@pytest.mark.parametrize("done", [-1, 101, 1.0, "a", None, float("nan")])
def test_a_position_that_the_epoch_does_not_have_is_not_saved(done):
    with pytest.raises((TypeError, ValueError), match=r"^done must be "):
        in_mid_epoch().state_dict(done=done)


def test_what_is_handed_out_changes_nothing():
    pruner = in_mid_epoch(budget=0.5, always_keep=[3])
    for array in (pruner.selection.indices, pruner.losses, pruner.always_keep):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    pruner.lengths[0] = 1000
    assert pruner.lengths[0] == 50
    pruner.end_epoch()
    pruner.history.clear()
    assert len(pruner.history) == 1
    other = Pruner(100, "SeTa", epochs=3, seed=1, batch_size=10, budget=0.5, always_keep=[3])
    other.load_state_dict(pruner.state_dict())
    assert other.history == pruner.history


def test_an_order_of_floats_is_refused():
    with pytest.raises(TypeError, match=r"reorder must return integers, .* got float64"):
        in_mid_epoch(reorder=lambda indices: indices * 1.0)


@pytest.mark.parametrize("changed", ["epochs", None])
def test_what_has_changed_is_a_list(changed):
    with pytest.raises(TypeError, match="changed must be a list of names"):
        in_mid_epoch().load_state_dict(in_mid_epoch().state_dict(), changed=changed)


@pytest.mark.parametrize("n", [1, 8, 203])
def test_a_sample_is_selected_if_the_selection_has_it(n):
    pruner = Pruner(n, "Random", epochs=2, seed=3)
    chosen = set(pruner.begin_epoch())
    assert np.flatnonzero(pruner.selects(np.arange(n))).tolist() == sorted(chosen)
    pruner.end_epoch()
    with pytest.raises(RuntimeError, match="no epoch is open"):
        pruner.selects(np.arange(1))
