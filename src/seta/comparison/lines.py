"""The file of runs: one JSON line per run, appended as runs end, whole or not at all.

A line is written at once, flushed and synced, under a lock, so that several processes may add to
one file. What a kill leaves of a line is dropped in reading, and cut off before the next line.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Line = dict[str, Any]
Key = tuple[str, str, str, float | None, int]


def key(line: Mapping[str, Any]) -> Key:
    """Returns what tells a run from all others of a file.

    `suite` and `variant` are there where a file holds the runs of several tasks.
    """
    of = (line.get("suite", ""), line.get("variant", ""))
    return (*of, line["method"], line["budget"], line["seed"])


def read(path: Path) -> list[Line]:
    """Returns the lines of a file in order; none where there is no file.

    Raises:
        ValueError: A line is no JSON object, or a run has two lines; the message says which.
    """
    if not path.exists():
        return []
    return _parse(path.read_bytes(), path.name)


def append(path: Path, line: Line) -> bool:
    """Adds a line; makes the file and its folder where there are none.

    Returns:
        Whether it was added: the first line of a run stays, a second is left out.

    Raises:
        ValueError: The file has lines that are none of ours, or the line has a NaN or infinity.
    """
    text = (json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n").encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        content = file.read()
        if key(line) in map(key, _parse(content, path.name)):
            return False
        file.truncate(content.rfind(b"\n") + 1)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return True


def _parse(content: bytes, name: str) -> list[Line]:
    """Returns the whole lines that are not blank; what follows the last line break is torn."""
    found: dict[Key, Line] = {}
    for number, text in enumerate(content.split(b"\n")[:-1], start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
            at = key(line)
            twice = at in found
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{name}, line {number} is no result of a run ({error!r}): remove it, and its run "
                "is made again"
            ) from error
        if twice:
            raise ValueError(f"{name}, line {number} repeats the run {at}: remove one of the two")
        found[at] = line
    return list(found.values())
