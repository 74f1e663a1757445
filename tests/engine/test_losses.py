"""The loss table against a plain dict."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seta.engine import LossColumns

BATCHES = st.lists(
    st.lists(st.tuples(st.integers(0, 9), st.floats(width=32)), max_size=6), max_size=8
)


@given(BATCHES)
def test_the_latest_finite_loss_of_each_sample_stays(batches):
    table, expected, trained = LossColumns(10, 5), {}, {}
    for epoch, batch in enumerate(batches):
        indices = np.array([i for i, _ in batch], np.int64)
        losses = np.array([loss for _, loss in batch], np.float32)
        new = [i for i, _ in batch if trained.get(i) != epoch]
        bad = np.count_nonzero(~np.isfinite(losses))
        assert table.record(indices, losses, epoch)[:2] == (len(new), bad)
        for index, loss in zip(indices, losses, strict=True):
            trained[index] = epoch
            if np.isfinite(loss):
                expected[index] = loss
        visits = table.visits(epoch)
        assert visits.trained == len({i for i, _ in batch})
        assert visits.never == 10 - len(trained)
        assert visits.longest_left_out == table.left_out(epoch).max()
    values = np.array([expected.get(i, np.nan) for i in range(10)], np.float32)
    assert np.array_equal(table.values, values, equal_nan=True)
    last = len(batches)
    assert table.left_out(last).tolist() == [last - trained.get(i, -1) for i in range(10)]


def test_losses_beyond_float32_are_not_finite():
    table = LossColumns(2, 1)
    assert table.record(np.array([0, 1]), np.array([1e300, 1.0]), 0)[:2] == (2, 1)
    assert np.isnan(table.values[0])
    assert table.last_trained.tolist() == [1, 1]


def test_a_table_takes_six_bytes_per_sample():
    table = LossColumns(1000, 300)
    assert table.values.nbytes + table.last_trained.nbytes == 6000
    assert LossColumns(1, 70_000).last_trained.dtype == np.uint32


def test_a_warm_start_drops_what_is_not_finite():
    table = LossColumns(3, 1, np.array([1.0, np.inf, np.nan]))
    assert np.array_equal(table.values, np.array([1, np.nan, np.nan], np.float32), equal_nan=True)


@pytest.mark.parametrize("losses", [np.zeros(4), np.zeros((3, 1)), np.zeros(3, np.int64)])
def test_a_warm_start_that_does_not_fit_is_refused(losses):
    with pytest.raises(ValueError, match=r"losses must be floats of shape \(3,\), one for each"):
        LossColumns(3, 1, losses)


@pytest.mark.parametrize(
    "indices, losses, error, message",
    [
        ([0.0, 1.0], [1.0, 1.0], ValueError, "indices must be a one-dimensional array of integers"),
        ([True, False], [1.0, 1.0], ValueError, "array of integers, got bool"),
        ([[0, 1]], [[1.0, 1.0]], ValueError, r"of shape \(1, 2\)"),
        ([0, 3], [1.0, 1.0], IndexError, r"must lie in 0..2 for a dataset of 3 samples, got 3"),
        ([0, -1], [1.0, 1.0], IndexError, r"must lie in 0..2 .* got -1"),
        ([0, 1], [1.0], ValueError, r"one entry for each of the 2 indices, got shape \(1,\)"),
        ([0, 1], [1, 2], ValueError, "losses must be floats, got int64"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_whole(indices, losses, error, message):
    table = LossColumns(3, 1)
    with pytest.raises(error, match=message):
        table.record(np.array(indices), np.array(losses), 0)
    assert np.isnan(table.values).all()
    assert not table.last_trained.any()
