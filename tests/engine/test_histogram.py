"""The histogram against brute force: every float32, any range, merges, quantiles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from seta.engine import Binning, LossHistogram
from seta.engine.curves.histogram import LARGEST_KEY, MAX_BINS, loss_range, ordered_bits
from seta.engine.parallel import BLOCK
from tests.examples import examples

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
LOSSES = hnp.arrays(
    np.float32, st.integers(1, 200), elements=FINITE | st.just(float("nan")), fill=st.nothing()
)


def finite(losses):
    return losses[~np.isnan(losses)]


@given(st.lists(FINITE, min_size=2, max_size=50))
def test_ordered_bits_keep_the_order_of_floats(values):
    values = np.sort(np.array(values, np.float32))
    keys = ordered_bits(values).astype(np.int64)
    increasing = values[:-1] < values[1:]
    assert np.all(np.diff(keys)[increasing] > 0)


@given(LOSSES)
def test_every_loss_lies_within_the_edges_of_its_bin(losses):
    histogram = LossHistogram.from_losses(losses, threads=1)
    seen = finite(losses)
    bins = histogram.bin_of(seen)
    assert np.all(bins < histogram.bins)
    assert np.all(histogram.edges[bins] <= seen)
    # The last edge may be clipped to the largest float32, which is then inside.
    assert np.all((seen < histogram.edges[bins + 1]) | (seen == np.finfo(np.float32).max))
    assert np.all(histogram.bin_of(losses[np.isnan(losses)]) == histogram.bins)


@given(LOSSES)
def test_counts_are_those_of_a_plain_loop(losses):
    histogram = LossHistogram.from_losses(losses, threads=2)
    expected = np.zeros(histogram.bins, np.int64)
    for bin_ in histogram.bin_of(finite(losses)):
        expected[bin_] += 1
    assert np.array_equal(histogram.counts, expected)
    assert histogram.unseen == np.isnan(losses).sum()
    assert histogram.total == len(losses)


@given(LOSSES)
def test_the_binning_is_the_finest_that_fits(losses):
    histogram = LossHistogram.from_losses(losses)
    binning = histogram.binning
    assert binning.size <= MAX_BINS
    if binning.shift:
        keys = ordered_bits(finite(losses)).astype(np.int64)
        assert (int(keys.max() - keys.min()) >> (binning.shift - 1)) + 1 > MAX_BINS


@given(LOSSES, st.data())
def test_histograms_of_parts_add_up(losses, data):
    whole = LossHistogram.from_losses(losses)
    cut = data.draw(st.integers(0, len(losses)))
    parts = [
        LossHistogram.from_losses(part, binning=whole.binning)
        for part in (losses[:cut], losses[cut:])
    ]
    merged = parts[0].merge(parts[1])
    assert np.array_equal(merged.counts, whole.counts)
    assert merged.unseen == whole.unseen


def test_counts_do_not_depend_on_threads_or_blocks():
    losses = np.random.default_rng(0).gamma(1, 1, 5 * BLOCK + 17).astype(np.float32)
    losses[::7] = np.nan
    one = LossHistogram.from_losses(losses, threads=1)
    for threads in (2, 3):
        other = LossHistogram.from_losses(losses, threads=threads)
        assert np.array_equal(one.counts, other.counts)
    assert one.unseen == np.isnan(losses).sum()


@pytest.mark.parametrize("centre, spread", [(2.303, 0.01), (10.8, 0.02), (1e-3, 1e-6)])
def test_a_first_epochs_narrow_losses_are_told_apart(centre, spread):
    losses = np.random.default_rng(0).normal(centre, spread, 10_000).astype(np.float32)
    histogram = LossHistogram.from_losses(losses)
    assert np.count_nonzero(histogram.counts) > 0.5 * len(np.unique(losses))


@given(LOSSES.filter(lambda x: not np.isnan(x).all()))
def test_mean_is_that_of_the_losses_to_the_width_of_a_bin(losses):
    histogram = LossHistogram.from_losses(losses)
    seen = finite(losses).astype(np.float64)
    bins = histogram.bin_of(seen)
    widths = histogram.edges[bins + 1] - histogram.edges[bins]
    tolerance = widths.mean() + 1e-12 * np.abs(seen).max()
    assert abs(histogram.mean() - seen.mean()) <= tolerance


def test_mean_of_typical_losses_is_good_to_four_digits():
    losses = np.random.default_rng(0).gamma(0.5, 1, 100_000).astype(np.float32)
    histogram = LossHistogram.from_losses(losses)
    assert histogram.mean() == pytest.approx(losses.mean(dtype=np.float64), rel=1e-4)


@given(LOSSES.filter(lambda x: not np.isnan(x).all()), st.floats(0, 1))
def test_quantile_lies_in_the_bin_of_the_sorted_losses(losses, q):
    histogram = LossHistogram.from_losses(losses)
    at = next(at for at in range(histogram.seen) if (at + 1) / histogram.seen >= q)
    ranked = np.sort(finite(losses))[at]
    assert histogram.quantile(q) == histogram.centres[histogram.bin_of(ranked)]


def test_the_quantile_of_so_many_percent_of_100_losses_is_that_one():
    histogram = LossHistogram.from_losses(np.arange(1, 101, dtype=np.float32))
    found = [histogram.bin_of(histogram.quantile(percent / 100)) for percent in range(1, 101)]
    assert found == histogram.bin_of(np.arange(1, 101)).tolist()


def test_signed_zeros_and_nans_of_either_sign_are_counted_right():
    negative_nan = np.array([0xFFC00001], np.uint32).view(np.float32)[0]
    losses = np.array([0.0, -0.0, np.nan, negative_nan, 1.0, -1.0], np.float32)
    histogram = LossHistogram.from_losses(losses)
    assert histogram.seen == 4
    assert histogram.unseen == 2
    for shift in (22, 23, 24):  # of the largest float, too
        wide = Binning(LARGEST_KEY - (3 << shift), shift, 4)
        assert wide.bin_of(np.array([np.nan, negative_nan])).tolist() == [4, 4]
        assert wide.bin_of([np.finfo(np.float32).max]) == 3
    only_zeros = LossHistogram.from_losses(np.array([0.0, -0.0], np.float32))
    assert only_zeros.seen == 2


def test_the_whole_range_of_float32_fits():
    huge = np.finfo(np.float32).max
    losses = np.array([-huge, huge, 0, 1e-45, np.nan], np.float32)
    histogram = LossHistogram.from_losses(losses)
    assert histogram.seen == 4
    assert histogram.bins <= MAX_BINS
    assert np.all(np.isfinite(histogram.centres))


def test_nothing_seen_gives_an_empty_histogram():
    histogram = LossHistogram.from_losses(np.full(5, np.nan, np.float32))
    assert (histogram.seen, histogram.unseen, histogram.bins) == (0, 5, 1)
    assert np.isnan(histogram.mean())
    assert np.isnan(histogram.quantile(0.5))
    assert loss_range(np.zeros(0, np.float32)) is None


def test_infinite_losses_are_refused():
    with pytest.raises(ValueError, match=r"finite or NaN .*leave non-finite losses out"):
        LossHistogram.from_losses(np.array([1, np.inf], np.float32))


def test_losses_outside_a_given_binning_are_refused():
    binning = Binning.over(1.0, 2.0)
    for losses in ([0.5, 1.5], [1.5, 3.0]):
        with pytest.raises(ValueError, match=r"do not fit the given binning .*agree on one"):
            LossHistogram.from_losses(np.array(losses, np.float32), binning=binning)


def test_histograms_of_different_bins_are_not_added():
    one = LossHistogram.from_losses(np.array([1, 2], np.float32))
    other = LossHistogram.from_losses(np.array([1, 3], np.float32))
    with pytest.raises(ValueError, match="different bins do not add up"):
        one.merge(other)


@pytest.mark.parametrize("low, high", [(2.0, 1.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_bad_bounds_are_refused(low, high):
    with pytest.raises(ValueError, match="finite bounds with low <= high"):
        Binning.over(low, high)


@pytest.mark.parametrize("q", [-0.1, 1.1])
def test_bad_quantiles_are_refused(q):
    histogram = LossHistogram.from_losses(np.array([1, 2], np.float32))
    with pytest.raises(ValueError, match=r"q must lie in \[0, 1\]"):
        histogram.quantile(q)


@examples(20)
@given(LOSSES)
def test_the_losses_are_left_as_they_were(losses):
    before = losses.copy()
    LossHistogram.from_losses(losses)
    assert np.array_equal(before, losses, equal_nan=True)
