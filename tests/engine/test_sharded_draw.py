"""The draw of a sharded table: exact in each shard, the same for any number of ranks."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seta
from seta import KeepCurve, LossHistogram
from seta.engine import parallel
from seta.engine.curves.fit import fit
from seta.engine.draw.coins import Coins, Purpose
from seta.engine.draw.partition import Partition, shards_of
from seta.engine.draw.shards import count_shards, draw_shards
from tests.examples import examples

# Neighbouring floats: one bin each.
LEVELS = (np.float32(1).view(np.uint32) + np.arange(8, dtype=np.uint32)).view(np.float32)


def in_slots(losses, partition):
    """Returns the losses of all slots, as a single rank holds them."""
    table = np.full(partition.shards * partition.length, np.nan, np.float32)
    table[partition.slot_of(np.arange(partition.n))] = losses
    return table


def drawn(losses, partition, curve, total, *, ranks=1, histogram=None, epoch=2, **options):
    """Returns the samples that all ranks draw together, sorted."""
    table, found = in_slots(losses, partition), []
    histogram = histogram or LossHistogram.from_losses(losses)
    for rank in range(ranks):
        shards = partition.owned(rank, ranks)
        own = partition.slots(shards)
        mask = draw_shards(
            table[own.start : own.stop],
            partition,
            shards,
            histogram,
            curve,
            total,
            **{"seed": 1, "threads": 1, "epoch": epoch, **options},
        )
        assert mask.dtype == np.uint8 and len(mask) == len(own) // 8
        found.append(partition.index_of(np.flatnonzero(np.unpackbits(mask)) + own.start))
    return np.sort(np.concatenate(found))


def sloped(histogram):
    return KeepCurve(np.linspace(0.05, 0.9, histogram.bins), unseen=0.5)


def queue(partition, losses, curve, *, always, seed, epoch):
    """Returns all samples with what they are sorted by, in plain Python."""
    slots = partition.slot_of(np.arange(partition.n)).tolist()
    stream = Coins(seed, epoch if curve.coin_epoch is None else curve.coin_epoch, Purpose.KEEP)
    coins = stream.uint32(partition.shards * partition.length).tolist()
    bins = {float(level): b for b, level in enumerate(LEVELS)}
    window = [b for b, keep in enumerate(curve.keep) if keep > 0]
    entries = []
    for index, loss in enumerate(losses.tolist()):
        slot, at = slots[index], bins.get(loss)
        keep = float(curve.unseen if at is None else curve.keep[at])
        coin = max(1, (coins[slot] - int(curve.coin_offset * 2**32)) % 2**32)
        if index in always:
            order = (0, 0, coin)
        elif keep >= 1:
            order = (1, 0, coin)
        elif keep > 0:
            order = (2, 0, Fraction(coin) / Fraction(keep))
        elif at is None or not window:
            order = (3, 100 if window else 0, coin)
        else:
            nearest = min(2 * abs(at - b) + (at > b) for b in window)
            order = (3, nearest, coin)
        entries.append((order, slot, index))
    return entries


@given(
    st.integers(1, 400),
    st.sampled_from([1, 2, 3, 15, 30]),
    st.lists(st.sampled_from([0.0, 1e-9, 0.1, 0.25, 0.5, 0.9, 1.0]), min_size=9, max_size=9),
    st.sampled_from([None, 0]),
    st.sampled_from([0.0, 0.25, 0.9]),
    st.data(),
)
@examples(300)
def test_each_shard_draws_the_first_of_its_queue(n, shards, keep, coin_epoch, offset, data):
    partition = Partition(n, shards)
    seed = data.draw(st.integers(0, 2**32))
    rng = np.random.default_rng(seed)
    losses = LEVELS[rng.integers(0, data.draw(st.integers(1, 8)), n)]
    losses[rng.random(n) < data.draw(st.sampled_from([0.0, 0.3, 1.0]))] = np.nan
    histogram = LossHistogram.from_losses(
        losses, binning=LossHistogram.from_losses(LEVELS).binning, threads=1
    )
    curve = KeepCurve(np.array(keep[:8]), keep[8], coin_epoch=coin_epoch, coin_offset=offset)
    total = data.draw(st.integers(0, n) | st.just(n))
    always = np.flatnonzero(rng.random(n) < data.draw(st.sampled_from([0.0, 0.1])))
    if len(always) <= total:  # what is drawn does not depend on how well the curve fits
        curve = fit(curve, histogram, total - len(always)).curve
    entries = queue(partition, losses, curve, always=set(always.tolist()), seed=seed, epoch=2)
    shard_of = partition.shard_of(np.arange(n)).tolist()
    expected = []
    for shard, count in enumerate(partition.counts(total).tolist()):
        members = sorted(entry for entry in entries if shard_of[entry[2]] == shard)
        expected += [index for *_, index in members[:count]]
    found = drawn(
        losses,
        partition,
        curve,
        total,
        histogram=histogram,
        ranks=min(shards, 3),
        seed=seed,
        always_keep=np.sort(partition.slot_of(always)),
    )
    assert found.tolist() == sorted(expected)


@pytest.fixture(scope="module")
def losses():
    values = np.random.default_rng(0).gamma(0.5, 1, 300_001).astype(np.float32)
    values[::10] = np.nan
    return values


def test_the_draw_depends_neither_on_ranks_nor_on_threads_nor_on_blocks(losses, monkeypatch):
    partition = Partition(len(losses), shards_of(len(losses)))
    histogram = LossHistogram.from_losses(losses)
    curve = fit(sloped(histogram), histogram, 123_456).curve
    one = drawn(losses, partition, curve, 123_456)
    assert len(one) == 123_456
    for ranks in (2, 3, 7):
        assert np.array_equal(one, drawn(losses, partition, curve, 123_456, ranks=ranks))
    assert np.array_equal(one, drawn(losses, partition, curve, 123_456, threads=3))
    for block in (1 << 8, 1 << 11):
        monkeypatch.setattr(parallel, "BLOCK", block)
        assert np.array_equal(one, drawn(losses, partition, curve, 123_456, ranks=2, threads=2))


@pytest.mark.parametrize("total", [0, 1, 100, 299_800, 300_001])
@pytest.mark.parametrize("keep", ["sloped", 0.0, 0.3, 1.0])
def test_every_shard_draws_its_count(losses, keep, total):
    partition = Partition(len(losses), shards_of(len(losses)))
    histogram = LossHistogram.from_losses(losses)
    curve = sloped(histogram) if keep == "sloped" else KeepCurve.constant(histogram, keep)
    found = drawn(losses, partition, curve, total, ranks=3)
    shards = np.bincount(partition.shard_of(found), minlength=partition.shards)
    assert np.array_equal(shards, partition.counts(total))


@pytest.mark.parametrize("n", [1, 5, 14, 15, 16, 1000])
def test_data_sets_of_any_size_are_drawn_from_when_nothing_is_known(n):
    partition = Partition(n, shards_of(n))
    unseen = np.full(n, np.nan, np.float32)
    histogram = LossHistogram.from_losses(unseen)
    for total in {1, n // 2, n - 1, n}:
        curve = fit(seta.SeTa()(histogram, 0, 8), histogram, total).curve
        found = drawn(unseen, partition, curve, total, ranks=7)
        assert len(np.unique(found)) == len(found) == total
        assert np.all(found < n)


def test_a_window_that_holds_too_few_is_widened_to_the_nearest_losses():
    losses = np.tile(np.arange(1000, dtype=np.float32), 20)
    partition = Partition(len(losses), 30)
    histogram = LossHistogram.from_losses(losses)
    inside = (histogram.centres >= 200) & (histogram.centres < 300)
    curve = KeepCurve(np.where(inside, 0.9, 0.0), unseen=0.0)
    found = losses[drawn(losses, partition, fit(curve, histogram, 5000).curve, 5000)]
    # Of what is certain after the fit, shards that hold much leave a little out.
    assert np.count_nonzero((found >= 200) & (found < 300)) > 0.98 * 2000
    # Bins are of equal relative width; shards differ in what they hold.
    assert 120 <= found.min() <= 160 and 380 <= found.max() <= 430


def test_a_shard_whose_window_holds_too_few_takes_the_nearest_group():
    losses = np.random.default_rng(0).permutation(np.repeat(2.0 ** np.arange(5), 1000))
    losses = losses.astype(np.float32)
    partition = Partition(5000, 15)
    histogram = LossHistogram.from_losses(losses)
    curve = seta.SeTa(0.1, 5, 0.4)(histogram, 1, 8)
    assert curve.window == (1, 3)
    whole = fit(curve, histogram, 2000).curve  # all of 2.0 and 4.0, over all shards
    found = drawn(losses, partition, whole, 2000)
    shards = partition.shard_of(np.arange(5000))
    inside = (losses == 2) | (losses == 4)
    chosen = np.zeros(5000, bool)
    chosen[found] = True
    for shard, count in enumerate(partition.counts(2000).tolist()):
        here = shards == shard
        assert chosen[here & inside].sum() == min(count, (here & inside).sum())
        short = max(0, count - (here & inside).sum())
        assert chosen[here & (losses == 1)].sum() == short  # the easier of the two neighbours
    assert np.count_nonzero(chosen & ~inside) > 0


def test_certain_samples_are_drawn_first_and_forbidden_ones_only_where_others_are_too_few():
    losses = np.arange(5000, dtype=np.float32)
    partition = Partition(5000, 15)
    histogram = LossHistogram.from_losses(losses)
    rank = np.cumsum(histogram.counts) / 5000
    curve = KeepCurve(np.where(rank > 0.9, 1.0, np.where(rank < 0.1, 0.0, rank * 0.8)))
    for seed in range(20):
        for total in (2600, 3000, 4000):
            fitted = fit(curve, histogram, total).curve
            found = set(drawn(losses, partition, fitted, total, seed=seed).tolist())
            assert set(range(4510, 5000)) <= found
            assert not found & set(range(490))


def test_inclusion_is_as_probable_as_the_fitted_curve_says():
    rng = np.random.default_rng(0)
    losses = LEVELS[rng.integers(0, 4, 6000)]
    partition = Partition(6000, 15)
    histogram = LossHistogram.from_losses(losses)
    curve = KeepCurve(np.array([0.1, 0.3, 0.6, 1.0]))
    for total in (2400, 3600):
        fitted = fit(curve, histogram, total).curve
        times = np.zeros(6000)
        for seed in range(200):
            times[drawn(losses, partition, fitted, total, histogram=histogram, seed=seed)] += 1
        shares = [times[losses == level].mean() / 200 for level in LEVELS[:4]]
        assert shares == pytest.approx(fitted.keep.tolist(), abs=0.01)


@pytest.mark.statistics
def test_at_equal_probabilities_all_samples_of_a_shard_are_drawn_equally_often():
    n, draws = 3000, 400
    losses = np.random.default_rng(0).gamma(0.5, 1, n).astype(np.float32)
    partition = Partition(n, 15)
    histogram = LossHistogram.from_losses(losses)
    curve = KeepCurve.constant(histogram, 0.4)
    times = np.zeros(n)
    for epoch in range(draws):
        found = drawn(losses, partition, curve, 1200, histogram=histogram, epoch=epoch)
        times[found] += 1
    # 80 of the 200 samples of each shard.
    chi_square = ((times - draws * 0.4) ** 2).sum() / (draws * 0.4 * 0.6) * 199 / 200
    freedom = n - 15
    assert abs(chi_square - freedom) < 4 * np.sqrt(2 * freedom)


def test_a_curve_that_names_a_coin_epoch_draws_the_same_samples_in_each_epoch(losses):
    partition = Partition(len(losses), shards_of(len(losses)))
    histogram = LossHistogram.from_losses(losses)
    static = fit(KeepCurve.constant(histogram, 0.5, coin_epoch=0), histogram, 100_000).curve
    first = drawn(losses, partition, static, 100_000, epoch=0)
    assert np.array_equal(first, drawn(losses, partition, static, 100_000, epoch=5))
    moving = fit(KeepCurve.constant(histogram, 0.5), histogram, 100_000).curve
    assert np.array_equal(first, drawn(losses, partition, moving, 100_000, epoch=0))
    again = drawn(losses, partition, moving, 100_000, epoch=5)
    assert 0.3 < len(np.intersect1d(first, again)) / 100_000 < 0.37


def test_offsets_of_one_coin_draw_nearly_without_replacement(losses):
    partition = Partition(len(losses), shards_of(len(losses)))
    histogram = LossHistogram.from_losses(losses)
    times = np.zeros(len(losses), int)
    for part in range(4):
        curve = KeepCurve(np.full(histogram.bins, 0.25), 0.25, coin_epoch=0, coin_offset=part / 4)
        times[drawn(losses, partition, curve, len(losses) // 4, epoch=part)] += 1
    assert np.mean(times == 1) > 0.9  # shards of 625 samples, each drawn exactly


def test_samples_always_kept_are_drawn_before_all_others(losses):
    partition = Partition(len(losses), shards_of(len(losses)))
    histogram = LossHistogram.from_losses(losses)
    keep = np.arange(0, len(losses), 11)
    slots = np.sort(partition.slot_of(keep))
    curve = KeepCurve(np.zeros(histogram.bins), unseen=1.0)
    for ranks in (1, 3):
        found = drawn(losses, partition, curve, 60_000, always_keep=slots, ranks=ranks)
        assert len(found) == 60_000
        assert set(keep.tolist()) <= set(found.tolist())


def test_a_shard_with_too_many_samples_to_keep_draws_its_count_of_them():
    partition = Partition(1000, 15)
    losses = np.ones(1000, np.float32)
    histogram = LossHistogram.from_losses(losses)
    slots = np.sort(partition.slot_of(np.arange(900)))
    found = drawn(losses, partition, sloped(histogram), 500, always_keep=slots)
    assert len(found) == 500 and found.max() < 900


def test_counts_of_the_parts_add_up_to_the_histogram_of_all(losses):
    for values in (losses, losses[:1], losses[:7], losses[5::10], losses[:3000]):
        partition = Partition(len(values), shards_of(len(values)))
        table, whole = in_slots(values, partition), LossHistogram.from_losses(values)
        parts = []
        for rank in range(7):
            shards = partition.owned(rank, 7)
            own = partition.slots(shards)
            parts.append(
                count_shards(table[own.start : own.stop], partition, shards, binning=whole.binning)
            )
        merged = parts[0]
        for part in parts[1:]:
            merged = merged.merge(part)
        assert np.array_equal(merged.counts, whole.counts)
        assert merged.unseen == whole.unseen


def test_the_draw_leaves_the_losses_alone(losses):
    partition = Partition(len(losses), shards_of(len(losses)))
    histogram = LossHistogram.from_losses(losses)
    table = in_slots(losses, partition)
    table.flags.writeable = False
    options = {"seed": 1, "epoch": 0, "threads": 2}
    draw_shards(
        table, partition, range(partition.shards), histogram, sloped(histogram), 999, **options
    )
