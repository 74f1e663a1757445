"""HTML tables for notebooks: of a run's latest epochs, or of any rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from seta.engine.rows import Row

_SHOWN = 10
_COLUMNS = ("epoch", "kept", "kept_share", "unseen", "mean_loss", "longest_left_out", "saved")


def text(value: Any) -> str:
    """Returns a figure as a table shows it: four digits, where it is no whole number."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)


def html(caption: str, names: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Returns a table of figures.

    Args:
        caption: What stands above it.
        names: Of the columns.
        rows: Their figures.
    """
    from html import escape  # not at `import seta`: it holds the names of all characters

    head = "".join(f"<th scope='col'>{escape(name)}</th>" for name in names)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(text(value))}</td>' for value in row)}</tr>" for row in rows
    )
    above = f"<caption style='text-align:left'>{escape(caption)}</caption>"
    return f"<table>{above}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def html_of_run(caption: str, history: Sequence[Row]) -> str:
    """Returns a table of the latest epochs, by the names of `Pruner.history`."""
    return html(caption, _COLUMNS, ([row[name] for name in _COLUMNS] for row in history[-_SHOWN:]))
