"""What the ranks of a stream have in common, and a run with the state that it goes on from.

Losses are held by position in the ids. Ids in another order (a set has one of its own in each
process) would put every loss on another sample, in silence; so their order is compared.

Cost: a digest of all ids when a stream is made, and one exchange of 32 bytes per rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from seta.engine.exchange import digest_of
from seta.engine.ranks import Ranks
from seta.integrations.streams.keep import KeepSet


def check_ranks(ranks: Ranks, settings: Mapping[str, object]) -> None:
    """Refuses ranks that were given something else each; all of them call this.

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


def check_ids(saved: Sequence[Any], keep: KeepSet, changed: Iterable[str]) -> set[str]:
    """Refuses a state whose losses are those of other samples.

    Args:
        saved: The number of ids and their digest, of the state.
        keep: The ids that there are now; those behind the saved ones are new.
        changed: What is meant to differ.

    Returns:
        `changed`, but for "ids".

    Raises:
        ValueError: The ids differ.
    """
    changed = set(changed)
    own = keep.digest(int(saved[0]))
    if "ids" not in changed and own != saved[1]:
        raise ValueError(
            f"the state was saved with ids={saved[1]!r}, this KeepSet has ids={own!r}: {_SORT}. Or "
            'say that the change is meant: load_state_dict(state, changed=["ids"])'
        )
    return changed - {"ids"}


_SORT = (
    "losses are held by position in them, so give the same ids in the same order to each process "
    'and run, such as KeepSet("key", ids=sorted(ids)); a set has another order in each process'
)
