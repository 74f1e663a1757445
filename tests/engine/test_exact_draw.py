"""Exact draws under curves that no arithmetic likes: always the count, always the right samples."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seta
from seta import KeepCurve, LossHistogram, Pruner
from seta.engine.curves.fit import fit
from seta.engine.draw.choose import choose
from seta.engine.draw.coins import Coins, Purpose
from seta.engine.draw.exact import draw_exactly
from seta.engine.draw.partition import Partition
from seta.engine.draw.shards import draw_shards
from seta.engine.steps import Steps
from tests.combinations import some_of
from tests.examples import examples

# Neighbouring floats: one bin each.
LEVELS = (np.float32(1).view(np.uint32) + np.arange(6, dtype=np.uint32)).view(np.float32)
UGLY = [0, 5e-324, 1.5e-323, 1e-310, 1e-200, 1e-20, 2.0**-33, 1e-9, 0.3, 1 - 2.0**-53, 1]
KEEP = st.sampled_from(UGLY) | st.floats(0, 1)


@st.composite
def cases(draw, strata=True):
    """Losses with the curve of their histogram: (losses, strata, histogram, curve, n to keep)."""
    kinds = draw(st.sampled_from([None, 1, 3])) if strata else None
    n = draw(st.integers(3, 60))
    levels = draw(st.integers(1, len(LEVELS)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    losses = LEVELS[rng.integers(0, levels, n)]
    losses[rng.random(n) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = np.nan
    classes = None if kinds is None else rng.integers(0, kinds, n).astype(np.uint8)
    histogram = LossHistogram.from_losses(losses, strata=classes)
    shape = (histogram.bins,) if kinds is None else (len(histogram.by_stratum), histogram.bins)
    keep = draw(st.lists(KEEP, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    curve = KeepCurve(np.reshape(keep, shape), draw(KEEP))
    return losses, classes, histogram, curve, draw(st.integers(0, n))


def keep_of(losses, classes, histogram, curve):
    return curve.keep_by_cell[histogram.binning.cells_of(losses, classes)]


def place_of(coin, keep):
    """What a sample is sorted by, exactly: the certain, the possible by coin / keep, the others."""
    if keep in (0, 1):
        return (0, 0) if keep else (2, 0)
    return (1, Fraction(int(coin)) / Fraction(float(keep)))


@given(cases(), st.integers(0, 1000))
def test_the_smallest_exact_ratios_are_drawn_as_many_as_asked_for(case, seed):
    losses, classes, histogram, curve, n = case
    curve = fit(curve, histogram, n).curve
    options = {"seed": seed, "epoch": 1, "threads": 1, "strata": classes}
    mask, _ = draw_exactly(n, losses, histogram, curve, **options)
    chosen = np.flatnonzero(np.unpackbits(mask, count=len(losses)))
    coins = np.maximum(Coins(seed, 1, Purpose.KEEP).uint32(len(losses)), 1)
    keep = keep_of(losses, classes, histogram, curve)
    places = [(*place_of(c, k), i) for i, (c, k) in enumerate(zip(coins, keep, strict=True))]
    assert len(chosen) == n
    assert {place[-1] for place in sorted(places)[:n]} == set(chosen.tolist())


@given(cases(), st.integers(0, 1000), st.data())
@examples(60)
def test_epochs_have_their_count_with_samples_that_are_always_kept(case, seed, data):
    losses, classes, histogram, curve, n = case
    always = data.draw(st.sets(st.integers(0, len(losses) - 1), min_size=1, max_size=max(1, n)))
    n = max(n, len(always))
    choice = choose(
        losses, histogram, curve, count=n, sizes=Steps(len(losses)), seed=seed, epoch=0, threads=1,
        always_keep=np.array(sorted(always)), strata=classes,
    )  # fmt: skip
    chosen = set(np.flatnonzero(np.unpackbits(choice.mask, count=len(losses))).tolist())
    assert len(chosen) == n
    assert always <= chosen


@given(cases(strata=False), st.integers(0, 1000), st.sampled_from([1, 4, 15]))
@examples(60)
def test_every_shard_draws_its_count_of_the_smallest_exact_ratios(case, seed, shards):
    losses, _, histogram, curve, n = case
    partition = Partition(len(losses), shards)
    slots = partition.slot_of(np.arange(len(losses)))
    table = np.full(shards * partition.length, np.nan, np.float32)
    table[slots] = losses
    curve = fit(curve, histogram, n).curve
    mask = draw_shards(
        table, partition, range(shards), histogram, curve, n, seed=seed, epoch=1, threads=1
    )
    chosen = np.unpackbits(mask).astype(bool)[slots]
    assert chosen.sum() == n
    coins = np.maximum(Coins(seed, 1, Purpose.KEEP).uint32(len(table)), 1)[slots]
    keep = keep_of(losses, None, histogram, curve)
    places = [place_of(c, k) for c, k in zip(coins, keep, strict=True)]
    for shard, count in enumerate(partition.counts(n).tolist()):
        here = np.flatnonzero(partition.shard_of(np.arange(len(losses))) == shard)
        assert chosen[here].sum() == count
        drawn = [places[i] for i in here if chosen[i]]
        left = [places[i] for i in here if not chosen[i]]
        assert not drawn or not left or max(drawn) <= min(left)


@given(cases())
def test_a_fit_is_certain_of_no_more_than_the_count_and_forbids_nothing_new(case):
    _, _, histogram, curve, n = case
    before, fitted = curve.for_histogram(histogram), fit(curve, histogram, n)
    after = fitted.curve.for_histogram(histogram).keep_by_cell
    counts = histogram.cells
    assert counts[after == 1].sum() <= n
    assert counts[after > 0].sum() >= n
    assert np.all(after[before.keep_by_cell > 0] > 0)
    assert fitted.curve.expected(histogram) == pytest.approx(n, abs=1e-6)


def test_a_ratio_of_1e17_between_two_losses_keeps_the_budget():
    losses = np.repeat([1.0, 2.0], 5).astype(np.float32)

    def policy(histogram, epoch, epochs):
        return KeepCurve(np.where(histogram.centres > 1.5, 1e-3, 1e-20))

    pruner = Pruner(10, policy, epochs=1, losses=losses, budget=0.5)
    assert sorted(losses[pruner.begin_epoch().indices]) == [2.0] * 5
    row = pruner.end_epoch()
    assert row["fit_trimmed"] == row["fit_widened"] == 0


@pytest.mark.parametrize("keep", [5e-324, 1e-308, 1e-200])
def test_the_least_probability_is_one_like_any_other(keep):
    def policy(histogram, epoch, epochs):
        return KeepCurve.constant(histogram, keep)

    pruner = Pruner(1000, policy, epochs=1, budget=0.5)
    half = Pruner(1000, seta.Random(0.5), epochs=1, budget=0.5)
    assert np.array_equal(pruner.begin_epoch().indices, half.begin_epoch().indices)


@some_of("budget, temperature", [0.2, 0.5, 0.8], [1.0, 1e-3, 1e-300])
@pytest.mark.parametrize("seeds", [range(3), pytest.param(range(3, 8), marks=pytest.mark.slow)])
def test_classes_without_positive_losses_keep_the_budget(budget, temperature, seeds):
    method = seta.RCAP(temperature=temperature)
    for seed in seeds:
        losses = np.random.default_rng(seed).normal(size=7).astype(np.float32)
        pruner = Pruner(
            7, method, epochs=3, budget=budget, strata=np.arange(7) % 3, seed=seed, losses=losses
        )
        for epoch in range(3):
            indices = pruner.begin_epoch().indices
            assert len(indices) == pruner.lengths[epoch]
            pruner.record(indices, losses[indices] - np.float32(epoch))
            pruner.end_epoch()


def test_a_draw_that_is_off_is_refused_before_it_is_used(monkeypatch):
    unfitted = [KeepCurve(np.ones(1)), KeepCurve(np.zeros(1), unseen=0.0)]
    losses = np.ones(10, np.float32)
    histogram = LossHistogram.from_losses(losses)
    for curve in unfitted:
        with pytest.raises(RuntimeError, match="epoch 3 must draw exactly 5 samples, got"):
            draw_exactly(5, losses, histogram, curve, seed=0, epoch=3, threads=1)
    monkeypatch.setattr(Partition, "counts", lambda self, total: self.sizes + 1)
    with pytest.raises(RuntimeError, match="epoch 3 must draw exactly 11 samples, got 10 in"):
        draw_shards(
            np.pad(losses, (0, 6), constant_values=np.nan), Partition(10, 1), range(1), histogram,
            unfitted[0], 10, seed=0, epoch=3, threads=1,
        )  # fmt: skip
