"""Draws by index: even, independent of order and of each other, and long-tailed as they say."""

import numpy as np
import pytest
from draws import generator, long_tailed, uniform
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats


@given(st.integers(0, 2**32), st.lists(st.integers(0, 2**40), min_size=1, max_size=20))
def test_a_draw_depends_on_its_index_alone(seed, indices):
    together = uniform(seed, "a", indices)
    alone = [uniform(seed, "a", index) for index in indices]
    np.testing.assert_array_equal(together, alone)
    assert together.dtype == np.float64
    assert ((together >= 0) & (together < 1)).all()


def test_draws_are_even():
    drawn = uniform(0, "wrong", np.arange(100_000))
    assert stats.kstest(drawn, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.02


@pytest.mark.parametrize("other", [(0, "b"), (1, "a")])
def test_another_name_or_seed_draws_anew(other):
    indices = np.arange(100_000)
    first, second = uniform(0, "a", indices), uniform(*other, indices)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02


def test_the_shape_of_the_indices_is_kept():
    indices = np.arange(6).reshape(2, 3)
    assert uniform(0, "a", indices).shape == (2, 3)
    np.testing.assert_array_equal(uniform(0, "a", indices).ravel(), uniform(0, "a", range(6)))


def test_generators_are_of_a_sample():
    first = generator(3, "image", 7).random(4)
    np.testing.assert_array_equal(first, generator(3, "image", 7).random(4))
    for other in (generator(4, "image", 7), generator(3, "text", 7), generator(3, "image", 8)):
        assert (other.random(4) != first).all()


@pytest.mark.parametrize("tail", [0.0, 0.5, 1.0])
def test_things_come_as_often_as_their_place_in_the_tail_says(tail):
    count, n = 50, 200_000
    shown = np.bincount(long_tailed(0, "thing", np.arange(n), count, tail), minlength=count)
    # The density of the continuous draw, between k + 1 and k + 2.
    edges = np.arange(1.0, count + 2)
    mass = np.log(edges) if tail == 1 else edges ** (1 - tail) / (1 - tail)
    expected = n * np.diff(mass) / (mass[-1] - mass[0])
    assert stats.chisquare(shown, expected).pvalue > 1e-3


def test_one_thing_is_all_there_is():
    assert (long_tailed(0, "thing", np.arange(100), 1) == 0).all()
