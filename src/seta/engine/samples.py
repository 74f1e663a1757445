"""The sample table: what a run knows of each sample, as columns.

`Pruner.table()` makes it. It is a copy: training does not change it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import Binning
from seta.engine.open_epoch import OpenEpoch
from seta.engine.shown import html, text
from seta.engine.suspects import suspicion
from seta.engine.table import tracked
from seta.engine.table.table import Table

_SHOWN = 5


class SampleTable(Mapping[str, NDArray[Any]]):
    """Table with one row per sample: losses, visits, keep probabilities and more.

    `Pruner.table` and `Pruner.suspects` return one. It is a mapping from names to numpy arrays of
    equal length: `table["loss"]`, `list(table)`, `table.items()`. `where` and `sort` return other
    tables, `to_pandas` and `to_parquet` export it.

    | column | dtype | meaning | present |
    | --- | --- | --- | --- |
    | index | int64 | the sample | always |
    | loss | float32 | latest loss, NaN = none | unless the policy has a score and `track` is off |
    | score | float32 | the policy's score | if the policy has a score |
    | left_out | int64 | epochs since it was last trained; all epochs if never | always |
    | group | int64 | difficulty group, 0 = the easiest, -1 = unseen | if the epoch has groups |
    | keep | float32 | keep probability in the coming epoch | always |
    | weight | float32 | loss weight in the coming epoch | always |
    | kept | int64 | number of epochs that kept it | `count_kept=True` |
    | visits | int64 | number of its finite losses | `track=True` |
    | mean | float32 | mean of its losses, NaN = none | `track=True` |
    | spread | float32 | standard deviation of its losses, NaN before two | `track=True` |
    | suspicion | float32 | how far its losses stay above typical ones, NaN = none | `track=True` |

    With the policies of `seta.rl`, signals of rewards stand for losses, and there is no suspicion.

    Args:
        columns: Arrays of equal length, by name.

    Attributes:
        rows: Number of samples.

    Raises:
        ValueError: The columns differ in length.
    """

    def __init__(self, columns: Mapping[str, NDArray[Any]]) -> None:
        self._columns = dict(columns)
        lengths = {len(column) for column in self._columns.values()}
        if len(lengths) > 1:
            raise ValueError(
                f"columns must be of one length, got {sorted(lengths)}: give one entry per sample"
            )
        self.rows = lengths.pop() if lengths else 0

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Returns a column, by its name.

        Raises:
            KeyError: There is no such column; the message lists all.
        """
        if name not in self._columns:
            raise KeyError(f"{name!r}: the columns are {', '.join(self._columns)}")
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        """Number of columns; `rows` is the number of samples."""
        return len(self._columns)

    def where(self, rows: ArrayLike) -> SampleTable:
        """Returns the table of some rows.

        Args:
            rows: A mask, bool (rows,), or positions, integers, in the order of the result.
        """
        at = np.asarray(rows)
        at = at.astype(np.intp) if at.size == 0 and at.dtype.kind == "f" else at
        return SampleTable({name: column[at] for name, column in self._columns.items()})

    def sort(self, by: str, *, descending: bool = False) -> SampleTable:
        """Returns the table sorted by a column; the sort is stable, and NaN comes last.

        Args:
            by: Name of the column.
            descending: Whether the highest values come first.

        Raises:
            KeyError: There is no such column.
        """
        column = self[by]
        order = np.argsort(-column if descending else column, kind="stable")
        return self.where(order)

    def to_pandas(self) -> Any:
        """Returns a pandas data frame with the same columns.

        Raises:
            ImportError: pandas is not installed.
        """
        from seta.extras import require

        require("SampleTable.to_pandas", "pandas")
        import pandas

        return pandas.DataFrame(dict(self))

    def to_parquet(self, path: Path | str) -> None:
        """Writes the table to a parquet file.

        Args:
            path: Where to; an existing file is replaced.

        Raises:
            ImportError: pyarrow is not installed.
        """
        from seta.extras import require

        require("SampleTable.to_parquet", "pyarrow")
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table(dict(self)), path)

    def __repr__(self) -> str:
        rows = [list(self), *([text(value) for value in row] for row in self._few())]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True))
            for row in rows
        ]
        more = [f"... {self.rows:,} samples in all"] if self.rows > _SHOWN else []
        return "\n".join(["SampleTable", *lines, *more])

    def _repr_html_(self) -> str:
        return html(f"SampleTable: {self.rows:,} samples", self, self._few())

    def _few(self) -> list[list[Any]]:
        """Returns the first rows."""
        columns = self._columns.values()
        return [[column[row] for column in columns] for row in range(min(self.rows, _SHOWN))]


def table_of(
    table: Table,
    curve: KeepCurve,
    binning: Binning,
    *,
    n: int,
    epoch: int,
    always_keep: NDArray[np.int64] | None,
    opened: OpenEpoch | None,
    classes: NDArray[np.integer[Any]] | None,
    suspects: bool,
) -> SampleTable:
    """Returns the sample table of the samples that a loss table holds.

    Args:
        table: The loss table.
        curve: Keep curve of the coming epoch.
        binning: Bins of the histogram that the curve was made for.
        n: Number of samples.
        epoch: Number of the latest epoch; -1: none.
        always_keep: Samples that are never pruned.
        opened: The open epoch, if any: its weights are fixed, and it is counted in `kept`.
        classes: Integers (n,): each sample is compared with its class; None: with all samples.
        suspects: Whether a tracked run has the column `suspicion`.
    """
    columns, memory = table.columns, table.columns.memory
    held = np.arange(len(columns)) if table.held is None else table.held
    rows = np.flatnonzero(held < n)
    found: dict[str, NDArray[Any]] = {"index": held}

    def said(of_cells: NDArray[Any]) -> NDArray[Any]:
        return table.by_cell(of_cells, binning)[:-1]

    scored = bool(columns.own)
    if not scored:
        found["loss"] = columns.values
    elif tracked.LATEST in memory:
        found["loss"] = memory[tracked.LATEST]
    if scored:
        found["score"] = columns.values
    found["left_out"] = columns.left_out(epoch)
    if curve.groups is not None and len(curve.groups):
        found["group"] = said(_groups(curve)).astype(np.int64)
    weight = curve.weight_by_cell
    found["keep"] = said(curve.keep_by_cell.astype(np.float32))
    ones = np.ones(len(columns), np.float32)
    found["weight"] = ones if weight is None else said(weight.astype(np.float32))
    if always_keep is not None:
        here = table.rows_of(always_keep)
        for name in ("keep", "weight"):
            found[name][here[here >= 0]] = 1
    if opened is not None and opened.weights is not None:
        found["weight"] = opened.weights.of_rows()
    counts = columns.counted(None if opened is None else opened.mask)
    if columns.kept_counts is not None:
        found["kept"] = (columns.kept_counts if counts is None else counts).astype(np.int64)
    if tracked.VISITS in memory:
        found["visits"] = tracked.visits_of(memory)
        found["mean"] = tracked.mean_of(memory)
        found["spread"] = tracked.spread_of(memory)
    found = {name: column[rows] for name, column in found.items()}
    if suspects and tracked.VISITS in memory:
        found["suspicion"] = suspicion(found, None if classes is None else classes[found["index"]])
    return SampleTable(found)


def _groups(curve: KeepCurve) -> NDArray[np.int16]:
    """Returns the difficulty group of each cell; -1 of the unseen."""
    counts = [] if curve.groups is None else np.diff(curve.groups.first_bin).tolist()
    of_bins = [group for group, bins in enumerate(counts) for _ in range(bins)]
    return np.tile(np.array([*of_bins, -1], np.int16), curve.strata or 1)
