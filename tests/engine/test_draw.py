"""The draw and the shuffle: coins addressed by index, right probabilities, uniform orders."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seta.engine import KeepCurve, LossHistogram, draw, parallel
from seta.engine.coins import Coins, Purpose
from seta.engine.draw import draw_mask, set_bits, shuffled

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


def order(flags, *, seed=0, epoch=0, threads=1):
    return shuffled(np.packbits(flags), len(flags), seed=seed, epoch=epoch, threads=threads)


@pytest.mark.parametrize("share", [0.0, 1e-4, 0.5, 1.0])
def test_the_order_holds_each_kept_sample_once(share):
    flags = np.random.default_rng(0).random(N) < share
    indices = order(flags, threads=2)
    assert indices.dtype == np.uint32
    assert np.array_equal(np.sort(indices), np.flatnonzero(flags))


@pytest.mark.parametrize("n", [1, 7, 8, 9, 1000, 2**16, 2**16 + 1, parallel.BLOCK + 1])
def test_any_size_is_shuffled_whole(n):
    assert np.array_equal(np.sort(order(np.ones(n, bool))), np.arange(n))


def test_the_order_does_not_depend_on_threads():
    flags = np.random.default_rng(0).random(N) < 0.9
    assert np.array_equal(order(flags), order(flags, threads=4))
    assert not np.array_equal(order(flags), order(flags, epoch=1))
    assert not np.array_equal(order(flags), order(flags, seed=1))


@pytest.mark.parametrize("bucket", [1, 2, 1 << 17])
def test_all_orders_are_equally_likely(bucket, monkeypatch):
    monkeypatch.setattr(draw, "_BUCKET", bucket)
    flags = np.ones(4, bool)
    draws = 4800
    found = [tuple(order(flags, epoch=epoch).tolist()) for epoch in range(draws)]
    counts = np.array([found.count(o) for o in itertools.permutations(range(4))])
    assert counts.sum() == draws
    expected = draws / 24
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 57.1  # 23 degrees of freedom, p = 1e-4; the draws are fixed by the seeds


@pytest.mark.parametrize("share", [0.001, 0.7])
@pytest.mark.parametrize("bucket", [1, 1 << 11, 1 << 15, 1 << 17])
def test_the_order_is_that_of_a_plain_program(share, bucket, monkeypatch):
    """A state saved in mid-epoch is resumed by its order, so that it must stay for good."""
    monkeypatch.setattr(draw, "_BUCKET", bucket)
    flags = np.random.default_rng(0).random(N) < share
    flags[5000 : draw._BLOCK + 5000] = False
    bits = int(np.clip(np.ceil(np.log2(flags.sum() / bucket)), 0, 8))
    buckets = [[] for _ in range(1 << bits)]
    for block in range(0, N, draw._BLOCK):
        samples = block + np.flatnonzero(flags[block : block + draw._BLOCK])
        coins = Coins(3, 4, Purpose.BUCKET, block // 4).uint16(len(samples)) & 0x7FFF
        by_coin = np.lexsort((samples, coins)) if bits else slice(None)
        for sample, coin in zip(samples[by_coin], coins[by_coin], strict=True):
            buckets[coin >> (15 - bits)].append(sample)
    expected, start = [], 0
    for members in buckets:
        coins = Coins(3, 4, Purpose.ORDER, start).uint32(len(members))
        expected += [members[i] for i in np.lexsort((members, coins))]
        start += len(members)
    assert np.array_equal(order(flags, seed=3, epoch=4), expected)


def test_the_order_takes_no_memory_beside_itself():
    flags = np.ones(24 * draw._BLOCK, bool)
    mask = np.packbits(flags)
    shuffled(mask[:1000], 8000, seed=0, epoch=0, threads=1)
    tracemalloc.start()
    try:
        indices = shuffled(mask, len(flags), seed=0, epoch=0, threads=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < indices.nbytes + 24 * draw._BLOCK


def test_large_orders_have_no_trend_and_no_neighbours():
    n = 6 * draw._BUCKET
    indices = order(np.ones(n, bool)).astype(np.int64)
    trend = np.corrcoef(indices, np.arange(n))[0, 1]
    assert abs(trend) < 5 / np.sqrt(n)
    ascending = np.mean(np.diff(indices) > 0)
    assert abs(ascending - 0.5) < 5 / np.sqrt(12 * n)
    assert np.sum(np.abs(np.diff(indices)) == 1) < 20  # 2 are expected
    fixed = np.sum(indices == np.arange(n))
    assert fixed < 10  # 1 is expected


def test_indices_of_64_bits_are_sorted_the_same_way():
    members = np.arange(1000, dtype=np.uint64) + 2**33
    moved = members.copy()
    draw._sort_by(Coins(0, 0, Purpose.ORDER), moved)
    assert np.array_equal(np.sort(moved), members)
    assert not np.array_equal(moved, members)


@given(st.lists(st.booleans(), min_size=1, max_size=100), st.data())
def test_bits_are_set(flags, data):
    flags = np.array(flags)
    mask = np.packbits(flags)
    chosen = np.array(data.draw(st.lists(st.integers(0, len(flags) - 1))), dtype=np.int64)
    set_bits(mask, chosen)
    flags[chosen] = True
    assert np.array_equal(np.unpackbits(mask, count=len(flags)).astype(bool), flags)


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
