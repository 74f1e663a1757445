"""The draw and the shuffle: coins addressed by index, right probabilities, uniform orders."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seta.engine import KeepCurve, LossHistogram, parallel
from seta.engine.draw.coins import Coins, Purpose
from seta.engine.draw.mask import count_bits, draw_mask, set_bits

N = 2 * parallel.BLOCK + 1001


@pytest.fixture
def losses():
    values = np.random.default_rng(0).gamma(1, 1, N).astype(np.float32)
    values[::10] = np.nan
    return values


def sloped(histogram):
    """A curve with every probability from 0 to 1."""
    return KeepCurve(np.linspace(0, 1, histogram.bins), unseen=0.5)


def kept(losses, curve, histogram=None, *, seed=1, epoch=2, threads=1):
    histogram = histogram or LossHistogram.from_losses(losses)
    mask = draw_mask(losses, histogram.binning, curve, seed=seed, epoch=epoch, threads=threads)
    return np.unpackbits(mask, count=len(losses)).astype(bool)


def test_a_sample_is_kept_if_its_coin_lies_below_the_curve(losses):
    histogram = LossHistogram.from_losses(losses)
    curve = sloped(histogram)
    probability = np.append(curve.keep, curve.unseen)[histogram.bin_of(losses)]
    coins = Coins(1, 2, Purpose.KEEP).uint32(N) / 2**32
    clear = np.abs(coins - probability) > 1e-9
    assert np.array_equal(kept(losses, curve)[clear], (coins < probability)[clear])


def test_coins_do_not_depend_on_threads_block_size_or_the_samples_behind(losses, monkeypatch):
    histogram = LossHistogram.from_losses(losses)
    curve = sloped(histogram)
    one = kept(losses, curve, histogram)
    assert np.array_equal(one, kept(losses, curve, histogram, threads=3))
    assert np.array_equal(one[:70_001], kept(losses[:70_001], curve, histogram))
    monkeypatch.setattr(parallel, "BLOCK", 1 << 10)
    assert np.array_equal(one, kept(losses, curve, histogram, threads=2))


@given(st.integers(0, 1000), st.integers(0, 300), st.integers(1, 50))
def test_any_stretch_of_a_stream_is_the_same_numbers(seed, start, count):
    whole = Coins(seed, 3, Purpose.ORDER).uint64(start + count)
    assert np.array_equal(Coins(seed, 3, Purpose.ORDER, start).uint64(count), whole[start:])


def test_streams_of_other_seeds_epochs_and_purposes_differ():
    streams = [
        Coins(seed, epoch, purpose).uint64(4).tolist()
        for seed, epoch, purpose in itertools.product((0, 1), (0, 1), Purpose)
    ]
    assert len({tuple(stream) for stream in streams}) == len(streams)


def test_every_bin_is_kept_at_its_probability(losses):
    histogram = LossHistogram.from_losses(losses)
    curve = sloped(histogram)
    probability = np.append(curve.keep, curve.unseen)[histogram.bin_of(losses)]
    shares = [kept(losses, curve, histogram, epoch=epoch) for epoch in range(20)]
    for low in np.arange(0, 1, 0.1):
        inside = (probability >= low) & (probability < low + 0.1)
        expected, trials = probability[inside].sum() * 20, 20 * inside.sum()
        found = sum(share[inside].sum() for share in shares)
        assert abs(found - expected) < 5 * np.sqrt(trials * 0.25) + 1


def test_probability_one_always_keeps_and_zero_never(losses):
    histogram = LossHistogram.from_losses(losses)
    middle = histogram.bins // 2
    curve = KeepCurve((np.arange(histogram.bins) < middle).astype(float), unseen=0.0)
    certain = histogram.bin_of(losses) < middle
    for epoch in range(10):
        assert np.array_equal(kept(losses, curve, histogram, epoch=epoch), certain)


@pytest.mark.parametrize("constant", [0.0, 0.37, 1.0])
def test_a_constant_curve_keeps_what_a_curve_of_equal_bins_does(losses, constant):
    histogram = LossHistogram.from_losses(losses)
    plain = kept(losses, KeepCurve.constant(histogram, constant))
    values = np.full(histogram.bins, constant)
    values[np.flatnonzero(histogram.counts == 0)[0]] = 0.5  # an empty bin: not constant, same draw
    assert np.array_equal(plain, kept(losses, KeepCurve(values, constant), histogram))


def test_offsets_of_one_coin_draw_without_replacement(losses):
    histogram = LossHistogram.from_losses(losses)
    times = sum(
        kept(
            losses,
            KeepCurve(np.full(histogram.bins, 0.25), 0.25, coin_epoch=0, coin_offset=part / 4),
            epoch=part,
        ).astype(int)
        for part in range(4)
    )
    assert np.all(times == 1)


@given(st.lists(st.booleans(), min_size=1, max_size=100), st.data())
def test_bits_are_set(flags, data):
    flags = np.array(flags)
    mask = np.packbits(flags)
    chosen = np.array(data.draw(st.lists(st.integers(0, len(flags) - 1))), dtype=np.int64)
    set_bits(mask, chosen)
    flags[chosen] = True
    assert np.array_equal(np.unpackbits(mask, count=len(flags)).astype(bool), flags)
    assert count_bits(mask) == flags.sum()


@given(st.integers(0, 2**32), st.sampled_from(["normal", "discrete", "zeros"]))
def test_comparing_with_a_few_runs_draws_what_looking_up_bins_does(seed, kind):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 300))
    losses = (rng.normal(0, 1, n) if kind == "normal" else rng.integers(-1, 4, n)).astype(
        np.float32
    )
    losses[rng.random(n) < 0.2] = -0.0 if kind == "zeros" else np.nan
    histogram = LossHistogram.from_losses(losses)
    low, high = np.sort(rng.integers(0, histogram.bins + 1, 2))
    keep = np.full(histogram.bins, rng.choice([0.0, 0.3, 1.0]))
    keep[low:high] = rng.choice([0.0, 0.5, 0.9, 1.0])
    curve = KeepCurve(keep, float(rng.choice([0.0, 0.4, 1.0])))
    found = kept(losses, curve, histogram, seed=seed)
    by_bin = np.append(curve.keep, curve.unseen)[histogram.bin_of(losses)]
    coins = Coins(seed, 2, Purpose.KEEP).uint32(n) / 2**32
    assert np.array_equal(found, coins < by_bin)
