"""Transfers losses from the training device to the loss table, without blocking the device.

Losses on the CPU are recorded at once. Losses on a device are copied as float32 into a buffer
there. A full buffer is copied asynchronously to pinned memory, behind the training steps that are
queued, and is recorded when a later buffer is sent and the copy is complete. Only `drain`, at the
end of an epoch, waits.

Cost per batch: on the CPU one `record`; on a device one small copy kernel. Memory per held loss: 4
bytes on the device and about 12 on the host; 65,536 losses by default. Asynchronous on CUDA and
ROCm; on other devices a full buffer waits for its copy, once in 65,536 samples.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seta.engine import Pruner

logger = logging.getLogger(__name__)

_LOOKS = 8
"""Batches of a run, the first ones, whose losses may all be means of their batch."""


class _Batch(NamedTuple):
    """The samples of a batch, and where its losses begin in the buffer."""

    indices: NDArray[np.integer[Any]]
    start: int

    @property
    def stop(self) -> int:
        """Where its losses end."""
        return self.start + len(self.indices)


class _Transfer(NamedTuple):
    """A full buffer under way: its batches, their losses on the host, when they are there."""

    batches: deque[_Batch]
    losses: Tensor
    arrived: torch.cuda.Event | None


class LossBuffer:
    """Buffers losses on their device and records them later, batch by batch, in order.

    It attaches itself to the pruner, which drains it before an epoch ends, a state is saved or
    losses are read. Methods: `add`, `drain`, `clear`, `len`.

    Args:
        pruner: Records the losses.
        capacity: Number of losses to hold on a device, >= 1; grows to the size of a batch.

    Raises:
        ValueError: `capacity` is less than 1.
    """

    def __init__(self, pruner: Pruner, capacity: int = 1 << 16) -> None:
        if capacity < 1:
            raise ValueError(
                f"capacity must be at least 1, got {capacity}: the losses held on a device"
            )
        self._pruner = pruner
        self._capacity = capacity
        self._front: Tensor | None = None  # on the device, filled from the left
        self._stream: torch.cuda.Stream | None = None  # of the last write to it
        self._batches: deque[_Batch] = deque()  # of what it holds; an interrupt finds one or not
        self._transfers: deque[_Transfer] = deque()
        self._means: set[float] | None = set()  # of batches with one loss for all; None: looked
        pruner.attach(self)

    def __getstate__(self) -> dict[str, Any]:
        self.drain()
        return {**vars(self), "_front": None, "_stream": None}

    def __len__(self) -> int:
        """Number of losses not yet recorded."""
        under_way = (len(b.indices) for transfer in self._transfers for b in transfer.batches)
        return self._used + sum(under_way)

    @property
    def _used(self) -> int:
        return self._batches[-1].stop if self._batches else 0

    def add(self, indices: NDArray[np.integer[Any]], losses: Tensor) -> None:
        """Adds the losses of a batch.

        Args:
            indices: Integers (B,); not copied, so do not modify them later.
            losses: Floats (B,) on any device, copied.
        """
        losses = losses.detach()
        if losses.device.type != "cpu":
            self._hold(indices, losses)
            return
        if self._used or self._transfers:
            self.drain()
        self._record(indices, losses.float().numpy())

    def drain(self) -> None:
        """Records all losses, waiting for the device if needed."""
        self._send()
        self._land(wait=True)

    def clear(self) -> None:
        """Discards all losses that are not recorded yet."""
        self._batches.clear()
        self._transfers.clear()

    def _hold(self, indices: NDArray[np.integer[Any]], losses: Tensor) -> None:
        self._capacity = max(self._capacity, len(indices))
        if self._used + len(indices) > self._capacity:
            self._send()
            self._land(wait=False)
        front = self._front_on(losses.device)
        self._follow_stream(front.device)
        batch = _Batch(indices, self._used)
        front[batch.start : batch.stop].copy_(losses)
        self._batches.append(batch)

    def _front_on(self, device: torch.device) -> Tensor:
        """Returns the buffer, moved to another device if the losses have, and large enough."""
        front = self._front
        if front is None or front.device != device or len(front) < self._capacity:
            self._send()
            with torch.inference_mode(False):
                self._front = torch.empty(self._capacity, device=device, dtype=torch.float32)
            return self._front
        return front

    def _follow_stream(self, device: torch.device) -> None:
        """Keeps reads and writes of the buffer in order where the caller changes streams."""
        if device.type != "cuda":
            return
        stream = torch.cuda.current_stream(device)
        if self._stream is not None and stream != self._stream:
            stream.wait_stream(self._stream)
        self._stream = stream

    def _send(self) -> None:
        """Starts the copy of what the buffer holds; later writes to it queue up behind the copy."""
        if not self._used or self._front is None:
            return
        values = self._front[: self._used]
        arrived = None
        if values.is_cuda:
            self._follow_stream(values.device)
            with torch.inference_mode(False):
                losses = torch.empty(self._used, dtype=torch.float32, device="cpu", pin_memory=True)
            losses.copy_(values, non_blocking=True)
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record(self._stream)
        else:
            losses = values.to("cpu", copy=True)
        batches, self._batches = self._batches, deque()
        self._transfers.append(_Transfer(batches, losses, arrived))

    def _land(self, wait: bool) -> None:
        """Records the transfers that have arrived, or all, in their order."""
        while self._transfers:
            transfer = self._transfers[0]
            if transfer.arrived is not None and not transfer.arrived.query():  # type: ignore[no-untyped-call]
                if not wait:
                    return
                transfer.arrived.synchronize()
            losses = transfer.losses.numpy()
            while transfer.batches:
                batch = transfer.batches[0]
                self._record(batch.indices, losses[batch.start : batch.stop])
                _drop(transfer.batches, batch)
            _drop(self._transfers, transfer)

    def _record(self, indices: NDArray[np.integer[Any]], losses: NDArray[np.float32]) -> None:
        """Records a batch; warns, once, if the first batches had one loss for all their samples."""
        self._pruner.record(indices, losses)
        if self._means is None or len(losses) < 3:  # a symmetric loss of a pair is one for both
            return
        if losses.min() != losses.max():
            self._means = None
            return
        self._means.add(float(losses[0]))
        if len(self._means) == _LOOKS:
            self._means = None
            logger.warning(
                "each of the first %d batches had one loss for all its samples, the last one %g: "
                "the mean of a batch, repeated, says nothing of a sample. Compute one loss per "
                'sample, with reduction="none"',
                _LOOKS, losses[0],
            )  # fmt: skip


def _drop(queue: deque[Any], first: Any) -> None:
    """Takes the first off, unless a signal handler has done so meanwhile."""
    if queue and queue[0] is first:
        queue.popleft()
