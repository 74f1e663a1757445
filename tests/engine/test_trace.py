"""Losses of all epochs of some samples, and bars of each epoch, against notes of the run."""

from collections import defaultdict

import numpy as np
import pytest

from seta import Pruner
from seta.engine.trace import RESERVOIR
from tests.engine.test_tracked import EPOCHS, POLICIES, N, loss_of, pruner_of, train
from tests.virtual_ranks import on_ranks

NAMED = [5, 101, 599]


def trained_in(pruner, epochs):
    """Trains epochs, and returns which samples each of them trained."""
    chosen = []
    for _ in range(epochs):
        chosen.append(set(pruner.begin_epoch().indices.tolist()))
        train(pruner, 1)
    return chosen


def check(found, chosen):
    """Trajectories against what the epochs trained."""
    latest = defaultdict(lambda: np.nan)
    for losses, (epoch, samples) in zip(found.losses, enumerate(chosen), strict=True):
        fresh = {int(s): loss for s, loss in zip(found.samples, loss_of(found.samples, epoch))}  # noqa: B905
        for sample, loss in zip(found.samples.tolist(), losses, strict=True):
            if sample not in samples:
                assert np.isnan(loss)
                continue
            if np.isfinite(fresh[sample]):
                latest[sample] = fresh[sample]
            assert np.array_equal(loss, np.float32(latest[sample]), equal_nan=True)


@pytest.mark.parametrize("policy", POLICIES)
def test_trajectories_are_what_was_recorded_epoch_by_epoch(policy):
    pruner = pruner_of(policy, track=NAMED)
    chosen = trained_in(pruner, EPOCHS)
    found = pruner.trajectories()
    assert set(NAMED) <= set(found.samples.tolist())
    assert RESERVOIR <= len(found.samples) <= RESERVOIR + len(NAMED)
    assert np.isfinite(found.losses).any(axis=0).sum() > RESERVOIR // 2
    check(found, chosen)


def test_the_samples_follow_from_the_seed_and_are_all_where_there_are_few():
    one, same, other = (pruner_of("SeTa", seed=seed).trajectories().samples for seed in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
    few = Pruner(10, "SeTa", epochs=2, track=True).trajectories()
    assert few.samples.tolist() == list(range(10)) and few.losses.shape == (0, 10)


def test_bars_hold_the_samples_with_losses_and_what_the_curve_keeps():
    pruner = pruner_of("SeTa")
    for epoch in range(EPOCHS):
        pruner.begin_epoch()
        pictures = pruner.state_dict()["trace"]["pictures"]
        seen, curve = pruner.histogram.seen, pruner.curve
        assert [one["epoch"] for one in pictures] == list(range(1, epoch + 1))
        if pictures:
            last = pictures[-1]
            assert last["samples"].sum() == seen
            expected = curve.mean_keep(pruner.histogram) @ pruner.histogram.counts
            assert last["kept"].sum() == pytest.approx(expected)
            losses = pruner.losses[np.isfinite(pruner.losses)]
            assert last["edges"][0] <= losses.min() and losses.max() <= last["edges"][-1]
        train(pruner, 1)


def test_an_epoch_that_is_forgotten_leaves_no_bars():
    pruner = train(pruner_of("SeTa"), 2)
    before = pruner.state_dict()["trace"]["pictures"]
    pruner.begin_epoch()
    pruner.forget_epoch()
    assert len(pruner.state_dict()["trace"]["pictures"]) == len(before) == 1
    pruner.begin_epoch()
    assert len(pruner.state_dict()["trace"]["pictures"]) == 2


@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
def test_ranks_and_resumes_know_the_same(sharding):
    alone = pruner_of("UCB", track=NAMED)
    chosen = []

    def first(ranks):
        pruner = pruner_of("UCB", ranks, sharding=sharding, track=NAMED)
        chosen.append(pruner)
        return train(pruner, 3).state_dict(gather=False)

    states, _ = on_ranks(2, first)
    parts = [pruner.trajectories() for pruner in chosen]
    merged = np.fmax.reduce([part.losses for part in parts])
    if sharding == "replicated":
        assert np.array_equal(parts[0].losses, parts[1].losses, equal_nan=True)
        assert np.array_equal(merged, train(alone, 3).trajectories().losses, equal_nan=True)
    else:
        held = np.isfinite([part.losses for part in parts]).any(axis=1)
        assert not (held[0] & held[1]).any()

    def second(ranks):
        pruner = pruner_of("UCB", ranks, sharding=sharding, track=NAMED)
        pruner.load_state_dict(states if sharding == "sharded" else states[0])
        assert np.array_equal(pruner.trajectories().losses, merged, equal_nan=True)
        return train(pruner, 1).trajectories()

    moved, _ = on_ranks(3, second)
    last = np.fmax.reduce([one.losses for one in moved])
    assert np.array_equal(last[:3], merged, equal_nan=True) and np.isfinite(last[3]).any()


def test_it_goes_on_from_a_state_in_mid_epoch():
    whole, half = pruner_of("SeTa"), train(pruner_of("SeTa"), 3)
    train(whole, EPOCHS)
    half.begin_epoch()
    resumed = pruner_of("SeTa")
    resumed.load_state_dict(half.state_dict())
    train(resumed, EPOCHS - 3)
    one, other = (pruner.state_dict()["trace"] for pruner in (whole, resumed))
    assert np.array_equal(one["losses"], other["losses"], equal_nan=True)
    for mine, theirs in zip(one["pictures"], other["pictures"], strict=True):
        assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


def test_the_samples_of_a_state_are_followed_on_and_others_may_join():
    before = train(pruner_of("SeTa"), 2)
    state = before.state_dict()
    pruner = pruner_of("SeTa", seed=7, track=NAMED)
    pruner.load_state_dict(state, changed=["seed"])
    found = pruner.trajectories()
    assert set(found.samples.tolist()) == {*NAMED, *before.trajectories().samples.tolist()}
    old = np.isin(found.samples, before.trajectories().samples)
    assert np.array_equal(found.losses[:, old], before.trajectories().losses, equal_nan=True)
    assert np.isnan(found.losses[:, ~old]).all()


def test_a_shorter_dataset_has_fewer_samples_to_follow():
    state = train(pruner_of("SeTa", track=NAMED), 2).state_dict()
    here = state["trace"]["samples"] < 200
    resized = pruner_of("SeTa", track=NAMED)
    resized.load_state_dict(state)
    resized.resize(200)
    shorter = Pruner(200, "SeTa", epochs=EPOCHS, budget=0.5, seed=1, batch_size=12, track=[5])
    shorter.load_state_dict(state, changed=["n"])
    for pruner in (resized, shorter):
        found = pruner.trajectories()
        assert np.array_equal(found.samples, state["trace"]["samples"][here])
        assert np.array_equal(found.losses, state["trace"]["losses"][:, here], equal_nan=True)
        assert pruner.state_dict()["trace"]["samples"].max() < 200
    shorter.load_state_dict(resized.state_dict())  # with bars of more samples than there are now


def test_a_policy_that_changes_in_mid_epoch_leaves_the_losses_of_the_epoch():
    pruner = train(Pruner(20, "RePB", epochs=4, track=True), 2)
    pruner.begin_epoch()
    other = Pruner(20, "Full", epochs=4, track=True)
    other.load_state_dict(pruner.state_dict(), changed=["policy"])
    other.record(np.arange(20), np.ones(20, np.float32))
    other.end_epoch()
    assert (other.trajectories().losses[-1] == 1).all()


def test_runs_that_are_not_tracked_have_none_and_may_begin_to(caplog):
    plain = train(pruner_of("SeTa", track=False), 2)
    with pytest.raises(RuntimeError, match=r"make the Pruner with track=True"):
        plain.trajectories()
    pruner = pruner_of("SeTa", track=NAMED)
    pruner.load_state_dict(plain.state_dict())
    assert np.isnan(pruner.trajectories().losses).all()
    train(pruner, 1)
    losses = pruner.trajectories().losses
    assert losses.shape[0] == 3 and np.isfinite(losses[2]).any()


def test_a_state_of_the_first_format_had_nan_for_no_visits():
    pruner = train(pruner_of("UCB"), 2)
    table, state = pruner.table(), pruner.state_dict()
    columns = state["table"]["columns"]
    for name in ("track.visits", "track.mean", "track.squares"):
        columns[name][table["visits"] == 0] = np.nan
    del state["trace"]
    older = pruner_of("UCB")
    older.load_state_dict({**state, "format": "seta-pruner-1"})
    assert (table["visits"] == 0).any()
    for name, column in older.table().items():
        assert np.array_equal(column, table[name], equal_nan=True), name


@pytest.mark.parametrize(
    "track, message",
    [
        ([3, 600], "track must lie in 0..599"),
        ([0.5], "track must be a one-dimensional array of integers"),
        (np.ones(N, bool), "track must be indices, got a mask"),
        (None, "track must be a one-dimensional array"),
        (5, "track must be a one-dimensional array"),
    ],
)
def test_samples_that_do_not_exist_are_refused(track, message):
    with pytest.raises((ValueError, IndexError)) as refused:
        pruner_of("SeTa", track=track)
    assert message in str(refused.value)


def test_ranks_that_follow_others_are_told_apart():
    def run(ranks):
        with pytest.raises(RuntimeError, match="track"):
            pruner_of("SeTa", ranks, track=[ranks.rank])

    on_ranks(2, run)


DAMAGE = {
    "samples out of order": lambda trace: trace["samples"].__setitem__(0, 599),
    "samples beyond the data": lambda trace: trace["samples"].__setitem__(-1, N),
    "losses of another shape": lambda trace: trace.update(losses=trace["losses"][:1]),
    "an infinite loss": lambda trace: trace["losses"].__setitem__((0, 0), np.inf),
    "bars of an epoch to come": lambda trace: trace["pictures"][0].update(epoch=4),
    "edges that fall": lambda trace: trace["pictures"][0].update(
        edges=trace["pictures"][0]["edges"][::-1].copy()
    ),
    "too many samples": lambda trace: trace["pictures"][0]["samples"].__setitem__(0, N + 1),
    "kept that is no number": lambda trace: trace["pictures"][0]["kept"].__setitem__(0, np.nan),
    "no flag": lambda trace: trace["pictures"][0].update(logarithmic=2),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_course_is_refused(damage):
    state = train(pruner_of("SeTa"), 2).state_dict()
    damage(state["trace"])
    with pytest.raises(ValueError, match=r"trace\..* must be "):
        pruner_of("SeTa").load_state_dict(state)
