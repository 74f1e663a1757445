"""The partition: one slot for each sample, equal shards, fair shares of any run of samples."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seta.engine.draw.partition import Partition, shards_of
from tests.combinations import some_of

SHARDS = st.sampled_from([1, 2, 3, 7, 15, 30, 60, 120, 61_440])


@pytest.mark.parametrize(
    "n, shards",
    [
        (1, 240),
        (122_879, 240),
        (122_880, 480),
        (1_281_167, 3840),
        (15_728_639, 30_720),
        (15_728_640, 61_440),
        (10**10, 61_440),
    ],
)
def test_shards_hold_256_samples_or_more_where_240_of_them_can(n, shards):
    assert shards_of(n) == shards
    assert n // shards >= 256 or shards == 240


@given(st.integers(1, 5000), SHARDS)
def test_every_sample_has_a_slot_of_its_own(n, shards):
    partition = Partition(n, shards)
    indices = np.arange(n)
    slots = partition.slot_of(indices)
    assert len(np.unique(slots)) == n
    assert np.array_equal(partition.index_of(slots), indices)
    assert np.array_equal(partition.shard_of(indices), slots // partition.length)
    assert partition.length % 8 == 0


@given(st.integers(1, 5000), SHARDS)
def test_the_other_slots_are_absent_and_lie_behind_the_samples_of_their_shard(n, shards):
    partition = Partition(n, shards)
    slots = np.arange(shards * partition.length)
    present = partition.index_of(slots) < n
    assert present.sum() == n
    expected = slots % partition.length < np.repeat(partition.sizes, partition.length)
    assert np.array_equal(present, expected)


@given(st.integers(1, 10**7), SHARDS)
def test_sizes_of_shards_differ_by_one_at_most(n, shards):
    sizes = Partition(n, shards).sizes
    assert sizes.sum() == n
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.uint32, np.uint64])
def test_indices_may_be_of_any_integer_type(dtype):
    partition = Partition(40_000, 60)
    indices = np.random.default_rng(0).permutation(40_000).astype(dtype)
    slots = partition.slot_of(indices)
    assert slots.dtype == np.int64
    assert np.array_equal(slots, partition.slot_of(indices.astype(np.int64)))
    assert np.array_equal(partition.index_of(slots.astype(dtype)), indices)


def test_ten_billion_samples_have_slots():
    partition = Partition(10**10 + 7, shards_of(10**10 + 7))
    indices = np.random.default_rng(0).integers(0, 10**10 + 7, 10_000)
    slots = partition.slot_of(indices)
    assert slots.min() >= 0 and slots.max() < partition.shards * partition.length
    assert np.array_equal(partition.index_of(slots), indices)


@given(st.integers(1, 10**6), SHARDS, st.integers(1, 40))
def test_ranks_own_all_shards_in_runs_of_nearly_equal_size(n, shards, ranks):
    partition = Partition(n, shards)
    if ranks > shards:
        with pytest.raises(ValueError):
            partition.owned(0, ranks)
        return
    owned = [partition.owned(rank, ranks) for rank in range(ranks)]
    assert [shard for part in owned for shard in part] == list(range(shards))
    assert max(map(len, owned)) - min(map(len, owned)) <= 1
    samples = [partition.sizes[part.start : part.stop].sum() for part in owned]
    most, fewest = -(-shards // ranks), shards // ranks
    assert fewest * (n // shards) <= min(samples) <= max(samples) <= most * (n // shards + 1)
    slots = [partition.slots(part) for part in owned]
    assert slots[0].start == 0 and slots[-1].stop == shards * partition.length
    assert all(a.stop == b.start for a, b in itertools.pairwise(slots))


def test_more_ranks_than_shards_are_refused():
    message = (
        "ranks must be at most the 15 shards of 1000 samples, got 16: "
        "so small a table needs no sharding, use sharding='replicated'"
    )
    with pytest.raises(ValueError, match=message):
        Partition(1000, 15).owned(3, 16)


@given(st.integers(1, 5000), SHARDS, st.data())
def test_shards_draw_equal_parts_of_the_total(n, shards, data):
    partition = Partition(n, shards)
    total = data.draw(st.integers(0, n) | st.integers(max(0, n - shards), n))
    counts, sizes = partition.counts(total), partition.sizes
    assert counts.sum() == total
    assert np.all((counts >= 0) & (counts <= sizes))
    equal = [total * (v + 1) // shards - total * v // shards for v in range(shards)]
    if np.all(equal <= sizes):
        assert counts.tolist() == equal
    else:
        before = np.append(0, np.cumsum(sizes)).tolist()
        parts = [total * b // n for b in before]
        assert counts.tolist() == np.diff(parts).tolist()


def test_counts_of_large_totals_do_not_overflow():
    n = 10**11 + 12_345
    partition = Partition(n, shards_of(n))
    for total in (n, n - 1, n - 10_000, n - 61_440, n // 3):
        counts = partition.counts(total)
        assert counts.sum() == total
        assert np.all(counts <= partition.sizes)
        assert counts.max() - counts.min() <= 2


@pytest.mark.parametrize("total", [-1, 1001])
def test_a_total_that_there_is_not_is_refused(total):
    with pytest.raises(ValueError, match=rf"total must lie in 0 .. 1000, .* got {total}"):
        Partition(1000, 15).counts(total)


@some_of("n, ranks", [3_000, 50_000, 1_281_167], [2, 3, 8, 13])
def test_each_rank_owns_its_part_of_any_run_of_samples(n, ranks):
    """Labels sorted by class: a class is a run of samples, which may be smaller than a block."""
    partition = Partition(n, shards_of(n))
    rng = np.random.default_rng(0)
    owned = [partition.owned(rank, ranks) for rank in range(ranks)]
    for length in [*rng.integers(1, n, 30).tolist(), 10, 100, 700, 1300]:
        start = int(rng.integers(0, n - length + 1))
        shards = partition.shard_of(np.arange(start, start + length))
        for part in owned:
            found = np.count_nonzero((shards >= part.start) & (shards < part.stop))
            expected = Fraction(length * len(part), partition.shards)
            assert abs(found - expected) <= 20


@pytest.mark.parametrize("period", [2, 3, 10, 15, 64, 1000, 1920])
def test_each_rank_owns_its_part_of_any_period(period):
    """Samples in turn from several sources, or each one several times in a row."""
    partition = Partition(1_281_167, 1920)
    for phase in (0, period - 1):
        shards = partition.shard_of(np.arange(phase, partition.n, period))
        for rank in range(8):
            part = partition.owned(rank, 8)
            found = np.count_nonzero((shards >= part.start) & (shards < part.stop))
            assert abs(found - len(shards) / 8) < 5 * np.sqrt(len(shards) / 8)


def test_the_places_of_samples_never_change():
    """Saved tables are read by later versions."""
    partition = Partition(1_000_000, 1920)
    slots = partition.slot_of(np.array([0, 1, 2, 1919, 1920, 999_999]))
    assert slots.tolist() == [92_400, 719_136, 332_112, 479_424, 34_321, 883_864]
