"""The first 64 bytes of a state file, which say what it is and where its head stands.

All numbers are little-endian: the magic, the format, where the head starts, its length and CRC-32,
zeros, and the CRC-32 of all that. Every later format begins like this, so that a file can be told
to be newer.
"""

from __future__ import annotations

import os
import struct
import zlib
from io import FileIO

from seta.engine.files import chunks

FORMAT = 2
"""What is written and read; 1 was never released."""

_MAGIC = b"\x89seta\r\n\x1a"
_FIELDS = struct.Struct("<8sIQQI28x")
_SUM = struct.Struct("<I")
SIZE = _FIELDS.size + _SUM.size  # 64


def write(file: FileIO, start: int, head: bytes) -> None:
    """Writes the head where it starts, and then the opening."""
    chunks.write_at(file, start, head)
    fields = _FIELDS.pack(_MAGIC, FORMAT, start, len(head), zlib.crc32(head))
    chunks.write_at(file, 0, fields + _SUM.pack(zlib.crc32(fields)))


def read(file: FileIO, name: str) -> tuple[int, bytes]:
    """Returns where the head of a file starts, and the head.

    Raises:
        ValueError: It is no such file, newer, incomplete or damaged.
    """
    length = os.fstat(file.fileno()).st_size
    data = bytearray(min(SIZE, length))
    chunks.read_at(file, 0, data)
    if data[: len(_MAGIC)] != _MAGIC:
        raise ValueError(
            f"{name} is not a state written by seta.save: give the path that was saved to"
        )
    if length < SIZE:
        raise ValueError(_incomplete(name, length, SIZE))
    if zlib.crc32(data[: _FIELDS.size]) != _SUM.unpack_from(data, _FIELDS.size)[0]:
        raise ValueError(damaged(name, "its first 64 bytes do not match their checksum"))
    _, version, start, size, total = _FIELDS.unpack_from(data)
    if version != FORMAT:
        raise ValueError(
            f"{name} is a state of format {version}, this seta reads format {FORMAT}: "
            + ("upgrade seta" if version > FORMAT else "save it again")
        )
    if length < start + size:
        raise ValueError(_incomplete(name, length, start + size))
    if length > start + size:
        raise ValueError(damaged(name, f"it has {length} bytes instead of {start + size}"))
    head = bytearray(size)
    chunks.read_at(file, start, head)
    if zlib.crc32(head) != total:
        raise ValueError(damaged(name, "its head does not match its checksum"))
    return start, bytes(head)


def damaged(name: str, what: object) -> str:
    """Returns the message for a file that is not as it was written."""
    return f"{name} is damaged, {what}: go back to an earlier one"


def _incomplete(name: str, length: int, due: int) -> str:
    return (
        f"{name} is incomplete, it has {length} of {due} bytes: it was cut off after it was "
        "written; go back to an earlier one"
    )
