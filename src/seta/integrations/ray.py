"""Ray Train: a pruned loader inside the training function of a `TorchTrainer`.

    def train(config):
        model = ray.train.torch.prepare_model(Net())
        loader = PrunedRayLoader(dataset, "SeTa", epochs=10, budget=0.6, batch_size=32)
        restore(loader, ray.train.get_checkpoint())
        for epoch in range(loader.pruner.next_epoch, 10):
            for inputs, targets in loader:
                losses = cross_entropy(model(inputs), targets, reduction="none")
                loss = loader.update(losses)
                ...
            with tempfile.TemporaryDirectory() as folder:
                save(loader, folder)
                ray.train.report({...}, checkpoint=Checkpoint.from_directory(folder))

The loader yields each worker's own share of every epoch. Do not use Ray's `prepare_data_loader`,
which takes one batch ahead of the training step. Cost: that of `PrunedDataLoader`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from seta.extras import require

require("seta.integrations.ray", "ray", "torch", extra="ray")

import ray.train  # noqa: E402
import ray.train.torch  # noqa: E402
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from seta.engine import Policy  # noqa: E402
from seta.torch import PrunedDataLoader, PrunedSampler  # noqa: E402
from seta.torch.state import with_arrays  # noqa: E402


class PrunedRayLoader(PrunedDataLoader):
    """A `PrunedDataLoader` for the workers of a Ray `TorchTrainer`.

    Make it in the training function. Methods and properties are those of `seta.PrunedDataLoader`.
    `save` and `restore` of this module write and read its state in Ray's checkpoints.

    Args:
        dataset: Map-style dataset, the same in each worker.
        policy: The method, or its name, as for `PrunedDataLoader`.
        move_to_device: Whether to move the tensors of each batch to the worker's device, as Ray's
            `prepare_data_loader` does.
        **options: All other arguments of `PrunedDataLoader`, with its defaults.

    Raises:
        RuntimeError: It is made outside of a training function, or the workers have no torch
            process group.
        TypeError, ValueError: An argument is invalid; the message names it.
    """

    def __init__(
        self, dataset: Any, policy: Policy | str, *, move_to_device: bool = True, **options: Any
    ) -> None:
        workers = _workers("PrunedRayLoader")
        found = dist.get_world_size() if dist.is_initialized() else 1
        if found != workers:
            raise RuntimeError(
                f"PrunedRayLoader needs a torch process group of the {workers} workers of this "
                f"run, got one of {found}: train with ray.train.torch.TorchTrainer"
            )
        super().__init__(dataset, policy, **options)
        self._device = ray.train.torch.get_device() if move_to_device else torch.device("cpu")

    def walk(self) -> Iterator[tuple[bytes, Any]]:
        """Returns the batches of the open epoch; see `Loop.walk`."""
        batches = super().walk()
        if self._device.type == "cpu":
            return batches
        # Not a generator, which would end at the first batch that cannot be loaded.
        return map(lambda one: (one[0], _moved(one[1], self._device)), batches)


def prepare_data_loader(
    loader: DataLoader[Any], *, move_to_device: bool = True, auto_transfer: bool = True
) -> DataLoader[Any]:
    """Prepares a `DataLoader` over a `PrunedSampler` as Ray does, but keeps its sampler.

    For a `DataLoader` of your own over a `PrunedSampler(pruner, share=True)`, in place of Ray's
    function of the same name. The result reads one batch ahead of the training step: record losses
    with the indices that came with the batch.

    Args:
        loader: The loader.
        move_to_device: Whether to move the tensors of each batch to the worker's device.
        auto_transfer: Whether to do so on a separate CUDA stream.

    Raises:
        RuntimeError: It is called outside of a training function.
        TypeError: `loader` is not a `DataLoader`, or is a `PrunedRayLoader`.
        ValueError: Its sampler is not a `PrunedSampler`, or yields all samples to each worker.
    """
    workers = _workers("prepare_data_loader")
    if not isinstance(loader, DataLoader) or isinstance(loader, PrunedDataLoader):
        raise TypeError(
            "loader must be a torch DataLoader of your own over a PrunedSampler, got "
            f"{type(loader).__name__}: a PrunedRayLoader needs no preparation"
        )
    sampler = loader.sampler
    if not isinstance(sampler, PrunedSampler):
        raise ValueError(
            "loader must have a PrunedSampler, got one with a "
            f"{type(sampler).__name__}: call this in place of ray.train.torch.prepare_data_loader, "
            "which replaces the sampler by a DistributedSampler over all samples"
        )
    if workers > 1 and not sampler.share:
        raise ValueError(
            f"the PrunedSampler of loader gives every one of the {workers} workers all samples of "
            "an epoch: make it with share=True"
        )
    prepared: DataLoader[Any] = ray.train.torch.prepare_data_loader(
        loader,
        add_dist_sampler=False,
        move_to_device=move_to_device,
        auto_transfer=auto_transfer,
    )
    return prepared


def save(loader: PrunedDataLoader, folder: str | Path) -> None:
    """Writes the state of a loader into the folder of a checkpoint, between epochs or within one.

    All workers must call it, and report the folder. The first worker writes for all; with a sharded
    table, each worker writes its part.

    Args:
        loader: The loader.
        folder: A local folder, such as `tempfile.TemporaryDirectory()`.
    """
    state = loader.state_dict()
    table = with_arrays(state["pruner"])["table"]
    part, parts = int(table["part"]), int(table["parts"])
    if parts > 1 or not dist.is_initialized() or dist.get_rank() == 0:
        torch.save(state, Path(folder) / f"{_NAME}{part}.pt")


def restore(
    loader: PrunedDataLoader,
    checkpoint: ray.train.Checkpoint | None,
    *,
    changed: Iterable[str] = (),
) -> bool:
    """Resumes a loader from a checkpoint; the number of workers may have changed.

    Args:
        loader: The loader.
        checkpoint: `ray.train.get_checkpoint()`. None, at the start of a run: nothing happens.
        changed: Names of arguments that may differ from those of the saved run, as for
            `load_state_dict`.

    Returns:
        Whether there was a checkpoint.

    Raises:
        ValueError: `save` did not write to the checkpoint, or it is of another run.
    """
    if checkpoint is None:
        return False
    with checkpoint.as_directory() as folder:
        files = sorted(Path(folder).glob(f"{_NAME}*.pt"))
        if not files:
            raise ValueError(
                f"the checkpoint has no file {_NAME}0.pt: call seta.integrations.ray.save(loader, "
                "folder) in all workers before reporting the folder"
            )
        states = [torch.load(file, weights_only=True) for file in files]
        loader.load_state_dict(states, changed=changed)
    return True


_NAME = "seta-loader-"


def _workers(what: str) -> int:
    """Returns the workers of this run.

    Raises:
        RuntimeError: This is no worker of one.
    """
    try:
        return int(ray.train.get_context().get_world_size())
    except RuntimeError as error:
        raise RuntimeError(
            f"{what} works in the training function of a ray.train.torch.TorchTrainer only: "
            "elsewhere use seta.PrunedDataLoader"
        ) from error


def _moved(batch: Any, device: torch.device) -> Any:
    """Returns a batch with its tensors on a device."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=batch.is_pinned())
    if isinstance(batch, Mapping):
        return {key: _moved(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_moved(value, device) for value in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(_moved(value, device) for value in batch)
    return batch
