"""`Log`: figures of a run in a JSON file, as in the published package."""

from __future__ import annotations

import json
import os
from typing import Any

from seta.engine.files import writing


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
        writing.whole(self.path, json.dumps(self.res).encode())
