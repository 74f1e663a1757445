"""Real processes: each trains its share, the right loss reaches the right sample on all of them."""

import copy
import itertools
import pickle
import time

import numpy as np
import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.utils.data import BatchSampler, DataLoader

import seta
from seta.engine.rows import CLOCKED
from seta.torch import IndexedCollate, IndexedDataset, PrunedSampler, indices_of
from seta.torch.ranks import ProcessRanks, ranks_of
from seta.torch.state import with_arrays
from tests.torch.helpers import Tuples, loss_of, samples_of
from tests.torch.processes import run_ranks

pytestmark = pytest.mark.processes

N, EPOCHS, BATCH = 101, 6, 10


def loader_of(**options):
    arguments = {"epochs": EPOCHS, "seed": 1, "batch_size": BATCH, "policy": "SeTa"}
    return seta.PrunedDataLoader(**{"dataset": Tuples(N), **arguments, **options})


def epochs_of(loader):
    """Trains the rest of the run; returns the batches of each epoch, as lists of samples."""
    found = []
    while loader.pruner.next_epoch < EPOCHS:
        epoch, batches = loader.epoch, []
        for batch in loader:
            samples = samples_of(batch)
            loader.update(loss_of(samples, loader.epoch))
            batches.append(samples.tolist())
        assert loader.pruner.history[-1]["epoch"] == epoch
        found.append(batches)
    return found


def rows_of(loader):
    return [{k: v for k, v in r.items() if k not in CLOCKED} for r in loader.pruner.history]


def latest(runs):
    """Returns the loss that each sample must have after the epochs of all ranks."""
    losses = np.full(N, np.nan, np.float32)
    for epoch in range(EPOCHS):
        samples = np.array([s for run in runs for batch in run[epoch] for s in batch])
        losses[samples] = loss_of(samples, epoch).numpy()
    return losses


CASES = [
    {},
    {"budget": 0.7},
    {"drop_last": True},
    {"num_workers": 2, "prefetch_factor": 3, "persistent_workers": True},
    {"policy": "InfoBatch", "num_workers": 1},
    {"sharding": "sharded"},
    {"sharding": "sharded", "budget": 0.7, "num_workers": 1},
]


def _every_case(rank):
    found = []
    for options in CASES:
        loader = loader_of(**options)
        lengths = [loader.total_steps if "budget" in options else None, len(loader)]
        epochs = epochs_of(loader)
        pruner = loader.pruner
        held = np.arange(N) if pruner.held is None else pruner.held
        losses = dict(zip(held.tolist(), pruner.losses.tolist(), strict=True))
        found.append((epochs, rows_of(loader), losses, lengths, len(loader)))
    return found


@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_each_rank_trains_its_share_and_every_loss_reaches_its_sample(size, tmp_path):
    for case, results in zip(
        CASES, zip(*run_ranks(size, _every_case, tmp_path), strict=True), strict=True
    ):
        runs = [result[0] for result in results]
        rows = results[0][1]
        assert all(result[1] == rows for result in results), case
        expected = latest(runs)
        tables = [{k: v for k, v in result[2].items() if k < N} for result in results]
        for table in tables:
            np.testing.assert_array_equal(list(table.values()), expected[list(table)])
        if case.get("sharding") == "sharded":
            assert sorted(k for table in tables for k in table) == list(range(N))
        else:
            assert all(len(table) == N for table in tables)
        for epoch in range(EPOCHS):
            batches = [run[epoch] for run in runs]
            assert len({tuple(map(len, b)) for b in batches}) == 1, case  # equal batches
            trained = [s for b in batches for batch in b for s in batch]
            assert len(set(trained)) == len(trained) == rows[epoch]["trained"]
            kept, full = rows[epoch]["kept"], len(trained) == len(batches) * len(batches[0]) * BATCH
            assert full or (kept == N and not case.get("drop_last")), case
            if "sharding" in case:  # fewer samples than shards: some have none
                assert kept - len(trained) <= 10 + size * (BATCH - 1)
            elif kept == N:
                assert N - len(trained) < size
            else:
                assert kept == len(trained)
        steps = [sum(map(len, run)) for run in runs]
        if "budget" in case:
            assert {result[3][0] for result in results} == set(steps)
        assert {result[3][1] for result in results} == {len(runs[0][0])}


def _loops(rank):
    """Breaks at different places, set_epoch, look-ahead with indices, an exception in the loop."""
    loader = loader_of(with_indices=True, num_workers=1)
    ahead = iter(loader)
    window = list(itertools.islice(ahead, 2))
    for indices, batch in window:
        assert indices.tolist() == samples_of(batch).tolist()
        loader.update(loss_of(samples_of(batch), 0), indices=indices)
    loader.set_epoch(1)  # ends epoch 0: the exchange
    first = loader.pruner.history[0]["trained"]
    for number, (indices, batch) in enumerate(loader):
        loader.update(loss_of(samples_of(batch), 1), indices=indices)
        if number == rank:  # not equally far
            break
    row = loader.end_epoch()
    again = loader.end_epoch()
    return first, row["trained"], again == row, loader.pruner.losses.tolist()


def test_breaks_and_set_epoch_end_an_epoch_on_all_ranks(tmp_path):
    results = run_ranks(2, _loops, tmp_path)
    assert results[0][:3] == (4 * BATCH, 3 * BATCH, True)
    np.testing.assert_array_equal(results[0][3], results[1][3])


def _save(rank, sharding, gather, stop, folder):
    loader = loader_of(sharding=sharding, budget=0.8, policy="InfoBatch")
    trained = []
    for _ in range(2):
        for batch in loader:
            loader.update(loss_of(samples_of(batch), loader.epoch))
    for _, batch in zip(range(stop), loader, strict=False):
        loader.update(loss_of(samples_of(batch), 2))
        trained += samples_of(batch).tolist()
    torch.save(loader.state_dict(gather=gather), folder / f"rank{rank}.pt")
    return trained


def _go_on(rank, sharding, folder, parts):
    loader = loader_of(sharding=sharding, budget=0.8, policy="InfoBatch")
    read = [torch.load(folder / f"rank{part}.pt", weights_only=True) for part in parts]
    loader.load_state_dict(read[0] if len(read) == 1 else read)
    return epochs_of(loader), rows_of(loader)


@pytest.mark.parametrize(
    "sharding, gather, parts",
    [
        ("sharded", True, [1, 0]),
        pytest.param("replicated", True, [1], marks=pytest.mark.slow),
        pytest.param("replicated", False, [0, 1], marks=pytest.mark.slow),
    ],
)
def test_a_run_goes_on_with_other_ranks_from_the_middle_of_an_epoch(
    sharding, gather, parts, tmp_path
):
    folder = tmp_path / "states"
    folder.mkdir()
    before = run_ranks(2, _save, tmp_path, sharding, gather, 2, folder)
    expected = None
    for size in (2, 1, 3):
        results = run_ranks(size, _go_on, tmp_path, sharding, folder, parts)
        rest = [s for epochs, _ in results for batch in epochs[0] for s in batch]
        trained = [*rest, *before[0], *before[1]]
        assert len(set(trained)) == len(trained)
        rows = results[0][1]
        assert all(other[1] == rows for other in results)
        assert rows[2]["trained"] == len(trained)
        if sharding == "replicated":  # what is left over of whole batches on these ranks
            left = rows[2]["kept"] - len(before[0] + before[1])
            assert len(rest) == left - left % (size * BATCH)
        else:
            assert rows[2]["kept"] - len(trained) <= 10 + size * (BATCH - 1)
        if size == 2:
            expected = _whole(tmp_path, sharding)
            assert [epochs[1:] for epochs, _ in results] == [run[3:] for run, _ in expected]
            assert rows == expected[0][1]


def _whole(tmp_path, sharding):
    def train(rank):
        loader = loader_of(sharding=sharding, budget=0.8, policy="InfoBatch")
        return epochs_of(loader), rows_of(loader)

    return run_ranks(2, train, tmp_path)


# Who comes with what.


def _refused(rank):
    """One rank stops coming; the others say who, in the group's timeout."""
    loader = loader_of()
    started = time.monotonic()
    try:
        for batch in loader:
            loader.update(loss_of(samples_of(batch), 0))
            if rank == 1:
                time.sleep(8)
                return "", 0
    except RuntimeError as error:
        return str(error), time.monotonic() - started
    return "not refused", 0


def test_a_rank_that_does_not_come_is_named_within_the_timeout(tmp_path):
    results = run_ranks(3, _refused, tmp_path, timeout=3)
    for message, seconds in (results[0], results[2]):
        assert "end_epoch() of epoch 0: rank 1 did not come within the group's timeout" in message
        assert seconds < 30


def _disagree(rank):
    answers = []
    for option in ({"seed": rank}, {"dataset": Tuples(N + rank)}):
        with pytest.raises(RuntimeError) as error:
            loader_of(**option)
        answers.append(str(error.value))
    loader = loader_of()
    try:
        for batch in loader:
            loader.update(loss_of(samples_of(batch), 0))
            if rank:
                loader.state_dict()
    except RuntimeError as error:
        answers.append(str(error))
    return answers


def test_ranks_with_other_arguments_or_other_calls_are_told_apart(tmp_path):
    for rank, (seed, length, calls) in enumerate(run_ranks(2, _disagree, tmp_path)):
        assert f"process {rank} has seed={rank}, and process {1 - rank} has seed={1 - rank}" in seed
        assert f"process {rank} has n={N + rank}, and process {1 - rank} has n=" in length
        assert "the making of a Pruner" in length and "the same dataset" in length
        came = ["end_epoch() of epoch 0", "state_dict() in epoch 0"]
        told = f"rank {rank} came to {came[rank]}, rank {1 - rank} to {came[1 - rank]}: all ranks"
        assert calls.startswith(told)


def test_a_loader_made_before_the_group_is_refused(tmp_path):
    before = loader_of()

    def late(rank):
        with pytest.raises(RuntimeError, match=r"made for one process, .* process group has 2"):
            next(iter(before))

    run_ranks(2, late, tmp_path)


def _groups(rank):
    """Two data-parallel ranks of two tensor-parallel processes each; then a group of one."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    loader = loader_of(process_group=mesh["dp"])
    epochs = epochs_of(loader)
    half = torch.distributed.new_group([0, 1])
    pair = len(loader_of(process_group=half)) if rank < 2 else None
    own = [torch.distributed.new_group([r]) for r in range(4)][rank]
    alone = len(loader_of(process_group=own, policy="Full"))
    errors = []
    for group in (mesh, 3, half):
        try:
            loader_of(process_group=group)
        except (TypeError, ValueError) as error:
            errors.append(str(error))
    return epochs, loader.pruner.losses.tolist(), pair, alone, errors


def test_meshes_and_groups_say_who_trains_together(tmp_path):
    results = run_ranks(4, _groups, tmp_path)
    assert results[0][0] == results[1][0] and results[2][0] == results[3][0]
    trained = [s for r in (0, 2) for batch in results[r][0][0] for s in batch]
    assert len(set(trained)) == len(trained) and len(trained) > 80
    for _, losses, *_ in results:
        np.testing.assert_array_equal(losses, results[0][1])
    assert [result[2] for result in results] == [5, 5, None, None]
    assert [result[3] for result in results] == [11, 11, 11, 11]
    for errors in (results[0][4], results[2][4]):
        assert "must be one dimension of a device mesh, got a mesh of 2: ('dp', 'tp')" in errors[0]
        assert "must be a torch.distributed.ProcessGroup or a DeviceMesh" in errors[1]
    assert "process_group must be one that this process is a member of" in results[2][4][2]


def test_a_group_needs_torch_distributed():
    with pytest.raises(RuntimeError, match=r"process_group was given, but torch\.distributed is n"):
        loader_of(process_group=object())
    assert ranks_of(None) is None


# The building blocks.


def _modes(rank):
    ranks = ProcessRanks()
    pruner = seta.Pruner(N, "SeTa", epochs=3, ranks=ranks)
    refused = []
    for make in (
        lambda: PrunedSampler(pruner),
        lambda: PrunedSampler(seta.Pruner(N, "SeTa", epochs=3, ranks=ranks, sharding="sharded"),
                              share=False),
    ):  # fmt: skip
        with pytest.raises(ValueError) as error:
            make()
        refused.append(str(error.value))
    whole, share = PrunedSampler(pruner, share=False), PrunedSampler(pruner, share=True)
    plan = list(whole)
    lengths = len(whole), len(share)
    loader = DataLoader(
        IndexedDataset(Tuples(N)), BATCH, sampler=share, collate_fn=IndexedCollate(list)
    )
    for packed, _ in loader:
        samples = indices_of(packed)
        pruner.record(samples, loss_of(samples, 0).numpy())
    pruner.end_epoch()
    return plan, list(share) and lengths, refused


def test_samplers_are_global_or_of_a_rank_and_say_which(tmp_path):
    results = run_ranks(2, _modes, tmp_path)
    assert results[0][0] == results[1][0]
    assert results[0][1] == (len(results[0][0]), len(results[0][0]) // 2)
    for message, part in zip(
        results[0][2], ("share must be given, since 2 ranks", "share must be True for a shar"),
        strict=True,
    ):  # fmt: skip
        assert part in message


def _shared_twice(rank):
    """A share under accelerate's BatchSamplerShard: every second batch of it for each rank."""
    pruner = seta.Pruner(N, "Full", epochs=3, ranks=ProcessRanks())
    batches = list(BatchSampler(PrunedSampler(pruner, share=True), 5, drop_last=False))
    for batch in batches[rank::2]:
        pruner.record(batch, np.zeros(len(batch)))
    with pytest.raises(RuntimeError, match=r"of the 50 samples of this rank's share .* of 25 came"):
        pruner.end_epoch()


def test_trap_2_a_share_dealt_out_again_is_refused(tmp_path):
    run_ranks(2, _shared_twice, tmp_path)


def _labelled(rank):
    """Every second sample has a label, and the others no loss: left out, or told as NaN."""
    for told in (False, True):
        pruner = seta.Pruner(N, "Full", epochs=1, ranks=ProcessRanks())
        share = np.array(list(PrunedSampler(pruner, share=True)))
        for batch in share.reshape(-1, 10):
            losses, known = np.where(batch % 2, np.nan, batch), batch % 2 == 0
            pruner.record(batch if told else batch[known], losses if told else losses[known])
        if told:
            pruner.end_epoch()
        elif np.count_nonzero(share % 2 == 0) in range(20, 31):
            with pytest.raises(RuntimeError, match="samples alone have a loss, .* record NaN for"):
                pruner.end_epoch()
    return pruner.losses


def test_samples_without_losses_under_a_sampler_are_told_as_nan(tmp_path):
    for losses in run_ranks(2, _labelled, tmp_path):
        np.testing.assert_array_equal(losses[::2], np.arange(0, N, 2))
        assert np.isnan(losses[1::2]).all()


def _collectives(rank):
    """Exact integers and floats of all kinds and lengths, empty ones too."""
    ranks = ProcessRanks()
    big = np.array([2**24 + 1, 2**32 - 1], np.uint32)[: 2 - rank]
    huge = np.array([2**53 + 1, 2**63 + 5], np.uint64)[:rank]
    floats = np.array([np.nan, -0.0, 1e-45], np.float32)
    gathered = [ranks.gather(values, "test") for values in (big, huge, floats)]
    total = ranks.sum(np.array([2**53 + 1, rank]), "test")
    return [[(p.dtype.name, p.tobytes()) for p in parts] for parts in gathered], total.tolist()


def test_collectives_are_exact(tmp_path):
    results = run_ranks(2, _collectives, tmp_path)
    (big, huge, floats), total = results[0]
    assert results[1] == results[0]
    assert big == [
        ("uint32", np.array([2**24 + 1, 2**32 - 1], np.uint32).tobytes()),
        ("uint32", np.array([2**24 + 1], np.uint32).tobytes()),
    ]
    assert huge == [("uint64", b""), ("uint64", np.array([2**53 + 1], np.uint64).tobytes())]
    assert floats[0] == floats[1] == ("float32", np.array([np.nan, -0.0, 1e-45], "f4").tobytes())
    assert total == [2**54 + 2, 1]


# What only one rank does, and what all do twice.


def _looks(rank):
    """Rank 0 looks at batches before every epoch; states are saved in between by it alone."""
    loader, found = loader_of(policy="InfoBatch"), []
    for _ in range(3):
        if rank == 0:
            next(iter(loader))
        found.append(torch.utils.data.default_convert(loader.state_dict()))
        plan = loader.pruner.begin_epoch().indices.tolist()
        seen = []
        for at, batch in enumerate(loader):
            samples = samples_of(batch)
            loader.update(loss_of(samples, loader.epoch))
            seen += samples.tolist()
            if rank == 0 and at == 1:
                len(loader), loader.progress, loader.pruner.losses
        found.append((plan, seen))
    other = loader_of(policy="InfoBatch")
    other.load_state_dict(found[2])  # after one epoch, and a look by rank 0
    seen = []
    for batch in other:
        other.update(loss_of(samples_of(batch), other.epoch))
        seen += samples_of(batch).tolist()
    assert seen == found[3][1]
    return rows_of(loader), found[1::2]


def test_a_look_at_a_batch_is_no_matter_of_the_others(tmp_path):
    results = run_ranks(2, _looks, tmp_path, timeout=20)
    (rows, first), (others, second) = results
    assert rows == others and [row["epoch"] for row in rows] == [0, 1, 2]
    for (plan, seen), (same, rest) in zip(first, second, strict=True):
        assert plan == same and sorted(seen + rest) == sorted(plan[: len(seen + rest)])


def _twice(rank):
    """Two updates of each batch, as sharpness-aware minimisation makes them; then a retry."""
    loader = loader_of(
        policy=seta.InfoBatch(prune_ratio=0.5, delta=1.0), losses=np.arange(N, dtype=float),
        with_indices=True, epochs=2,
    )  # fmt: skip
    for indices, _ in loader:
        expected = loader.weights(indices)
        assert torch.equal(expected > 1.5, indices < 50)
        for scale in (300.0, 0.1):
            ones = (scale * torch.ones(len(indices))).requires_grad_()
            loader.update(ones, indices=indices).backward()
            torch.testing.assert_close(ones.grad * len(indices), expected)
    row = loader.pruner.history[0]
    return row["trained"], row["kept"], row["saved"]


def test_a_batch_may_be_updated_twice_on_every_rank(tmp_path):
    for trained, kept, saved in run_ranks(2, _twice, tmp_path):
        assert trained == kept
        assert saved == pytest.approx(1 - kept / N)


def _destroyed(rank):
    loader = loader_of()
    for batch in loader:
        loader.update(loss_of(samples_of(batch), 0))
        break
    with pytest.raises(TypeError, match=r"PrunedDataLoader of several ranks cannot be copied"):
        copy.deepcopy(loader)
    with pytest.raises(TypeError, match=r"cannot be copied or pickled.*state_dict\(\)"):
        pickle.dumps(loader)
    torch.distributed.destroy_process_group()
    message = r"end_epoch\(\) of epoch 0 needs the process group, which was destroyed.*end_epoch"
    with pytest.raises(RuntimeError, match=message):
        loader.end_epoch()
    with pytest.raises(RuntimeError, match=r"state_dict\(\) in epoch 0 needs the process group"):
        loader.state_dict()
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    with pytest.raises(RuntimeError, match="which was destroyed"):
        loader.end_epoch()


def test_a_group_destroyed_before_the_loader_is_named(tmp_path):
    run_ranks(2, _destroyed, tmp_path)


def _halves(rank):
    """Epochs of which every rank trains half, in ways that look like a share dealt twice."""
    found = []
    for workers, train in ((0, _skip_half), (2, _leave_at_half)):
        loader = loader_of(dataset=Tuples(160), batch_size=10, policy="Full", num_workers=workers)
        for _ in range(2):
            train(loader)
        found.append([loader.end_epoch()["trained"], len(loader.pruner.history)])
    return found


def _skip_half(loader):
    for at, batch in enumerate(loader):
        if at % 2:
            loader.skip()
        else:
            loader.update(batch[0].float())


def _leave_at_half(loader):
    for at, batch in enumerate(loader):  # workers have walked through the share by now
        loader.update(batch[0].float())
        if at == 3:
            break


def test_an_epoch_of_which_half_was_left_out_ends_on_ranks(tmp_path):
    assert run_ranks(2, _halves, tmp_path) == [[[80, 2], [80, 2]]] * 2


def _saves_where_one_skipped(rank):
    loader = loader_of()
    batch = next(iter(loader))
    loader.update(batch[0].float()) if rank else loader.skip()
    state = with_arrays(loader.state_dict()["pruner"])
    return state["table"]["parts"], state["open"]["done"], state["open"]["begun"]


def test_ranks_save_together_where_one_has_left_its_first_batch_out(tmp_path):
    assert run_ranks(2, _saves_where_one_skipped, tmp_path) == [(1, 2 * BATCH, True)] * 2
