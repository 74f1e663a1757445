"""A folder of the user's own: `train.jsonl` and `test.jsonl`, an object per line, images beside.

Which fields an object has, a program says. Paths in them are relative to the folder.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def rows(
    folder: Path, part: str, fields: Sequence[str], texts: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Reads the lines of a part.

    Args:
        folder: Where it is.
        part: "train" or "test".
        fields: That each object must have.
        texts: Those of them that must be texts.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is empty, or a line has another form; the message names it.
    """
    path = folder / f"{part}.jsonl"
    needed = f"on each line a JSON object with {', '.join(fields)}"
    if not path.is_file():
        raise FileNotFoundError(f"--data {folder}: {path.name} is not there; needed: {needed}")
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or any(name not in row for name in fields):
            raise ValueError(f"{path}, line {number} is {line[:60]!r}; needed: {needed}")
        for name in texts:
            if not isinstance(row[name], str):
                raise ValueError(f"{path}, line {number}: {name} is {row[name]!r}, and no text")
        found.append(row)
    if not found:
        raise ValueError(f"{path} is empty; needed: {needed}")
    return found


def image(path: Path, size: tuple[int, int], mode: str = "RGB") -> NDArray[np.uint8]:
    """Reads an image, and scales it.

    Args:
        path: Of a file that Pillow reads.
        size: Width and height, pixels.
        mode: Pillow's: "RGB", or "L" for grey.

    Returns:
        Uint8 (H, W, 3), or (H, W) for "L".
    """
    with Image.open(path) as file:
        return np.array(file.convert(mode).resize(size))  # one's own: torch wants to write
