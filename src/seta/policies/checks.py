"""Checks of hyper-parameters, for all methods; each message has rule, received value and way out.

Each check reads a field of a frozen dataclass under construction and stores a Python number in it.
So two methods with equal numbers are equal, whatever types of numbers they were given.
"""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

from seta.engine.numbers import integer, real


def ratio(method: object, name: str) -> None:
    """Refuses a prune ratio outside [0, 1)."""
    below_one(method, name, "the share of samples to prune, 0.3 for 30 %")


def below_one(method: object, name: str, meaning: str) -> None:
    """Refuses a value outside [0, 1)."""
    _check(method, name, 0, 1, "[)", meaning)


def fraction(method: object, name: str, meaning: str) -> None:
    """Refuses a value outside [0, 1]."""
    _check(method, name, 0, 1, "[]", meaning)


def share(method: object, name: str, meaning: str) -> None:
    """Refuses a value outside (0, 1]."""
    _check(method, name, 0, 1, "(]", meaning)


def momentum(method: object, name: str) -> None:
    """Refuses a momentum outside (0, 1]."""
    share(method, name, "the weight of the newest loss in the running mean")


def nonnegative(method: object, name: str, meaning: str) -> None:
    """Refuses a value that is negative or not finite."""
    _check(method, name, 0, math.inf, "[)", meaning)


def positive(method: object, name: str, meaning: str) -> None:
    """Refuses a value that is not above 0, or not finite."""
    _check(method, name, 0, math.inf, "()", meaning)


def at_least_one(method: object, name: str, meaning: str) -> None:
    """Refuses a value that is not an integer >= 1."""
    _set(method, name, integer(name, getattr(method, name), 1, meaning))


class Annealed:
    """A method whose last epochs do not choose, after the share `delta` of all."""

    delta: float

    def pruning_epochs(self, epochs: int) -> int:
        """Returns how many epochs may choose by the loss: the first floor(delta * epochs)."""
        return math.floor(self.delta * epochs + 1e-9)  # 0.29 * 100 = 28.999...


def _check(method: object, name: str, low: float, high: float, ends: str, meaning: str) -> None:
    number = real(name, getattr(method, name), low, high, meaning, ends=ends)
    _set(method, name, float(number) if isinstance(number, Fraction) else number)


def ratio_at(budget: float) -> float:
    """Returns the prune ratio 1 - budget, computed in decimals: 0.3 for 0.7."""
    return float(1 - Decimal(repr(float(budget))))


def _set(method: object, name: str, value: Any) -> None:
    object.__setattr__(method, name, value)  # the way into a frozen dataclass that is being made
