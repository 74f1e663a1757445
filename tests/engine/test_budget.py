"""Budgets: lengths known beforehand, windows whole, exact draws, weights that stay unbiased."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import seta
from seta import KeepCurve, LossHistogram, Pruner
from seta.engine.arguments import check_shares
from seta.engine.curves.fit import fit
from seta.engine.draw.exact import draw_exactly
from seta.engine.draw.partition import Partition, shards_of
from seta.engine.steps import Steps
from seta.policies import REGISTRY
from tests.combinations import some_of
from tests.examples import examples

LOSSES = {
    "all equal": np.full(997, 1.5),
    "all unseen": np.full(997, np.nan),
    "one outlier": np.append(np.full(996, 0.1), 1e6),
    "half unseen": np.where(np.arange(997) % 2, np.nan, np.arange(997.0)),
    "two values": np.repeat([1.0, 2.0], 500)[:997],
    "gamma": np.random.default_rng(0).gamma(0.2, 1, 997),
}


BUDGETS = [(0.3, 1), (0.77, 1), (0.5, 32), (1.0, 1), (1.0, 32)]


def window_of(low, high, weight=None):
    """A policy that keeps the losses in [low, high) with probability 0.9, and nothing else."""

    def policy(histogram, epoch, epochs):
        inside = (histogram.centres >= low) & (histogram.centres < high)
        return KeepCurve(np.where(inside, 0.9, 0.0), unseen=0.0)

    return policy


@given(
    st.integers(1, 10**9),
    st.lists(st.floats(0.001, 1), min_size=1, max_size=30),
    st.integers(1, 64),
    st.booleans(),
)
def test_lengths_add_up_to_the_budget_within_one_batch(n, shares, batch, drop_last):
    steps = Steps(n, batch, drop_last=drop_last)
    try:
        lengths = steps.lengths(shares, len(shares))
    except ValueError:
        return  # an epoch would be left without a batch
    exact = sum(map(Fraction, shares)) * steps.most
    tiny = Fraction(steps.most * len(shares), 2**52)  # 0.6 means 3/5, not the float's own fraction
    assert exact - batch - tiny < sum(lengths) <= exact + tiny
    assert all(length % batch == 0 or length == steps.most for length in lengths)
    assert all(0 < length <= steps.most for length in lengths)


@given(
    st.integers(1, 500),
    st.integers(1, 40),
    st.integers(1, 4),
    st.booleans(),
    st.integers(1, 60),
    st.floats(0.05, 1),
)
def test_a_run_of_so_many_batches_has_exactly_those(n, batch, ranks, drop_last, batches, budget):
    steps = Steps(n, batch, ranks, drop_last)
    if n < ranks or steps.most < steps.global_batch or budget * steps.most < steps.global_batch:
        return
    lengths = steps.run_of(batches, budget)
    assert sum(map(steps.batches, lengths)) == batches
    assert lengths[:-1] == steps.lengths(budget, len(lengths))[:-1]


@given(st.floats(0.01, 1), st.integers(10, 10**9), st.integers(1, 300))
def test_one_share_gives_lengths_that_differ_by_one_at_most(budget, n, epochs):
    if budget * n < 1:
        return
    lengths = Steps(n).lengths(budget, epochs)
    assert max(lengths) - min(lengths) <= 1


def test_shares_mean_the_decimals_they_are_written_as():
    assert Steps(5).lengths(0.6, 3) == [3, 3, 3]
    assert Steps(10).lengths(0.7, 100) == [7] * 100
    assert Steps(10).lengths(lambda epoch: 0.1 * (epoch + 1), 3) == [1, 2, 3]
    assert Steps(8).lengths([1, 0.5], 2) == [8, 4]


@some_of("name, losses", REGISTRY, LOSSES)
def test_every_method_keeps_the_budget_on_any_losses(name, losses):
    at = [*REGISTRY].index(name) + [*LOSSES].index(losses)
    budget, batch = BUDGETS[at % len(BUDGETS)]
    values = LOSSES[losses].astype(np.float32)
    strata = np.arange(997) % 3
    options = {"epochs": 7, "budget": budget, "batch_size": batch, "strata": strata}
    pruner = Pruner(997, name, losses=values, **options)
    for epoch in range(7):
        selection = pruner.begin_epoch()
        assert len(selection) == pruner.lengths[epoch]
        assert len(np.unique(selection.indices)) == len(selection)
        reported = values[selection.indices].copy()
        reported[::2] = np.nan  # half of the reports are not finite
        pruner.record(selection.indices, reported)
        pruner.end_epoch()
    trained = sum(row["trained"] for row in pruner.history)
    assert abs(trained - budget * 7 * 997) < batch


@pytest.mark.parametrize("n", [10, 1000, 1_000_000])
def test_the_budget_is_exact_for_any_size(n):
    pruner = Pruner(n, seta.SeTa(), epochs=3, budget=0.6)
    rng = np.random.default_rng(0)
    for _ in range(3):
        indices = pruner.begin_epoch().indices
        pruner.record(indices, rng.gamma(0.3, 1, len(indices)).astype(np.float32))
        pruner.end_epoch()
    assert pruner.saved == pytest.approx(0.4, abs=1 / n)


def test_a_window_that_holds_too_few_is_trained_whole():
    losses = np.arange(1000, dtype=np.float32)
    pruner = Pruner(1000, window_of(200, 300), epochs=1, losses=losses, budget=0.25)
    chosen = set(pruner.begin_epoch().indices.tolist())
    assert len(chosen) == 250
    assert set(range(200, 300)) <= chosen
    # What is missing comes from the nearest bins on both sides; bins are of equal relative width.
    assert 140 <= min(chosen) <= 160 and 380 <= max(chosen) <= 420
    row = pruner.end_epoch()
    assert (row["fit_factor"], row["fit_widened"]) == (None, 150)


def test_a_window_that_holds_too_many_is_drawn_from_alone():
    losses = np.arange(1000, dtype=np.float32)
    pruner = Pruner(1000, window_of(200, 700), epochs=1, losses=losses, budget=0.25)
    chosen = pruner.begin_epoch().indices
    assert len(chosen) == 250
    assert chosen.min() >= 200 and chosen.max() < 700
    row = pruner.end_epoch()
    assert row["fit_factor"] == pytest.approx(250 / 450)
    assert row["fit_widened"] == 0
    assert abs(row["fit_trimmed"]) < 60


def test_seta_fills_up_from_the_nearest_group():
    losses = np.repeat([1.0, 2.0, 4.0, 8.0, 16.0], 200).astype(np.float32)
    for epoch, window, inside, nearest in ((0, (0, 2), (1.0, 2.0), 4.0), (3, (3, 5), (8, 16), 4.0)):
        pruner = Pruner(1000, seta.SeTa(0.1, 5, 0.4), epochs=8, losses=losses, budget=0.5)
        chosen = losses[pruner.begin_epoch(epoch).indices]
        assert pruner.curve.window == window
        counts = {value: int((chosen == value).sum()) for value in (1, 2, 4, 8, 16)}
        assert [counts[value] for value in inside] == [200, 200]
        assert counts[nearest] == 100


def test_at_equal_distance_the_easier_group_comes_first():
    losses = np.repeat([1.0, 2.0, 4.0, 8.0, 16.0], 200).astype(np.float32)
    pruner = Pruner(1000, seta.SeTa(0.1, 5, 0.2), epochs=8, losses=losses, budget=0.35)
    chosen = losses[pruner.begin_epoch(2).indices]
    assert [int((chosen == value).sum()) for value in (1, 2, 4, 8)] == [0, 150, 200, 0]


def certain_and_forbidden(histogram, epoch, epochs):
    """1 for the hardest tenth, 0 for the easiest, and a slope between them."""
    rank = np.cumsum(histogram.counts) / histogram.seen
    return KeepCurve(np.where(rank > 0.9, 1.0, np.where(rank < 0.1, 0.0, rank * 0.8)))


@pytest.mark.parametrize("budget", [0.52, 0.6, 0.8])
def test_a_certain_sample_is_always_drawn_and_a_forbidden_one_never(budget):
    losses = np.arange(5000, dtype=np.float32)
    for seed in range(20):
        pruner = Pruner(
            5000, certain_and_forbidden, epochs=1, losses=losses, budget=budget, seed=seed
        )
        chosen = set(pruner.begin_epoch().indices.tolist())
        assert pruner.end_epoch()["fit_factor"] > 1
        assert set(range(4510, 5000)) <= chosen
        assert not chosen & set(range(490))


@pytest.mark.parametrize(
    "budget", [0.5, *(pytest.param(budget, marks=pytest.mark.slow) for budget in (0.3, 0.9))]
)
def test_infobatch_stays_unbiased(budget):
    rng = np.random.default_rng(0)
    losses = rng.gamma(0.5, 1, 20_000).astype(np.float32)
    direction = rng.normal(1, 1, 20_000)  # any other quantity of the samples, a gradient say
    found = []
    for seed in range(40):
        pruner = Pruner(
            20_000, "InfoBatch", epochs=8, losses=losses, budget=budget, seed=seed, threads=1
        )
        selection = pruner.begin_epoch()
        assert len(selection) == int(budget * 20_000)
        factor = min(1.0, pruner.end_epoch()["fit_factor"])
        weights = selection.weights.astype(np.float64) / factor
        easy = losses[selection.indices] < np.median(losses)
        found.append([
            (weights * losses[selection.indices]).sum(),
            (weights * direction[selection.indices]).sum(),
            (weights * easy).sum(),
        ])  # fmt: skip
    expected = [losses.sum(dtype=float), direction.sum(), (losses < np.median(losses)).sum()]
    deviation = np.std(found, axis=0) / np.sqrt(len(found))
    assert np.all(
        np.abs(np.mean(found, axis=0) - expected) < 4 * deviation + 1e-6 * np.abs(expected)
    )


@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]), min_size=1, max_size=8),
    st.data(),
)
@examples(200)
def test_a_fit_expects_the_count_and_is_never_below_a_cut(keep, data):
    sizes = data.draw(st.lists(st.integers(0, 50), min_size=len(keep), max_size=len(keep)))
    sizes[0] += 1
    losses = np.repeat(np.arange(len(keep)), sizes).astype(np.float32)
    histogram = LossHistogram.from_losses(losses)
    by_bin = np.zeros(histogram.bins)
    by_bin[histogram.bin_of(np.arange(len(keep))).clip(max=histogram.bins - 1)] = keep
    curve = KeepCurve(by_bin, unseen=0.5)
    n = data.draw(st.integers(0, len(losses)))
    fitted = fit(curve, histogram, n)
    fitted.curve.validate(histogram)
    assert fitted.curve.expected(histogram) == pytest.approx(n, abs=1e-6)
    inside = (by_bin > 0) & (histogram.counts > 0)
    if fitted.widened:
        assert np.all(fitted.curve.keep[inside] == 1)
    else:
        assert np.all(fitted.curve.keep[by_bin == 0] == 0)
        order = np.argsort(by_bin[inside])
        assert np.all(np.diff(fitted.curve.keep[inside][order]) >= -1e-12)


def test_the_exact_draw_takes_the_smallest_ratios_of_coin_to_probability():
    rng = np.random.default_rng(0)
    losses = rng.gamma(0.5, 1, 200_000).astype(np.float32)
    histogram = LossHistogram.from_losses(losses)
    curve = fit(KeepCurve(np.linspace(0.05, 0.9, histogram.bins)), histogram, 80_000).curve
    mask, _ = draw_exactly(80_000, losses, histogram, curve, seed=1, epoch=2, threads=2)
    chosen = np.unpackbits(mask, count=len(losses)).astype(bool)
    from seta.engine.draw.coins import Coins, Purpose

    coin = np.maximum(Coins(1, 2, Purpose.KEEP).uint32(len(losses)), 1).astype(float)
    ratio = coin / curve.keep[histogram.bin_of(losses)]
    assert chosen.sum() == 80_000
    assert ratio[chosen].max() <= ratio[~chosen].min() * (1 + 1e-6)


@pytest.mark.statistics
def test_inclusion_is_as_probable_as_the_fitted_curve_says():
    losses = np.repeat([0.0, 1.0, 2.0, 3.0], 250).astype(np.float32)
    keep_of = {0.0: 0.1, 1.0: 0.3, 2.0: 0.6, 3.0: 1.0}

    def policy(histogram, epoch, epochs):
        return KeepCurve(np.vectorize(lambda c: keep_of.get(round(c), 0.5))(histogram.centres))

    # 0.4: all shrink by one factor. 0.6: the last is certain, and the others share the rest.
    for budget, expected in ((0.4, [0.08, 0.24, 0.48, 0.8]), (0.6, [0.14, 0.42, 0.84, 1.0])):
        times = np.zeros(1000)
        for seed in range(300):
            pruner = Pruner(
                1000, policy, epochs=1, losses=losses, budget=budget, seed=seed, threads=1
            )
            times[pruner.begin_epoch().indices] += 1
        assert times.reshape(4, 250).mean(axis=1) / 300 == pytest.approx(expected, abs=0.01)


def test_samples_always_kept_count_towards_the_length():
    losses = np.arange(1000, dtype=np.float32)
    keep = np.arange(0, 1000, 9)
    pruner = Pruner(
        1000, window_of(500, 1000), epochs=1, losses=losses, budget=0.2, always_keep=keep
    )
    chosen = pruner.begin_epoch().indices
    assert len(chosen) == 200
    assert set(keep.tolist()) <= set(chosen.tolist())


def test_static_keeps_one_subset_under_a_budget():
    pruner = Pruner(1001, "Static", epochs=4, budget=0.5)
    chosen = [set(pruner.begin_epoch(epoch).indices.tolist()) for epoch in range(4)]
    assert {len(c) for c in chosen} == {500, 501}
    assert min(chosen, key=len) <= max(chosen, key=len)


def test_draws_do_not_depend_on_threads():
    losses = np.random.default_rng(0).gamma(0.5, 1, 300_000).astype(np.float32)
    one, other = (
        Pruner(300_000, "SeTa", epochs=8, losses=losses, budget=0.6, threads=threads).begin_epoch()
        for threads in (1, 3)
    )
    assert np.array_equal(one.indices, other.indices)


@pytest.mark.parametrize(
    "share",
    [np.float32(0.6), np.float64(0.6), np.array(0.6), np.array(0.6, np.float32), torch.tensor(0.6),
     torch.tensor(0.6, dtype=torch.float64), Fraction(3, 5)],
)  # fmt: skip
def test_a_share_is_a_number_of_any_kind(share):
    steps = Steps(5)
    assert steps.lengths(share, 3) == [3, 3, 3]
    assert steps.lengths([share, 1, share], 3) == [3, 5, 3]
    assert steps.lengths(lambda epoch: share, 3) == [3, 3, 3]
    assert Pruner(5, "Full", epochs=3, budget=share).lengths == [3, 3, 3]


@pytest.mark.parametrize("shares", [np.array([0.2, 0.4]), torch.tensor([0.2, 0.4]), (0.2, 0.4)])
def test_shares_may_come_as_an_array(shares):
    assert Steps(5).lengths(shares, 2) == [1, 2]


@pytest.mark.parametrize("share", ["0.5", True, np.True_, None, 1j, {"a": 1}, [0.5], b"1"])
def test_what_is_no_share_is_refused(share):
    refused = r"budget( of epoch 1)? must be a number in \(0, 1\], got .*: the share of full"
    for budget in (share, [0.5, share, 0.5], lambda epoch: share if epoch else 0.5):
        if budget is share and share in (None, [0.5]):
            continue  # no budget, and one for a run of one epoch
        with pytest.raises(TypeError, match=refused):
            Pruner(10, "Full", epochs=3, budget=budget)


def test_lengths_of_many_different_shares_are_exact():
    shares = np.random.default_rng(0).uniform(0.1, 1, 3000).tolist()
    lengths = Steps(1000, batch_size=7).lengths(shares, len(shares))
    due, expected = Fraction(0), []
    for share in shares[:300]:  # the digits of the sum grow with each
        due += Fraction(share).limit_denominator(10**9) * 1000
        expected.append(1000 if due >= 1000 else int(due // 7) * 7)
        due -= expected[-1]
    assert lengths[:300] == expected
    exact = sum(round(share * 10**12) for share in shares) / 10**9
    assert exact - 8 < sum(lengths) < exact + 1


@pytest.mark.parametrize("budget", [0.5, np.float32(0.5), [0.75, 0.5, 0.25, 0.5], lambda _: 0.5])
def test_a_method_given_by_name_is_made_for_the_budget(budget):
    pruner = Pruner(64, "RS2", epochs=4, budget=budget)
    assert pruner.policy == seta.RS2(0.5)
    assert Pruner(64, "Learnable", epochs=4, budget=0.3).policy == seta.Learnable(0.7)
    assert Pruner(64, "Learnable", steps=160, budget=0.3).policy == seta.Learnable(0.7)
    assert Pruner(64, "RS2", epochs=4).policy == seta.RS2()
    assert Pruner(64, seta.RS2(0.2), epochs=4, budget=budget).policy == seta.RS2(0.2)
    assert Pruner(64, "SeTa", epochs=4, budget=budget).policy == seta.SeTa()


@pytest.mark.parametrize("name", ["n", "epochs", "batch_size", "steps", "seed", "threads"])
@pytest.mark.parametrize("value", [2.0, "2", True, np.True_, torch.tensor(True), [2]])
def test_counts_are_integers(name, value):
    arguments = {"n": 10, "epochs": 2, "budget": 0.5, name: value}
    if name == "steps":
        del arguments["epochs"]
    with pytest.raises(TypeError, match=f"{name} must be an integer, got"):
        Pruner(arguments.pop("n"), "Full", **arguments)


def test_integers_may_be_those_of_arrays():
    options = {"epochs": np.array(2), "batch_size": torch.tensor(2), "seed": np.uint8(1)}
    assert Pruner(np.int32(10), "Full", budget=0.5, **options).lengths == [4, 6]


@pytest.mark.parametrize("listener", [3, "print", [print, 3], True])
def test_what_cannot_be_told_of_an_epoch_is_refused(listener):
    with pytest.raises(TypeError, match="on_epoch must be a function of the epoch's row, got"):
        Pruner(10, "Full", epochs=3, on_epoch=listener)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"budget": [0.5, float("nan"), 1]}, r"budget of epoch 1 must lie in \(0, 1\], got nan"),
        ({"budget": 0}, r"budget must lie in \(0, 1\], got 0: the share of full training's"),
        ({"budget": 1.2}, r"budget must lie in \(0, 1\], got 1.2"),
        ({"budget": float("nan")}, r"budget must lie in \(0, 1\], got nan"),
        ({"budget": [0.5, 0.5]}, "budget must have one share for each of the 3 epochs, got 2"),
        ({"budget": 0.05}, "budget leaves epoch 0 without a sample, got 0.05 of 10 samples"),
        (
            {"budget": 0.3, "batch_size": 5},
            "leaves epoch 0 without a batch of 5, got 0.3 of 10 samples; every epoch needs one",
        ),
        (
            {"budget": 0.5, "batch_size": 11},
            "without a batch of 11, got 0.5 of 10 samples; .* choose a smaller batch size",
        ),
        ({"budget": 0.5, "batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"budget": 0.3, "always_keep": range(4)}, "always_keep has 4 samples, more than the 3"),
    ],
)
def test_bad_budgets_are_refused_before_training(arguments, message):
    with pytest.raises(ValueError, match=message):
        Pruner(10, "Full", epochs=3, **arguments)


@pytest.mark.parametrize("n, ranks, batch, length", [(8, 3, 1, 3), (20, 2, 1, 2), (20, 3, 2, 6)])
def test_lengths_that_leave_a_rank_without_a_batch_are_refused(n, ranks, batch, length):
    partition = Partition(n, shards_of(n))
    owned = [partition.owned(rank, ranks) for rank in range(ranks)]

    def share_size(kept):
        counts = partition.counts(kept)
        return min(int(counts[shards.start : shards.stop].sum()) for shards in owned)

    sizes = Steps(n, batch, ranks)
    message = rf"without a batch of {batch} in an epoch of {length} .* over {ranks} ranks: "
    with pytest.raises(ValueError, match=message + 'use sharding="replicated", or raise'):
        check_shares(sizes, [n, length], share_size)
    check_shares(sizes, [n], share_size)
    check_shares(sizes, None, share_size)


@pytest.mark.parametrize("name", ["Random", "OrderDP", "InfoBatch"])
def test_a_run_by_name_goes_on_with_other_batches_under_several_shares(name):
    def pruner(batch_size):
        shares = [0.9, 0.5, 0.5, 0.3]
        return Pruner(203, name, epochs=4, budget=shares, batch_size=batch_size, drop_last=True)

    saved = pruner(10)
    saved.record(saved.begin_epoch().indices, np.ones(saved.kept, np.float32))
    saved.end_epoch()
    other = pruner(16)
    other.load_state_dict(saved.state_dict())
    assert other.next_epoch == 1


def test_a_last_epoch_cut_short_does_not_change_the_method():
    budget = {"budget": lambda _: 0.5, "batch_size": 10}
    assert Pruner(1000, "Random", steps=60, **budget).policy == seta.Random(0.5)
