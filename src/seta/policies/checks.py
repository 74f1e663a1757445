"""Checks that the methods share: rule, received value, way out."""

from __future__ import annotations

import math


def ratio(name: str, value: float) -> None:
    """Refuses a prune ratio outside [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(
            f"{name} must lie in [0, 1), got {value!r}: the share of samples to prune, 0.3 for 30 %"
        )


def fraction(name: str, value: float, meaning: str) -> None:
    """Refuses a value outside [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie in [0, 1], got {value!r}: {meaning}")


def pruning_epochs(delta: float, epochs: int) -> int:
    """Returns floor(delta * epochs), safe from rounding (0.29 * 100 = 28.999...)."""
    return math.floor(delta * epochs + 1e-9)
