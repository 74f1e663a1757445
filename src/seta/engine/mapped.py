"""Copies arrays from memory-mapped files without keeping their pages in memory.

Pages of a file that were read through a map count as the process's memory until something else
needs the room, so that a state taken up from a file would seem to take its size twice.
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine import parallel

_BLOCK = 1 << 23


def copy_rows(target: NDArray[Any], source: NDArray[Any]) -> None:
    """Copies an array, `target[:] = source`, in blocks of some MB.

    Where the source lies in a file that is mapped for reading, the pages of a block are let go of
    after it was copied.

    Args:
        target: Of any type and shape, one axis at least.
        source: Of the same shape.

    Raises:
        ValueError: The shapes differ.
    """
    if target.shape != source.shape:
        raise ValueError(
            f"source must have the target's shape {target.shape}, got {source.shape}: give the "
            "rows that belong together"
        )
    rows = max(1, _BLOCK * len(source) // max(1, source.nbytes))

    def copy(block: slice) -> None:
        target[block] = source[block]
        let_go(source[block])

    blocks = list(parallel.blocks(range(len(source)), rows))
    parallel.run(copy, blocks, parallel.available_threads())


def let_go(array: NDArray[Any]) -> None:
    """Gives the memory of an array's pages back, if it lies in a file that is mapped for reading.

    What reads it again finds it as before. Nothing happens with other arrays, those of maps that
    can be written to among them, whose changes might be lost; nor where the platform cannot do it.
    """
    region = _map_of(array)
    if region is None or not array.nbytes or not array.flags.c_contiguous:
        return
    whole = np.frombuffer(region, np.uint8)
    if whole.flags.writeable or not hasattr(mmap, "MADV_DONTNEED"):
        return
    first = _address(array) - _address(whole)
    start = first - first % mmap.PAGESIZE
    region.madvise(mmap.MADV_DONTNEED, start, first + array.nbytes - start)


def _map_of(array: NDArray[Any]) -> mmap.mmap | None:
    """Returns the map that an array lies in."""
    base: Any = array
    while isinstance(base, (np.ndarray, memoryview)):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    return base if isinstance(base, mmap.mmap) else None


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])
