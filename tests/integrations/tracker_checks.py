"""Checks of the trackers, each with the lines that a user writes: FILE 0; see `checks.py`."""

import struct
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

import seta
from seta.engine.batches import batches

FOLDER = Path(tempfile.mkdtemp())
N, EPOCHS = 300, 5
BLOCK, WHOLE, LAST = 2**15, 1, 4  # of the log of W&B


def history_of(on_epoch, after_step=lambda step: None, after_epoch=lambda epoch: None):
    """Trains with a listener, and what else the user does; returns the rows."""
    options = {"epochs": EPOCHS, "budget": 0.5, "batch_size": 50}
    pruner = seta.Pruner(N, "SeTa", on_epoch=on_epoch, **options)
    for epoch in range(EPOCHS):
        for step, (indices, _) in enumerate(batches(pruner)):
            pruner.record(indices, np.sin(indices) ** 2)
            after_step(epoch * 10 + step)
        pruner.end_epoch()
        after_epoch(epoch)
    return pruner.history


def numbers(row):
    return {name: value for name, value in row.items() if isinstance(value, (int, float))}


def check_rows_are_of_plain_python():
    rows = history_of(None)
    kinds = {type(value) for row in rows for value in row.values()}
    assert kinds == {int, float, list, type(None)}
    assert rows[0]["mean_loss"] is None and rows[1]["mean_loss"] is not None
    assert {type(item) for row in rows for item in row["group_sizes"] or []} <= {int}


def read_back(folder):
    """Returns {(name, epoch): value} of an event file."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(folder))
    events.Reload()
    tags = events.Tags()
    scalars = {(tag, e.step): e.value for tag in tags["scalars"] for e in events.Scalars(tag)}
    tensors = {
        (tag, e.step): float(make_ndarray(e.tensor_proto))
        for tag in tags["tensors"]
        for e in events.Tensors(tag)
    }
    return scalars | tensors


def check_tensorboard():
    from tensorboard.summary import Writer

    tensorboard_of(Writer(str(FOLDER / "tensorboard")), FOLDER / "tensorboard")
    assert "torch" not in sys.modules and "tensorflow" not in sys.modules


def check_tensorboard_of_torch():
    from torch.utils.tensorboard import SummaryWriter

    tensorboard_of(SummaryWriter(FOLDER / "torch"), FOLDER / "torch")


def tensorboard_of(writer, folder):
    def to_tensorboard(row):
        for name, value in row.items():
            if isinstance(value, (int, float)):
                writer.add_scalar(f"seta/{name}", value, row["epoch"])

    rows = history_of(to_tensorboard)
    writer.close()
    expected = {
        (f"seta/{name}", row["epoch"]): float(np.float32(value))
        for row in rows
        for name, value in numbers(row).items()
    }
    assert read_back(folder) == expected
    assert ("seta/mean_loss", 0) not in expected and ("seta/mean_loss", 1) in expected


def check_wandb():
    rows, stored, summary = with_wandb()
    wanted = {
        (f"seta/{name}", "null" if row[name] is None else repr(row[name]))
        for row in rows
        for name in ("kept", "mean_loss", "train_seconds")
    }
    assert wanted <= stored
    last = {f"seta/{name}": value for name, value in rows[-1].items() if value is not None}
    assert {name: summary[name] for name in last} == last


def check_wandb_of_a_run_that_logs_by_epoch():
    beside_own_figures(after_epoch=lambda log, epoch: log(epoch, step=epoch))


def check_wandb_of_a_run_that_logs_by_epoch_without_saying_so():
    beside_own_figures(after_epoch=lambda log, epoch: log(epoch))


def check_wandb_of_a_run_that_logs_by_step():
    beside_own_figures(after_step=lambda log, step: log(step // 10, step=step))


def check_wandb_of_a_run_that_logs_by_step_without_saying_so():
    beside_own_figures(after_step=lambda log, step: log(step // 10))


def beside_own_figures(**own):
    rows, stored, summary = with_wandb(**own)
    assert {("own", repr(epoch + 0.5)) for epoch in range(EPOCHS)} <= stored
    assert {("seta/kept", repr(row["kept"])) for row in rows} <= stored
    assert {("seta/epoch", repr(epoch)) for epoch in range(EPOCHS)} <= stored
    assert summary["own"] == EPOCHS - 0.5
    assert summary["seta/kept"] == rows[-1]["kept"] and summary["seta/epoch"] == EPOCHS - 1


def with_wandb(**own):
    """Trains with a listener, and logs of the user's own.

    Returns the rows, the pairs of name and value (JSON) that are stored, and the summary.
    """
    import wandb

    folder = Path(tempfile.mkdtemp(dir=FOLDER))
    run = wandb.init(project="digits", mode="offline", dir=folder)
    run.define_metric("seta/*", step_metric="seta/epoch")

    def to_wandb(row):
        figures = {f"seta/{name}": value for name, value in row.items()}
        run.log(figures, step=max(run.step, row["epoch"]))

    def log(epoch, **step):
        run.log({"own": epoch + 0.5}, **step)

    rows = history_of(to_wandb, **{when: partial(what, log) for when, what in own.items()})
    run.log({})  # closes the last row, as `finish` does, after which the summary cannot be asked
    summary = dict(run.summary)
    run.finish()
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    deadline = time.monotonic() + 60  # `finish` returns a moment before the file is written
    whole = []
    while not any(record.HasField("exit") for record in whole):
        whole = records_of(file)
        assert time.monotonic() < deadline, "the file of the run was not written to its end"
        time.sleep(0.1)
    items = [item for record in whole for item in record.history.item]
    stored = {("/".join(item.nested_key) or item.key, item.value_json) for item in items}
    return rows, stored, summary


def records_of(file):
    """Returns the records of a file of W&B: a log of protobufs, in pieces that end at 32 KiB.

    A piece has a checksum of 4 bytes, its length in 2, and in 1 which part of a record it is:
    the whole, the first, a middle one, the last.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, part, found = file.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if (left := -at % BLOCK) and left < 7:  # too little for a piece: filled with zeros
            at += left
            continue
        size, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        if at + 7 + size > len(data):
            break  # not written to its end yet
        part += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (WHOLE, LAST):
            found.append(Record.FromString(part))
            part = b""
    return found


def check_mlflow():
    import mlflow

    mlflow.set_tracking_uri((FOLDER / "mlruns").as_uri())

    def to_mlflow(row):
        figures = {f"seta/{k}": v for k, v in row.items() if isinstance(v, (int, float))}
        mlflow.log_metrics(figures, step=row["epoch"])

    with mlflow.start_run() as run:
        rows = history_of(to_mlflow)
    client = mlflow.MlflowClient()
    expected = {
        (name, row["epoch"]): float(value) for row in rows for name, value in numbers(row).items()
    }
    stored = {
        (name, metric.step): metric.value
        for name in rows[-1]
        for metric in client.get_metric_history(run.info.run_id, f"seta/{name}")
    }
    assert stored == expected


if __name__ == "__main__":
    from checks import run_checks

    run_checks(globals(), sys.argv[1])
