"""litdata's StreamingDataset, read by index and as a stream; sample i holds i."""

import os

import numpy as np
import pytest
import torch

import seta
from seta.integrations.shards import RandomAccess
from tests.engines import data_runs
from tests.engines.data_runs import BATCH, EPOCHS, N, flat
from tests.engines.pages import run_page
from tests.torch.processes import run_ranks

litdata = pytest.importorskip("litdata")
pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    # litdata leaves its files to the garbage collector
    pytest.mark.filterwarnings("ignore:unclosed file .*chunk:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*chunk:pytest.PytestUnraisableExceptionWarning"),
]

CHUNK = 8


def sample_of(index):
    return {"id": index, "x": np.array([index / N, 1.0], np.float32)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("litdata") / "data")
    options = {"num_workers": 1, "start_method": "fork"}
    litdata.optimize(sample_of, list(range(N)), folder, chunk_size=CHUNK, **options)
    return folder


def by_index(folder, **options):
    dataset = litdata.StreamingDataset(folder, batch_decode=1)
    return data_runs.by_index(RandomAccess(dataset, shards_at_once=2), **options)


def as_stream(folder, *, seed=42, drop_last=None, **options):
    dataset = litdata.StreamingDataset(folder, shuffle=True, seed=seed, drop_last=drop_last)
    return data_runs.as_stream(dataset, **options)


BOTH = pytest.mark.parametrize("make", [by_index, as_stream])
WORKERS = pytest.mark.parametrize("workers", [0, 2])


@BOTH
@WORKERS
def test_each_epoch_is_its_plan_and_losses_are_those_of_its_samples(folder, make, workers):
    make(folder, num_workers=workers).check_epochs()


@BOTH
@WORKERS
def test_a_run_cut_in_mid_epoch_continues(folder, make, workers):
    whole = make(folder, num_workers=workers)
    seen = whole.train()
    head = make(folder, num_workers=workers)
    before = head.train(stop=(1, 5))
    tail = make(folder, num_workers=workers).load(head.save())
    resumed = before + tail.train()
    first, second = (length // BATCH for length in whole.loader.pruner.lengths[:2])
    rest = slice(first, first + second)
    assert sorted(flat(resumed[rest])) == sorted(flat(seen[rest]))
    if make is as_stream and workers:  # which begin again, each with a part of its own
        return
    assert resumed == seen
    assert torch.equal(tail.weight, whole.weight)
    losses = tail.loader.pruner.losses, whole.loader.pruner.losses
    assert np.array_equal(*losses, equal_nan=True)


def test_an_epoch_by_shard_reads_few_chunks_at_a_time(folder):
    run = by_index(folder, by_shard=True)
    for _ in range(EPOCHS):
        plan = run.loader.pruner.begin_epoch().indices.tolist()
        chunks = [index // CHUNK for index in plan]
        while chunks:  # of two chunks all samples come before those of the next two
            two = set(chunks[: 1 + max(i for i, c in enumerate(chunks) if c == chunks[0])])
            assert len(two) <= 2
            chunks = [chunk for chunk in chunks if chunk not in two]
        assert flat(run.train(epochs=1)) == plan
    run.check_losses()


def test_a_part_of_a_dataset_has_its_own_samples(folder):
    dataset = litdata.StreamingDataset(folder)
    for part in (dataset.subset(range(5, 41)), *litdata.train_test_split(dataset, [0.7, 0.3])):
        rows = RandomAccess(part)
        ids = [rows[i]["id"] for i in range(len(rows))]
        assert len(set(ids)) == len(ids) == len(part)
        two = torch.utils.data.ConcatDataset([rows, rows])
        assert [two[i]["id"] for i in range(len(two))] == ids * 2
        order = rows.by_shard(np.random.default_rng(0).permutation(len(rows)))
        assert sorted(order.tolist()) == list(range(len(rows)))


@pytest.mark.processes
@BOTH
def test_two_processes_train_equally_many_batches_of_all_samples(folder, make, tmp_path):
    one, other = run_ranks(2, _rank, tmp_path, folder, make.__name__)
    assert one["length"] == N / 2 // 1 != N  # what litdata says
    assert [len(epoch) for epoch in one["seen"]] == [len(epoch) for epoch in other["seen"]]
    for epoch, plan in enumerate(one["plans"]):
        taken = flat(one["seen"][epoch] + other["seen"][epoch])
        assert len(set(taken)) == len(taken) == len(plan)
        if make is by_index:
            assert sorted(taken) == sorted(plan)
    assert one["losses"] == other["losses"]
    recorded = one["recorded"] | other["recorded"]
    assert all(
        one["losses"][i] in (one["recorded"].get(i), other["recorded"].get(i)) for i in recorded
    )
    assert max(recorded) > N / 2


def _rank(rank, folder, name):
    length = len(litdata.StreamingDataset(folder))
    split = {} if name == "by_index" else {"split": True, "drop_last": False}
    run = globals()[name](folder, **split)
    seen, plans = [], []
    for _ in range(EPOCHS):
        plans.append(run.loader.pruner.begin_epoch().indices.tolist())
        seen.append(run.train(epochs=1))
    losses = np.nan_to_num(run.loader.pruner.losses, nan=-1).tolist()
    return {
        "length": length, "seen": seen, "plans": plans, "losses": losses, "recorded": run.recorded,
    }  # fmt: skip


def test_workers_do_not_share_a_file_that_is_open_in_the_parent(folder, monkeypatch):
    monkeypatch.setenv("LITDATA_POSIX_FAST", "0")  # without memory maps
    rows = RandomAccess(litdata.StreamingDataset(folder, batch_decode=1))
    assert rows[0]["id"] == 0
    readers = []
    for _ in range(2):
        process = os.fork()
        if not process:
            try:
                wrong = sum(rows[i % CHUNK]["id"] != i % CHUNK for i in range(10_000))
            except BaseException:
                wrong = 1
            os._exit(bool(wrong))
        readers.append(process)
    assert [os.waitpid(process, 0)[1] for process in readers] == [0, 0]


def test_evaluation_and_a_second_run_change_nothing(folder):
    loader = litdata.StreamingDataLoader(litdata.StreamingDataset(folder), batch_size=BATCH)
    plain, run = by_index(folder), by_index(folder)
    expected = plain.train()
    seen = []
    for _ in range(EPOCHS):
        seen += run.train(epochs=1)
        before = run.loader.pruner.losses.copy()
        assert sum(len(batch["id"]) for batch in loader) == N
        assert np.array_equal(before, run.loader.pruner.losses, equal_nan=True)
    assert seen == expected


def test_decoding_many_samples_to_read_one_is_told(folder, caplog):
    RandomAccess(litdata.StreamingDataset(folder, batch_decode=1))
    assert "batch_decode" not in caplog.text
    RandomAccess(litdata.StreamingDataset(folder))
    assert "make StreamingDataset(..., batch_decode=1)" in caplog.text


def test_what_cannot_be_read_by_index_is_refused(folder):
    dataset = litdata.StreamingDataset(folder)
    with pytest.raises(TypeError, match=r"got StreamingDataset: give RandomAccess\(dataset\)"):
        seta.PrunedDataLoader(dataset, "SeTa", epochs=1)
    stock = litdata.StreamingDataLoader(dataset, batch_size=BATCH)
    with pytest.raises(TypeError, match=r"give RandomAccess\(dataset\)"):
        seta.PrunedDataLoader.from_loader(stock, "SeTa", epochs=1)
    for other in (litdata.CombinedStreamingDataset([dataset]), [1, 2, 3]):
        with pytest.raises(TypeError, match="must be a StreamingDataset of mosaicml-streaming or"):
            RandomAccess(other)
    with pytest.raises(ValueError, match="shards_at_once must be at least 1, got 0"):
        RandomAccess(dataset, shards_at_once=0)


@pytest.mark.processes
def test_the_page(tmp_path):
    run_page("litdata", tmp_path)
