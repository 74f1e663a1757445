"""What all processes of a sharded table know of all losses, and how a state holds it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seta.engine.curves.histogram import Binning, LossHistogram


class Shared(NamedTuple):
    """What all processes know of all losses, from the last exchange.

    Attributes:
        histogram: Of all samples. A state has it without its columns, which follow from its tables.
        kept_always: Of those of `always_keep`.
    """

    histogram: LossHistogram
    kept_always: LossHistogram

    @classmethod
    def unseen(cls, n: int, always: int, columns: Iterable[str]) -> Shared:
        """Returns what is known before the first epoch.

        Args:
            n: Number of samples.
            always: How many of them are always kept.
            columns: Names of the columns that the policy wants counted.
        """
        binning, none = Binning.over(0, 0), np.zeros(1, np.int64)
        unseen = LossHistogram(binning, none, n)
        return cls(
            replace(unseen, columns=dict.fromkeys(columns, unseen)),
            LossHistogram(binning, none, always),
        )

    def state_dict(self) -> dict[str, Any]:
        """Returns the counts of the bins that are not empty."""
        binning = self.histogram.binning
        return {
            "binning": [binning.smallest, binning.shift, binning.size],
            "histogram": _packed(self.histogram),
            "kept_always": _packed(self.kept_always),
        }

    @classmethod
    def from_state(cls, saved: Mapping[str, Any]) -> Shared:
        """Inverse of `state_dict`."""
        binning = Binning(*saved["binning"])
        return cls(*(_unpacked(saved[name], binning) for name in cls._fields))


def _packed(histogram: LossHistogram) -> dict[str, Any]:
    bins: NDArray[np.int64] = np.flatnonzero(histogram.counts)
    return {
        "bins": bins.astype(np.uint32),
        "counts": histogram.counts[bins],
        "unseen": histogram.unseen,
    }


def _unpacked(saved: Mapping[str, Any], binning: Binning) -> LossHistogram:
    counts = np.zeros(binning.size, np.int64)
    counts[saved["bins"]] = saved["counts"]
    return LossHistogram(binning, counts, int(saved["unseen"]))
