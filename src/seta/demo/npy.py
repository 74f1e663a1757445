"""An array in an archive, as NumPy saves it, of which some rows are read and the rest is skipped.

Beneath `npz`. Holds no more than one row at a time beside those that are asked for, or some
megabytes where the rows do not lie one after another (Fortran order).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any
from zipfile import ZipFile

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

__all__ = ["StoredArray"]

_BLOCK = 1 << 24  # bytes


@dataclass(frozen=True)
class StoredArray:
    """What an array is; its values stay in the file.

    Attributes:
        member: Its name in the archive.
        shape: The rows come first.
        fortran: Whether the first axis runs fastest.
        dtype: No object.
    """

    member: str
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, archive: ZipFile, name: str) -> "StoredArray":
        """Looks at an array.

        Raises:
            ValueError: It is none, or of objects, or cut short.
        """
        member = f"{name}.npy"
        with archive.open(member) as stream:
            array = cls(member, *_header(stream))
            held = archive.getinfo(member).file_size - stream.tell()
        if array.dtype.hasobject:
            raise ValueError(f"Object arrays cannot be loaded, {name} is one")
        needed = math.prod(array.shape) * array.dtype.itemsize
        if held < needed:
            raise ValueError(f"{name} of shape {array.shape} has {held} bytes instead of {needed}")
        return array

    def read_all(self, archive: ZipFile) -> NDArray[Any]:
        """Returns the whole array."""
        with archive.open(self.member) as stream:
            return np.asarray(npy.read_array(stream, allow_pickle=False))

    def read_rows(
        self, archive: ZipFile, rows: NDArray[np.intp], out: NDArray[np.float32]
    ) -> Iterator[int]:
        """Reads rows into an array.

        Args:
            archive: That holds this one.
            rows: intp (n,), rising.
            out: float32 (n, *shape[1:]), a view is fine.

        Yields:
            How many have been read.

        Raises:
            EOFError: The archive ends before.
        """
        with archive.open(self.member) as stream:
            _header(stream)
            yield from (self._crosswise if self.fortran else self._along)(stream, rows, out)

    def _along(
        self, stream: IO[bytes], rows: NDArray[np.intp], out: NDArray[np.float32]
    ) -> Iterator[int]:
        """Row after row, those in between skipped."""
        size, at = math.prod(self.shape[1:]) * self.dtype.itemsize, 0
        for done, row in enumerate(rows.tolist()):
            stream.seek((row - at) * size, 1)
            out[done] = np.frombuffer(_exactly(stream, size), self.dtype).reshape(self.shape[1:])
            at = row + 1
            yield done + 1

    def _crosswise(
        self, stream: IO[bytes], rows: NDArray[np.intp], out: NDArray[np.float32]
    ) -> Iterator[int]:
        """Of each place in a row the values of all rows, some places at a time."""
        n, places = self.shape[0], math.prod(self.shape[1:])
        found = np.empty((places, len(rows)), np.float32)
        step = max(1, _BLOCK // (n * self.dtype.itemsize))
        for start in range(0, places, step):
            part = found[start : start + step]
            values = np.frombuffer(
                _exactly(stream, len(part) * n * self.dtype.itemsize), self.dtype
            )
            part[:] = values.reshape(-1, n)[:, rows]
        out[:] = found.reshape(*self.shape[:0:-1], len(rows)).T
        yield len(rows)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Returns shape, order and type; what follows in the stream are the values."""
    version = npy.read_magic(stream)
    if version == (1, 0):
        return npy.read_array_header_1_0(stream)
    return npy.read_array_header_2_0(stream)


def _exactly(stream: IO[bytes], size: int) -> bytes:
    """Returns so many bytes."""
    found = stream.read(size)
    if len(found) < size:
        raise EOFError(f"{size - len(found)} bytes are missing")
    return found
