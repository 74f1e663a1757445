"""Keep curves: expectation by hand, and refusals."""

import numpy as np
import pytest

from seta.engine import KeepCurve, LossHistogram

HISTOGRAM = LossHistogram.from_losses(np.array([1, 1, 2, 3, np.nan], np.float32))


def curve(**changes):
    return KeepCurve(**{"keep": np.full(HISTOGRAM.bins, 0.5), **changes})


def test_the_expected_count_is_a_dot_product():
    keep = np.zeros(HISTOGRAM.bins)
    keep[HISTOGRAM.bin_of([1.0, 3.0])] = [0.25, 1.0]
    assert KeepCurve(keep, unseen=0.5).expected(HISTOGRAM) == 2 * 0.25 + 0 + 1 + 0.5


def test_weights_that_are_all_one_are_none():
    assert curve().weight_by_cell is None
    assert curve(unseen_weight=2.0).weight_by_cell.tolist() == [1.0] * HISTOGRAM.bins + [2.0]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"keep": np.ones(3)}, r"KeepCurve.keep must have one entry for each of the \d+ bins"),
        ({"weight": np.ones(3)}, r"KeepCurve.weight must have one entry"),
        ({"keep": np.full(HISTOGRAM.bins, 1.5)}, r"must lie in \[0, 1\], got values .*1.5"),
        ({"keep": np.full(HISTOGRAM.bins, np.nan)}, r"must lie in \[0, 1\]"),
        ({"unseen": -0.1}, r"must lie in \[0, 1\], got values from -0.1"),
        ({"weight": np.full(HISTOGRAM.bins, 1e39)}, "must be finite in float32 and >= 0"),
        ({"weight": np.full(HISTOGRAM.bins, np.inf)}, "must be finite in float32 and >= 0"),
        ({"unseen_weight": -1.0}, "must be finite in float32 and >= 0, got values from -1"),
        ({"unseen": 0.0, "unbiased": True}, "unbiased needs keep probabilities above 0"),
        ({"coin_offset": 1.0}, r"coin_offset must lie in \[0, 1\), got 1.0"),
    ],
)
def test_bad_curves_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        curve(**changes).validate(HISTOGRAM)
