"""Losses on their way to the table."""

import contextlib
import sys

import numpy as np
import pytest
import torch

import seta.torch.buffer
from seta.torch import LossBuffer
from tests.torch.helpers import DeviceBuffer

NO_CUDA = "no CUDA device here: the copy to the host is tested on a machine that has one"
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_CUDA)


class Table:
    """Stands for a pruner's table, and remembers the calls."""

    def __init__(self):
        self.losses, self.calls, self.attached = {}, [], []

    def attach(self, holder):
        self.attached.append(holder)

    def record(self, indices, losses):
        assert losses.dtype == np.float32
        self.losses.update(zip(indices.tolist(), losses.tolist(), strict=True))
        self.calls.append(len(indices))


def test_losses_on_the_cpu_are_recorded_at_once():
    table = Table()
    buffer = LossBuffer(table)
    buffer.add(np.array([3, 1]), torch.tensor([0.5, 0.25], dtype=torch.bfloat16))
    assert table.losses == {3: 0.5, 1: 0.25}
    assert len(buffer) == 0


def on_device(device, capacity, batches):
    """Sends batches of 3 through a buffer for a device; returns the table and the buffer."""
    table = Table()
    buffer = DeviceBuffer(table, capacity)
    for at in range(batches):
        indices = np.arange(3) + 2 * at  # each batch trains a sample of the one before again
        losses = torch.arange(3, device=device, dtype=torch.float16) + 10 * at
        buffer.add(indices, losses)
        losses.zero_()
    return table, buffer


def expected(batches):
    return {2 * at + i: float(10 * at + i) for at in range(batches) for i in range(3)}


DEVICES = ["cpu", pytest.param("cuda", marks=cuda)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("capacity", [1, 2, 3, 4, 7, 1000])
def test_losses_on_a_device_keep_their_order(device, capacity):
    table, buffer = on_device(device, capacity, 9)
    buffer.drain()
    assert table.losses == expected(9)
    assert sum(table.calls) == 27
    assert len(buffer) == 0
    buffer.drain()
    assert sum(table.calls) == 27


def test_losses_on_a_device_wait_until_the_buffer_is_full():
    table, buffer = on_device("cpu", 12, 4)
    assert table.calls == []
    assert len(buffer) == 12
    buffer.add(np.array([0]), torch.tensor([0.5]))
    assert table.calls == [3, 3, 3, 3]  # batch by batch, as they came
    assert len(buffer) == 1
    buffer.drain()
    assert table.calls == [3, 3, 3, 3, 1]


def test_a_batch_larger_than_the_buffer_stays_one_batch():
    table = Table()
    buffer = DeviceBuffer(table, 2)
    for size in (1, 5, 2, 7):
        buffer.add(np.arange(size), torch.arange(size))
    buffer.drain()
    assert table.calls == [1, 5, 2, 7]


def test_a_loss_on_the_cpu_comes_after_those_on_the_device():
    table, buffer = on_device("cpu", 100, 1)
    LossBuffer.add(buffer, np.array([0]), torch.tensor([0.5]))
    assert table.losses == {0: 0.5, 1: 1.0, 2: 2.0}


def test_a_cleared_buffer_records_nothing():
    table, buffer = on_device("cpu", 4, 3)
    recorded = list(table.calls)
    buffer.clear()
    buffer.drain()
    assert table.calls == recorded
    assert len(buffer) == 0


def test_buffers_made_in_inference_mode_serve_outside_of_it():
    table = Table()
    buffer = DeviceBuffer(table)
    with torch.inference_mode():
        buffer.add(np.array([0]), torch.tensor([1.0]))
        LossBuffer.add(buffer, np.array([1]), torch.tensor([2.0]))
    buffer.add(np.array([2]), torch.tensor([3.0], requires_grad=True).detach())
    buffer.drain()
    assert table.losses == {0: 1.0, 1: 2.0, 2: 3.0}


@cuda
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_a_full_buffer_goes_over_without_a_wait():
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        table, buffer = on_device("cuda", 4, 50)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    buffer.drain()
    assert table.losses == expected(50)


@cuda
def test_losses_of_several_streams_keep_their_order():
    table = Table()
    buffer = LossBuffer(table, 64)
    streams = [torch.cuda.Stream() for _ in range(2)]
    for at in range(100):
        with torch.cuda.stream(streams[at % 2]):
            torch.cuda._sleep(10_000)
            buffer.add(np.arange(8), torch.full((8,), float(at), device="cuda"))
    buffer.drain()
    assert set(table.losses.values()) == {99.0}


def test_a_capacity_of_nothing_is_refused():
    with pytest.raises(ValueError, match="capacity must be at least 1, got 0"):
        LossBuffer(Table(), 0)


def test_an_interrupt_at_any_line_puts_no_loss_on_a_wrong_sample():
    """A notebook's cell is stopped, and the training goes on in the next one."""
    number, lines, source = 0, [], seta.torch.buffer.__file__

    def trace(frame, event, argument):
        if frame.f_code.co_filename != source:
            return None
        if event == "line":
            lines.append(frame.f_lineno)
            if len(lines) == number:
                raise KeyboardInterrupt
        return trace

    for number in range(1, 400):
        table, lines[:] = Table(), []
        buffer = DeviceBuffer(table, capacity=7)
        for at in range(6):
            indices = np.arange(3 * at, 3 * at + 3)
            sys.settrace(trace)
            with contextlib.suppress(KeyboardInterrupt):
                buffer.add(indices, torch.from_numpy(indices).float())
            sys.settrace(None)
        buffer.drain()
        assert all(index == loss for index, loss in table.losses.items()), number
        assert len(table.losses) >= 9
    assert len(lines) < number


@pytest.mark.parametrize("kind", [LossBuffer, DeviceBuffer])
def test_the_mean_of_a_batch_for_all_its_samples_is_told_once(kind, caplog):
    buffer = kind(Table(), 4)
    for at in range(20):
        buffer.add(np.arange(4), torch.tensor(0.5 + at).expand(4))
        assert len(caplog.records) == (at - (kind is DeviceBuffer) >= 7)
    assert "the first 8 batches had one loss for all its samples, the last one 7.5" in caplog.text


def test_the_loss_of_a_pair_may_be_that_of_both(caplog):
    buffer = LossBuffer(Table(), 4)
    for at in range(20):
        buffer.add(np.arange(2), torch.tensor(0.5 + at).expand(2))
    assert not caplog.records


@pytest.mark.parametrize(
    "losses",
    [
        lambda at: torch.ones(4),  # one number, and the same in each batch: a toy
        lambda at: torch.full((1,), float(at)),
        lambda at: torch.full((4,), float(at)) + torch.arange(4) * (at == 7),
        lambda at: torch.full((4,), torch.nan),
    ],
)
def test_other_losses_are_not_taken_for_means(losses, caplog):
    buffer = LossBuffer(Table())
    for at in range(20):
        buffer.add(np.arange(len(losses(at))), losses(at))
    assert not caplog.records
