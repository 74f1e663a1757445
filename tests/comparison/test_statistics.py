"""Differences and intervals against scipy, by hand, and by simulation."""

from dataclasses import replace
from math import sqrt
from statistics import fmean, stdev

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import t as student
from scipy.stats import ttest_1samp, ttest_rel

from seta.comparison.statistics import (
    MOST_SEEDS,
    Difference,
    between,
    mean_and_spread,
    paired_difference,
    quantile,
    width,
)
from tests.examples import examples

FIGURES = st.floats(-100.0, 100.0, allow_nan=False).map(lambda value: round(value, 3))
PAIRS = st.dictionaries(st.integers(0, 99), st.tuples(FIGURES, FIGURES), min_size=2, max_size=12)
CONFIDENCES = st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99, 1 - 0.05 / 8])


def unzipped(pairs):
    """Values and reference by seed, of pairs by seed."""
    return tuple({seed: pair[at] for seed, pair in pairs.items()} for at in (0, 1))


def by_seed(values):
    return dict(enumerate(map(float, values)))


# Against scipy


@examples(300)
@given(PAIRS, CONFIDENCES)
def test_the_interval_is_that_of_scipys_paired_test(pairs, confidence):
    values, reference = unzipped(pairs)
    differences = [value - other for value, other in pairs.values()]
    assume(stdev(differences) > 1e-3)
    found = paired_difference(values, reference, confidence=confidence)
    test = ttest_rel(list(values.values()), list(reference.values()))
    expected = test.confidence_interval(confidence)
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=1e-6, abs=1e-6)
    assert found.mean == pytest.approx(fmean(differences), abs=1e-9)
    assert (found.seeds, found.confidence) == (len(pairs), confidence)


@examples(300)
@given(PAIRS, CONFIDENCES)
def test_the_sign_is_a_significant_result_of_scipys_test(pairs, confidence):
    values, reference = unzipped(pairs)
    differences = [value - other for value, other in pairs.values()]
    assume(stdev(differences) > 1e-3)
    found = paired_difference(values, reference, confidence=confidence)
    p = ttest_1samp(differences, 0.0).pvalue
    assume(abs(p - (1 - confidence)) > 1e-6)
    assert found.sign == (np.sign(fmean(differences)) if p < 1 - confidence else 0)


@given(st.integers(2, 200), st.floats(0.01, 0.999), st.floats(1e-6, 1e6))
def test_a_width_is_scipys_interval_of_a_mean(seeds, confidence, spread):
    low, high = student.interval(confidence, seeds - 1, scale=spread / sqrt(seeds))
    assert width(spread, seeds, confidence) == pytest.approx((high - low) / 2, rel=1e-9)
    assert width(0.0, seeds, confidence) == 0.0


# By hand


def test_a_difference_by_hand():
    # Differences 1, 2, 3: mean 2, deviation 1, t(0.975, 2) = 4.30265.
    found = paired_difference({0: 2.0, 1: 4.0, 2: 6.0}, {0: 1.0, 1: 2.0, 2: 3.0})
    assert found.mean == 2.0
    assert found.half == pytest.approx(4.302652729911275 / sqrt(3))
    assert (found.low, found.high) == (found.mean - found.half, found.mean + found.half)
    assert found.sign == 0


def test_two_seeds_have_cauchys_interval_and_three_have_a_closed_form_too():
    assert quantile(2) == pytest.approx(np.tan(np.pi * 0.95 / 2))
    assert quantile(3) == pytest.approx(0.95 * sqrt(2 / (1 - 0.95**2)))


@pytest.mark.parametrize(("mean", "sign"), [(1.0, 1), (-1.0, -1), (0.5, 0), (-0.5, 0), (0.2, 0)])
def test_the_sign_is_told_where_zero_lies_outside_of_the_interval(mean, sign):
    assert Difference(mean, 0.5, 3).sign == sign


@given(PAIRS)
def test_turning_a_difference_around_turns_all_of_it(pairs):
    values, reference = unzipped(pairs)
    there, back = paired_difference(values, reference), paired_difference(reference, values)
    assert there == replace(back, mean=-back.mean)
    assert there.sign == -back.sign


@given(PAIRS, st.lists(FIGURES, min_size=12, max_size=12))
def test_what_a_seed_does_to_both_runs_takes_no_part(pairs, shifts):
    values, reference = unzipped(pairs)
    assume(stdev([value - other for value, other in pairs.values()]) > 1e-3)
    moved = [
        {seed: value + shift for (seed, value), shift in zip(of.items(), shifts, strict=False)}
        for of in (values, reference)
    ]
    before, after = paired_difference(values, reference), paired_difference(*moved)
    assert (after.mean, after.half) == pytest.approx((before.mean, before.half), abs=1e-9)


# Seeds that are missing, one alone, and equal differences


def test_only_common_seeds_are_paired_whatever_their_order():
    values, reference = {7: 5.0, 0: 1.0, 3: 4.0}, {3: 1.0, 9: 0.0, 7: 4.0}
    found = paired_difference(values, reference)
    assert (found.mean, found.seeds) == (2.0, 2)
    assert found == paired_difference(dict(reversed(values.items())), reference)


@pytest.mark.parametrize(("values", "reference"), [({0: 1.0}, {1: 1.0}), ({}, {}), ({0: 1.0}, {})])
def test_no_common_seed_gives_no_difference(values, reference):
    assert paired_difference(values, reference) is None


def test_one_seed_gives_a_mean_and_no_interval_and_no_verdict():
    found = paired_difference({0: 0.9, 1: 0.0}, {0: 0.4})
    assert found == Difference(0.5, None, 1)
    assert (found.low, found.high, found.sign, found.seeds_needed) == (None, None, 0, None)


def test_equal_differences_have_no_width_and_no_verdict():
    found = paired_difference({0: 1.0, 1: 2.0, 2: 9.0}, {0: 0.5, 1: 1.5, 2: 8.5})
    assert (found.low, found.high, found.sign, found.seeds_needed) == (0.5, 0.5, 0, None)


@given(
    st.sampled_from([np.float32, np.float64]),
    st.lists(st.integers(0, 900), min_size=2, max_size=6),
    st.integers(1, 100),
    st.integers(1000, 9999),
)
def test_shares_that_differ_by_equal_counts_are_equal_in_float32_too(kind, right, more, samples):
    """A net's accuracy is often a mean of float32: its rounding must not look like a result."""
    values = by_seed(kind(count + more) / kind(samples) for count in right)
    reference = by_seed(kind(count) / kind(samples) for count in right)
    found = paired_difference(values, reference)
    assert (found.half, found.sign) == (0.0, 0)


@pytest.mark.parametrize("unit", [1e-12, 1e-6, 1.0, 1e9])
def test_verdicts_do_not_depend_on_the_unit_of_the_metric(unit):
    """A mean squared error may be tiny."""
    values = {seed: figure * unit for seed, figure in enumerate([1.31, 1.30, 1.32])}
    reference = {seed: figure * unit for seed, figure in enumerate([1.21, 1.21, 1.22])}
    found = paired_difference(values, reference)
    assert found.sign == 1
    assert found.seeds_needed == 2


def test_figures_that_are_no_numbers_give_no_verdict():
    assert Difference(float("nan"), float("nan"), 3).sign == 0
    assert Difference(float("nan"), 0.5, 3).sign == 0


def test_what_is_handed_on():
    pairs = ({0: 1.0, 1: 2.0}, {0: 0.0, 1: 0.5})
    assert paired_difference(*pairs, interpolated=True).interpolated
    assert not paired_difference(*pairs).interpolated


def test_means_and_spreads_are_numpys():
    values = np.random.default_rng(0).normal(70.0, 2.0, 5)
    mean, spread = mean_and_spread(by_seed(values))
    assert (mean, spread) == pytest.approx((values.mean(), values.std(ddof=1)))
    assert mean_and_spread({4: 0.9}) == (0.9, None)
    assert mean_and_spread({}) is None


@given(st.lists(st.tuples(FIGURES, FIGURES), unique_by=lambda point: point[0]), FIGURES)
def test_between_is_numpys_interpolation_inside_and_nothing_outside(points, x):
    points = sorted(points)
    found = between(points, x)
    if len(points) < 2 or not points[0][0] <= x <= points[-1][0]:
        assert found is None
    else:
        assert found == pytest.approx(np.interp(x, *zip(*points, strict=True)), abs=1e-6)


# How many seeds it would take


def seeds_by_hand(mean, spread, confidence):
    """The least number of seeds whose interval leaves out zero, by scipy alone."""
    for seeds in range(2, MOST_SEEDS + 1):
        low, high = student.interval(confidence, seeds - 1, abs(mean), spread / sqrt(seeds))
        if low > 0 or high < 0:
            return seeds
    return None


def test_seeds_needed_in_plain_words():
    """Half a spread takes eighteen seeds, a whole one seven, twice that four."""
    needed = [Difference(mean, width(1.0, 5), 5).seeds_needed for mean in (0.5, -1.0, 2.0)]
    assert needed == [18, 7, 4]


@examples(25)
@given(
    st.floats(0.15, 20.0),
    st.integers(2, 12),
    st.sampled_from([0.8, 0.95, 1 - 0.05 / 8]),
    st.sampled_from([-1.0, 1.0]),
)
def test_the_seeds_needed_are_those_of_a_search_with_scipy(ratio, seeds, confidence, sign):
    half = width(1.0, seeds, confidence)
    found = Difference(sign * ratio, half, seeds, confidence=confidence)
    assert found.seeds_needed == seeds_by_hand(ratio, 1.0, confidence)


@given(PAIRS, CONFIDENCES)
def test_what_is_told_apart_needs_no_more_seeds_and_what_is_not_needs_more(pairs, confidence):
    found = paired_difference(*unzipped(pairs), confidence=confidence)
    if found.half and abs(abs(found.mean) / found.half - 1) > 1e-9:
        needed = found.seeds_needed
        assert (needed is not None and needed <= found.seeds) == (found.sign != 0)


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_seeds_needed_grow_with_the_square_of_the_spread_over_the_mean(confidence):
    normal = student.ppf((1 + confidence) / 2, 10**9)  # Student's quantile of many seeds
    for ratio in (4.0, 8.0, 12.0):
        found = Difference(1.0 / ratio, width(1.0, 5, confidence), 5, confidence=confidence)
        square = (normal * ratio) ** 2
        assert square < found.seeds_needed < square + 4  # Student's tails add a few


def test_the_most_seeds_are_still_told_and_more_are_not():
    at_the_edge = width(1.0, MOST_SEEDS)
    half = width(1.0, 3)
    assert Difference(at_the_edge * 1.00001, half, 3).seeds_needed == MOST_SEEDS
    assert Difference(at_the_edge * 0.99999, half, 3).seeds_needed is None
    assert Difference(0.0, half, 3).seeds_needed is None


# What the intervals promise, by simulation


def experiments(count, seeds, truth, generator):
    """Made-up runs, (experiments, seeds) each: a seed shifts both runs by far more than noise."""
    shared = generator.normal(70.0, 5.0, (count, seeds))
    values, reference = (shared + generator.normal(0, 0.3, shared.shape) for _ in range(2))
    return (values + truth).tolist(), reference.tolist()


@pytest.mark.statistics
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_intervals_hold_the_true_difference_as_often_as_they_say(seeds):
    made = experiments(10_000, seeds, 0.25, np.random.default_rng(seeds))
    found = [paired_difference(by_seed(a), by_seed(b)) for a, b in zip(*made, strict=True)]
    share = fmean(way.low <= 0.25 <= way.high for way in found)
    assert 0.94 <= share <= 0.96


def test_intervals_without_pairing_would_be_many_times_as_wide():
    values, reference = experiments(200, 5, 0.25, np.random.default_rng(0))
    paired = [
        paired_difference(by_seed(a), by_seed(b)).half
        for a, b in zip(values, reference, strict=True)
    ]
    turned = [
        paired_difference(by_seed(a), by_seed(b[1:] + b[:1])).half
        for a, b in zip(values, reference, strict=True)
    ]
    assert fmean(turned) > 5 * fmean(paired)


def ever_told_apart(seeds, confidence, count=2000):
    """The share of experiments without a difference that some look, from the third seed, finds."""
    made = experiments(count, seeds, 0.0, np.random.default_rng(100 + seeds))
    return fmean(
        any(
            paired_difference(by_seed(a[:n]), by_seed(b[:n]), confidence=confidence).sign
            for n in range(3, seeds + 1)
        )
        for a, b in zip(*made, strict=True)
    )


@pytest.mark.statistics
@pytest.mark.parametrize("seeds", [5, 10])
def test_looking_after_every_seed_needs_wider_intervals(seeds):
    """Who stops at the first clear difference has one chance to be wrong per look."""
    looks = seeds - 2
    assert ever_told_apart(seeds, 0.95) > 0.06
    assert ever_told_apart(seeds, 1 - 0.05 / looks) <= 0.05
