"""The interface of the processes that train together: numpy arrays in, numpy arrays out.

The engine calls it once per epoch (`Pruner.end_epoch`), and for a state within an epoch; never per
step. `seta.torch.ranks` implements it with torch's process groups, `seta.integrations.jax` with
JAX; any object with these six members can be used.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Ranks(Protocol):
    """This process and the others that train together."""

    @property
    def rank(self) -> int:
        """Number of the share of each epoch that this process trains, in 0 .. size - 1."""

    @property
    def size(self) -> int:
        """Number of shares."""

    @property
    def process(self) -> int:
        """Number of this process among all that exchange, in 0 .. processes - 1."""

    @property
    def processes(self) -> int:
        """Number of processes that exchange: `size`, or more if several train the same share."""

    def gather(self, values: NDArray[Any], what: str) -> list[NDArray[Any]]:
        """Returns the arrays of all processes, by process number.

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
