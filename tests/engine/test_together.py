"""Features that meet: warm starts, states of other policies, resizing, tables in mid-epoch."""

import warnings

import numpy as np
import pytest

import seta
from seta import KeepCurve, Pruner
from seta.engine import LossHistogram
from seta.engine.curves.histogram import Binning
from seta.engine.steps import Steps
from seta.rl import SuccessRate, ZeroSignal
from tests.virtual_ranks import on_ranks

N = 20
WARM = np.linspace(1, 2, N).astype(np.float32)


def trained(pruner, losses, epochs=1):
    """Trains whole epochs."""
    for _ in range(epochs):
        samples = pruner.begin_epoch().indices
        pruner.record(samples, np.asarray(losses, np.float32)[samples])
        pruner.end_epoch()
    return pruner


@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
@pytest.mark.parametrize("track", [False, True])
def test_losses_of_a_warm_start_are_known_to_the_policy_that_comes_next(track, sharding):
    first = Pruner(N, "UCB", epochs=8, losses=WARM, track=track, sharding=sharding)
    samples = first.begin_epoch().indices[:5]
    first.record(samples, np.full(5, 0.5))
    first.end_epoch()
    known = first.table()
    if track:
        others = ~np.isin(known["index"], samples)
        assert np.array_equal(known["loss"][others], WARM[known["index"]][others])
    second = Pruner(N, "InfoBatch", epochs=8, sharding=sharding)
    second.load_state_dict(first.state_dict(), changed=["policy"])
    assert not np.isnan(second.table()["loss"]).any()


def test_losses_outlive_a_policy_with_scores_that_trained_nothing():
    first = trained(Pruner(N, "InfoBatch", epochs=8), WARM)
    second = Pruner(N, "UCB", epochs=8, track=True)
    second.load_state_dict(first.state_dict(), changed=["policy"])
    third = Pruner(N, "InfoBatch", epochs=8)
    third.load_state_dict(second.state_dict(), changed=["policy"])
    assert np.array_equal(third.losses, first.losses)


def test_a_resized_run_keeps_the_lengths_of_the_epochs_that_are_over():
    pruner = trained(Pruner(100, "Random", epochs=4, budget=0.5), np.ones(100), 2)
    pruner.resize(200)
    assert pruner.lengths == [50, 50, 100, 100]
    first_short = trained(Pruner(10, "Random", epochs=3, budget=[0.1, 1, 1]), np.ones(10))
    first_short.resize(5)
    assert first_short.lengths == [1, 5, 5]
    kept = Pruner(20, "Random", epochs=3, budget=[0.2, 1, 1], always_keep=[0, 1, 2])
    trained(kept, np.ones(20)).resize(10)
    assert kept.lengths == [4, 10, 10]
    last = trained(Pruner(10, "Random", epochs=3, budget=[1, 1, 0.1]), np.ones(10))
    with pytest.raises(ValueError, match="budget leaves epoch 2 without a sample"):
        last.resize(5)


@pytest.mark.parametrize("batches", [None, 2])
def test_a_run_of_steps_that_was_resized_has_the_same_steps_after_a_resume(batches):
    def made(n):
        return Pruner(n, "Full", steps=25, budget=1, batch_size=10)

    pruner = trained(made(100), np.ones(100))
    pruner.resize(105)
    if batches is not None:
        samples = pruner.begin_epoch().indices[: 10 * batches]
        pruner.record(samples, np.ones(len(samples)))
    resumed = made(105)
    resumed.load_state_dict(pruner.state_dict())
    assert resumed.lengths == pruner.lengths == [100, 105, 40]


@pytest.mark.parametrize("epochs", [0, 1, 3])
@pytest.mark.parametrize("budget", [0.5, [1, 0.5, 0.5, 0.3, 1, 0.3, 0.7, 0.4, 1]])
def test_a_run_that_was_resized_has_the_same_lengths_after_a_resume(budget, epochs):
    def made(n):
        return Pruner(n, "RS2", epochs=9, budget=budget, batch_size=7)

    pruner = trained(made(250), np.ones(250), 3)
    pruner.resize(500)
    trained(pruner, np.ones(500), epochs)
    resumed = made(500)
    resumed.load_state_dict(pruner.state_dict())
    assert resumed.lengths == pruner.lengths
    for one in (pruner, resumed):
        trained(one, np.ones(500), 6 - epochs)
    assert [row["kept"] for row in resumed.history] == pruner.lengths


@pytest.mark.parametrize("track", [False, True])
@pytest.mark.parametrize("before, after", [(ZeroSignal, SuccessRate), (SuccessRate, ZeroSignal)])
def test_scores_of_signals_are_no_signals(before, after, track, caplog):
    first = trained(Pruner(N, before(), epochs=8, track=track), np.full(N, 3.0), 3)
    second = Pruner(N, after(), epochs=8, track=track)
    second.load_state_dict(first.state_dict(), changed=["policy"])
    assert np.isnan(second.losses).all() != track
    assert ("begin unseen: the state has scores" in caplog.text) != track


def random_of(ranks, budget):
    return Pruner(
        1200, seta.Random(0.5), epochs=4, batch_size=4, ranks=ranks, sharding="sharded",
        budget=budget,
    )  # fmt: skip


@pytest.mark.parametrize("saved, own", [(0.2, 0.5), (0.5, 0.2)])
def test_an_epoch_that_is_forgotten_is_not_dealt_as_in_the_state(saved, own):
    def save(ranks):
        pruner = random_of(ranks, saved)
        pruner.begin_epoch()
        return pruner.state_dict()

    pruner, fresh = random_of(None, own), random_of(None, own)
    pruner.load_state_dict(on_ranks(2, save)[0], changed=["budget"])
    pruner.forget_epoch()
    for one in (pruner, fresh):
        one.begin_epoch()
    assert len(pruner.share()) == len(fresh.share()) == pruner.kept
    random_of(None, own).load_state_dict(pruner.state_dict())


@pytest.mark.parametrize("policy", [seta.InfoBatch(delta=1.0), seta.SeTa()])
def test_a_new_loss_outside_the_bins_is_of_the_nearest_and_not_unseen(policy):
    pruner = trained(Pruner(1000, policy, epochs=9), np.linspace(1, 2, 1000), 2)
    samples = pruner.begin_epoch().indices
    low, high = samples[:5], samples[5:10]
    pruner.record(low, np.full(5, 0.5))
    pruner.record(high, np.full(5, 3.0))
    table = pruner.table()
    least, most = table["loss"] > 0.9, table["loss"] < 2.5
    known = table.where(least & most).sort("loss")
    for at, end in ((low, 0), (high, -1)):
        assert set(table["keep"][at]) == {known["keep"][end]}
        if "group" in table:
            assert set(table["group"][at]) == {known["group"][end]}


def test_an_epoch_drawn_by_other_classes_is_shown_as_it_was_drawn():
    n, losses = 1200, np.linspace(1, 2, 1200)
    first = trained(Pruner(n, seta.InfoBatch(delta=1.0), epochs=6, batch_size=10), losses)
    first.begin_epoch()
    second = Pruner(n, "RCAP", epochs=6, batch_size=10, strata=np.arange(n) % 4)
    second.load_state_dict(first.state_dict(), changed=["policy", "strata"])
    assert np.array_equal(second.table()["keep"], first.table()["keep"])
    third = Pruner(n, "RCAP", epochs=6, batch_size=10, strata=np.arange(n) % 8)
    trained(second, losses)
    second.begin_epoch()
    third.load_state_dict(second.state_dict(), changed=["strata"])
    assert np.isnan(third.table()["keep"]).all()
    trained(third, losses)
    third.begin_epoch()
    assert not np.isnan(third.table()["keep"]).any()


def test_a_policy_cannot_change_what_it_is_handed():
    def careless(histogram, epoch, epochs):
        for values in (histogram.edges, histogram.centres, histogram.counts, histogram.cells):
            with pytest.raises(ValueError, match="read-only"):
                values[:1] = 0
        return KeepCurve(np.ones(histogram.bins), 1.0)

    losses = (1 + np.arange(8) * 2.0**-23).astype(np.float32)
    Pruner(8, careless, epochs=3, losses=losses).begin_epoch()
    counts = np.array([1, 2], np.int64)
    LossHistogram(Binning.over(1, 1 + 2.0**-23), counts, 0)
    counts[0] = 3  # the caller's own stays the caller's


def test_another_policy_does_not_get_the_notes_of_the_one_before():
    seen = []

    def first(histogram, epoch, epochs):
        return KeepCurve(np.full(histogram.bins, 0.5), 0.5, notes={"threshold": 1.0})

    def second(histogram, epoch, epochs):
        seen.append(dict(histogram.notes))
        return first(histogram, epoch, epochs)

    before = trained(Pruner(N, first, epochs=4), WARM)
    for opened in (False, True):
        if opened:  # the epoch that was drawn by the policy before is trained to its end
            samples = before.begin_epoch().indices
            before.record(samples[:2], WARM[samples[:2]])
        after = Pruner(N, second, epochs=4)
        after.load_state_dict(before.state_dict(), changed=["policy"])
        seen.clear()
        trained(after, WARM, 3)
        assert seen == [{}, *[{"threshold": 1.0}] * (1 if opened else 2)]


def test_prompts_that_are_removed_leave_the_steering_as_it_is():
    rates = {}
    for shrinks in (False, True):
        pruner = Pruner(100, ZeroSignal(), epochs=6)
        for epoch in range(4):
            if epoch == 2 and shrinks:
                pruner.resize(60)  # most of the prompts that are always solved are removed
            trained(pruner, np.where(np.arange(pruner.n) < 50, 0.5, 3.0))
        rates[shrinks] = [row["notes"]["p_easy"] for row in pruner.history]
    assert rates[False] == pytest.approx([0.5, 0.5, 0.49, 0.48])
    assert rates[True][:3] == pytest.approx([0.5, 0.5, 0.5])


def test_what_is_given_out_is_a_copy():
    pruner = Pruner(300, "SeTa", epochs=6, batch_size=4, track=True)
    row = trained(pruner, np.sin(np.arange(300)) ** 2, 2).history[1]
    before = repr(pruner.history)
    row["group_sizes"].append("x")
    pruner.history[0]["mean_loss"] = "x"
    state = pruner.state_dict()
    state["trace"]["pictures"][0]["samples"][:] = 0
    state["run"]["history"][1]["group_sizes"].append("x")
    assert repr(pruner.history) == before
    assert pruner.state_dict()["trace"]["pictures"][0]["samples"].any()


def test_an_epoch_that_would_have_no_batch_of_the_new_size_is_drawn_anew():
    first = Pruner(1000, seta.Random(0.95), epochs=3, batch_size=10)
    first.begin_epoch()
    second = Pruner(1000, seta.Random(0.95), epochs=3, batch_size=64)
    second.load_state_dict(first.state_dict())
    assert [len(indices) for indices, _ in seta.batches(second)] == [64]


def test_budgets_are_exact_also_where_they_are_tiny():
    assert Steps(3 * 10**9).lengths(2 / (3 * 10**9), 2) == [2, 2]
    assert Steps(10**11).lengths(4e-10, 2) == [40, 40]
    assert Steps(10).lengths(0.6, 3) == [6, 6, 6]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Binning.over(1e39, 1e40), "needs finite bounds"),
        (lambda: curve_with(-1), r"KeepCurve.coin_epoch must be at least 0, got -1"),
        (lambda: curve_with(1.5), r"KeepCurve.coin_epoch must be an integer, got 1\.5"),
    ],
)
def test_what_is_wrong_is_named(make, message):
    with warnings.catch_warnings(), pytest.raises((TypeError, ValueError), match=message):
        warnings.simplefilter("error")
        make()


def curve_with(coin_epoch):
    histogram = LossHistogram.from_losses(WARM)
    KeepCurve(np.ones(histogram.bins), 1.0, coin_epoch=coin_epoch).validate(histogram)


def test_a_value_in_a_batch_beyond_float32_is_refused_as_the_policys():
    class Huge(seta.InfoBatch):
        def in_batch(self, losses):
            return losses.astype(np.float64) * 1e39

    pruner = Pruner(N, Huge(), epochs=2)
    samples = pruner.begin_epoch().indices
    with pytest.raises(ValueError, match="in_batch must return a number .* finite in float32"):
        pruner.record(samples, WARM[samples])
