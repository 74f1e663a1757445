"""Replaces a file atomically.

The new content is written to a scratch file beside the destination and renamed over it, so that a
crash, a full disk or an interrupt leaves the earlier file as it was. A kill may leave the scratch
file behind, a hidden one named after the destination.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from io import FileIO

from seta.engine.files import chunks

_KINDS = {
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}
# What some file systems answer where a directory cannot be flushed.
_CANNOT_FLUSH = {errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EBADF}


def replace(path: str | os.PathLike[str], write: Callable[[FileIO], None], *, sync: bool) -> None:
    """Writes a file; its earlier content is there until the new one is complete.

    A symbolic link is followed: the file that it leads to is replaced. A new file has the mode
    that the umask gives it, a replaced one keeps its mode, and its owner where that is allowed.

    Args:
        path: Where to.
        write: Writes the content into an unbuffered file.
        sync: Wait until content and name are on the disk.

    Raises:
        OSError: It cannot be written, or it is a directory, a pipe or a device.
    """
    target = os.path.realpath(path)
    earlier = regular(target)
    folder, name = os.path.split(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"{folder}, the folder of {name}, is not there: make it first")
    scratch = os.path.join(folder, f".{name[:32]}.{os.urandom(8).hex()}")
    try:
        with open(scratch, "xb", buffering=0) as file:
            if earlier is not None:
                _take_mode(scratch, earlier)
            write(file)
            if sync:
                os.fsync(file.fileno())
        os.replace(scratch, target)
    except BaseException:
        # An interrupt may come after the rename, or before there is a file.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(scratch)
        raise
    if sync:
        _flush_names(folder)


def whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes a file of these bytes, whole or not at all; a report, which need not be flushed.

    Raises:
        OSError: See `replace`.
    """
    replace(path, lambda file: chunks.write_at(file, 0, content), sync=False)


def regular(path: str) -> os.stat_result | None:
    """Returns what is known of a file; None: there is none.

    Raises:
        OSError: It is a directory, a pipe or a device.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(f"{path} is a directory: give the name of a file in it")
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "not a regular file")
        raise OSError(f"{path} is {kind}: a state is a regular file, give the name of one")
    return found


def _take_mode(scratch: str, earlier: os.stat_result) -> None:
    """Gives a file the owner and the mode of another, as far as this process may."""
    own = os.stat(scratch)
    if (own.st_uid, own.st_gid) != (earlier.st_uid, earlier.st_gid):
        with contextlib.suppress(PermissionError):
            os.chown(scratch, earlier.st_uid, earlier.st_gid)
    os.chmod(scratch, stat.S_IMODE(earlier.st_mode))


def _flush_names(folder: str) -> None:
    """Waits until the names in a directory are on the disk, where the platform can say so."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise
