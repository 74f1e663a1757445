"""Checks of the accelerator's settings, before any work."""

from __future__ import annotations

from accelerate import Accelerator  # type: ignore[import-not-found,import-untyped,unused-ignore]

from seta.torch.ranks import ProcessRanks, ranks_of


def check(accelerator: Accelerator) -> None:
    """Refuses an object that is not an accelerator, or one with settings that do not fit a loader.

    Raises:
        TypeError: It is not an `Accelerator`.
        ValueError: It has `use_stateful_dataloader`, or DeepSpeed accumulates other batches.
    """
    if not isinstance(accelerator, Accelerator):
        raise TypeError(
            f"accelerator must be an accelerate.Accelerator, got {type(accelerator).__name__}: "
            "make it first, as accelerator = Accelerator()"
        )
    if accelerator.use_stateful_dataloader:
        raise ValueError(
            "use_stateful_dataloader must be False, got True: PrunedAccelerateLoader saves its own "
            "position, and after load_state batches would be skipped twice. Leave it out of the "
            "DataLoaderConfiguration; num_workers= and the rest stay as they are"
        )
    plugin = accelerator.state.deepspeed_plugin
    configured = plugin.deepspeed_config.get("gradient_accumulation_steps") if plugin else None
    if configured not in (None, "auto", accelerator.gradient_accumulation_steps):
        raise ValueError(
            "gradient_accumulation_steps must be the same in the accelerator and in DeepSpeed's "
            f"configuration, got {accelerator.gradient_accumulation_steps} and {configured}: the "
            "latter applies from prepare() on, after total_steps and schedule_steps are read. Give "
            f'Accelerator(gradient_accumulation_steps={configured}), or "auto" in the configuration'
        )


def batch_of_process(accelerator: Accelerator, batch_size: int) -> int:
    """Returns the number of samples in a batch of one process.

    Raises:
        ValueError: `split_batches` is set, and the processes cannot split a batch evenly.
    """
    parts = int(accelerator.num_processes) if accelerator.split_batches else 1
    if batch_size % parts:
        raise ValueError(
            f"batch_size must be a multiple of the {parts} processes with split_batches=True, "
            f"got {batch_size}: each process gets an equal part of every batch"
        )
    return batch_size // parts


def ranks_of_accelerator(accelerator: Accelerator) -> ProcessRanks | None:
    """Returns the `ranks=` of a pruner for the accelerator's processes; None for a single one."""
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
