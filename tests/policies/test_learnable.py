"""Learnable against its rule, look by look, and on made-up runs whose samples are learnt or not."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seta
from seta import LossHistogram, Pruner
from seta.policies import learnable

N = 20_000
FINITE = st.floats(2.0**-20, 2.0**20, width=32)


def columns_after(looks):
    """Folds looks, float32 (looks, n), into the columns."""
    columns = {name: np.full(looks.shape[1], np.nan, np.float32) for name in seta.Learnable.columns}
    for losses in looks.astype(np.float32):
        columns = seta.Learnable().fold(columns, losses)
    return columns


def histogram_after(looks, classes=None):
    """The histogram that the policy is called with after such looks."""
    columns = columns_after(looks)
    whole = LossHistogram.from_losses(columns["level"], strata=classes)
    return replace(whole, columns={"early": LossHistogram.from_losses(columns["early"])})


def a_run(wrong, looks=6, progress=0.12, seed=0, n=N):
    """Losses of a run, (looks, n), whose last `wrong * n` samples are hard and get worse."""
    rng = np.random.default_rng(seed)
    bad = np.arange(n) >= round((1 - wrong) * n)
    level = np.where(bad, rng.uniform(6, 9, n), rng.gamma(3, 0.4, n) + 0.2)
    falling = (1 - np.where(bad, -0.05, progress)) ** np.arange(looks)[:, None]
    return level * falling * rng.lognormal(0, 0.3, (looks, n))


def judged(early):
    """The levels of the samples that had six looks, and which of their losses came down."""
    early = early[early >= learnable.LEAST].astype(np.float64)
    rose = early > learnable.MOST
    return np.where(rose, early / learnable.FAR, early), ~rose


@given(st.lists(FINITE, min_size=1, max_size=10))
def test_the_columns_are_the_mean_of_looks_two_to_six_and_whether_the_loss_came_down(losses):
    columns = columns_after(np.array(losses, np.float32)[:, None])
    level, early = float(columns["level"][0]), float(columns["early"][0])
    looks = losses[1:6] if len(losses) > 1 else losses
    expected = np.mean(looks)
    for loss in losses[6:]:
        expected += 0.5 * (loss - expected)
    assert level == pytest.approx(expected, rel=1e-5)
    if len(losses) < 6:
        assert early < learnable.LEAST  # smaller than any level
    else:
        (first,), (down,) = judged(columns["early"])
        assert first == pytest.approx(np.mean(looks), rel=1e-5)
        if abs(losses[5] / losses[1] - 1) > 1e-5:
            assert down == (losses[5] <= losses[1])


def by_hand(early):
    """The share in doubt, sample by sample: each judged by its neighbours, 5 % on either side."""
    levels, down = judged(early)
    down = down[np.argsort(levels, kind="stable")].astype(float)
    width = round(0.1 * len(down))
    starts = np.clip(np.arange(len(down)) - width // 2, 0, len(down) - width)
    sums = np.append(0, np.cumsum(down))
    share = (sums[starts + width] - sums[starts]) / width
    trusted = share + 0.5 / math.sqrt(width) >= 0.5
    return (~trusted[trusted.argmax() :]).sum() / len(trusted) if trusted.any() else 0.0


@pytest.mark.parametrize("wrong", [0.0, 0.1, 0.3, 0.5])
def test_as_many_are_in_doubt_as_get_worse(wrong):
    early = columns_after(a_run(wrong))["early"]
    doubt = seta.Learnable().doubt(LossHistogram.from_losses(early))
    assert doubt == pytest.approx(by_hand(early), abs=2e-3)
    assert 0.6 * wrong <= doubt <= wrong + 0.02


@pytest.mark.parametrize("scale", [1e-6, 1e5])
def test_the_scale_of_the_losses_says_nothing(scale):
    looks = a_run(0.2)
    one, other = (
        seta.Learnable().doubt(histogram_after(k * looks).columns["early"]) for k in (1, scale)
    )
    assert one == pytest.approx(other, abs=0.01)


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_tossed_coins_put_few_in_doubt(spread):
    """Levels that stay, or none, and noise: no sample may seem to rise or fall for a high loss."""
    doubts = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        looks = rng.lognormal(0, spread, N) * rng.lognormal(0, 0.5, (6, N))
        early = columns_after(looks)["early"]
        levels, down = judged(early)
        down = down[np.argsort(levels)]
        assert np.abs(down.reshape(20, -1).mean(axis=1) - 0.5).max() < 0.1
        doubts.append(seta.Learnable().doubt(LossHistogram.from_losses(early)))
    assert np.mean(doubts) < 0.25  # one in six windows lies beyond a standard deviation, low


def test_if_all_get_worse_nothing_is_in_doubt():
    looks = np.linspace(1, 2, 6)[:, None] * np.random.default_rng(0).uniform(1, 3, N)
    assert seta.Learnable().doubt(histogram_after(looks).columns["early"]) == 0


def test_losses_that_stay_exactly_as_they_are_put_nothing_in_doubt():
    for looks in (np.full((6, N), 0.5), np.zeros((6, N)), np.tile(np.arange(N) % 2, (6, 1))):
        assert seta.Learnable().doubt(histogram_after(looks).columns["early"]) == 0


@pytest.mark.parametrize("largest", [1.0, 3.0, 5.0, 7.3, 100.0])
def test_zero_losses_are_judged_wherever_the_bins_lie(largest):
    rng = np.random.default_rng(0)
    place = np.sort(rng.random(500))
    rose = np.append(np.full(500, True), rng.random(500) < np.where(place < 0.5, 0.1, 0.9))
    levels = np.append(np.full(500, learnable.LEAST), largest * place)
    early = np.where(rose, levels * learnable.FAR, levels).astype(np.float32)
    doubt = seta.Learnable().doubt(LossHistogram.from_losses(early))
    assert doubt == pytest.approx(by_hand(early), abs=0.02)


@pytest.mark.parametrize("spread", [0.0, 0.003, 0.03, 0.1])
@pytest.mark.parametrize("down, least, most", [(0.42, 0.44, 0.55), (0.55, 0, 0)])
def test_levels_that_are_nearly_alike_are_judged_by_the_share_that_came_down(
    spread, down, least, most
):
    """However few bins hold the levels, losses that rose lie in the same as those that fell."""
    rng = np.random.default_rng(0)
    hard = np.arange(N) % 2 == 0
    second = np.where(hard, 2.303 + spread * rng.standard_normal(N), 1.0)
    sixth = second * np.where(rng.random(N) < np.where(hard, down, 0.7), 0.9999, 1.0001)
    looks = np.stack([second] * 5 + [sixth])
    assert least <= seta.Learnable().doubt(histogram_after(looks).columns["early"]) <= most


def test_until_a_sample_was_looked_at_six_times_nothing_is_in_doubt():
    for looks in range(1, 6):
        histogram = histogram_after(a_run(0.4, looks))
        curve = seta.Learnable(0.5)(histogram, 5, 20)
        assert curve.weight is None and np.allclose(curve.keep, 0.5)


def test_a_few_that_were_looked_at_more_often_than_all_others_put_few_in_doubt():
    """Their share that came down is that of few coins: it may say anything."""
    looks = a_run(0.4)
    columns, few = columns_after(looks[:5]), np.arange(100)
    later = {name: values[few] for name, values in columns.items()}
    later = seta.Learnable().fold(later, np.where(few < 50, 1e-6, 1e6).astype(np.float32))
    for name, values in later.items():
        columns[name][few] = values
    early = LossHistogram.from_losses(columns["early"])
    assert 0 < seta.Learnable().doubt(early) <= 100 / N


def test_trust_falls_in_a_line_over_twice_as_many_of_the_hardest_as_are_in_doubt():
    histogram = histogram_after(a_run(0.2))
    doubt = seta.Learnable().doubt(histogram.columns["early"])
    curve = seta.Learnable(0.5)(histogram, 8, 20)
    harder = (histogram.counts[::-1].cumsum()[::-1] - histogram.counts / 2) / histogram.total
    trust = np.minimum(1, harder / (2 * doubt))
    assert (trust @ histogram.counts) / N == pytest.approx(1 - doubt, abs=1e-3)
    assert np.allclose(curve.weight, np.minimum(1, trust / 0.2))
    assert np.allclose(curve.keep / curve.keep[0], np.maximum(trust, 0.2))
    assert curve.expected(histogram) == pytest.approx(0.5 * N)


@pytest.mark.parametrize("budget", [0.5, 0.3])
def test_nothing_is_seen_twice_before_all_is_seen_once(budget):
    pruner = Pruner(1000, seta.Learnable(1 - budget), epochs=10, budget=budget, count_kept=True)
    for _ in range(round(1 / budget)):
        at = pruner.begin_epoch().indices
        pruner.record(at, np.ones(len(at), np.float32))
        pruner.end_epoch()
    few = 1000 - budget * 1000 * round(1 / budget) if budget * round(1 / budget) < 1 else 0
    assert (pruner.kept_counts == 0).sum() <= few + 10 and pruner.kept_counts.max() <= 2


def test_classes_have_quotas_and_each_its_own_hardest():
    rng = np.random.default_rng(2)
    classes = (np.arange(N) % 10 == 0).astype(np.uint8)  # a rare one, which is harder
    looks = a_run(0.2) * np.where(classes, 2.0, 1.0)
    looks = looks[:, order := rng.permutation(N)]
    histogram = histogram_after(looks, classes[order])
    doubt = seta.Learnable().doubt(histogram.columns["early"])
    assert doubt > 0.05
    curve = seta.Learnable(0.5)(histogram, 8, 20)
    counts = histogram.by_stratum[:, :-1]
    for row, weight in zip(counts, curve.weight, strict=True):
        without = 1 - (np.minimum(1, weight) * row).sum() / row.sum()
        assert 0 < without < doubt  # in each class, and nowhere all
    kept = (curve.keep * counts).sum(axis=1) / counts.sum(axis=1)
    assert kept[1] > kept[0] and (curve.keep * counts).sum() == pytest.approx(0.5 * N)


def test_classes_are_taken_where_they_are_given_and_not_asked_for():
    shapes = []
    for options in ({}, {"strata": np.arange(100) % 3}):
        pruner = Pruner(100, seta.Learnable(0.5), epochs=4, budget=0.5, **options)
        for _ in range(3):
            at = pruner.begin_epoch().indices
            pruner.record(at, np.ones(len(at), np.float32))
            pruner.end_epoch()
        shapes.append(pruner.curve.keep.shape[:-1])
    assert shapes == [(), (3,)]


def trained(wrong, epochs, learnt_from=None, n=N):
    """A run through a pruner: (visits with weight 1, visits), (n,) each, in its last ten epochs."""
    rng = np.random.default_rng(3)
    pruner = Pruner(n, seta.Learnable(0.5), epochs=epochs, budget=0.5, seed=0)
    bad = np.arange(n) < wrong * n
    base, looks = np.where(bad, 4.0, rng.gamma(3, 0.3, n) + 0.2), np.zeros(n)
    trusted, visits = np.zeros(n), np.zeros(n)
    for epoch in range(epochs):
        selection = pruner.begin_epoch()
        at, weights = selection.indices, selection.weights
        looks[at] += 1
        late = learnt_from is not None and epoch >= learnt_from
        losses = base[at] * np.where(
            bad[at], 1e-6 if late else 1.05 ** looks[at], 0.88 ** looks[at]
        )
        pruner.record(at, (losses * rng.lognormal(0, 0.3, len(at))).astype(np.float32))
        if epoch >= epochs - 10:
            visits[at] += 1
            trusted[at] += 1.0 if weights is None else weights
        pruner.end_epoch()
    return bad, trusted, visits


def test_what_is_not_learnt_is_looked_at_now_and_then_and_not_trained_on():
    bad, trusted, visits = trained(0.2, 30)
    assert (
        trusted[bad].mean() < 0.5 * trusted[~bad].mean()
        and trusted[bad].mean() < visits[bad].mean()
    )
    assert 0.2 < visits[bad].mean() / visits[~bad].mean() < 0.6
    assert visits.sum() == 10 * len(bad) // 2


@pytest.mark.slow
def test_what_is_learnt_after_all_comes_back():
    bad, trusted, _ = trained(0.2, 90, learnt_from=20)
    assert trusted[bad].mean() > 0.8 * trusted[~bad].mean()


def test_where_all_is_learnt_it_walks_like_rs2():
    _, _, visits = trained(0.0, 30)
    assert visits.min() >= 3 and visits.max() <= 7 and (visits == 5).mean() > 0.95
