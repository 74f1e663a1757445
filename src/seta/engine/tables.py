"""Which table a pruner gets: the losses whole in each process, or in parts."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from seta.engine.losses import LossTable
from seta.engine.replicated import ReplicatedTable
from seta.engine.sharded import ShardedTable
from seta.engine.table import Sharding, Table


def make_table(
    sharding: Sharding,
    n: int,
    epochs: int,
    losses: ArrayLike | None,
    *,
    count_kept: bool,
    **options: Any,
) -> Table:
    """Returns an empty table, or one with the losses of an earlier run.

    Args:
        sharding: Its kind.
        n: Number of samples.
        epochs: Length of the run.
        losses: float (n,), NaN = unseen; None: all unseen.
        count_kept: Whether to count how often each sample was kept.
        **options: Of both kinds: `always_keep`, `seed`, `threads`, `ranks`.
    """
    if sharding == "sharded":
        return ShardedTable(n, epochs, losses, count_kept=count_kept, **options)
    return ReplicatedTable(LossTable(n, epochs, losses, count_kept=count_kept), **options)
