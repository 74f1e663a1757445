"""Means and paired differences against scipy and numpy, and what has no interval."""

from statistics import mean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from seta.comparison.statistics import Difference, between, mean_and_spread, paired_difference

SHARES = st.floats(0.0, 1.0, allow_nan=False)
BY_SEED = st.dictionaries(st.integers(0, 9), SHARES, min_size=2)
PLACES = st.integers(0, 1000).map(lambda place: place / 1000)  # closer ones make numpy overflow


@given(BY_SEED, st.integers(0, 2**32 - 1))
def test_a_paired_difference_is_that_of_scipys_paired_test(values, seed):
    noise = np.random.default_rng(seed).normal(0, 0.1, len(values))
    reference = {s: float(v + e) for (s, v), e in zip(values.items(), noise, strict=True)}
    found = paired_difference(values, reference)
    expected = ttest_rel(list(values.values()), list(reference.values())).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert found.seeds == len(values)


def test_a_paired_difference_by_hand():
    # Differences 1, 2, 3: mean 2, deviation 1, t(0.975, 2) = 4.3027.
    found = paired_difference({0: 2.0, 1: 4.0, 2: 6.0}, {0: 1.0, 1: 2.0, 2: 3.0})
    assert found.mean == 2.0
    assert found.half == pytest.approx(4.302652729911275 / 3**0.5)
    assert found.sign == 0


@given(BY_SEED, BY_SEED, st.dictionaries(st.integers(0, 9), st.floats(-1, 1)))
def test_what_a_seed_does_to_all_its_runs_does_not_change_a_paired_difference(a, b, shifts):
    before = paired_difference(a, b)
    moved = [{s: v + shifts.get(s, 0.0) for s, v in values.items()} for values in (a, b)]
    after = paired_difference(*moved)
    if before is None:
        assert after is None
    else:
        assert after.mean == pytest.approx(before.mean, abs=1e-12)
        assert (after.half or 0) == pytest.approx(before.half or 0, abs=1e-7)


@given(BY_SEED, BY_SEED)
def test_turning_a_difference_around_turns_its_sign(a, b):
    there, back = paired_difference(a, b), paired_difference(b, a)
    if there is not None:
        assert there.mean == -back.mean
        assert there.sign == -back.sign


def test_only_common_seeds_are_paired_and_none_gives_no_difference():
    assert paired_difference({0: 1.0, 1: 5.0}, {1: 2.0, 2: 0.0}) == Difference(3.0, None, 1)
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


def test_one_seed_gives_no_interval_and_no_verdict():
    alone = paired_difference({0: 0.9}, {0: 0.1})
    assert (alone.low, alone.high, alone.sign) == (None, None, 0)
    assert mean_and_spread({0: 0.9}) == (0.9, None)


def test_equal_differences_have_an_interval_without_width_and_no_verdict():
    equal = paired_difference({0: 1.0, 1: 2.0}, {0: 0.5, 1: 1.5})
    assert (equal.low, equal.high, equal.sign) == (0.5, 0.5, 0)
    assert paired_difference({0: 0.1, 1: 0.8}, {0: 0.0, 1: 0.7}).sign == 0  # equal but for rounding
    assert paired_difference({0: 1.0, 1: 2.0}, {0: 0.5, 1: 1.49}).sign == 1


def test_intervals_cover_the_truth_as_often_as_they_say():
    draws = np.random.default_rng(0).normal(0.3, 1.0, (4000, 4))
    found = [paired_difference(dict(enumerate(d)), dict.fromkeys(range(4), 0.0)) for d in draws]
    covered = mean(way.low <= 0.3 <= way.high for way in found)
    assert covered == pytest.approx(0.95, abs=0.015)


@given(st.lists(st.tuples(PLACES, SHARES), min_size=1, unique_by=lambda p: p[0]), PLACES)
def test_between_is_numpys_interpolation_inside_and_nothing_outside(points, x):
    points = sorted(points)
    found = between(points, x)
    if len(points) < 2 or not points[0][0] <= x <= points[-1][0]:
        assert found is None
    else:
        assert found == pytest.approx(np.interp(x, *zip(*points, strict=True)), abs=1e-9)
