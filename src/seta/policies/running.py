"""Running means that stay finite, for methods that keep columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST = float(np.finfo(np.float32).max)


def mean(before: NDArray[np.float32], values: NDArray[Any], part: float) -> NDArray[np.float32]:
    """Returns (1 - part) * before + part * values, and the values where nothing was before.

    Args:
        before: float32 (B,), NaN = nothing.
        values: Floats (B,), finite; what is beyond the range of float32 counts as its end.
        part: Weight of the newest value, in (0, 1].
    """
    old = before.astype(np.float64)  # in which no difference of two float32 overflows
    return finite(np.where(np.isnan(old), values, old + part * (values - old)))


def finite(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Returns numbers as float32 (B,), the nearest finite one of each; NaN stays NaN."""
    return np.clip(values, -_MOST, _MOST).astype(np.float32)
