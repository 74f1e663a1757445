"""Histograms, curves and draws by class, against counting sample by sample."""

import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seta
from seta import KeepCurve, LossHistogram, Pruner
from seta.engine.curves.fit import fit
from seta.engine.curves.histogram import Binning
from seta.engine.draw.mask import draw_mask
from tests.examples import examples

SAMPLES = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0, 7.5, np.nan]), st.integers(0, 3)),
    min_size=1,
    max_size=60,
)


STRATA = np.arange(600) % 200


def arrays(samples):
    losses = np.array([loss for loss, _ in samples], np.float32)
    return losses, np.array([stratum for _, stratum in samples], np.uint8)


@given(SAMPLES)
def test_a_histogram_by_class_counts_each_class(samples):
    losses, strata = arrays(samples)
    histogram = LossHistogram.from_losses(losses, strata=strata)
    for stratum, counts in enumerate(histogram.by_stratum):
        alone = LossHistogram.from_losses(losses[strata == stratum], binning=histogram.binning)
        assert np.array_equal(counts, alone.cells)
    plain = LossHistogram.from_losses(losses, binning=histogram.binning)
    assert np.array_equal(histogram.counts, plain.counts)
    assert histogram.unseen == plain.unseen
    assert histogram.cells.sum() == len(samples)


@given(SAMPLES)
def test_histograms_by_class_add_up(samples):
    losses, strata = arrays(samples)
    whole = LossHistogram.from_losses(losses, strata=np.append(strata, 3)[:-1])
    top = np.array([3], np.uint8)  # so that every part knows all classes
    nothing = np.array([np.nan], np.float32)
    parts = [
        LossHistogram.from_losses(
            np.append(losses[part], nothing),
            strata=np.append(strata[part], top),
            binning=whole.binning,
        )
        for part in (slice(0, None, 2), slice(1, None, 2))
    ]
    merged = parts[0].merge(parts[1])
    assert np.array_equal(merged.by_stratum[: len(whole.by_stratum), :-1], whole.by_stratum[:, :-1])
    assert merged.unseen == whole.unseen + 2


def test_histograms_of_other_classes_are_not_merged():
    one = LossHistogram.from_losses(np.ones(3, np.float32), strata=np.array([0, 1, 2]))
    other = LossHistogram.from_losses(
        np.ones(3, np.float32), strata=np.array([0, 1, 1]), binning=one.binning
    )
    with pytest.raises(ValueError, match="different strata do not add up: 3 and 2"):
        one.merge(other)


@pytest.mark.parametrize("strata", [1, 10, 1000, 20_000])
def test_many_classes_get_fewer_bins(strata):
    losses = np.random.default_rng(0).gamma(1, 1, 50_000).astype(np.float32)
    classes = np.arange(50_000) % strata
    histogram = LossHistogram.from_losses(losses, strata=classes)
    assert histogram.bins <= max(2**17, 2**20 // strata)
    assert histogram.bins >= 2**8 / 4  # of at most 2**8, for any range
    assert histogram.by_stratum.shape == (strata, histogram.bins + 1)


@pytest.mark.parametrize("zero", [0.0, 2.0**-30])
def test_a_loss_near_zero_leaves_many_classes_their_bins(zero):
    losses = np.random.default_rng(0).uniform(0.05, 4, 20_000).astype(np.float32)
    losses[0] = zero
    strata = np.arange(20_000) % 1000
    histogram = LossHistogram.from_losses(losses, strata=strata)
    assert histogram.bin_of([zero, np.nan, -np.nan, 5]).tolist() == [0, *[histogram.bins] * 3]
    assert histogram.seen == 20_000
    assert histogram.mean() == pytest.approx(losses.mean(), rel=0.02)
    again = LossHistogram.from_losses(losses, strata=strata, binning=histogram.binning)
    assert np.array_equal(again.by_stratum, histogram.by_stratum)
    with pytest.raises(ValueError, match="do not fit the given binning"):
        LossHistogram.from_losses(losses - 1, strata=strata, binning=histogram.binning)
    keep = seta.RCAP(0.85)(histogram, 1, 2).keep[strata, histogram.bin_of(losses)]
    for stratum in range(1, 9):
        mine = strata == stratum
        softmax = np.exp(losses[mine].astype(np.float64))
        assert keep[mine].max() < 1
        assert keep[mine] == pytest.approx(softmax * keep[mine].sum() / softmax.sum(), rel=0.05)


@pytest.mark.parametrize("policy", [seta.RCAP(prune_ratio=0.5), seta.Learnable(0.5)])
@pytest.mark.parametrize("largest", [1e3, 1e6, 1e9, 1e12, 3e38])
@pytest.mark.parametrize("least", [0, 1e-3])
def test_one_far_larger_loss_leaves_the_classes_what_they_had(policy, largest, least):
    strata = np.arange(10_000) % 10
    losses = np.random.default_rng(0).gamma(2, 0.5, 10_000) * np.where(strata < 5, 0.05, 1.5)
    losses[0] = least

    def keep(losses):
        losses = losses.astype(np.float32)
        histogram = LossHistogram.from_losses(losses, strata=strata)
        return policy(histogram, 1, 2).keep[strata, histogram.bin_of(losses)]

    outlier = losses.copy()
    outlier[7] = largest
    others = np.delete(np.arange(10_000), 7)
    assert keep(outlier)[others] == pytest.approx(keep(losses)[others], rel=0.08)


def test_classes_have_the_bins_of_before_where_losses_span_less_than_24_octaves():
    high = np.float32(3)
    for low in (np.nextafter(high * np.float32(2**-24), high), np.float32(-1)):
        losses = np.array([low, high], np.float32)
        histogram = LossHistogram.from_losses(losses, strata=np.array([0, 199]))
        assert histogram.binning == Binning.over(low, high, bins=512)


def test_a_loss_below_zero_by_rounding_leaves_the_classes_the_bins_that_zero_does():
    assert Binning.of_strata(-1e-7, 3, 1000) == Binning.of_strata(0, 3, 1000)
    losses = np.array([-1e-7, 1e-3, 3], np.float32)
    histogram = LossHistogram.from_losses(losses, strata=np.array([0, 0, 999]))
    assert histogram.bin_of(losses)[0] == 0 and histogram.seen == 3
    with pytest.raises(ValueError, match="do not fit the given binning"):
        LossHistogram.from_losses(losses - 1, binning=histogram.binning)


@pytest.mark.parametrize("high", [1e-45, 1e-40, 1e-30])
def test_classes_of_tiny_losses_fit_their_own_bins(high):
    losses = np.array([0, high], np.float32)
    strata = np.array([0, 999])
    histogram = LossHistogram.from_losses(losses, strata=strata)
    again = LossHistogram.from_losses(losses, binning=histogram.binning, strata=strata)
    assert histogram.seen == again.seen == 2
    with pytest.raises(ValueError, match="do not fit the given binning"):
        LossHistogram.from_losses(-losses, binning=histogram.binning, strata=strata)


def test_an_open_epoch_with_a_loss_of_zero_is_resumed():
    losses = np.random.default_rng(1).uniform(0.1, 4, 600).astype(np.float32)
    losses[::200] = 0
    made = [Pruner(600, seta.RCAP(0.5), epochs=2, losses=losses, strata=STRATA) for _ in range(2)]
    selection = made[0].begin_epoch()
    made[0].record(selection[:9], losses[selection[:9]])
    made[1].load_state_dict(made[0].state_dict())
    assert np.array_equal(*(pruner.selection.indices for pruner in made))
    assert np.array_equal(*(pruner.table()["keep"] for pruner in made))
    assert made[1].table()["keep"][0] < 0.5


def test_tens_of_thousands_of_classes_are_counted_in_the_memory_of_two_histograms():
    n, kinds = 1 << 20, 20_000
    losses = np.random.default_rng(0).uniform(0.5, 4, n).astype(np.float32)
    strata = (np.arange(n) % kinds).astype(np.uint16)
    tracemalloc.start()
    try:
        histogram = LossHistogram.from_losses(losses, strata=strata, threads=4)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * histogram.by_stratum.nbytes + 8 * n
    assert histogram.by_stratum.sum(axis=1).tolist() == np.bincount(strata).tolist()


@given(SAMPLES, st.integers(0, 5))
def test_a_curve_by_class_is_drawn_class_by_class(samples, seed):
    losses, strata = arrays(samples)
    histogram = LossHistogram.from_losses(losses, strata=strata)
    rng = np.random.default_rng(seed)
    shape = (len(histogram.by_stratum), histogram.bins)
    curve = KeepCurve(rng.integers(0, 2, shape) * 1.0, rng.integers(0, 2, shape[0]) * 1.0)
    curve.validate(histogram)
    mask = draw_mask(losses, histogram.binning, curve, seed=seed, epoch=0, threads=2, strata=strata)
    kept = np.unpackbits(mask, count=len(losses)).astype(bool)
    for i, (loss, stratum) in enumerate(zip(losses, strata, strict=True)):
        expected = (
            curve.unseen[stratum]
            if np.isnan(loss)
            else curve.keep[stratum, histogram.bin_of([loss])[0]]
        )
        assert kept[i] == expected
    assert curve.expected(histogram) == kept.sum()


@given(SAMPLES, st.data())
def test_a_curve_by_class_is_fitted_to_any_number(samples, data):
    losses, strata = arrays(samples)
    histogram = LossHistogram.from_losses(losses, strata=strata)
    count = data.draw(st.integers(0, len(samples)))
    rng = np.random.default_rng(count)
    shape = (len(histogram.by_stratum), histogram.bins)
    curve = KeepCurve(rng.random(shape) * rng.integers(0, 2, shape), rng.random(shape[0]))
    fitted = fit(curve, histogram, count).curve
    fitted.validate(histogram)
    assert fitted.expected(histogram) == pytest.approx(count, abs=1e-6)


@dataclass(frozen=True)
class OneClass:
    """Keeps the samples of one class, at twice the weight."""

    which: int
    stratified = True

    def __call__(self, histogram, epoch, epochs):
        keep = np.zeros((len(histogram.by_stratum), histogram.bins))
        keep[self.which] = 1.0
        return KeepCurve(keep, keep[:, 0], keep + 1, keep[:, 0] + 1)


@pytest.mark.parametrize("budget", [None, 0.25])
def test_the_classes_of_the_samples_are_the_ones_that_were_given(budget):
    strata = np.random.default_rng(0).permutation(np.repeat(np.arange(4), 50))
    pruner = Pruner(200, OneClass(2), epochs=3, strata=strata, budget=budget)
    for _ in range(3):
        selection = pruner.begin_epoch()
        assert sorted(selection.indices) == np.flatnonzero(strata == 2).tolist()
        assert selection.weights.tolist() == [2.0] * 50
        pruner.record(selection.indices, np.sqrt(selection.indices + 1.0))
        pruner.end_epoch()


def test_samples_that_are_always_kept_leave_the_classes_of_the_others_right():
    strata = np.arange(40) % 4
    pruner = Pruner(40, OneClass(1), epochs=2, strata=strata, budget=0.3, always_keep=[0, 1, 2])
    for _ in range(2):
        selection = pruner.begin_epoch()
        assert {0, 1, 2} <= set(selection.indices.tolist())
        others = np.setdiff1d(selection.indices, [0, 1, 2])
        assert set(strata[others]) == {1} and len(selection) == 12
        pruner.record(selection.indices, np.ones(12))
        pruner.end_epoch()


def test_an_open_epoch_by_class_is_resumed(tmp_path):
    def make():
        return Pruner(60, OneClass(1), epochs=3, strata=np.arange(60) % 3)

    first = make()
    first.begin_epoch()
    seta.save(first.state_dict(), tmp_path / "state")
    second = make()
    second.load_state_dict(seta.load(tmp_path / "state"))
    assert np.array_equal(second.begin_epoch().indices, first.begin_epoch().indices)
    assert second.begin_epoch().weights.tolist() == [2.0] * 20
    assert second.curve.strata == 3


def test_a_state_of_other_classes_is_refused():
    first = Pruner(6, OneClass(0), epochs=1, strata=[0, 1, 0, 1, 0, 1])
    second = Pruner(6, OneClass(0), epochs=1, strata=[0, 0, 0, 1, 1, 1])
    with pytest.raises(ValueError, match="saved with strata="):
        second.load_state_dict(first.state_dict())


@pytest.mark.parametrize("policy", [OneClass(0), "Learnable"])  # needs classes, and may have some
def test_a_longer_dataset_needs_its_classes(policy):
    pruner = Pruner(4, policy, epochs=2, strata=[0, 1, 0, 1])
    with pytest.raises(ValueError, match="strata=None.* give.*strata="):
        pruner.resize(6)
    pruner.resize(6, strata=[0, 1, 0, 1, 0, 0])
    pruner.begin_epoch()
    assert pruner.histogram.by_stratum.sum(axis=1).tolist() == [4, 2]


@pytest.mark.parametrize(
    "strata, message",
    [
        (None, "looks at the losses class by class: give strata="),
        ([0, 1], r"strata must be integers of shape \(4,\)"),
        ([0.0, 1, 2, 3], "strata must be integers"),
        ([0, 1, 2, -1], r"strata must lie in 0..3, got values from -1 to 2"),
        ([0, 1, 2, 4], r"strata must lie in 0..3, got values from 0 to 4"),
    ],
)
def test_classes_that_are_none_are_refused(strata, message):
    with pytest.raises(ValueError, match=message):
        Pruner(4, OneClass(0), epochs=1, strata=strata)


def test_a_sharded_table_has_no_classes():
    with pytest.raises(ValueError, match='sharding="replicated"'):
        Pruner(4, OneClass(0), epochs=1, strata=[0, 1, 0, 1], sharding="sharded")


def test_shapes_that_do_not_fit_the_classes_are_refused():
    histogram = LossHistogram.from_losses(np.ones(3, np.float32), strata=np.array([0, 1, 1]))
    with pytest.raises(ValueError, match=r"KeepCurve.keep must have one entry .* shape \(3, 1\)"):
        KeepCurve(np.ones((3, 1))).validate(histogram)
    with pytest.raises(ValueError, match=r"KeepCurve.unseen must be a number, .* shape \(3,\)"):
        KeepCurve(np.ones((2, 1)), np.ones(3)).validate(histogram)


@examples(20)
@given(SAMPLES)
def test_the_mean_over_classes_is_that_of_the_samples(samples):
    losses, strata = arrays(samples)
    histogram = LossHistogram.from_losses(losses, strata=strata)
    shape = (len(histogram.by_stratum), histogram.bins)
    curve = KeepCurve(np.random.default_rng(0).random(shape))
    bins = histogram.bin_of(losses)
    mean = curve.mean_keep(histogram)
    for b in np.unique(bins[bins < histogram.bins]):
        assert mean[b] == pytest.approx(curve.keep[strata[bins == b], b].mean())
