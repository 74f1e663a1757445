"""The head of a state file: the state as JSON, with a mark in the place of each array.

A list in the JSON is always a pair of a tag and a content, so that nothing in a state can be taken
for a mark. What is read is checked as what a stranger wrote, and nothing is allocated for it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from seta.engine.files import chunks, kinds

Field = tuple[str | int, ...]

_DEEPEST = 100
_LARGEST = 1 << 62
_NONFINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class Unwritten(NamedTuple):
    """An array to be written, and the list in its mark that its checksums go into."""

    array: NDArray[Any]
    sums: list[int]


class Place(NamedTuple):
    """An array of a file.

    Attributes:
        name: Of its field in the state.
        dtype: Type of its items.
        shape: Its shape.
        sums: Checksums of its chunks.
        scalar: Whether it is a numpy scalar.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    sums: list[int]
    scalar: bool

    @property
    def size(self) -> int:
        """Its bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def name_of(field: Field) -> str:
    """Returns the name of a field for a message: `table.losses`, `history[3].loss`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in field[:12])
    return (text.removeprefix(".") or "state") + ("..." if len(field) > 12 else "")


def encode(value: Any, field: Field, arrays: list[Unwritten]) -> Any:
    """Returns a value as JSON takes it, and collects the arrays.

    Args:
        value: A state, or a part of it.
        field: Where that part is.
        arrays: Gets each array.

    Raises:
        TypeError, ValueError: It would not come back as it is. Names the field and the way out.
    """
    kind = type(value)
    if kind in (np.ndarray, np.memmap) or isinstance(value, np.generic):
        tag = "scalar" if isinstance(value, np.generic) else "array"
        arrays.append(Unwritten(np.asarray(value), []))
        return [tag, [kinds.dtype_name(value, name_of(field)), value.shape, arrays[-1].sums]]
    if len(field) > _DEEPEST:
        raise ValueError(
            f"{name_of(field)} is nested more than {_DEEPEST} deep: save a flatter state, which "
            "does not hold itself"
        )
    if kind is dict:
        for key in value:
            _check_key(key, field)
        return ["dict", {key: encode(item, (*field, key), arrays) for key, item in value.items()}]
    if kind in (list, tuple):
        items = [encode(item, (*field, at), arrays) for at, item in enumerate(value)]
        return [kind.__name__, items]
    kinds.check_plain(value, name_of(field))
    if kind is float and not math.isfinite(value):
        return ["float", str(value)]
    return value


def _check_key(key: Any, field: Field) -> None:
    if type(key) is not str:
        raise TypeError(
            f"keys of {name_of(field)} must be strings, got {key!r} of type "
            f"{kinds.type_name(key)}: save str(key), or two lists, of keys and of values"
        )
    kinds.check_plain(key, f"a key of {name_of(field)}")


def parse(text: bytes) -> Any:
    """Returns the JSON of a head.

    Raises:
        ValueError: It is not one, or one that `encode` does not write.
    """
    try:
        return json.loads(
            text.decode(), object_pairs_hook=_without_duplicates, parse_constant=_refuse
        )
    except RecursionError:
        raise ValueError("too deep") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key that comes twice")
    return found


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def decode(value: Any, field: Field, read: Callable[[Place], Any]) -> Any:
    """Inverse of `encode`.

    Args:
        value: What `parse` returned, or a part of it.
        field: Where that part is in the state.
        read: Is called for the arrays, in the order in which they were written.

    Raises:
        ValueError: It is not what `encode` returned.
        ImportError: As for `kinds.dtype_of`.
    """
    if not isinstance(value, list):
        if isinstance(value, dict) or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"{name_of(field)} has no tag")
        return value
    if len(field) > _DEEPEST or len(value) != 2 or not isinstance(value[0], str):
        raise ValueError(f"{name_of(field)} is not a pair of a tag and a content")
    tag, content = value
    if tag == "dict" and isinstance(content, dict):
        return {key: decode(item, (*field, key), read) for key, item in content.items()}
    if tag in ("list", "tuple") and isinstance(content, list):
        items = [decode(item, (*field, at), read) for at, item in enumerate(content)]
        return tuple(items) if tag == "tuple" else items
    if tag == "float" and isinstance(content, str) and content in _NONFINITE:
        return _NONFINITE[content]
    if tag in ("array", "scalar"):
        return read(_place(content, name_of(field), tag == "scalar"))
    raise ValueError(f"{name_of(field)} has an unknown tag")


def _place(content: Any, name: str, scalar: bool) -> Place:
    """Returns the place of an array, checked in itself.

    Raises:
        ValueError: Type, shape and checksums are none that `encode` writes.
        ImportError: As for `kinds.dtype_of`.
    """
    if not isinstance(content, list) or len(content) != 3 or not isinstance(content[0], str):
        raise ValueError(f"{name} has no type, shape and checksums")
    text, shape, sums = content
    dtype = kinds.dtype_of(text)
    if not (_naturals(shape) and _naturals(sums)) or (scalar and shape):
        raise ValueError(f"{name} has no valid shape and checksums")
    # As numpy does, limits the size also of an array that is empty in another axis.
    if len(shape) > 64 or math.prod(side or 1 for side in shape) * dtype.itemsize > _LARGEST:
        raise ValueError(f"{name} has a shape that is too large")
    place = Place(name, dtype, tuple(shape), sums, scalar)
    if len(sums) != chunks.count(place.size):
        raise ValueError(f"{name} has {len(sums)} checksums for {place.size} bytes")
    return place


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)
