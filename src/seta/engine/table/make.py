"""Makes the loss table of a pruner, replicated or sharded."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seta.engine.curves.policy import KeepsScore
from seta.engine.table.columns import LossColumns
from seta.engine.table.replicated import ReplicatedTable
from seta.engine.table.sharded import ShardedTable
from seta.engine.table.table import Sharding, Table


def make_table(
    sharding: Sharding,
    n: int,
    epochs: int,
    losses: ArrayLike | None,
    *,
    count_kept: bool,
    scored: KeepsScore | None = None,
    track: bool = False,
    strata: NDArray[np.unsignedinteger[Any]] | None = None,
    **options: Any,
) -> Table:
    """Returns a table without losses, or with those of an earlier run.

    Args:
        sharding: Its kind.
        n: Number of samples.
        epochs: Length of the run.
        losses: float (n,), NaN = unseen; None: all unseen.
        count_kept: Whether to count how often each sample was kept.
        scored: The policy, if it keeps a score.
        track: Whether the run is tracked.
        strata: Unsigned integers (n,), if the policy looks at them.

        **options: Of both kinds: `always_keep`, `seed`, `threads`, `ranks`.
    """
    if sharding == "sharded":
        if strata is not None:
            raise ValueError(
                "a policy that looks at strata needs all losses in each process: give "
                'sharding="replicated", another policy, or no strata= if the policy allows that'
            )
        return ShardedTable(
            n, epochs, losses, count_kept=count_kept, scored=scored, track=track, **options
        )
    columns = LossColumns(n, epochs, losses, count_kept=count_kept, scored=scored, track=track)
    return ReplicatedTable(columns, strata=strata, **options)
