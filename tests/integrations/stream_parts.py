"""One of two processes that train over streams, for `test_streams`: RANK SIZE FOLDER.

Writes RANK.json, a report of each scenario; the test compares the two.
"""

import json
import logging
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import webdataset as wds
from datasets import Dataset
from datasets.distributed import split_dataset_by_node

from seta.integrations.streams import KeepSet, PrunedStream

N, BATCH, EPOCHS = 203, 8, 4


class Part:
    """Rows of these samples, in their order."""

    def __init__(self, ids):
        self.ids, self.readings = list(ids), 0

    def __iter__(self):
        self.readings += 1
        return ({"id": i, "value": float(i)} for i in self.ids)


def uneven(histogram, epoch, epochs):
    """Growing and shrinking epochs."""
    from seta import KeepCurve

    return KeepCurve.constant(histogram, (0.9, 0.3, 0.6, 0.8)[epoch % 4])


def hugging_face(rank, size, shuffle=False):
    rows = Dataset.from_dict({"id": range(N), "value": [float(i) for i in range(N)]})
    stream = rows.to_iterable_dataset(num_shards=4)
    if shuffle:
        stream = stream.shuffle(seed=1, buffer_size=16)
    return split_dataset_by_node(stream, rank, size)


def walk(stream, model, epochs=EPOCHS):
    """Trains, every step together with the other rank; returns what came in each epoch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    seen = []
    for _ in range(epochs):
        planned = len(stream)
        plan = stream.pruner.begin_epoch().indices.tolist()
        taken, sizes = [], []
        for indices, batch in stream:
            assert torch.equal(indices, batch["id"])
            losses = batch["value"].float() / 10 + stream.epoch + 0 * model(torch.ones(1, 1)).sum()
            stream.update(losses).backward()
            optimizer.step()
            taken += indices.tolist()
            sizes.append(len(indices))
        row = stream.pruner.history[-1]
        assert row["kept"] == len(plan)
        known = {"taken": taken, "sizes": sizes, "batches": len(sizes)}
        seen.append(known | {"planned": planned, "plan": plan})
    return seen


def report(stream, seen):
    losses = stream.pruner.losses
    right = (np.arange(N) / 10).astype(np.float32)
    known = ~np.isnan(losses)
    errors = np.abs(losses[known] - right[known] - np.round(losses[known] - right[known]))
    return {
        "epochs": seen,
        "figures": stream.figures,
        "losses": np.nan_to_num(losses, nan=-1).tolist(),
        "wrong": int((errors > 1e-4).sum()),
        "trained": [row["trained"] for row in stream.pruner.history],
    }


def stream_of(source, policy="SeTa", *, keep=None, epochs=EPOCHS, **options):
    keep = KeepSet("id", n=N) if keep is None else keep
    options = {"batch_size": BATCH} | options
    return PrunedStream(source, policy, keep=keep, epochs=epochs, with_indices=True, **options)


def main(rank, size, folder):
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(str(folder / "store"), size),
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=120),
    )
    warnings = []
    logging.getLogger("seta").addHandler(_Handler(warnings))
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(1, 1))
    found = {}

    several = {"num_workers": 2, "persistent_workers": True}
    for name, workers in (("parts", {}), ("workers", several)):
        keep = KeepSet("id", n=N)
        rows = hugging_face(rank, size, shuffle=bool(workers)).filter(keep, input_columns=["id"])
        stream = stream_of(rows, keep=keep, budget=0.6, split=True, **workers)
        total = stream.total_steps
        found[name] = report(stream, walk(stream, model)) | {"total": total}

    for name, options in (
        ("whole", {"policy": "SeTa", "budget": [0.5, 0.9, 0.4, 1.0]}),
        ("whole, free", {"policy": uneven, "budget": None}),
    ):
        stream = stream_of(Part(range(N)), split=False, **options)
        if rank == 0:  # which nobody waits for
            next(iter(stream))
        found[name] = report(stream, walk(stream, model))

    found["webdataset"] = from_tar_files(folder, model)

    stream = stream_of(hugging_face(rank, size), uneven, budget=None, split=True)
    found["parts, free"] = report(stream, walk(stream, model))

    stream = stream_of(hugging_face(rank, size), "Full", split=True, epochs=1, num_workers=2)
    found["parts, all"] = report(stream, walk(stream, model, 1))

    ids = range(160) if rank == 0 else range(160, N)
    del warnings[:]
    part = Part(ids)
    stream = stream_of(part, "Random", budget=1.0, epochs=2, split=True)
    found["too small"] = report(stream, walk(stream, model, 2)) | {
        "warnings": list(warnings), "readings": part.readings,
    }  # fmt: skip

    found |= told_of_what_is_missing(rank, size, model, warnings)
    found |= refused(rank)

    stream = stream_of(Part(range(N)), "Random", budget=0.5, epochs=2, split=True)
    try:
        walk(stream, model, 2)
    except RuntimeError as error:
        found["unsplit"] = str(error)

    found |= resumed(rank, size, folder, model)

    try:
        stream_of(Part(ids), budget=0.5)
    except ValueError as error:
        found["split not said"] = str(error)
    (folder / f"{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def from_tar_files(folder, model):
    """The shards that the test wrote, split by webdataset itself."""
    files = sorted(str(path) for path in folder.glob("*.tar"))
    keep = KeepSet("__key__", ids=[f"key{i}" for i in range(N)])
    rows = wds.WebDataset(files, shardshuffle=False, nodesplitter=wds.split_by_node)
    stream = stream_of(
        rows.select(keep).decode(), keep=keep, budget=0.6, split=True, collate_fn=as_batch
    )
    return report(stream, walk(stream, model))


def as_batch(rows):
    """Webdataset's rows as those of the others."""
    ids = torch.tensor([row["cls"] for row in rows])
    assert [row["__key__"] for row in rows] == [f"key{i}" for i in ids.tolist()]
    return {"id": ids, "value": ids.double()}


def told_of_what_is_missing(rank, size, model, warnings):
    """Half of the samples are there; or all but one, which one rank waits for."""
    found = {}
    for name, split, ids in (
        ("missing, parts", True, range(2 * rank, N, 2 * size)),
        ("missing, whole", False, range(0, N, 2)),
        ("one is missing", False, range(1, N)),
    ):
        del warnings[:]
        stream = stream_of(Part(ids), "Random", budget=0.9, epochs=2, split=split)
        found[name] = report(stream, walk(stream, model, 2)) | {"warnings": list(warnings)}
    return found


def refused(rank):
    """What the ranks disagree on when a stream is made."""
    keys = [f"key{i}" for i in range(N)]
    other = rank == 1
    found = {}
    for name, options in {
        "ids": {"keep": KeepSet("id", ids=keys[::-1] if other else keys)},
        "split": {"split": other},
        "batch_size": {"batch_size": BATCH + other},
        "n": {"keep": KeepSet("id", n=N + other)},
    }.items():
        try:
            stream_of(Part(range(N)), **{"budget": 0.5, "split": False} | options)
        except (ValueError, RuntimeError) as error:
            found[f"another {name}"] = str(error)
    return found


def resumed(rank, size, folder, model):
    """Saves in mid-epoch, goes on from there in another stream; beside an unbroken run."""
    found = {}
    straight = stream_of(hugging_face(rank, size), budget=0.6, split=True)
    unbroken = walk(straight, model)
    broken = stream_of(hugging_face(rank, size), budget=0.6, split=True)
    head = walk(broken, model, 1)
    part = []
    for at, (indices, batch) in enumerate(broken):
        broken.update(batch["value"].float() / 10 + broken.epoch)
        part += indices.tolist()
        if at == 3:
            break
    state = broken.state_dict()
    if rank == 0:
        torch.save(state, folder / "state.pt")
    dist.barrier()
    state = torch.load(folder / "state.pt", weights_only=True)
    again = stream_of(hugging_face(rank, size), budget=0.6, split=True)
    again.load_state_dict(state)
    tail = walk(again, model, EPOCHS - 1)
    found["unbroken"] = report(straight, unbroken)
    found["resumed"] = report(again, [head[0], tail[0] | {"before": part}, *tail[1:]])
    return found


class _Handler(logging.Handler):
    def __init__(self, messages):
        super().__init__()
        self.messages = messages

    def emit(self, record):
        self.messages.append(record.getMessage())


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
