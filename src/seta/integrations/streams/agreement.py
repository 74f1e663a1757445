"""Checks that the ranks of a stream, and a run and its saved state, agree.

Losses are held by position in the ids. Ids in another order (a set has one of its own in each
process) would put every loss on another sample, in silence; so their order is compared.

Cost: a digest of all ids when a stream is made, and one exchange of 32 bytes per rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from seta.engine import arguments
from seta.engine.state.fields import Field
from seta.engine.table.exchange import digest_of
from seta.engine.table.ranks import Ranks
from seta.integrations.streams.keep import KeepSet


def check_ranks(ranks: Ranks, settings: Mapping[str, object]) -> None:
    """Refuses ranks with different arguments; all ranks must call this.

    Raises:
        ValueError: Names it.
    """
    own = np.array([digest_of(repr(value).encode()) for value in settings.values()], np.int64)
    digests = np.stack(ranks.gather(own, "PrunedStream(...)"))
    for (name, value), column in zip(settings.items(), digests.T, strict=True):
        others = np.flatnonzero(column != column[0])
        if len(others):
            raise ValueError(
                f"{name} must be the same on all ranks, got something else on process {others[0]} "
                f"than on process 0 (here {value!r}): "
                + (_SORT if name == "ids" else f"make each stream with the same {name}")
            )


def check_ids(saved: Field, keep: KeepSet, changed: Iterable[str]) -> set[str]:
    """Refuses a state whose losses belong to other samples.

    Args:
        saved: The number of ids and their digest, of the state.
        keep: The ids that there are now; those behind the saved ones are new.
        changed: What is meant to differ.

    Returns:
        `changed`, but for "ids".

    Raises:
        ValueError: The ids differ.
    """
    changed = arguments.changed(changed)
    count, told = saved.items(2)
    own = keep.digest(count.integer(1))
    if "ids" not in changed and own != told.text():
        raise ValueError(
            f"the state was saved with ids={told.value!r}, this KeepSet has ids={own!r}: {_SORT}. "
            'Or say that the change is meant: load_state_dict(state, changed=["ids"])'
        )
    return changed - {"ids"}


def check_trained(states: Sequence[Field]) -> NDArray[np.uint8] | None:
    """Checks what the states of a stream have besides those of the pruner.

    Returns:
        The samples of the open epoch that are done, a bit for each; None where none has begun.

    Raises:
        ValueError: Names the entry.
    """
    trained: NDArray[np.uint8] | None = None
    for state in states:
        for row in state["figures"].items():
            for name in ("epoch", "planned", "missing", "filled", "repeated"):
                row[name].integer()
        done, settings = state["trained"], state["pruner"]["settings"]
        opened = state["pruner"]["open"].given
        done.require(opened or not done.given, "None, since no epoch is open")
        if done.given:
            n = settings["n"].integer(1)
            bits = done.array(np.uint8, -(-n // 8))
            if int(bits[-1]) & (0xFF >> (n % 8 or 8)):
                done.refuse(f"of the {n} samples there are", "samples beyond them")
            trained = bits if trained is None else trained | bits
    return trained


_SORT = (
    "losses are held by position in them, so give the same ids in the same order to each process "
    'and run, such as KeepSet("key", ids=sorted(ids)); a set has another order in each process'
)
