"""The order of an epoch: one-to-one, as random as it looks, and the kept samples and no others."""

import hashlib
import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from seta.engine.draw import bijection, order, select
from seta.engine.draw.bijection import SMALL, Bijection
from seta.engine.draw.order import Order
from seta.engine.draw.select import Select
from seta.engine.draw.selection import Selection

SEEDS = st.tuples(st.integers(0, 2**63), st.integers(0, 10_000))
CELLS = 64
CHANCE = 1e-6
COUNTS = [
    *(0, 1, 2, 3, 5, 7, 8, 9, 255, 256, 257, 65_521, SMALL - 1, SMALL, SMALL + 1, SMALL + 2),
    *(SMALL + 257, 2**17 - 1, 2**17, 2**17 + 1, 131_101, 2**18, 2**18 + 1, 999_983, 2**20 + 1),
]
SIZES = [50_021, SMALL, SMALL + 1, 100_003, 2**20, 2**20 + 1]


def numbers_of(count, seed, epoch):
    return Bijection(count, seed, epoch).at(np.arange(count))


def truly_random(count, seed, epoch):
    return np.random.default_rng((seed, epoch)).permutation(count)


def assert_one_to_one(count, seed, epoch):
    np.testing.assert_array_equal(np.sort(numbers_of(count, seed, epoch)), np.arange(count))


def coarse(numbers, count, cells=CELLS):
    return numbers.astype(np.int64) * cells // count


def assert_independent(a, b):
    """A chi-square test of two columns of small integers, both ways: too even is not random."""
    shape = int(a.max()) + 1, int(b.max()) + 1
    cells = a.astype(np.int64) * shape[1] + b.astype(np.int64)
    table = np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)
    expected = table.sum(1)[:, None] * table.sum(0) / len(a)
    assert_chi_square(table, expected, (shape[0] - 1) * (shape[1] - 1))


def assert_chi_square(observed, expected, degrees):
    statistic = ((observed - expected) ** 2 / expected).sum()
    assert stats.chi2.sf(statistic, degrees) > CHANCE
    assert stats.chi2.cdf(statistic, degrees) > CHANCE


# The permutation.


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (1, 0), (0, 1), (2**63, 99)])
def test_every_number_comes_once(count, seed, epoch):
    assert_one_to_one(count, seed, epoch)


@given(st.integers(1, 300_000), SEEDS)
def test_every_number_comes_once_whatever_the_count(count, key):
    assert_one_to_one(count, *key)


@pytest.mark.parametrize("narrow", [0, 1 << 30])
@given(st.integers(1, 5_000), SEEDS)
def test_the_network_is_one_to_one_however_small(narrow, count, key):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bijection, "SMALL", 0)
        patch.setattr(bijection, "_NARROW", narrow)
        assert_one_to_one(count, *key)


@pytest.mark.parametrize("count", [2**30, 2**30 + 1, 2**32, 2**33 + 5, 10**11])
def test_billions_of_numbers_are_permuted_without_memory(count):
    positions = np.arange(count - 200_000, count)
    numbers = Bijection(count, 3, 1).at(positions)
    assert len(np.unique(numbers)) == len(positions)
    assert numbers.max() < count
    observed = np.bincount(coarse(numbers, count), minlength=CELLS)
    assert_chi_square(observed, len(positions) / CELLS, CELLS - 1)
    observed = np.bincount(numbers.astype(np.int64) % CELLS, minlength=CELLS)
    assert_chi_square(observed, len(positions) / CELLS, CELLS - 1)


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_every_order_of_a_few_is_equally_likely(count):
    orders = {order: 0 for order in itertools.permutations(range(count))}
    for seed in range(100 * len(orders)):
        orders[tuple(numbers_of(count, seed, 0).tolist())] += 1
    assert_chi_square(np.array(list(orders.values())), 100, math.factorial(count) - 1)


# That true randomness passes shows that the tests are fair.
@pytest.mark.parametrize("make", [numbers_of, pytest.param(truly_random, marks=pytest.mark.slow)])
@pytest.mark.parametrize("count", SIZES)
class TestNothingTellsItFromChance:
    def test_a_number_does_not_depend_on_its_position(self, make, count):
        numbers, positions = make(count, 5, 2), np.arange(count)
        assert_independent(coarse(positions, count), coarse(numbers, count))
        assert_independent(positions % CELLS, numbers % CELLS)
        assert_independent(coarse(positions, count), numbers % CELLS)
        assert_independent(positions % CELLS, coarse(numbers, count))

    @pytest.mark.parametrize("distance", [1, 2, 64, 256, 512, 1024])
    def test_neighbours_do_not_depend_on_each_other(self, make, count, distance):
        numbers = make(count, 6, 2).astype(np.int64)
        pairs = numbers[: count // (2 * distance) * 2 * distance].reshape(-1, 2, distance)
        first, second = pairs[:, 0].ravel(), pairs[:, 1].ravel()
        assert_independent(coarse(first, count), coarse(second, count))
        # Modulo the count, every difference but 0 is equally likely.
        difference = (second - first) % count - 1
        for cells in (coarse(difference, count - 1, 251), difference % 251):
            observed = np.bincount(cells, minlength=251)
            assert_chi_square(observed, len(difference) / 251, 250)

    def test_epochs_do_not_depend_on_each_other(self, make, count):
        one, other = make(count, 7, 3), make(count, 7, 4)
        assert_independent(coarse(one, count), coarse(other, count))
        assert_independent(one % CELLS, other % CELLS)

    def test_seeds_do_not_depend_on_each_other(self, make, count):
        one, other = make(count, 8, 0), make(count, 9, 0)
        assert_independent(coarse(one, count), coarse(other, count))
        assert_independent(one % CELLS, other % CELLS)

    @pytest.mark.parametrize("ranks", [2, 3, 8, 64])
    def test_every_rank_has_its_share_of_everything(self, make, count, ranks):
        numbers = make(count, 10, 0)
        assert_independent(np.arange(count) % ranks, coarse(numbers, count))
        assert_independent(np.arange(count) % ranks, numbers % CELLS)

    def test_few_numbers_stay_where_they_were(self, make, count):
        # Fixed points, and pairs of neighbours that stay neighbours, number about 1 each.
        numbers = make(count, 11, 0).astype(np.int64)
        assert np.count_nonzero(numbers == np.arange(count)) < 12
        assert np.count_nonzero(np.diff(numbers) == 1) < 12


# The kept samples.


def assert_selects(kept):
    mask = np.packbits(kept)
    expected = np.flatnonzero(kept)
    selected = Select(mask, len(kept))
    assert selected.count == len(expected)
    ranks = np.random.default_rng(0).permutation(len(expected)).astype(np.uint32)
    np.testing.assert_array_equal(selected.at(ranks), expected[ranks])


@st.composite
def masks(draw):
    """Runs of all, none, few, half and most."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    keep = st.sampled_from([0.0, 0.0, 0.001, 0.02, 0.5, 0.97, 1.0])
    length = st.one_of(st.integers(0, 70), st.integers(0, 5_000))
    runs = draw(st.lists(st.tuples(length, keep), max_size=12))
    return np.concatenate([[False] * 0, *(rng.random(size) < p for size, p in runs)]).astype(bool)


@given(masks())
@example(np.zeros(0, bool))
def test_select_finds_what_is_kept(kept):
    assert_selects(kept)


@pytest.mark.parametrize("keep", [0.0, 0.3, 1.0])
def test_select_finds_what_is_kept_of_few(keep):
    rng = np.random.default_rng(1)
    for n in range(600):
        assert_selects(rng.random(n) < keep)


PLACES = [
    *(slice(0, 100), slice(-100, None), slice(50_000, 50_001), slice(0, 1), slice(-1, None)),
    *(slice(None, None, 2), slice(7, None, 8), slice(0, None, 256), slice(255, None, 256)),
    *(slice(0, None, 10_007), slice(1, None), slice(0, -1), slice(0, -8), slice(0, 60_000)),
]


@pytest.mark.parametrize("n", [100_000, 100_001, 100_031, 131_072])
@pytest.mark.parametrize("where", PLACES)
def test_select_finds_what_is_kept_in_strange_places(n, where):
    kept = np.zeros(n, bool)
    kept[where] = True
    assert_selects(kept)
    assert_selects(~kept)


def test_select_finds_dense_and_sparse_samples_in_one_mask():
    kept = np.zeros(3_000_000, bool)
    kept[:5_000] = True
    kept[5_000::1_000] = True
    kept[-40:] = True
    assert_selects(kept)


def test_select_takes_any_memory():
    kept = np.random.default_rng(0).random(10_007) < 0.5
    mask = np.packbits(kept)
    apart = np.repeat(mask, 2)[::2]
    shifted = np.concatenate([[np.uint8(0)], mask])[1:]
    locked = mask.copy()
    locked.flags.writeable = False
    ranks = np.arange(kept.sum(), dtype=np.uint32)
    for same in (apart, shifted, locked):
        np.testing.assert_array_equal(Select(same, 10_007).at(ranks), np.flatnonzero(kept))


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
def test_samples_have_64_bits_where_32_do_not_do(monkeypatch, dtype):
    monkeypatch.setattr(select, "_WIDE", 50_000)
    kept = np.arange(50_000) % 3 == 0
    kept[:9_000] = False
    samples = Select(np.packbits(kept), 50_000).at(np.arange(kept.sum(), dtype=dtype))
    assert samples.dtype == np.uint64
    np.testing.assert_array_equal(samples, np.flatnonzero(kept))
    assert Select(np.packbits(kept)[:-1], 49_992).dtype == np.uint32


def test_the_directory_is_small():
    rng = np.random.default_rng(0)
    for keep in (0.0, 0.001, 0.1, 0.6, 0.95):
        mask = np.packbits(rng.random(1_000_000) < keep)
        select = Select(mask, 1_000_000)
        parts = select._within, select._before, select._hints
        assert sum(part.nbytes for part in parts) < 0.12 * 1_000_000


# The order.


def an_order(n=200_003, seed=1, epoch=4):
    kept = np.random.default_rng(n).random(n) < 0.6
    return Order(np.packbits(kept), n, seed=seed, epoch=epoch), np.flatnonzero(kept)


def part(order, positions=None, threads=1):
    return Selection(0, order, positions=positions, threads=threads).indices


@pytest.mark.parametrize("n", [1, 2, 1_000, 90_001, 200_003])
def test_an_order_has_every_kept_sample_once(n):
    order, kept = an_order(n)
    samples = part(order)
    assert len(order) == len(kept)
    assert samples.dtype == order.dtype == np.uint32
    np.testing.assert_array_equal(np.sort(samples), kept)


def test_all_samples_are_ordered_where_all_are_kept():
    n = 100_001
    order = Order(np.packbits(np.ones(n, bool)), n, seed=0, epoch=0)
    samples = part(order)
    np.testing.assert_array_equal(samples, Bijection(n, 0, 0).at(np.arange(n)))
    np.testing.assert_array_equal(np.sort(samples), np.arange(n))


@pytest.mark.parametrize("n", [1_000, 200_003])
def test_an_order_is_the_same_however_it_is_asked(monkeypatch, n):
    whole = part(an_order(n)[0])
    monkeypatch.setattr(order, "_POSITIONS", 777)
    for threads in (1, 2, 5):
        same = an_order(n)[0]
        samples = part(same, threads=threads)
        np.testing.assert_array_equal(samples, whole)
        for some in (range(1, len(same), 3), range(len(same) - 1, -1, -1), range(5, 6), range(0)):
            samples = part(same, some, threads)
            np.testing.assert_array_equal(samples, whole[np.array(some, int)])
    positions = np.random.default_rng(2).integers(0, len(whole), 5_000)
    for dtype in (np.int64, np.uint32, np.uint64, np.int32):
        np.testing.assert_array_equal(same.at(positions.astype(dtype)), whole[positions])


def test_an_order_with_nothing_kept_is_empty():
    order = Order(np.zeros(4, np.uint8), 30, seed=0, epoch=0)
    assert len(order) == 0
    assert len(order.at(np.zeros(0, np.int64))) == len(part(order, range(0))) == 0


@pytest.mark.parametrize("positions", [[-1], [0, 118], [2**40]])
def test_positions_outside_are_refused(positions):
    order = Order(np.packbits(np.ones(118, bool)), 118, seed=0, epoch=6)
    message = (
        "positions must be at least 0 and below 118, the number of samples of epoch 6, "
        rf"got {positions[-1]}: see len\(order\)"
    )
    with pytest.raises(IndexError, match=message):
        order.at(np.array(positions))


@pytest.mark.parametrize(
    ("n", "digest"),
    [
        (1_000, "895f42d893563835da6820aea1a14a7f15c62c97463551c08990941c503373a6"),
        (1_000_000, "977d74c73008a6acea3752220146cd9709259776fb806e5f5978fd3172df43cb"),
    ],
)
def test_an_order_stays_what_it_is(n, digest):
    # Resumed runs go on in this order: to change it breaks them, and is a decision.
    mask = np.packbits(np.arange(n) % 3 > 0)
    order = Order(mask, n, seed=42, epoch=7)
    samples = part(order, threads=2).astype("<u4")
    assert hashlib.sha256(samples.tobytes()).hexdigest() == digest
