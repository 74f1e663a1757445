"""What a tracked run keeps beside the columns: loss curves of some samples, pictures of epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine.state.fields import Field


@dataclass(frozen=True, eq=False)
class Picture:
    """The losses that an epoch began with, and what it kept of them.

    Attributes:
        epoch: Which one.
        edges: float64 (bars + 1,), ascending.
        samples: int64 (bars,), samples whose loss lies there.
        kept: float64 (bars,), how many of them the epoch was to keep.
    """

    epoch: int
    edges: NDArray[np.float64]
    samples: NDArray[np.int64]
    kept: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Trace:
    """Loss curves of some samples, and a picture of each epoch.

    Attributes:
        samples: int64 (m,), which samples.
        losses: float32 (epochs over, m), NaN where one was not trained in an epoch.
        pictures: One for each epoch that had losses when it began.
    """

    samples: NDArray[np.int64]
    losses: NDArray[np.float32]
    pictures: list[Picture]

    @classmethod
    def of(cls, saved: Sequence[Mapping[str, Any] | None]) -> Trace | None:
        """Returns what the entries `trace` of states hold; None where one has none.

        Raises:
            ValueError: One is damaged.
        """
        if not saved or any(entry is None for entry in saved):
            return None
        fields = [Field(entry, "trace") for entry in saved]
        curves = [_curves(field) for field in fields]
        samples = np.concatenate([samples for samples, _ in curves])
        longest = min(len(losses) for _, losses in curves)
        losses = np.concatenate([losses[:longest] for _, losses in curves], axis=1)
        pictures = [_picture(field) for field in fields[0]["pictures"].items()]
        return cls(samples, losses, pictures)

    def curve(self, sample: int) -> list[float | None] | None:
        """Returns the losses of a sample by epoch, None where it had none; None: not traced."""
        at = np.flatnonzero(self.samples == sample)
        if not len(at):
            return None
        column = self.losses[:, at[0]]
        return [float(loss) if np.isfinite(loss) else None for loss in column]


def _curves(field: Field) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    samples = np.asarray(field["samples"].value)
    losses = np.asarray(field["losses"].value)
    field["samples"].require(samples.ndim == 1 and samples.dtype.kind in "iu", "indices (m,)")
    fits = losses.ndim == 2 and losses.shape[1] == len(samples) and losses.dtype.kind == "f"
    field["losses"].require(fits, f"floats (epochs, {len(samples)})")
    return samples.astype(np.int64), losses.astype(np.float32, copy=False)


def _picture(field: Field) -> Picture:
    edges = np.asarray(field["edges"].value, np.float64)
    samples = np.asarray(field["samples"].value, np.int64)
    kept = np.asarray(field["kept"].value, np.float64)
    rising = edges.ndim == 1 and len(edges) > 1 and bool((np.diff(edges) > 0).all())
    field["edges"].require(rising and bool(np.isfinite(edges).all()), "ascending numbers")
    bars = (len(edges) - 1,)
    field["samples"].require(samples.shape == bars, f"of {bars[0]} bars")
    field["kept"].require(kept.shape == bars, f"of {bars[0]} bars")
    return Picture(field["epoch"].integer(), edges, samples, kept)
