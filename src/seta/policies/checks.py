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


def share(name: str, value: float, meaning: str) -> None:
    """Refuses a value outside (0, 1]."""
    if not 0 < value <= 1:
        raise ValueError(f"{name} must lie in (0, 1], got {value!r}: {meaning}")


def momentum(name: str, value: float) -> None:
    """Refuses a momentum outside (0, 1]."""
    share(name, value, "the part of the newest loss in the running mean")


def nonnegative(name: str, value: float, meaning: str) -> None:
    """Refuses a value that is negative or not finite."""
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and at least 0, got {value!r}: {meaning}")


def at_least_one(name: str, value: int, meaning: str) -> None:
    """Refuses what is no integer of at least 1."""
    if value != int(value) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}: {meaning}")
