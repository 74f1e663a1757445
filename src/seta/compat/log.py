"""`Log`: a run's figures in one small JSON file, as the published package writes it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class Log:
    """Collects values and writes them as one JSON object.

    Args:
        path: File to write; its folder must exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        self.res: dict[str, Any] = {}

    def add(self, key: str, value: Any) -> None:
        """Sets a key, over an earlier value."""
        self.res[key] = value

    def save(self) -> None:
        """Writes the file, whole or not at all.

        Raises:
            TypeError: A value is nothing that JSON can hold; the file is untouched.
        """
        text = json.dumps(self.res)
        target = Path(self.path)
        partial = target.with_name(f"{target.name}.{os.getpid()}.part")
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
