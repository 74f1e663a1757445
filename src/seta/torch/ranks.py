"""The processes of a torch process group, and all collectives of this package.

Before each collective, processes check in over the group's key-value store (`seta.torch.board`). So
a process that does not arrive is named instead of waited for silently, and processes that arrive
for different collectives get an error. There is no other communication.

Works with gloo (CPU), NCCL, or another backend of the group. Cost per call: a few round trips to
the store, and the collective.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from seta.torch.board import Occasion, board_of

_SAME_BYTES = {np.dtype(np.uint32): np.dtype(np.int32), np.dtype(np.uint64): np.dtype(np.int64)}

T = TypeVar("T")


def ranks_of(
    process_group: dist.ProcessGroup | DeviceMesh | None = None,
) -> ProcessRanks | None:
    """Returns the `ranks=` of a pruner for a torch process group; None for a single process.

    Args:
        process_group: The process group that trains together; or one dimension of a device mesh,
            such as `mesh["dp"]`. Processes with the same coordinate in it (tensor- or
            pipeline-parallel ones) then train the same samples, and all processes of the job
            exchange losses. None: all processes of the job.

    Raises:
        TypeError, ValueError: `process_group` is neither, is a mesh of several dimensions, or does
            not include this process.
        RuntimeError: A group was given, but `torch.distributed` is not initialised.
    """
    if not dist.is_available() or not dist.is_initialized():
        if process_group is not None:
            raise RuntimeError(
                "process_group was given, but torch.distributed is not initialised: call "
                "torch.distributed.init_process_group() first"
            )
        return None
    ranks = ProcessRanks(process_group)
    return None if ranks.processes == 1 else ranks


def group_is_up() -> bool:
    """Returns whether `torch.distributed` is initialised with several processes."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def refuse_late_group(what: str) -> None:
    """Raises if the process group was initialised after a loader was made for one process.

    Raises:
        RuntimeError: It was; each process would select and record by itself.
    """
    if group_is_up():
        raise RuntimeError(
            f"{what} was made for one process, before torch.distributed was initialised, and the "
            f"process group has {dist.get_world_size()}: call init_process_group() first; where a "
            "framework does so (Lightning: within trainer.fit), take its loader of "
            "seta.integrations (PruningCallback(...).loader)"
        )


class ProcessRanks:
    """The processes of a torch process group; implements `seta.engine.table.ranks.Ranks`.

    Making one does not communicate. All processes must make their loaders in the same order.

    Args:
        process_group: As for `ranks_of`.
    """

    def __init__(self, process_group: dist.ProcessGroup | DeviceMesh | None = None) -> None:
        world = dist.distributed_c10d._get_default_group()
        group: Any = world if process_group is None else process_group
        if isinstance(group, DeviceMesh):
            if group.ndim != 1:
                raise ValueError(
                    f"process_group must be one dimension of a device mesh, got a mesh of "
                    f'{group.ndim}: {group.mesh_dim_names}; name the one for data, mesh["dp"]'
                )
            self.rank, self.size = group.get_local_rank(), group.size()
            group = world
        elif group == dist.GroupMember.NON_GROUP_MEMBER:
            raise ValueError(
                "process_group must be one that this process is a member of: make the loader on "
                "its members only"
            )
        elif isinstance(group, dist.ProcessGroup):
            self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        else:
            raise TypeError(
                "process_group must be a torch.distributed.ProcessGroup or a DeviceMesh of one "
                f"dimension, got {type(process_group).__name__}: leave it out for all processes"
            )
        self._group = group
        self.process, self.processes = dist.get_rank(group), dist.get_world_size(group)
        self._board = board_of(group)
        self._loader = 0  # its number on the board, once all have come for it

    def gather(self, values: NDArray[Any], what: str) -> list[NDArray[Any]]:
        """Returns the arrays of all processes, by process number; they may differ in length.

        Raises:
            RuntimeError: A process did not arrive within the group's timeout, arrived for another
                call, or failed meanwhile; or the group was destroyed.
        """
        return self._together(lambda: self._gather(values), what)

    def sum(self, counts: NDArray[np.int64], what: str) -> NDArray[np.int64]:
        """Returns the elementwise sum over all processes.

        Raises:
            RuntimeError: As `gather`.
        """
        return self._together(lambda: self._sum(counts), what)

    def _gather(self, values: NDArray[Any]) -> list[NDArray[Any]]:
        size = torch.tensor([len(values)], device=self._device)
        sizes = [int(other) for other in self._all_gather(size)]
        longest = max(sizes)
        if not longest:
            return [values[:0]] * self.processes
        padded = np.zeros(longest, values.dtype)
        padded[: len(values)] = values
        parts = self._all_gather(_tensor(padded).to(self._device))
        return [
            part[:size].cpu().numpy().view(values.dtype)
            for part, size in zip(parts, sizes, strict=True)
        ]

    def _sum(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        total = torch.tensor(counts, device=self._device)
        dist.all_reduce(total, group=self._group)
        return total.cpu().numpy()

    def _all_gather(self, tensor: Tensor) -> list[Tensor]:
        parts = [torch.empty_like(tensor) for _ in range(self.processes)]
        dist.all_gather(parts, tensor, group=self._group)
        return parts

    def _together(self, collective: Callable[[], T], what: str) -> T:
        """Returns what a collective does, once all processes have come for it."""
        if self._group not in dist.distributed_c10d._world.pg_map:
            raise RuntimeError(
                f"{what} needs the process group, which was destroyed: call "
                "destroy_process_group() last, after the end of the last epoch (end_epoch() after "
                "a break)"
            )
        board = self._board
        loader = self._loader or board.loaders + 1
        board.meet(Occasion(what, loader), self._timeout)
        self._loader, board.loaders = loader, max(loader, board.loaders)
        try:
            return collective()
        except RuntimeError as error:  # DistBackendError is one
            raise RuntimeError(
                f"{what}: all ranks came for it, and one of them failed or was killed before it "
                f"was over: the first to fail says why ({error})"
            ) from error

    @property
    def _device(self) -> torch.device:
        """Where the group's collectives take their tensors: the CPU if they can."""
        backends = dict(part.split(":") for part in dist.get_backend_config(self._group).split(","))
        if "cpu" in backends:
            return torch.device("cpu")
        kind = next(iter(backends))
        return torch.device(kind, torch.get_device_module(kind).current_device())

    @property
    def _timeout(self) -> timedelta:
        """The group's."""
        options = self._group._get_backend(self._device).options
        return getattr(options, "_timeout", dist.default_pg_timeout)


def _tensor(values: NDArray[Any]) -> Tensor:
    """Returns an array as a tensor; unsigned integers as the signed ones of the same bytes."""
    return torch.from_numpy(values.view(_SAME_BYTES.get(values.dtype, values.dtype)))
