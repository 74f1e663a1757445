"""Checks of numbers: those of Python and numpy, and arrays or tensors of one element.

`True` is none, and neither is "0.5": each is a slip that arithmetic would let pass.
"""

from __future__ import annotations

import operator
from fractions import Fraction
from typing import Any

import numpy as np


def integer(name: str, value: Any, least: int, remedy: str) -> int:
    """Returns an integer of at least `least`, as an int.

    Raises:
        TypeError: It is none; the message ends with the remedy.
        ValueError: It is less.
    """
    try:
        if isinstance(_item(value), (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}: {remedy}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}: {remedy}")
    return number


def real(
    name: str, value: Any, low: float, high: float, remedy: str, *, ends: str = "[]"
) -> int | float | Fraction:
    """Returns a number in an interval, as Python has it.

    A float32 is taken for the decimal that it was written as: `numpy.float32(0.6)` is 0.6.

    Args:
        name: Of the argument.
        value: The number.
        low: Lower end of the interval.
        high: Upper end.
        remedy: What to do.
        ends: How the ends are written: "[" and "]" where they are allowed, "(" and ")" else.

    Raises:
        TypeError: It is no number.
        ValueError: It lies outside.
    """
    interval = f"{ends[0]}{low}, {high}{ends[1]}"
    number: int | float | Fraction = _item(value)
    if isinstance(number, bool) or not isinstance(number, (int, float, Fraction)):
        raise TypeError(f"{name} must be a number in {interval}, got {value!r}: {remedy}")
    if isinstance(number, float) and getattr(getattr(value, "dtype", None), "itemsize", 8) < 8:
        number = float(str(np.float32(number)))
    above = number >= low if ends[0] == "[" else number > low
    below = number <= high if ends[1] == "]" else number < high
    if not (above and below):
        raise ValueError(f"{name} must lie in {interval}, got {value!r}: {remedy}")
    return number


def _item(value: Any) -> Any:
    """Returns the Python number of a scalar or of an array or tensor without dimensions."""
    return value.item() if getattr(value, "ndim", None) == 0 else value
