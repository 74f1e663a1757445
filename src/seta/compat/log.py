"""`Log`: figures of a run in a JSON file, as in the published package."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class Log:
    """Collects values with `add`, and writes them to a JSON file with `save`.

    Args:
        path: Path of the file; its folder must exist.

    Attributes:
        path: Path of the file.
        res: The values, by key.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        self.res: dict[str, Any] = {}

    def add(self, key: str, value: Any) -> None:
        """Sets the value of a key; an earlier value is replaced."""
        self.res[key] = value

    def save(self) -> None:
        """Writes the values to the file as one JSON object; the file is replaced atomically.

        Raises:
            TypeError: A value cannot be written as JSON; the file is unchanged.
        """
        text = json.dumps(self.res)
        target = Path(self.path)
        partial = target.with_name(f"{target.name}.{os.getpid()}.part")
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
