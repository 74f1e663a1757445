"""The course of a tracked run: the losses of a few samples in all epochs, and bars of each epoch.

A few kB per epoch for any number of samples. For inspection only: it does not affect selections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seta.engine.curves.bars import Bars, bars_of
from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram
from seta.engine.state.fields import Field
from seta.engine.table import tracked
from seta.engine.table.table import Table

RESERVOIR = 256
"""Samples, chosen by the seed, whose losses of all epochs are kept."""

_FLOAT32 = float(np.finfo(np.float32).max)


class Trajectories(NamedTuple):
    """The losses of some samples in all epochs that are over.

    Attributes:
        samples: Indices of the samples: int64 (m,).
        losses: float32 (epochs that are over, m); NaN if a sample had no finite loss in an epoch.
    """

    samples: NDArray[np.int64]
    losses: NDArray[np.float32]


class Trace:
    """The course of a run.

    Args:
        n: Samples of the dataset.
        seed: Of the run.
        named: int64, samples that the user named; None: none.

    Attributes:
        samples: int64 (m,), sorted, those that are followed.
    """

    def __init__(self, n: int, seed: int, named: NDArray[np.int64] | None) -> None:
        chosen = np.random.default_rng([seed, 0x7ACE]).choice(n, min(n, RESERVOIR), replace=False)
        self._named = np.empty(0, np.int64) if named is None else named
        self.samples: NDArray[np.int64] = np.union1d(chosen.astype(np.int64), self._named)
        self._losses: list[NDArray[np.float32]] = []
        self._pictures: list[tuple[int, Bars]] = []
        self._visits: NDArray[np.int64] = np.zeros(len(self.samples), np.int64)

    def begin(self, epoch: int, histogram: LossHistogram, curve: KeepCurve, table: Table) -> None:
        """Notes the bars of an epoch that begins; again, it changes nothing more.

        Args:
            epoch: Its number.
            histogram: Of the losses that it begins with.
            curve: Its keep curve.
            table: As it is before it.
        """
        self._visits = self._visits_in(table)
        if histogram.seen:
            self._pictures = [*self._before(epoch), (epoch, bars_of(histogram, curve))]

    def end(self, at: int, table: Table, epoch: int) -> None:
        """Notes the losses of an epoch that is over; again, it changes nothing more.

        Args:
            at: How many epochs have ended before it.
            table: With its losses.
            epoch: Its number.
        """
        columns = table.columns
        losses = columns.memory.get(tracked.LATEST, columns.values)
        rows = table.rows_of(self.samples)
        trained = (rows >= 0) & (columns.last_trained[rows] == epoch + 1)
        trained &= self._visits_in(table) > self._visits  # else none of its losses was finite
        self._losses[at:] = [np.where(trained, losses[rows], np.float32(np.nan))]

    def _visits_in(self, table: Table) -> NDArray[np.int64]:
        """Returns how many losses the samples have had: int64 (m,), 0 of those held elsewhere."""
        rows = table.rows_of(self.samples)
        visits = table.columns.memory[tracked.VISITS][rows].astype(np.int64)
        return np.where(rows >= 0, visits, 0)

    def trajectories(self) -> Trajectories:
        """Returns the losses of the samples that are followed, a copy."""
        empty = np.empty((0, len(self.samples)), np.float32)
        return Trajectories(self.samples.copy(), np.stack(self._losses) if self._losses else empty)

    def resized(self, n: int) -> Trace:
        """Returns the course without the samples that a dataset of n samples does not have."""
        here, result = self.samples < n, copy(self)
        result.samples, result._named = self.samples[here], self._named[self._named < n]
        result._visits = self._visits[here]
        result._losses = [losses[here] for losses in self._losses]
        return result

    def state_dict(self, next_epoch: int, *, opened: bool) -> dict[str, Any]:
        """Returns what recreates it.

        Args:
            next_epoch: The first epoch that has not begun.
            opened: Whether an epoch is open.
        """
        pictures = [
            {"epoch": at, **_copied(bars._asdict())._asdict()}
            for at, bars in self._before(next_epoch)
        ]
        visits = self._visits.copy() if opened else None
        return {**self.trajectories()._asdict(), "pictures": pictures, "visits": visits}

    def load_state_dict(
        self, parts: Sequence[Mapping[str, Any] | None], over: int, n: int, table: Table
    ) -> None:
        """Takes over a saved course; the samples that it follows stay those of the state.

        Args:
            parts: Of each process; where each had its own samples, together they have all.
            over: How many epochs have ended.
            n: Samples of the dataset.
            table: As it was saved.
        """
        first = parts[0]
        if first is None:  # followed from now on
            self._visits = self._visits_in(table)
            self._losses = list(np.full((over, len(self.samples)), np.nan, np.float32))
            self._pictures = []
            return
        (saved, merged), self._pictures = read([part for part in parts if part is not None])
        saved = saved[saved < n]
        self.samples = np.union1d(saved, self._named)
        losses = np.full((over, len(self.samples)), np.nan, np.float32)
        losses[:, np.searchsorted(self.samples, saved)] = merged[:, : len(saved)]
        self._losses = list(losses)
        self._visits = self._visits_in(table)
        visits = [part["visits"] for part in parts if part and part.get("visits") is not None]
        if len(visits) == len(parts):  # of an open epoch, as it began
            before = np.maximum.reduce(visits)[: len(saved)]
            at = np.searchsorted(self.samples, saved)
            self._visits[at] = np.where(table.rows_of(saved) >= 0, before, 0)

    def _before(self, epoch: int) -> list[tuple[int, Bars]]:
        return [(at, bars) for at, bars in self._pictures if at < epoch]


def read(parts: Sequence[Mapping[str, Any]]) -> tuple[Trajectories, list[tuple[int, Bars]]]:
    """Returns what a saved course says: losses of samples, and epochs, each with its bars.

    Args:
        parts: Of each process: of the same samples, each with the losses that it knows.
    """
    first = parts[0]
    losses = np.fmax.reduce([part["losses"] for part in parts])
    return Trajectories(first["samples"], losses), [
        (int(one["epoch"]), _copied(one)) for one in first["pictures"]
    ]


def _copied(saved: Mapping[str, Any]) -> Bars:
    """Returns saved bars, whose arrays may lie in a file."""
    edges, samples, kept = (np.array(saved[name]) for name in ("edges", "samples", "kept"))
    return Bars(edges, samples, kept, saved["logarithmic"])


def check_trace(saved: Field, n: int, epochs: int, history: Sequence[Mapping[str, Any]]) -> None:
    """Refuses what is no course of a run.

    Args:
        saved: The entry.
        n: Samples of the dataset.
        epochs: How many of the run may have begun.
        history: The rows of those that have ended.
    """
    if not saved.given:
        return
    largest = max([n, *(row["samples"] for row in history)])  # the dataset may have shrunk
    samples = saved["samples"].array(np.int64, None)
    saved["samples"].within(samples, 0, n - 1)
    saved["samples"].require(bool(np.all(np.diff(samples) > 0)), "sorted, each sample once")
    losses = saved["losses"].array(np.float32, len(history), len(samples))
    saved["losses"].within(losses, -_FLOAT32, _FLOAT32)
    if saved.value.get("visits") is not None:
        saved["visits"].within(saved["visits"].array(np.int64, len(samples)), 0, 2**32)
    least = 0
    for picture in saved["pictures"].items():
        least = picture["epoch"].integer(least, epochs - 1) + 1
        edges = picture["edges"].array(np.float64, None)
        picture["edges"].require(
            len(edges) > 1 and bool(np.isfinite(edges).all() and np.all(np.diff(edges) > 0)),
            "two or more rising finite numbers",
        )
        counts = picture["samples"].array(np.int64, len(edges) - 1)
        picture["samples"].within(counts, 0, largest)
        kept = picture["kept"].array(np.float64, len(edges) - 1)
        picture["kept"].require(bool(np.isfinite(kept).all()), "finite")
        picture["kept"].within(kept, 0, largest)
        picture["logarithmic"].flag()
