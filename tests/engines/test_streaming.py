"""mosaicml-streaming's StreamingDataset, read by index and as a stream; sample i holds i."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import seta
from seta.integrations.shards import RandomAccess
from tests.engines import data_runs, vision_operators
from tests.engines.data_runs import BATCH, EPOCHS, N, flat
from tests.engines.pages import run_page
from tests.torch.processes import run_ranks

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    streaming = pytest.importorskip("streaming")

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:The given NumPy array is not writable:UserWarning"),
    # its iterators leave threads and shared memory to the garbage collector
    pytest.mark.filterwarnings("ignore:.*:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*:ResourceWarning"),
]

SHARD = 8


def write(folder, ids):
    columns = {"id": "int", "x": "ndarray:float32"}
    with streaming.MDSWriter(out=str(folder), columns=columns, size_limit=SHARD * 28 + 180) as out:
        for i in ids:
            out.write({"id": i, "x": np.array([i / N, 1.0], np.float32)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mds") / "data"
    write(folder, range(N))
    return str(folder)


def dataset_of(folder, **options):
    return streaming.StreamingDataset(local=folder, batch_size=BATCH, **options)


def by_index(folder, *, dataset=None, **options):
    dataset = dataset_of(folder) if dataset is None else dataset
    return data_runs.by_index(RandomAccess(dataset, shards_at_once=2), **options)


def as_stream(folder, *, order=None, **options):
    return data_runs.as_stream(dataset_of(folder, shuffle=True, **(order or {})), **options)


BOTH = pytest.mark.parametrize("make", [by_index, as_stream])
WORKERS = pytest.mark.parametrize("workers", [0, 2])


@BOTH
@WORKERS
def test_each_epoch_is_its_plan_and_losses_are_those_of_its_samples(folder, make, workers):
    make(folder, num_workers=workers).check_epochs()


@pytest.mark.parametrize("by_shard", [False, True])
@WORKERS
def test_a_run_cut_in_mid_epoch_continues_bit_for_bit(folder, workers, by_shard):
    options = {"num_workers": workers, "by_shard": by_shard}
    whole = by_index(folder, **options)
    seen = whole.train()
    head = by_index(folder, **options)
    before = head.train(stop=(1, 5))
    tail = by_index(folder, **options).load(head.save())
    assert before + tail.train() == seen
    assert torch.equal(tail.weight, whole.weight)
    losses = tail.loader.pruner.losses, whole.loader.pruner.losses
    assert np.array_equal(*losses, equal_nan=True)


@WORKERS
def test_a_stream_cut_in_mid_epoch_trains_the_rest_of_the_samples(folder, workers):
    head = as_stream(folder, num_workers=workers)
    before = head.train(stop=(1, 5))
    tail = as_stream(folder, num_workers=workers).load(head.save())
    plan = tail.loader.pruner.begin_epoch().indices.tolist()
    seen = flat(before)[head.loader.pruner.lengths[0] :] + flat(tail.train(epochs=1))
    assert sorted(seen) == sorted(plan)
    tail.train()
    assert [row["trained"] for row in tail.loader.pruner.history] == list(
        tail.loader.pruner.lengths
    )


def test_shards_without_kept_samples_are_not_downloaded(folder, tmp_path):
    dataset = streaming.StreamingDataset(
        remote=folder, local=str(tmp_path / "local"), batch_size=BATCH
    )
    shards = len(dataset.samples_per_shard)
    run = by_index(folder, dataset=dataset, by_shard=True, epochs=1, budget=0.06)
    plan = run.loader.pruner.begin_epoch().indices.tolist()
    ends = np.cumsum(dataset.samples_per_shard)
    needed = set(np.searchsorted(ends, plan, side="right").tolist())
    assert flat(run.train()) == plan
    there = {name for name in os.listdir(tmp_path / "local") if name.startswith("shard")}
    assert len(there) == len(needed) < shards


def test_an_epoch_by_shard_reads_two_shards_at_a_time(folder):
    run = by_index(folder, by_shard=True)
    ends = np.cumsum(run.loader.dataset.dataset.samples_per_shard)
    plan = run.loader.pruner.begin_epoch().indices
    shards = np.searchsorted(ends, plan, side="right").tolist()
    order = list(dict.fromkeys(shards))
    assert order != sorted(order)
    groups = [order.index(shard) // 2 for shard in shards]
    assert groups == sorted(groups)
    assert shards[:SHARD] != sorted(shards[:SHARD], key=shards.index)  # mixed
    assert flat(run.train(epochs=1)) == plan.tolist()


@pytest.mark.processes
def test_two_processes_train_all_samples(folder, tmp_path):
    one, other = run_ranks(2, _rank, tmp_path, folder)
    assert one["length"] == -(-N // 2)  # what streaming says
    for mine, yours, plan in zip(one["seen"], other["seen"], one["plans"], strict=True):
        assert len(mine) == len(yours)
        assert sorted(flat(mine + yours)) == sorted(plan)
    recorded = one["recorded"] | other["recorded"]
    assert max(recorded) > N / 2
    assert one["losses"] == other["losses"]
    for i in recorded:
        assert one["losses"][i] in (one["recorded"].get(i), other["recorded"].get(i))
    assert "wait for each other whenever one begins to read" in one["refused"]


def _rank(rank, folder):
    os.environ |= dict.fromkeys(["RANK", "LOCAL_RANK"], str(rank))
    os.environ |= dict.fromkeys(["WORLD_SIZE", "LOCAL_WORLD_SIZE"], "2")
    run = by_index(folder, by_shard=True)
    length = len(run.loader.dataset.dataset)
    seen, plans = [], []
    for _ in range(EPOCHS):
        plans.append(run.loader.pruner.begin_epoch().indices.tolist())
        seen.append(run.train(epochs=1))
    try:
        as_stream(folder, split=True)
    except ValueError as error:
        refused = str(error)
    losses = np.nan_to_num(run.loader.pruner.losses, nan=-1).tolist()
    return {
        "length": length, "seen": seen, "plans": plans, "losses": losses, "refused": refused,
        "recorded": run.recorded,
    }  # fmt: skip


def test_several_streams_are_one_dataset(folder, tmp_path):
    write(tmp_path / "more", range(N, N + 20))
    streams = [streaming.Stream(local=folder), streaming.Stream(local=str(tmp_path / "more"))]
    rows = RandomAccess(streaming.StreamingDataset(streams=streams, batch_size=BATCH))
    assert [rows[i]["id"] for i in range(len(rows))] == list(range(N + 20))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"epoch_size": 20}, r"each sample once per epoch.*\[83\] samples give \[20\]"),
        ({"batching_method": "stratified"}, "batching_method='random', got 'stratified'"),
        ({"batching_method": "per_stream"}, "batching_method='random', got 'per_stream'"),
        ({"batching_method": "device_per_stream"}, "got 'device_per_stream'"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(folder, options, message):
    with pytest.raises(ValueError, match=message):
        RandomAccess(dataset_of(folder, **options))


def test_weights_of_streams_are_refused(folder, tmp_path):
    write(tmp_path / "more", range(N, N + 20))
    streams = [
        streaming.Stream(local=folder, proportion=0.5),
        streaming.Stream(local=str(tmp_path / "more"), proportion=0.5),
    ]
    with pytest.raises(ValueError, match="with proportion=, repeat= or choose="):
        RandomAccess(streaming.StreamingDataset(streams=streams, batch_size=BATCH))


def test_a_dataset_that_is_not_wrapped_is_refused(folder):
    dataset = dataset_of(folder)
    with pytest.raises(TypeError, match=r"got StreamingDataset: give RandomAccess\(dataset\)"):
        seta.PrunedDataLoader(dataset, "SeTa", epochs=1)
    stock = streaming.StreamingDataLoader(dataset, batch_size=BATCH)
    with pytest.raises(TypeError, match=r"give RandomAccess\(dataset\)"):
        seta.PrunedDataLoader.from_loader(stock, "SeTa", epochs=1)


def test_a_stream_that_repeats_samples_is_refused(folder):
    run = as_stream(folder, order={"shuffle_algo": "py1s"})  # 64 canonical nodes
    with pytest.raises(RuntimeError, match="came twice from one reading of the stream"):
        run.train()
    run = as_stream(folder, order={"shuffle_algo": "py1s", "num_canonical_nodes": 1})
    run.train()
    run.check_losses()


def test_evaluation_in_between_changes_nothing(folder):
    plain, run = by_index(folder), by_index(folder)
    expected, seen = plain.train(), []
    loader = streaming.StreamingDataLoader(dataset_of(folder), batch_size=BATCH)
    for _ in range(EPOCHS):
        seen += run.train(epochs=1)
        before = run.loader.pruner.losses.copy()
        assert sum(len(batch["id"]) for batch in loader) == N
        assert np.array_equal(before, run.loader.pruner.losses, equal_nan=True)
    assert seen == expected


@pytest.mark.processes
def test_the_page(tmp_path):
    run_page("streaming", tmp_path, before=Path(vision_operators.__file__).read_text())
