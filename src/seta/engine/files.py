"""Saving a state without torch: one file of numpy arrays, whole or not at all.

The file is a sequence of arrays as `numpy.save` writes them: first the state as JSON, in which each
array is replaced by a mark, then the arrays. It is written beside its destination, flushed to
the disk and renamed, so that a crash or a full disk leaves the earlier file as it was.

Cost: that of `numpy.save` on as many bytes, and the wait for the disk.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAGIC = "seta-state-1"


def save(state: dict[str, Any], path: str | os.PathLike[str], *, sync: bool = True) -> None:
    """Writes a state, such as `Pruner.state_dict()` returns.

    Args:
        state: Dicts, lists, strings, numbers, None and numpy arrays.
        path: Where to. An existing file is replaced, at once.
        sync: Wait until the file is on the disk. False: it survives a crash of the process, but not
            of the machine; quicker where `path` is new (some file systems wait to replace a file).

    Raises:
        OSError: The file cannot be written; an existing one is as it was.
    """
    arrays: list[NDArray[Any]] = []
    text = json.dumps({"magic": _MAGIC, "state": _without_arrays(state, arrays)})
    path = Path(path)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, np.frombuffer(text.encode(), np.uint8))
            for array in arrays:
                np.save(file, array, allow_pickle=False)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(scratch, path)
    except BaseException:
        os.unlink(scratch)
        raise


def load(path: str | os.PathLike[str], *, mmap: bool = False) -> dict[str, Any]:
    """Reads what `save` wrote.

    Args:
        path: Where it is.
        mmap: Leave the arrays in the file, and read of them what is used; for the parts that many
            ranks saved, of which each takes up its own.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not one of ours, or incomplete.
    """
    with open(path, "rb") as file:
        try:
            head = json.loads(np.load(file, allow_pickle=False).tobytes())
            if head["magic"] != _MAGIC:
                raise ValueError(head["magic"])
        except Exception as error:
            raise ValueError(
                f"{os.fspath(path)} is not a state written by seta.save: give the path that was "
                "saved to"
            ) from error
        try:
            return dict(_with_arrays(head["state"], file, mmap))
        except Exception as error:
            raise ValueError(
                f"{os.fspath(path)} is incomplete: it was cut off or damaged after it was "
                "written; go back to an earlier one"
            ) from error


def _without_arrays(value: Any, arrays: list[NDArray[Any]]) -> Any:
    """Returns the value as JSON takes it, and collects the arrays.

    A list in it is always a pair of a tag and a content, so that nothing in a state can be taken
    for the mark of an array.
    """
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return ["array", len(arrays) - 1]
    if isinstance(value, dict):
        return ["dict", {key: _without_arrays(item, arrays) for key, item in value.items()}]
    if isinstance(value, (list, tuple)):
        return ["list", [_without_arrays(item, arrays) for item in value]]
    return value


def _with_arrays(value: Any, file: Any, mmap: bool) -> Any:
    """Inverse of `_without_arrays`; the arrays come in the order of their marks."""
    if not isinstance(value, list):
        return value
    tag, content = value
    if tag == "array":
        return _mapped(file) if mmap else np.load(file, allow_pickle=False)
    if tag == "dict":
        return {key: _with_arrays(item, file, mmap) for key, item in content.items()}
    return [_with_arrays(item, file, mmap) for item in content]


def _mapped(file: Any) -> NDArray[Any]:
    """Returns the next array of a file without reading it, and goes on to the one after it."""
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    start = file.tell()
    size = int(np.prod(shape)) * dtype.itemsize
    file.seek(start + size)
    if not size:
        return np.empty(shape, dtype)
    return np.memmap(file.name, dtype, "r", start, shape)
