"""What is not supported yet, and must not go wrong in silence: several processes."""

from __future__ import annotations

import torch


def refuse_ranks(what: str) -> None:
    """Raises if several processes train together.

    Args:
        what: Who cannot; opens the message.

    Raises:
        NotImplementedError: A process group of more than one process is initialised.
    """
    dist = torch.distributed
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        raise NotImplementedError(
            f"{what} works in one process, and the process group has {dist.get_world_size()}: "
            "each would choose and record for itself; train with one"
        )
