"""What the pruner knows of the open epoch, and how it is saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine import parallel, state
from seta.engine.curve import KeepCurve
from seta.engine.draw import Selection
from seta.engine.histogram import Binning
from seta.engine.rows import Row


class OpenEpoch:
    """The open epoch.

    Attributes:
        row: Its row, in the making.
        curve: Its keep curve.
        binning: Of the histogram that the curve was made for.
        weights: float32 (cells,); None where all are 1.
        mask: uint8 (ceil(n / 8),), a bit for each sample, set if kept.
        selection: The kept samples in training order; None until asked for.
    """

    def __init__(
        self, row: Row, curve: KeepCurve, binning: Binning, mask: NDArray[np.uint8]
    ) -> None:
        self.row, self.curve, self.binning, self.mask = row, curve, binning, mask
        weights = curve.weight_by_cell
        self.weights = None if weights is None else weights.astype(np.float32)
        self.selection: Selection | None = None

    @property
    def epoch(self) -> int:
        """Its number."""
        return int(self.row["epoch"])

    def weights_of(
        self,
        indices: NDArray[np.integer[Any]],
        cells_of: Callable[[NDArray[np.integer[Any]], Binning], NDArray[np.intp]],
        always_keep: NDArray[np.int64] | None,
    ) -> NDArray[np.float32] | None:
        """Returns the weights of samples: float32 (B,), None where all of the epoch are 1.

        Args:
            indices: Integers (B,).
            cells_of: Returns the cells of samples, by their losses as the epoch found them.
            always_keep: Sorted indices of the samples whose weight is 1.
        """
        if self.weights is None:
            return None
        weights = np.empty(len(indices), np.float32)
        for block in parallel.blocks(range(len(indices))):
            weights[block] = self.weights[cells_of(indices[block], self.binning)]
        if always_keep is not None:
            at = np.searchsorted(always_keep, indices).clip(max=len(always_keep) - 1)
            weights[always_keep[at] == indices] = 1
        return weights

    def state_dict(self) -> dict[str, Any]:
        """Returns what recreates it: one bit per sample, and some bytes."""
        return {
            "row": dict(self.row),
            "mask": self.mask.copy(),
            **state.pack_curve(self.curve, self.binning),
        }

    @classmethod
    def from_state(cls, saved: Mapping[str, Any], mask: NDArray[np.uint8]) -> OpenEpoch:
        """Inverse of `state_dict`, with the mask of the rows that are held now."""
        curve, binning = state.unpack_curve(saved)
        return cls(dict(saved["row"]), curve, binning, mask)
