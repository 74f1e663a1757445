"""Saving a state to a file without torch; a file is written completely or not at all.

Format: the opening (`opening.py`); the arrays in the order in which the head names them, each in C
order and padded with zeros to a multiple of 64 bytes; at the end the head (`head.py`), the state as
UTF-8 JSON with type, shape and checksums (`chunks.py`) in place of each array. Every byte is zero
or covered by a checksum.

Cost: writing or reading the bytes, computing checksums in parallel, and waiting for the disk.
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
    """Saves a state to a file, such as the return value of `Pruner.state_dict`.

    `load` returns the same types and values, bit for bit; what cannot be restored is refused. An
    existing file is replaced atomically: after a crash or an interrupt, it is either the old file
    or the new one. Symbolic links are followed. A replaced file keeps its mode.

    Args:
        state: A dict of dicts with string keys, lists, tuples, strings, bools, integers, floats
            (also NaN and infinite), None, numpy arrays of any shape, and numpy scalars. Dtypes of
            arrays: bool, integers, floats, complex numbers of up to 2 x 64 bits, either byte order,
            text or bytes of fixed length, and bfloat16 and float8 of ml_dtypes. Refused: objects,
            dates, structured arrays, int4, tensors, sets, subclasses.
        path: Path of the file.
        sync: Whether to wait until the file is on disk. False is faster for new files, but the
            file may be lost if the machine (not just the process) crashes.

    Raises:
        TypeError, ValueError: A part of the state cannot be saved; the message names the part and
            the way out.
        OSError: The file cannot be written, or `path` is a directory, a pipe or a device. An
            existing file is unchanged.

    Examples:
        >>> import os, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "run.seta")
        ...     save({"epoch": 3, "losses": np.zeros(2, np.float32)}, path)
        ...     load(path)
        {'epoch': 3, 'losses': array([0., 0.], dtype=float32)}
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
    """Loads a state that `save` wrote, and verifies its checksums.

    Args:
        path: Path of the file.
        mmap: Whether to memory-map the arrays instead of reading them; for states that many ranks
            saved in parts, of which each rank needs only some. The arrays are read-only, and stay
            valid if `save` replaces the file. Their checksums are not verified then, since that
            would read them; text and scalars are read.

    Returns:
        The state, a dict.

    Raises:
        OSError: The file cannot be read, or is a directory, a pipe or a device.
        ValueError: The file was not written by `save`, is incomplete or damaged (the message names
            the field), is of a newer format, or has arrays of ml_dtypes, which is not installed.
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
