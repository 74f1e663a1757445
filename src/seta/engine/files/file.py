"""Saving a state without torch: one file of numpy arrays, whole or not at all.

The opening (`opening.py`); the arrays in the order in which the head names them, each in C order
and filled up with zeros to a multiple of 64 bytes; at the end the head (`head.py`), the state as
JSON in UTF-8 with type, shape and checksums (`chunks.py`) in the place of each array. Every byte is
covered by a checksum, or is zero.

Cost: that of writing or reading as many bytes, with the checksums computed beside it, and the wait
for the disk.
"""

from __future__ import annotations

import json
import mmap as maps
import os
from collections.abc import Iterator
from io import FileIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine.files import chunks, kinds, opening, writing
from seta.engine.files.head import Place, Unwritten, decode, encode, parse


def save(state: dict[str, Any], path: str | os.PathLike[str], *, sync: bool = True) -> None:
    """Writes a state, such as `Pruner.state_dict()` returns.

    What `load` returns is of the same types and values, bit for bit; what could not be is refused.
    A symbolic link is followed. A new file has the mode that the umask gives it, a replaced one
    keeps its own.

    Args:
        state: A dict of dicts with string keys, lists, tuples, strings, bools, integers, floats
            (also NaN and infinite), None, numpy arrays of any shape, and numpy scalars. Arrays are
            of bools, integers, floats and complex numbers of up to 64 bits a part, in either byte
            order, of text or bytes of fixed length, or of bfloat16 and float8 of ml_dtypes. Others
            are refused: objects, dates, structured arrays, int4, tensors, sets, subclasses.
        path: Where to. An existing file is replaced, at once: after a crash or an interrupt it is
            either the old one or the new one.
        sync: Wait until the file is on the disk. False: it survives a crash of the process, but not
            of the machine; quicker where `path` is new (some file systems wait to replace a file).

    Raises:
        TypeError, ValueError: The state has a part that is not written; the message names it, and
            what to do.
        OSError: The file cannot be written, or `path` is a directory, a pipe or a device; an
            existing one is as it was.
    """
    path = os.fsdecode(path)
    if type(state) is not dict:
        raise TypeError(
            f"state must be a dict, got {kinds.type_name(state)}: save {{'value': ...}}"
        )
    arrays: list[Unwritten] = []
    content = encode(state, (), arrays)

    def write(file: FileIO) -> None:
        at = opening.SIZE
        for array, sums in arrays:
            sums += chunks.write(file, at, array)
            chunks.write_at(file, at + array.nbytes, bytes(_filling(array.nbytes)))
            at += array.nbytes + _filling(array.nbytes)
        head = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        opening.write(file, at, head.encode())

    writing.replace(path, write, sync=sync)


def load(path: str | os.PathLike[str], *, mmap: bool = False) -> dict[str, Any]:
    """Reads what `save` wrote.

    Args:
        path: Where it is.
        mmap: Leave the arrays in the file, and read of them what is used; for the parts that many
            ranks saved, of which each takes up its own. They are read-only, and stay valid when
            `save` replaces the file. Opening, head and sizes are checked as ever, but not the
            checksums of the arrays: that would read them. Text and scalars are read.

    Raises:
        OSError: The file cannot be read, or is a directory, a pipe or a device.
        ValueError: It is not one of ours, incomplete, damaged (names the field that is), of a newer
            format, or has arrays of ml_dtypes, which is not here.
    """
    name = os.fspath(path)
    writing.regular(name)
    with open(name, "rb", buffering=0) as file:
        start, head = opening.read(file, name)
        try:
            content = parse(head)
            places: list[Place] = []
            if not isinstance(decode(content, (), places.append), dict):
                raise ValueError("its head holds no dict")
            arrays = _arrays(file, places, start, mmap)
            return dict(decode(content, (), lambda _: next(arrays)))
        except ImportError as error:
            raise ValueError(f"{name} cannot be read here: {error}") from error
        except ValueError as error:
            raise ValueError(opening.damaged(name, error)) from error


def _filling(size: int) -> int:
    """Returns how many zeros follow an array of so many bytes."""
    return -size % opening.SIZE


def _arrays(file: FileIO, places: list[Place], end: int, mmap: bool) -> Iterator[Any]:
    """Returns the arrays of a file, one after the other.

    Raises:
        ValueError: They do not take up the space before the head: nothing is allocated then.
    """
    due = opening.SIZE + sum(place.size + _filling(place.size) for place in places)
    if due != end:
        raise ValueError(f"its arrays take {due} bytes, and its head starts at {end}")
    mapped = maps.mmap(file.fileno(), end, access=maps.ACCESS_READ) if mmap else None
    return _read_all(file, places, mapped)


def _read_all(file: FileIO, places: list[Place], mapped: maps.mmap | None) -> Iterator[Any]:
    at = opening.SIZE
    for place in places:
        filling = bytearray(_filling(place.size))
        chunks.read_at(file, at + place.size, filling)
        if any(filling):
            raise ValueError(f"{place.name} is followed by something else than zeros")
        if mapped is None or not place.size or place.scalar or place.dtype.kind == "U":
            yield _read(file, at, place)
        else:
            yield np.ndarray(place.shape, place.dtype, mapped, at)
        at += place.size + len(filling)


def _read(file: FileIO, at: int, place: Place) -> NDArray[Any] | np.generic:
    """Returns an array or a scalar, checked.

    Raises:
        ValueError: It is not as it was written.
    """
    array = np.empty(place.shape, place.dtype)
    if chunks.read(file, at, array) != place.sums:
        raise ValueError(f"{place.name} does not match its checksum")
    kinds.check_text(array, place.name)
    return array[()] if place.scalar else array
