"""The open epoch: its selection, curve and weights, and how they are saved."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine import parallel
from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import Binning
from seta.engine.draw.selection import Order, Selection
from seta.engine.rows import Row
from seta.engine.state.curves import pack_curve
from seta.engine.table.table import Table


class Weights:
    """The weights of an epoch's samples, fixed when it begins: recording a loss changes none.

    One byte per sample (two or four, where a curve has more than 256 weights).

    Args:
        by_cell: float64 (cells,), the curve's.
        binning: Of the histogram that the curve was made for.
        table: With the losses that the epoch began with.
        always_keep: Indices of the samples whose weight is 1.
        saved: The weights of the rows, from `packed`; None: as the losses say.
    """

    def __init__(
        self,
        by_cell: NDArray[np.float64],
        binning: Binning,
        table: Table,
        always_keep: NDArray[np.int64] | None,
        saved: NDArray[np.uint8] | None = None,
    ) -> None:
        values, cells = np.unique(np.append(by_cell, 1.0), return_inverse=True)
        cells = cells.astype(np.min_scalar_type(len(values)))
        self._table, self._values = table, values.astype(np.float32)
        # Which of the values a row has; the last is for samples that other processes hold.
        if saved is not None:
            self._codes = np.zeros(len(table.columns) + 1, cells.dtype)
            self._codes[-1] = cells[binning.size]
            self._unpack(saved)
            return
        self._codes = table.by_cell(cells[:-1], binning)
        if always_keep is not None:
            rows = table.rows_of(always_keep)
            self._codes[rows[rows >= 0]] = cells[-1]

    def of(self, indices: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """Returns the weights of samples: float32 (B,)."""
        weights = np.empty(len(indices), np.float32)
        for block in parallel.blocks(range(len(indices))):
            weights[block] = self._values[self._codes[self._table.rows_of(indices[block])]]
        return weights

    def of_rows(self) -> NDArray[np.float32]:
        """Returns the weights of the rows that this process holds: float32 (rows,)."""
        return self._values[self._codes[:-1]]

    def packed(self) -> NDArray[np.uint8]:
        """Returns the weights of the rows: uint8 (bits, ceil(rows / 8)), as many bits as needed."""
        bits = max(1, (len(self._values) - 1).bit_length())
        codes = self._codes[:-1]
        return np.stack([np.packbits((codes >> bit & 1).astype(np.uint8)) for bit in range(bits)])

    def _unpack(self, saved: NDArray[np.uint8]) -> None:
        codes = self._codes[:-1]
        for bit, plane in enumerate(saved):
            codes |= np.unpackbits(plane, count=len(codes)).astype(codes.dtype) << bit


class OpenEpoch:
    """The selection of the open epoch; it does not change while the epoch is trained.

    Attributes:
        row: Its row as it begins.
        curve: Its keep curve.
        binning: Of the histogram that the curve was made for.
        mask: uint8 (ceil(rows / 8),), a bit for each row of the table, set if kept.
        weights: Of the samples; None where all are 1.
        order: The kept samples in training order.
        selection: All of them.
    """

    def __init__(
        self,
        row: Row,
        curve: KeepCurve,
        binning: Binning,
        mask: NDArray[np.uint8],
        order: Order,
        weights: Weights | None,
        threads: int,
    ) -> None:
        self.row, self.curve, self.binning, self.mask = row, curve, binning, mask
        self.order, self.weights = order, weights
        weigh = None if weights is None else weights.of
        self.selection = Selection(int(row["epoch"]), order, weigh, threads=threads)

    @property
    def epoch(self) -> int:
        """Its number."""
        return int(self.row["epoch"])

    @property
    def kept(self) -> int:
        """Samples of its selection, over all ranks."""
        return int(self.row["kept"])

    def state_dict(self) -> dict[str, Any]:
        """Returns what recreates it: one bit per sample (some more where there are weights)."""
        return {
            "row": dict(self.row),
            "mask": self.mask.copy(),
            "weights": None if self.weights is None else self.weights.packed(),
            "curve": pack_curve(self.curve, self.binning),
        }
