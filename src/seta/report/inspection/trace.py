"""What a tracked run keeps beside the columns: loss curves of some samples, bars of each epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine.curves.bars import Bars
from seta.engine.state.fields import Field
from seta.engine.trace import check_trace, read


@dataclass(frozen=True, eq=False)
class Trace:
    """Loss curves of some samples, and the bars of each epoch.

    Attributes:
        samples: int64 (m,), which samples.
        losses: float32 (epochs over, m), NaN where one was not trained in an epoch.
        pictures: Epochs that had losses when they began, each with its bars.
    """

    samples: NDArray[np.int64]
    losses: NDArray[np.float32]
    pictures: list[tuple[int, Bars]]

    @classmethod
    def of(
        cls, saved: Sequence[Field], *, n: int, epochs: int, history: Sequence[Mapping[str, Any]]
    ) -> Trace | None:
        """Returns what the entries `trace` of the parts of a state hold; None where one has none.

        Args:
            saved: The entries: of the same samples, each with the losses that it knows.
            n: Samples of the data set.
            epochs: Length of the run.
            history: The rows of the epochs that have ended.

        Raises:
            ValueError: One is damaged.
        """
        for field in saved:
            check_trace(field, n, epochs, history)
        parts = [field.value for field in saved]
        if any(part is None for part in parts):
            return None
        (samples, losses), pictures = read(parts)
        return cls(samples, losses, pictures)

    def curve(self, at: int) -> list[float | None]:
        """Returns the losses of the sample at a place, by epoch, None where it had none."""
        return [float(loss) if np.isfinite(loss) else None for loss in self.losses[:, at]]
