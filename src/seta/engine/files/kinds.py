"""Which values a state file holds, and what to do with the others.

Arrays are of a fixed list of types. None of them holds a pointer, and of each, text aside, every
pattern of bits is a value: whatever a file says, reading it is safe.
"""

from __future__ import annotations

import importlib
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

LONGEST_INT = 4096
"""Bits of an integer: Python itself refuses decimals of some thousand digits."""

_PLAIN = re.compile(
    r"\|b1|\|[iu]1|[<>][iu][248]|[<>]f[248]|[<>]c(8|16)|\|S[1-9]\d{0,8}|[<>]U[1-9]\d{0,8}"
)
_EXTENDED = re.compile(r"bfloat16|float8_\w+")  # of ml_dtypes; others use a part of their byte


def dtype_name(value: NDArray[Any] | np.generic, field: str) -> str:
    """Returns the name of an array's type, if it is one that files have.

    Raises:
        TypeError: It is another. Names the field and the way out.
    """
    dtype = value.dtype
    extended = _is_extended(dtype)
    text = dtype.name if extended else dtype.str
    scalar = isinstance(value, np.generic)
    # A scalar string would lose its zeros at the end.
    if (scalar and dtype.kind in "SU") or not (_EXTENDED if extended else _PLAIN).fullmatch(text):
        raise TypeError(
            f"{field} is {'a numpy scalar' if scalar else 'an array'} of type {dtype}, which "
            f"seta.save does not write: {_way_out_of_dtype(dtype)}"
        )
    return text


def dtype_of(text: str) -> np.dtype[Any]:
    """Inverse of `dtype_name`.

    Raises:
        ValueError: It is no such name.
        ImportError: It is a type of ml_dtypes, which is not here, or too old.
    """
    if _EXTENDED.fullmatch(text):
        try:
            extended: np.dtype[Any] = np.dtype(getattr(importlib.import_module("ml_dtypes"), text))
            return extended
        except (ImportError, AttributeError):
            raise ImportError(
                f"it has arrays of {text}, a type of ml_dtypes: pip install -U ml_dtypes"
            ) from None
    try:
        if _PLAIN.fullmatch(text):
            return np.dtype(text)
    except TypeError:  # strings too long for numpy
        pass
    raise ValueError(f"unknown type {text[:32]!r}")


def check_text(array: NDArray[Any], name: str) -> None:
    """Refuses strings with characters that there are not, on which Python fails.

    Raises:
        ValueError: It has some.
    """
    if array.dtype.kind == "U" and array.size:
        codes = array.reshape(-1).view(np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
        if int(codes.max()) > 0x10FFFF:
            raise ValueError(f"{name} has text that is not Unicode")


def check_plain(value: Any, field: str) -> None:
    """Refuses what is no None, bool, integer, float or string that JSON and UTF-8 take as it is.

    Raises:
        TypeError, ValueError: Names the field and the way out.
    """
    kind = type(value)
    if value is not None and kind not in (bool, int, float, str):
        raise TypeError(
            f"{field} is of type {type_name(value)}, which seta.save does not write: "
            f"{_way_out(value)}"
        )
    if kind is int and value.bit_length() > LONGEST_INT:
        raise ValueError(
            f"{field} is an integer of {value.bit_length()} bits, more than the {LONGEST_INT} "
            "that seta.save writes: save hex(value)"
        )
    if kind is str:
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{field} has text that is not Unicode ({error.reason}): save ascii(value), or "
                "its bytes in an array of numpy.uint8"
            ) from None


def type_name(value: Any) -> str:
    """Returns the name of a value's type, with its module."""
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return module + kind.__qualname__


def _is_extended(dtype: np.dtype[Any]) -> bool:
    return dtype.type.__module__.partition(".")[0] == "ml_dtypes"


def _way_out_of_dtype(dtype: np.dtype[Any]) -> str:
    if _is_extended(dtype):
        return "convert it without loss, array.astype(numpy.float32) or numpy.int8"
    if dtype.kind in "mM":
        return "save array.view(numpy.int64), and the unit beside it"
    if dtype.names is not None:
        return "save its fields one by one, {name: array[name] for name in array.dtype.names}"
    if dtype.kind in "fc":
        return "save array.astype(numpy.float64) or numpy.complex128"
    if dtype.kind in "SU":
        return "save str(value)"
    return "save array.tolist(), or an array of numbers"


def _way_out(value: Any) -> str:
    for kind in (int, float, str, dict, list, tuple):
        if isinstance(value, kind):
            return f"save {kind.__name__}(value)"
    if isinstance(value, np.ma.MaskedArray):
        return "save value.data and value.mask"
    if hasattr(value, "__array__"):
        return "save numpy.asarray(value)"
    if isinstance(value, (set, frozenset)):
        return "save sorted(value)"
    if isinstance(value, complex):
        return "save numpy.complex128(value)"
    if isinstance(value, (bytes, bytearray)):
        return "save numpy.frombuffer(value, numpy.uint8)"
    return "give dicts, lists, tuples, strings, numbers, None and numpy arrays"
