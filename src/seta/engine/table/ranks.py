"""The processes that train together, as the engine sees them: numpy in, numpy out.

The engine calls them once per epoch (`Pruner.end_epoch`), and for a state in mid-epoch; never per
step. `seta.torch.ranks` does it over torch's process groups; anything with these six members will
do, such as a thin layer over `jax.experimental.multihost_utils`.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Ranks(Protocol):
    """This process among those that train together."""

    @property
    def rank(self) -> int:
        """Which share of each epoch this process trains, 0 .. size - 1."""

    @property
    def size(self) -> int:
        """Number of shares."""

    @property
    def process(self) -> int:
        """This process among those that exchange, 0 .. processes - 1."""

    @property
    def processes(self) -> int:
        """Processes that exchange: `size`, or more where several train one share together."""

    def gather(self, values: NDArray[Any], what: str) -> list[NDArray[Any]]:
        """Returns the arrays of all processes, by their number.

        Args:
            values: One-dimensional; of one dtype on all processes, of any length on each.
            what: The occasion, the same on all processes. Compare it before anything of another
                size is exchanged: one that comes for something else, such as a state in mid-epoch,
                is told to all of them then, by an error.
        """

    def sum(self, counts: NDArray[np.int64], what: str) -> NDArray[np.int64]:
        """Returns the elementwise sum over all processes of arrays of one length."""


def share_of(positions: range, ranks: Ranks | None) -> range:
    """Returns what one process trains of positions that all of them know.

    Args:
        positions: In training order, those that are left.
        ranks: The processes; None: this one alone, which trains all.

    Returns:
        Every `size`-th of the longest part that divides evenly, from this rank on. So the first b
        batches of B samples of all ranks are the next b x B x size positions.
    """
    if ranks is None:
        return positions
    return positions[: len(positions) - len(positions) % ranks.size][ranks.rank :: ranks.size]
