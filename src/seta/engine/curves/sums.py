"""Arithmetic with bitwise equal results on every CPU, for all decisions.

Ranks do not tell each other what they choose; each computes it. A dot product of BLAS, a sum by
vector instructions or an exponential function of the system's library may differ by its last bit
from one processor to the next, and where a count is rounded that is a sample. Here are sums that
are exact before their one rounding, and functions made of +, -, * and /, which IEEE 754 rounds
alike everywhere.

Cost: some milliseconds for 2**17 bins of different values, a fraction of one for a curve of steps.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HALF = 27  # bits of the higher part of a float64's 53
_LOG2_E = 1.4426950408889634
_LN2 = (6.93147180369123816490e-01, 1.90821492927058770002e-10)  # high part, of 33 bits, and rest
_TERMS = 13
_LEAST_EXPONENT = -800.0  # exp of it is 0


def dot(counts: NDArray[np.integer[Any]], values: NDArray[np.float64]) -> float:
    """Returns sum(counts * values): exact, but for rounding each product, and the result.

    Runs of equal values count as one, so that a constant c over n samples gives n * c.

    Args:
        counts: Integers (cells,), which add up to less than 2**53.
        values: float64 (cells,), finite where something is counted.
    """
    some = np.flatnonzero(counts)
    if not len(some):
        return 0.0
    counts, values = counts[some], values[some]
    first = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])
    return total(np.add.reduceat(counts, first) * values[first])


def total(values: NDArray[np.float64]) -> float:
    """Returns the sum, rounded once: what `math.fsum` returns, in a fifth of the time.

    Args:
        values: float64 (N,), finite, N <= 2**25.
    """
    mantissas, exponents = np.frexp(values)
    if not len(exponents):
        return 0.0
    least = int(exponents.min())
    # Two halves of each mantissa, summed by exponent: integers below 2**53, which floats hold.
    whole = np.ldexp(mantissas, _HALF)
    high = np.floor(whole)
    low = np.ldexp(whole - high, 53 - _HALF)
    sums = [np.bincount(exponents - least, weights=half) for half in (high, low)]
    at = np.flatnonzero((sums[0] != 0) | (sums[1] != 0))
    shifts = (at + least - _HALF, at + least - 53)
    terms = [np.ldexp(half[at], shift) for half, shift in zip(sums, shifts, strict=True)]
    return math.fsum(np.concatenate(terms).tolist())


def exp(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns e**values, to a few units in the last place: float64, as `values`.

    Args:
        values: float64, at most 700; -infinity gives 0.
    """
    values = np.maximum(values, _LEAST_EXPONENT)
    powers = np.rint(values * _LOG2_E)
    rest = (values - powers * _LN2[0]) - powers * _LN2[1]
    result = np.ones_like(rest)
    for term in range(_TERMS, 0, -1):
        result = 1.0 + rest / term * result
    return np.ldexp(result, powers.astype(np.int64))
