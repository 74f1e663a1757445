"""Each method against its rule, computed by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seta
from seta import LossHistogram, Pruner
from seta.engine import difficulty_groups

LOSSES = np.random.default_rng(0).gamma(0.5, 1, 20_000).astype(np.float32)
HISTOGRAM = LossHistogram.from_losses(LOSSES)


def test_defaults_are_the_published_lossless_setting():
    assert seta.SeTa() == seta.SeTa(prune_ratio=0.1, groups=5, window=0.9, delta=0.875)
    assert seta.InfoBatch() == seta.InfoBatch(prune_ratio=0.5, delta=0.875)


@pytest.mark.parametrize(
    "groups, window, width", [(5, 0.9, 4), (5, 0.5, 2), (10, 0.5, 5), (5, 0.6, 3)]
)
def test_the_window_is_rounded_half_to_even_and_slides_by_epoch(groups, window, width):
    method, epochs = seta.SeTa(0.1, groups, window), 40
    for epoch in range(35):
        curve = method(HISTOGRAM, epoch, epochs)
        start = epoch % (groups - width + 1)
        assert curve.window == (start, start + width)


def test_only_the_window_is_trained_at_the_keep_ratio():
    curve = seta.SeTa(0.2, 5, 0.6)(HISTOGRAM, 1, 16)
    groups = difficulty_groups(HISTOGRAM, 5)
    inside = (HISTOGRAM.centres >= groups.bounds[1]) & (HISTOGRAM.centres < groups.bounds[4])
    assert np.all(curve.keep[inside] == 0.8)
    assert np.all(curve.keep[~inside] == 0)
    assert curve.unseen == 0.8


@pytest.mark.parametrize(
    "epochs, delta, pruning",
    [(200, 0.875, 175), (30, 0.875, 26), (100, 0.29, 29), (8, 1.0, 8), (5, 0.0, 0)],
)
def test_annealing_begins_after_the_floor_of_delta_times_epochs(epochs, delta, pruning):
    assert seta.SeTa(delta=delta).pruning_epochs(epochs) == pruning
    for epoch in {*range(0, epochs, 7), pruning - 1, pruning} & {*range(epochs)}:
        annealing = seta.SeTa(0.3, delta=delta)(HISTOGRAM, epoch, epochs).window is None
        full = seta.InfoBatch(delta=delta)(HISTOGRAM, epoch, epochs).weight is None
        assert annealing == full == (epoch >= pruning)


def test_annealing_and_the_first_epoch_are_random_pruning_alone():
    for histogram, epoch in ((HISTOGRAM, 19), (LossHistogram.from_losses(LOSSES * np.nan), 0)):
        curve = seta.SeTa(0.3)(histogram, epoch, 20)
        assert np.all(curve.keep_by_cell == 0.7)


@given(st.integers(1, 4), st.integers(0, 20))
def test_fewer_distinct_losses_than_groups_shrink_the_window(distinct, epoch):
    histogram = LossHistogram.from_losses(np.arange(distinct, dtype=np.float32))
    curve = seta.SeTa(0.1, 5, 0.6)(histogram, epoch, 100)
    width = max(1, round(distinct * 0.6))
    start = epoch % (distinct - width + 1)
    assert curve.window == (start, start + width)
    assert (curve.keep[histogram.counts > 0] > 0).sum() == width


@pytest.mark.parametrize(
    "ratio", [0.3, *(pytest.param(ratio, marks=pytest.mark.slow) for ratio in (0.1, 0.5))]
)
def test_the_saving_follows_from_the_share_of_the_easiest_group(ratio):
    """k = 5, w = 4, easiest share e: saved = 1 - (1 - r) (delta (1 - e / 2) + 1 - delta)."""
    n, epochs = 50_000, 64
    losses = np.where(np.arange(n) < 0.9 * n, 0.001, np.arange(n) % 4 + 1.0).astype(np.float32)
    pruner = Pruner(n, seta.SeTa(ratio), epochs=epochs, losses=losses)
    for _ in range(epochs):
        indices = pruner.begin_epoch().indices
        pruner.record(indices, losses[indices])
        pruner.end_epoch()
    # Positions 0 (all but the hardest group) and 1 (all but the easiest) alternate.
    easiest, hardest = 0.9, 0.1 / 4
    shares = 0.875 * (1 - (easiest + hardest) / 2) + 0.125
    assert pruner.saved == pytest.approx(1 - (1 - ratio) * shares, abs=0.003)


def test_infobatch_keeps_above_the_mean_and_halves_below():
    curve = seta.InfoBatch(0.5)(HISTOGRAM, 0, 8)
    below = HISTOGRAM.edges[1:] <= LOSSES.mean()
    above = HISTOGRAM.edges[:-1] > LOSSES.mean()
    assert below.sum() + above.sum() >= HISTOGRAM.bins - 2
    assert np.all(curve.keep[below][:-1] == 0.5) and np.all(curve.weight[below][:-1] == 2)
    assert np.all(curve.keep[above][1:] == 1) and np.all(curve.weight[above][1:] == 1)
    assert (curve.unseen, curve.unseen_weight, curve.unbiased) == (1, 1, True)


def test_infobatch_estimates_the_loss_of_full_training_without_bias():
    values = LOSSES.astype(np.float64)
    pruner_sums = []
    for seed in range(30):
        selection = Pruner(
            len(LOSSES), "InfoBatch", epochs=8, losses=LOSSES, seed=seed
        ).begin_epoch()
        pruner_sums.append((values[selection.indices] * selection.weights).sum())
    spread = np.std(pruner_sums) / np.sqrt(30)
    assert abs(np.mean(pruner_sums) - values.sum()) < 4 * spread


@pytest.mark.parametrize("value", [2.303, 1e-30, 7e8, 0.0])
def test_infobatch_prunes_nothing_where_all_losses_are_equal(value):
    histogram = LossHistogram.from_losses(np.full(1001, value, np.float32))
    assert np.all(seta.InfoBatch()(histogram, 0, 8).keep == 1)


def test_random_draws_anew_and_static_once():
    for name, same in (("Random", False), ("Static", True)):
        pruner = Pruner(10_000, name, epochs=3)
        one, other = (set(pruner.begin_epoch(e).indices.tolist()) for e in range(2))
        assert (one == other) is same
        assert abs(len(one) - 7000) < 5 * np.sqrt(10_000 * 0.21)


def test_static_still_shuffles_each_epoch():
    pruner = Pruner(1000, "Static", epochs=2)
    one, other = (pruner.begin_epoch(e).indices.tolist() for e in range(2))
    assert one != other


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"groups": 0}, "groups must be at least 1, got 0: the number of groups"),
        ({"window": 0}, r"window must lie in \(0, 1\], got 0: the share of the groups"),
        ({"window": 1.2}, r"window must lie in \(0, 1\], got 1.2"),
        (
            {"groups": 3, "window": 0.1},
            r"round\(groups \* window\) must be at least 1, got groups=3",
        ),
        ({"groups": 5, "window": 0.1}, r"round\(groups \* window\) must be at least 1"),
        ({"delta": 1.5}, r"delta must lie in \[0, 1\], got 1.5: the share of the epochs"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        seta.SeTa(**arguments)


def test_infobatch_refuses_a_bad_delta():
    with pytest.raises(ValueError, match=r"delta must lie in \[0, 1\], got -1"):
        seta.InfoBatch(delta=-1)
