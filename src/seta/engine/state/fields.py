"""The entries of a state, each with its path, refused where they are not what they must be.

Costs one pass over an array that has to lie in a range, in blocks that stay near the core; of an
array in a mapped file no more than a block is in memory.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from seta.engine import parallel
from seta.engine.mapped import let_go

_LARGEST = 2**62
_MOST = float(np.finfo(np.float64).max)


class Field:
    """A value somewhere in a state.

    Args:
        value: It.
        path: Where it is: "open.mask".
    """

    def __init__(self, value: Any, path: str = "") -> None:
        self.value, self.path = value, path

    def refuse(self, must: str, found: str | None = None) -> NoReturn:
        """Says what the value must be, and what it is.

        Args:
            must: Such as "a list".
            found: What it is, where that is not plain from the value.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            f"{self.path or 'the state'} must be {must}, got {found or _shown(self.value)}: the "
            "state was damaged or altered since it was saved; go back to an earlier one"
        )

    def require(self, holds: bool, must: str) -> None:
        """Refuses the value unless something holds of it."""
        if not holds:
            self.refuse(must)

    def __getitem__(self, key: str | int) -> Field:
        """Returns an entry of a mapping, or of a list."""
        if isinstance(key, int):
            return Field(self.value[key], f"{self.path}[{key}]")
        path = f"{self.path}.{key}" if self.path and self.path[-1] != " " else self.path + key
        if not isinstance(self.value, Mapping):
            self.refuse("a dict")
        if key not in self.value:
            Field(None, path).refuse("there", "nothing")
        return Field(self.value[key], path)

    @property
    def given(self) -> bool:
        """Whether it is not None."""
        return self.value is not None

    def integer(self, least: int = 0, most: int | None = _LARGEST) -> int:
        """Returns an integer of `least` to `most`; None: without end."""
        value = self.value
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not whole or value < least or (most is not None and value > most):
            self.refuse(f"an integer in {least}..{'' if most in (None, _LARGEST) else most}")
        return int(value)

    def number(self, least: float = -np.inf, most: float = np.inf) -> float:
        """Returns a finite number of `least` to `most`."""
        value = self.value.item() if isinstance(self.value, np.generic) else self.value
        real = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not real or not (-_MOST <= value <= _MOST and least <= value <= most):
            self.refuse(f"a finite number in [{least:g}, {most:g}]")
        return float(value)

    def flag(self) -> bool:
        """Returns a bool."""
        self.require(isinstance(self.value, (bool, np.bool_)), "True or False")
        return bool(self.value)

    def text(self) -> str:
        """Returns a string."""
        self.require(isinstance(self.value, str), "a string")
        return str(self.value)

    def items(self, length: int | None = None) -> list[Field]:
        """Returns the entries of a list."""
        ok = isinstance(self.value, (list, tuple)) and length in (None, len(self.value))
        self.require(ok, "a list" if length is None else f"a list of {length}")
        return [self[at] for at in range(len(self.value))]

    def array(self, dtype: Any, *shape: int | None) -> NDArray[Any]:
        """Returns an array of a dtype and a shape; None: any length."""
        value, dtype = self.value, np.dtype(dtype)
        fits = isinstance(value, np.ndarray) and value.dtype == dtype
        if not fits or not (
            len(value.shape) == len(shape)
            and all(own in (None, length) for own, length in zip(shape, value.shape, strict=True))
        ):
            lengths = ", ".join("any" if length is None else str(length) for length in shape)
            self.refuse(f"a {dtype} array of shape ({lengths}{',' * (len(shape) == 1)})")
        return value  # type: ignore[no-any-return]

    def within(self, array: NDArray[Any], least: float, most: float) -> None:
        """Refuses an array with values outside of `least` to `most`; NaN is let pass."""
        low, high = extremes(array)
        if low < least or high > most:
            self.refuse(f"in {least}..{most}", f"values from {low} to {high}")


def extremes(array: NDArray[Any]) -> tuple[Any, Any]:
    """Returns the least and the largest value, NaN left out; (inf, -inf) where there is none."""

    def ends(block: slice) -> tuple[Any, Any]:
        part = array[block]
        least, most = np.fmin.reduce(part, axis=None), np.fmax.reduce(part, axis=None)
        let_go(part)
        return (least.item(), most.item()) if least == least else (np.inf, -np.inf)

    found = parallel.run(ends, list(blocks_of(array)), parallel.available_threads())
    lows, highs = zip(*found, strict=True) if found else ((), ())
    return min(lows, default=np.inf), max(highs, default=-np.inf)


def same(one: Any, other: Any) -> bool:
    """Returns whether two entries of states hold the same, NaN being equal to NaN."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return (
            one.dtype == other.dtype
            and one.shape == other.shape
            and all(_same_bytes(one[block], other[block]) for block in blocks_of(one))
        )
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other or (one != one and other != other))


def blocks_of(array: NDArray[Any]) -> Iterator[slice]:
    """Returns blocks along the first axis."""
    rows = max(1, parallel.BLOCK * len(array) // max(1, array.size)) if array.ndim else 1
    return parallel.blocks(range(len(array) if array.size else 0), rows)


def _same_bytes(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(other).tobytes()


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return reprlib.repr(value) if not isinstance(value, Mapping) else f"a dict of {len(value)}"
