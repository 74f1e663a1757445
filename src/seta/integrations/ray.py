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

The loader gives each worker its own share of every epoch, so Ray's `prepare_data_loader`, which
takes one batch ahead of the training step, is left out. Cost: that of `PrunedDataLoader`.
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
    """A `PrunedDataLoader` for the workers of a `TorchTrainer`.

    Args:
        dataset: Map-style; the same in each worker.
        policy: A policy, or its name.
        move_to_device: Move the tensors of each batch to the worker's device, as Ray's
            `prepare_data_loader` does.
        **options: All others of `PrunedDataLoader`, with its defaults.

    Raises:
        RuntimeError: It is made outside of a training function, or the workers have no process
            group of torch.
        TypeError, ValueError: An argument is not allowed; the message says what is.
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
        """Returns the batches of the open epoch, see `Loop`."""
        batches = super().walk()
        if self._device.type == "cpu":
            return batches
        return ((packed, _moved(batch, self._device)) for packed, batch in batches)


def prepare_data_loader(
    loader: DataLoader[Any], *, move_to_device: bool = True, auto_transfer: bool = True
) -> DataLoader[Any]:
    """Does what Ray's function of this name does, but leaves the plan of each epoch alone.

    For a `DataLoader` of your own over a `PrunedSampler(pruner, share=True)`. The result takes one
    batch ahead of the training step: give losses back with the indices that came with the batch.

    Args:
        loader: The loader.
        move_to_device: Move the tensors of each batch to the worker's device.
        auto_transfer: Do so on a CUDA stream of its own.

    Raises:
        RuntimeError: It is called outside of a training function.
        TypeError: It is no `DataLoader`, or one that is used as it is.
        ValueError: Its sampler is no `PrunedSampler`, or one that gives all samples to each worker.
    """
    workers = _workers("prepare_data_loader")
    if not isinstance(loader, DataLoader) or isinstance(loader, PrunedDataLoader):
        raise TypeError(
            "loader must be a torch DataLoader of your own over a PrunedSampler, got "
            f"{type(loader).__name__}: a PrunedRayLoader is used as it is"
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
    """Writes a loader's state into the folder of a checkpoint, also in mid-epoch.

    All workers call it, and report the folder that they were given. The first worker writes for
    all; where losses are sharded over the workers, each writes its part.

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
    """Takes up a run where a checkpoint was saved, on as many workers as there are now.

    Args:
        loader: The loader.
        checkpoint: `ray.train.get_checkpoint()`; None at the beginning of a run: nothing happens.
        changed: What is meant to differ from the run that was saved, as for `load_state_dict`.

    Returns:
        Whether there was one.

    Raises:
        ValueError: `save` did not write into it; or it is of another run.
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
