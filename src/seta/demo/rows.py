"""Rows on disk: one JSON object a line, written as they come.

Every line is flushed, so that a run that is stopped, or killed, leaves all it measured readable.
Costs some 20 microseconds a row.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

__all__ = ["RowWriter", "read_rows"]


class RowWriter:
    """Writes rows to a JSON-lines file; a context manager that closes it.

    Args:
        path: The file; one from an earlier demo is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def write(self, kind: str, row: Mapping[str, Any]) -> None:
        """Append one line: `kind` ("setup", "epoch", "run" or "stopped") and the row's fields."""
        line = json.dumps({"kind": kind, **row}, default=_plain, allow_nan=False)
        self._file.write(line + "\n")
        self._file.flush()

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()


def _plain(value: Any) -> Any:
    """What JSON has no word for, in its own words."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return str(value)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a demo."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
