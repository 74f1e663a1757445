"""Arrays in a file, in chunks, each with a checksum.

Other threads compute the checksum of a chunk while the next one is written or read. `zlib.crc32`
finds every change of up to 32 neighbouring bits, and all others but one in four billion.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine import parallel

CHUNK = 1 << 22
"""Bytes under one checksum; a part of the file format."""


def count(size: int) -> int:
    """Returns how many chunks so many bytes have."""
    return -(-size // CHUNK)


def write(file: FileIO, at: int, array: NDArray[Any]) -> list[int]:
    """Writes the items of an array in C order.

    Args:
        file: Unbuffered, for writing.
        at: Where the first byte goes.
        array: Of any shape and layout.

    Returns:
        The checksums of its chunks.
    """
    sums = []
    with _pool() as pool:
        for start, part in _parts(array):
            sums.append(_sum(pool, part))
            write_at(file, at + start, part)
        return [get() for get in sums]


def read(file: FileIO, at: int, array: NDArray[Any]) -> list[int]:
    """Fills a contiguous array with the bytes of a file; inverse of `write`.

    Returns:
        The checksums of the chunks, as they are now.
    """
    sums = []
    with _pool() as pool:
        for start, part in _parts(array):
            read_at(file, at + start, part)
            sums.append(_sum(pool, part))
        return [get() for get in sums]


def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(4, parallel.available_threads()))


def _parts(array: NDArray[Any]) -> Iterator[tuple[int, memoryview]]:
    """Yields the chunks of an array, with the place of their first byte."""
    if array.nbytes:
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        for start in range(0, len(data), CHUNK):
            yield start, data[start : start + CHUNK]


def _sum(pool: ThreadPoolExecutor, part: memoryview) -> Callable[[], int]:
    """Returns what waits for a checksum; small ones are not worth a thread."""
    if len(part) == CHUNK:
        return pool.submit(zlib.crc32, part).result
    total = zlib.crc32(part)
    return lambda: total


def write_at(file: FileIO, at: int, data: bytes | memoryview) -> None:
    """Writes all of some bytes."""
    file.seek(at)
    rest = memoryview(data)
    while len(rest):
        rest = rest[file.write(rest) :]


def read_at(file: FileIO, at: int, data: bytearray | memoryview) -> None:
    """Fills a buffer.

    Raises:
        ValueError: The file ends before.
    """
    file.seek(at)
    rest = memoryview(data)
    while len(rest):
        got = file.readinto(rest)
        if not got:
            raise ValueError("it became shorter while it was read")
        rest = rest[got:]
