"""Real processes that come apart: every one that is left says who came for what."""

import os
import signal
import time

import numpy as np
import pytest
import torch
import torch.distributed as dist

import seta
from seta.torch.board import board_of
from seta.torch.ranks import ProcessRanks
from tests.torch.helpers import Tuples, loss_of, samples_of
from tests.torch.processes import run_ranks

pytestmark = pytest.mark.processes

N, EPOCHS, BATCH = 60, 4, 10


def loader_of(**options):
    arguments = {"policy": "Full", "epochs": EPOCHS, "seed": 1, "batch_size": BATCH}
    return seta.PrunedDataLoader(Tuples(N), **{**arguments, **options})


def train(loader, batches):
    """Answers some batches of the open epoch."""
    for _, batch in zip(range(batches), loader, strict=False):
        loader.update(loss_of(samples_of(batch), loader.epoch))
    return loader


def told(function):
    """Returns what an error says."""
    with pytest.raises(RuntimeError) as error:
        function()
    return str(error.value)


# Calls that differ. The last rank makes the other one; afterwards all train on together.


def _state_dict(loader, other):
    return loader.state_dict if other else loader.end_epoch


def _another_epoch(loader, other):
    before = loader.state_dict()
    loader.end_epoch()
    if not other:
        loader.load_state_dict(before)
    return train(loader, 1).end_epoch


def _loader_made(loader, other):
    return loader_of if other else loader.end_epoch


def _another_loader(loader, other):
    second = train(loader_of(), 1)
    return second.end_epoch if other else loader.end_epoch


CALLS = {
    _state_dict: ("end_epoch() of epoch 0", "state_dict() in epoch 0"),
    _another_epoch: ("end_epoch() of epoch 0", "end_epoch() of epoch 1"),
    _loader_made: (
        "end_epoch() of epoch 0 (of loader 1)",
        "the making of a Pruner (of loader 2)",
    ),
    _another_loader: (
        "end_epoch() of epoch 0 (of loader 1)",
        "end_epoch() of epoch 0 (of loader 2)",
    ),
}


def _calls(rank, size, case):
    other = rank == size - 1
    loader = train(loader_of(), 1)
    message = told(case(loader, other))
    again = loader_of()  # the ranks are of one mind: those that saw the error may go on
    return message, len(list(train(again, 6).pruner.history))


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("case", CALLS, ids=lambda case: case.__name__)
def test_ranks_that_make_different_calls_are_all_told_at_once(case, size, tmp_path):
    results = run_ranks(size, _calls, tmp_path, size, case, timeout=20)
    here, there = CALLS[case]
    for rank, (message, _) in enumerate(results):
        if rank == size - 1:
            assert f"rank {rank} came to {there}, rank " in message and f" to {here}: " in message
        else:
            assert f"rank {rank} came to {here}, rank {size - 1} to {there}: all ranks " in message
        assert ("loaders are numbered as they were made" in message) == ("of loader" in here)
    assert len({epochs for _, epochs in results}) == 1


# Ranks that do not come.


def _killed(rank):
    loader = train(loader_of(), 1)
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return told(loader.end_epoch)


def test_a_rank_that_was_killed_is_named_by_all_others(tmp_path):
    results = run_ranks(3, _killed, tmp_path, timeout=2, dead=[1])
    expected = "end_epoch() of epoch 0: rank 1 did not come within the group's timeout of 2 s"
    assert results[0].startswith(expected) and results[2].startswith(expected)


def _late(rank):
    loader = train(loader_of(), 1)
    if rank == 1:
        time.sleep(6)  # something failed in its training loop, and it saves what it has
        late = told(loader.state_dict)
    else:
        late = told(loader.end_epoch)
    return late, loader.end_epoch()["trained"]


def test_a_rank_that_comes_too_late_is_told_and_the_epoch_can_still_end(tmp_path):
    (first, trained), (late, same) = run_ranks(2, _late, tmp_path, timeout=4)
    assert "end_epoch() of epoch 0: rank 1 did not come within" in first
    expected = "rank 1 came to state_dict() in epoch 0 after the others had waited for it to come"
    assert f"{expected} to end_epoch() of epoch 0 for the group's timeout of 4 s" in late
    assert trained == same == 2 * BATCH


def _made_alone(rank, size, alone, is_told):
    """The others have no loader at all, or the one of another group."""
    message = ""
    if rank == alone:
        message = told(loader_of)
        is_told.touch()
    while not is_told.exists():
        time.sleep(0.01)
    total = torch.ones(1)  # what else the ranks say to each other is as it was
    dist.all_reduce(total)
    return message, total.item()


@pytest.mark.parametrize("size, alone", [(2, 0), (2, 1), (3, 0), (3, 2)])
def test_a_loader_made_on_one_rank_alone_says_who_is_missing(size, alone, tmp_path):
    results = run_ranks(size, _made_alone, tmp_path, size, alone, tmp_path / "told", timeout=3)
    others = ", ".join(str(rank) for rank in range(size) if rank != alone)
    missing = "rank 0" if alone else f"rank{'s' if size == 3 else ''} {others}"
    assert f"the making of a Pruner: {missing} did not come within" in results[alone][0]
    assert [total for _, total in results] == [size] * size


class _Fails(ProcessRanks):
    def _gather(self, values):
        if self.process == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._gather(values)


def _broken(rank):
    return told(lambda: _Fails().gather(np.arange(3), "end_epoch() of epoch 7"))


def test_a_rank_that_fails_in_the_exchange_is_told(tmp_path):
    first, _, third = run_ranks(3, _broken, tmp_path, timeout=3, dead=[1])
    for message in (first, third):
        assert "end_epoch() of epoch 7: all ranks came for it, and one of them failed" in message


def _store_gone(rank, folder):
    """Rank 0 keeps the store, as without torchrun, and is killed."""
    dist.destroy_process_group()
    port = folder / "port"
    if rank == 0:
        store = dist.TCPStore("127.0.0.1", 0, 2, True, wait_for_workers=False)
        (folder / "new").write_text(str(store.port))
        (folder / "new").rename(port)
    else:
        while not port.exists():
            time.sleep(0.01)
        store = dist.TCPStore("127.0.0.1", int(port.read_text()), 2, False)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    loader = train(loader_of(), 1)
    if rank == 0:
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)
    return told(loader.end_epoch), told(loader.end_epoch)


def test_a_store_that_is_gone_is_named(tmp_path):
    folder = tmp_path / "tcp"
    folder.mkdir()
    for message in run_ranks(2, _store_gone, tmp_path, folder, dead=[0])[1]:
        assert "end_epoch() of epoch 0: the group's store cannot be reached" in message
        assert "the process that keeps it, rank 0 where torchrun does not, has failed" in message


def _left_over(rank):
    """Keys of a run that was killed are in the store, as torchrun may leave them."""
    group = dist.distributed_c10d._get_default_group()
    store = board_of(group)._store
    store.set(f"seta/greeting/{rank}", "left over")
    dist.barrier()
    if rank:
        time.sleep(0.5)  # rank 0 reads that first
    ranks = ProcessRanks()
    found = [part.tolist() for part in ranks.gather(np.array([rank]), "now")]
    keys = store.num_keys()
    for number in range(5):
        ranks.sum(np.ones(1, np.int64), f"call {number}")
    dist.barrier()
    return found, store.num_keys() - keys


def test_what_another_run_left_in_the_store_is_not_read_and_calls_leave_nothing(tmp_path):
    for found, grown in run_ranks(3, _left_over, tmp_path):
        assert found == [[0], [1], [2]]
        assert grown <= 3
