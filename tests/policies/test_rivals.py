"""The methods that SeTa is compared with, each against its rule, sample by sample."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seta
from seta import LossHistogram, Pruner
from seta.policies import REGISTRY

RNG = np.random.default_rng(0)
LOSSES = RNG.gamma(0.5, 1, 4000).astype(np.float32)
N = len(LOSSES)


def train(pruner, losses, epochs, batch=100):
    """Trains whole epochs; returns what each kept."""
    kept = []
    for _ in range(epochs):
        selection = pruner.begin_epoch()
        kept.append(np.sort(selection.indices))
        for part in np.split(selection.indices, range(batch, len(selection), batch)):
            pruner.record(part, losses[part])
        pruner.end_epoch()
    return kept


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.7, 0.75])
def test_rs2_sees_every_sample_equally_often(ratio):
    epochs = 20
    pruner = Pruner(N, seta.RS2(ratio), epochs=epochs, budget=1 - ratio, count_kept=True)
    kept = train(pruner, LOSSES, epochs)
    counts = pruner.kept_counts
    mean = epochs * (1 - ratio)
    random = math.sqrt(mean * ratio)
    assert counts.std() < 0.25 * random  # of independent draws
    assert np.abs(counts - mean).max() <= 2.5
    assert len(np.intersect1d(kept[0], kept[1])) <= max(0, 1 - 2 * ratio) * N + 0.03 * N


@given(st.fractions(0, "0.99", max_denominator=600) | st.decimals(0, "0.99", places=6))
def test_rs2_comes_round_when_a_plain_search_says_so(ratio):
    ratio = float(ratio)
    share = 1 - ratio
    histogram = LossHistogram.from_losses(LOSSES[:3])
    starts = [past for past in range(700) if abs(past * share - round(past * share)) < 1e-9]
    for epoch in (*range(25), 99, 100, 101, 599, 600, 699):
        curve = seta.RS2(ratio)(histogram, epoch, 700)
        start = max(past for past in starts if past <= epoch)
        assert curve.coin_epoch == start
        assert curve.coin_offset == math.fmod((epoch - start) * share, 1.0)


def test_rs2_walks_for_any_number_of_epochs():
    histogram = LossHistogram.from_losses(LOSSES[:3])
    curve = seta.RS2(0.3)(histogram, 10**9 + 7, 10**10)
    assert (curve.coin_epoch, curve.coin_offset) == (10**9, pytest.approx(0.9))


def test_rs2_draws_a_new_order_in_every_round():
    kept = train(Pruner(N, seta.RS2(0.5), epochs=4), LOSSES, 4)
    assert len(np.union1d(kept[0], kept[1])) == len(np.union1d(kept[2], kept[3])) == N
    assert 0.2 * N < len(np.intersect1d(kept[0], kept[2])) < 0.3 * N


def scores_by_hand(method, kept, losses, epochs):
    """The scores after some epochs, sample by sample, in float64."""
    mean, variance = np.full(N, np.nan), np.zeros(N)
    for epoch in range(epochs):
        for i in kept[epoch]:
            if np.isnan(mean[i]):
                mean[i] = losses[epoch][i]
                continue
            gap = losses[epoch][i] - mean[i]
            variance[i] += method.momentum * (gap**2 - variance[i])
            mean[i] += method.momentum * gap
    return mean + getattr(method, "confidence", 0.0) * variance


@pytest.mark.parametrize("method", [seta.UCB(0.6, every=1), seta.EpsilonGreedy(0.6, 0.0, every=1)])
def test_the_highest_scores_are_trained_and_the_untried_before_them(method):
    epochs = 6
    losses = [(LOSSES * RNG.uniform(0.5, 1.5, N)).astype(np.float32) for _ in range(epochs)]
    pruner = Pruner(N, method, epochs=epochs, budget=0.4)
    kept = []
    for epoch in range(epochs):
        scores = scores_by_hand(method, kept, losses, epoch)
        kept += train(pruner, losses[epoch], 1)
        untried, chosen = np.isnan(scores), np.zeros(N, bool)
        chosen[kept[-1]] = True
        if untried.sum() > len(kept[-1]):
            assert untried[chosen].all()
            continue
        assert chosen[untried].all()
        others = scores[chosen & ~untried]
        if len(others):
            assert others.min() >= scores[~chosen].max() * (1 - 1e-3)


@pytest.mark.parametrize("method", [seta.UCB(0.5, every=3), seta.EpsilonGreedy(0.5, every=3)])
@pytest.mark.parametrize("budget", [None, 0.5])
def test_a_choice_stays_for_its_epochs(method, budget):
    kept = train(Pruner(N, method, epochs=9, budget=budget), LOSSES, 9)
    for start in (0, 3, 6):
        assert np.array_equal(kept[start], kept[start + 1])
        assert np.array_equal(kept[start], kept[start + 2])
    assert not np.array_equal(kept[2], kept[3])
    assert not np.array_equal(kept[5], kept[6])


scored = pytest.mark.parametrize("name", ["UCB", "EpsilonGreedy"])


@scored
@pytest.mark.parametrize("budget", [None, 0.5])
@pytest.mark.parametrize("epochs", [3, 10])
def test_short_runs_choose_by_loss_by_default(name, budget, epochs):
    pruner = Pruner(N, REGISTRY[name](0.5), epochs=epochs, budget=budget)
    train(pruner, LOSSES, epochs - 1)
    pruner.begin_epoch()
    tried = ~np.isnan(pruner.losses)
    chosen = np.zeros(N, bool)
    chosen[pruner.selection.indices] = True
    assert tried.mean() > 0.4 and chosen[~tried].all()
    hard = tried & (pruner.losses > np.nanmedian(pruner.losses))
    assert chosen[hard].mean() > 2 * chosen[tried & ~hard].mean() or chosen[hard].all()


@scored
@pytest.mark.parametrize("epochs, every", [(1, 1), (10, 1), (39, 1), (40, 2), (200, 10)])
def test_by_default_samples_are_chosen_twenty_times_in_a_run(name, epochs, every):
    histogram = LossHistogram.from_losses(LOSSES)
    starts = {REGISTRY[name]()(histogram, epoch, epochs).coin_epoch for epoch in range(epochs)}
    assert starts == set(range(0, epochs, every))


@scored
@pytest.mark.parametrize("epochs", [2, 9, 10])
def test_a_choice_that_would_never_be_by_loss_is_refused(name, epochs):
    method = REGISTRY[name](every=10)
    message = rf"policy.every must be less than epochs={epochs}, got 10 of {name}.* or None to"
    with pytest.raises(ValueError, match=message):
        Pruner(N, method, epochs=epochs)
    Pruner(N, method, epochs=11)
    Pruner(N, method, epochs=1)  # which nothing could choose by loss
    warm = Pruner(N, REGISTRY[name](0.5, every=10), epochs=epochs, losses=LOSSES)
    assert LOSSES[warm.begin_epoch().indices].mean() > 1.5 * LOSSES.mean()


@pytest.mark.parametrize("name", ["UCB", "EpsilonGreedy", "RS2"])
@pytest.mark.parametrize("epochs, budget", [(2, 0.6), (3, 0.5)])
def test_short_runs_by_these_methods_train_nearly_every_sample(name, epochs, budget):
    method = REGISTRY[name](round(1 - budget, 9))
    pruner = Pruner(N, method, epochs=epochs, budget=budget, count_kept=True)
    train(pruner, LOSSES, epochs)
    assert np.count_nonzero(pruner.kept_counts == 0) <= 0.02 * N
    assert pruner.saved == pytest.approx(1 - budget)


@pytest.mark.parametrize("name", REGISTRY)
def test_a_whole_first_epoch_leaves_no_sample_untrained(name):
    strata = np.arange(N) % 3
    pruner = Pruner(N, name, epochs=3, budget=[1, 0.25, 0.25], count_kept=True, strata=strata)
    train(pruner, LOSSES, 3)
    assert (pruner.kept_counts > 0).all()
    assert pruner.saved == pytest.approx(0.5)


@pytest.mark.parametrize("epsilon", [0.0, 0.2, 1.0])
def test_epsilon_of_the_kept_are_drawn_from_all_others(epsilon):
    method = seta.EpsilonGreedy(0.5, epsilon)
    histogram = LossHistogram.from_losses(LOSSES)
    curve = method(histogram, 0, 1)
    keep = curve.keep[histogram.bin_of(LOSSES)]
    count = 0.5 * N
    assert curve.expected(histogram) == pytest.approx(count)
    greedy = np.sort(LOSSES)[::-1][: int((1 - epsilon) * count)]
    if len(greedy):
        assert np.all(keep[greedy[-1] * 1.001 < LOSSES] == 1)
        below = keep[greedy[-1] * 0.999 > LOSSES]
        assert below == pytest.approx(epsilon * count / (N - len(greedy)))


@given(st.floats(0.05, 1), st.floats(0.05, 1))
def test_order_dp_keeps_the_hardest_of_a_pool(pool, top):
    histogram = LossHistogram.from_losses(LOSSES)
    curve = seta.OrderDP(pool, top)(histogram, 3, 10)
    keep = curve.keep[histogram.bin_of(LOSSES)]
    assert curve.expected(histogram) == pytest.approx(pool * top * N)
    from_above = N - np.argsort(np.argsort(LOSSES))  # 1 is the highest
    assert keep[from_above < top * N - 10] == pytest.approx(pool)
    assert np.all(keep[from_above > top * N + 10] == 0)


def test_infobatch_by_quantiles_has_three_steps_that_weigh_up():
    histogram = LossHistogram.from_losses(LOSSES)
    curve = seta.InfoBatchQuantiles()(histogram, 0, 8)
    keep = curve.keep[histogram.bin_of(LOSSES)]
    ranks = np.argsort(np.argsort(LOSSES)) / N
    expected = np.where(ranks < 0.2, 0.25, np.where(ranks < 0.85, 0.5, 1.0))
    away = (np.abs(ranks - 0.2) > 0.003) & (np.abs(ranks - 0.85) > 0.003)
    assert np.array_equal(keep[away], expected[away])
    assert 1 - curve.expected(histogram) / N == pytest.approx(0.475, abs=1e-3)
    assert np.all(seta.InfoBatchQuantiles()(histogram, 7, 8).keep == 1)


def test_repb_judges_a_loss_beside_its_own_batch():
    pruner = Pruner(N, seta.RePB(0.5), epochs=2)
    indices = pruner.begin_epoch().indices
    above = np.empty(N)
    for at, part in enumerate(np.split(indices, range(100, N, 100))):
        losses = LOSSES[part] + at  # the net drifts: later losses lie higher
        above[part] = losses - losses.mean()
        pruner.record(part, losses)
    pruner.end_epoch()
    selection = pruner.begin_epoch()
    clear = np.abs(above) > 1e-5
    chosen = np.zeros(N, bool)
    chosen[selection.indices] = True
    assert chosen[(above > 0) & clear].all()
    share = chosen[(above < 0) & clear].mean()
    assert abs(share - 0.5) < 0.05
    weights = selection.weights[clear[selection.indices]]
    expected = np.where(above[selection.indices] < 0, 2.0, 1.0)[clear[selection.indices]]
    assert np.array_equal(weights, expected)


def test_bls_smooths_the_means_of_batches():
    method = seta.BLS(seta.InfoBatch(), smoothing=0.75)
    pruner, expected = Pruner(N, method, epochs=3), np.full(N, np.nan)
    for epoch in range(3):
        indices = pruner.begin_epoch().indices
        assert pruner.losses == pytest.approx(expected, rel=1e-5, nan_ok=True)
        for part in np.split(indices, range(100, len(indices), 100)):
            mean = (LOSSES[part] + epoch).mean()
            before = expected[part]
            expected[part] = np.where(np.isnan(before), mean, 0.75 * before + 0.25 * mean)
            pruner.record(part, LOSSES[part] + epoch)
        pruner.end_epoch()


@pytest.mark.parametrize("base", [seta.UCB(), seta.RePB(), seta.BLS(), seta.SeTa, "SeTa"])
def test_bls_needs_a_base_that_judges_by_losses_alone(base):
    with pytest.raises(ValueError, match="base must be a method that judges by losses alone"):
        seta.BLS(base)


def test_bls_needs_the_classes_that_its_base_needs():
    with pytest.raises(ValueError, match="strata=None"):
        Pruner(10, seta.BLS(seta.RCAP()), epochs=1)


@pytest.mark.parametrize("ratio", [0.3, 0.7])
@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
def test_rcap_fills_quotas_by_softmax(ratio, temperature):
    sizes = [2000, 1000, 700, 300]
    strata = np.repeat(np.arange(4), sizes)
    losses = (LOSSES * (1 + strata)).astype(np.float32)
    histogram = LossHistogram.from_losses(losses, strata=strata)
    curve = seta.RCAP(ratio, temperature)(histogram, 0, 1)
    keep = curve.keep[strata, histogram.bin_of(losses)]
    clipped = np.clip(losses, 0, math.log(4))
    wanted = np.array([math.sqrt(clipped[strata == c].mean() * sizes[c] / N) for c in range(4)])
    quotas, open_, left = np.zeros(4), np.ones(4, bool), (1 - ratio) * N
    while True:  # what exceeds a class goes to the others
        quotas[open_] = left * wanted[open_] / wanted[open_].sum()
        full = open_ & (quotas > sizes)
        if not full.any():
            break
        quotas[full] = np.array(sizes)[full]
        left -= quotas[full].sum()
        open_ &= ~full
    for c in range(4):
        mine = strata == c
        assert keep[mine].sum() == pytest.approx(quotas[c], rel=1e-2)
        softmax = np.exp(clipped[mine] / temperature)
        below = keep[mine] < 0.999
        if below.any():
            ratio_of = keep[mine][below] / softmax[below]
            assert ratio_of == pytest.approx(ratio_of.mean(), rel=2e-2)


@pytest.mark.parametrize("method", [seta.RCAP, seta.Learnable])
def test_a_class_without_losses_counts_with_the_mean_loss_of_the_others(method):
    strata = np.arange(N) % 3
    losses = np.where(strata == 0, 0.2, 0.8).astype(np.float32)
    keeps = []
    for unseen in (0.5, np.nan):
        losses[strata == 2] = unseen  # 0.5 is the mean loss of the others
        histogram = LossHistogram.from_losses(losses, strata=strata)
        curve = method(0.5)(histogram, 1, 20)
        kept = (np.column_stack([curve.keep, curve.unseen]) * histogram.by_stratum).sum(axis=1)
        keeps.append(kept)
    np.testing.assert_allclose(*keeps, rtol=1e-3)
    assert keeps[0][0] < 0.75 * keeps[0][1]


def test_rcap_waits_until_there_are_losses():
    losses = np.full(4, np.nan, np.float32)
    histogram = LossHistogram.from_losses(losses, strata=np.array([0, 1, 0, 1]))
    curve = seta.RCAP(0.25)(histogram, 1, 2)
    assert np.all(curve.keep_by_cell == 0.75)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: seta.OrderDP(pool=0), r"pool must lie in \(0, 1\], got 0"),
        (lambda: seta.OrderDP(top=1.5), r"top must lie in \(0, 1\], got 1.5"),
        (lambda: seta.EpsilonGreedy(epsilon=2), r"epsilon must lie in \[0, 1\], got 2"),
        (lambda: seta.UCB(momentum=0), r"momentum must lie in \(0, 1\], got 0"),
        (lambda: seta.UCB(confidence=-1), r"confidence must lie in \[0, inf\), got -1"),
        (lambda: seta.UCB(every=0), "every must be at least 1, got 0"),
        (lambda: seta.BLS(smoothing=1), r"smoothing must lie in \[0, 1\), got 1"),
        (lambda: seta.RCAP(temperature=0), r"temperature must lie in \(0, inf\), got 0"),
        (lambda: seta.InfoBatchQuantiles(low=-1), r"low must lie in \[0, 1\], got -1"),
        (lambda: seta.InfoBatchQuantiles(high=0.1), r"high must lie in \[low, 1\], got 0.1"),
        (lambda: seta.InfoBatchQuantiles(keep_low=0), r"keep_low must lie in \(0, 1\], got 0"),
    ],
)
def test_settings_outside_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
