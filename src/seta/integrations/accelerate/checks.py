"""What an accelerator must be set up like for its processes to share pruned epochs.

Checks that run before any work, and whose messages show the way out.
"""

from __future__ import annotations

from typing import Any

from accelerate import Accelerator  # type: ignore[import-not-found,import-untyped,unused-ignore]

from seta.torch.ranks import ProcessRanks, ranks_of


def check(accelerator: Accelerator, options: dict[str, Any], *, even: bool) -> None:
    """Refuses what would choose samples, or give processes different numbers of batches.

    Args:
        accelerator: The run's.
        options: Of the loader.
        even: Whether all global batches are full, as they are.
    """
    if not isinstance(accelerator, Accelerator):
        raise TypeError(
            f"accelerator must be an accelerate.Accelerator, got {type(accelerator).__name__}: "
            "make it first, as accelerator = Accelerator()"
        )
    for name in ("sampler", "batch_sampler", "shuffle"):
        if name in options:
            raise ValueError(
                f"{name} is not allowed, got {name}={options[name]!r}: Pruning chooses the samples "
                f"of each epoch and shuffles them itself. Leave {name} out; reorder= changes the "
                "order within an epoch, always_keep= names samples that must stay"
            )
    if accelerator.use_stateful_dataloader:
        raise ValueError(
            "use_stateful_dataloader must be False, got True: Pruning saves its own position, and "
            "after load_state batches would be skipped twice. Leave it out of the "
            "DataLoaderConfiguration; num_workers= and the rest stay as they are"
        )
    uneven = accelerator.num_processes > 1 and not (even or accelerator.dispatch_batches)
    if uneven and not accelerator.even_batches:
        raise ValueError(
            "even_batches must be True without a budget, got even_batches=False: processes would "
            "get different numbers of batches and wait for each other without end. Give a budget, "
            "whose epochs are whole global batches, or drop_last=True"
        )


def ranks_of_accelerator(accelerator: Accelerator) -> ProcessRanks | None:
    """Returns the accelerator's processes, as the pruner sees them; None: there is but this one."""
    parallel = getattr(accelerator, "parallelism_config", None)
    if parallel is not None and parallel.non_data_parallel_size > 1:
        raise ValueError(
            "parallelism_config must be data-parallel alone, got tensor, context or sequence "
            f"parallelism over {parallel.non_data_parallel_size} processes, which share samples: "
            "train with a PrunedDataLoader, which takes a mesh's dimension as process_group"
        )
    ranks = ranks_of(None)
    processes = 1 if ranks is None else ranks.processes
    if processes != accelerator.num_processes:
        raise ValueError(
            f"accelerator must have the processes of torch.distributed, got {processes} there and "
            f"{accelerator.num_processes} in the accelerator, since losses are exchanged over "
            "torch.distributed (gloo, NCCL, ...): on CPUs under torchrun it needs "
            "Accelerator(cpu=True); TPUs are not supported"
        )
    return ranks
