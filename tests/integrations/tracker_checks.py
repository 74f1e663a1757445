"""Checks of the trackers, each with the lines that a user writes: FILE 0; see `checks.py`."""

import re
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import seta
from seta.engine.batches import batches

FOLDER = Path(tempfile.mkdtemp())
N, EPOCHS = 300, 5


def history_of(on_epoch):
    """Trains with a listener; returns the rows."""
    pruner = seta.Pruner(N, "SeTa", epochs=EPOCHS, budget=0.5, on_epoch=on_epoch)
    while pruner.next_epoch < EPOCHS:
        for indices, _ in batches(pruner, 50):
            pruner.record(indices, np.sin(indices) ** 2)
        pruner.end_epoch()
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
    import wandb

    run = wandb.init(project="digits", mode="offline", dir=FOLDER)
    run.define_metric("seta/*", step_metric="seta/epoch")
    rows = history_of(lambda row: run.log({f"seta/{name}": v for name, v in row.items()}))
    summary = dict(run.summary)
    run.finish()
    last = {f"seta/{name}": value for name, value in rows[-1].items() if value is not None}
    assert {name: summary[name] for name in last} == last
    (file,) = FOLDER.glob("wandb/offline-run-*/*.wandb")
    wanted = {
        (name, "null" if row[name] is None else repr(row[name]))
        for row in rows
        for name in ("kept", "mean_loss", "train_seconds")
    }
    deadline = time.monotonic() + 60  # `finish` returns a moment before the file is written
    while not wanted <= stored(file) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert wanted <= stored(file)


def stored(file):
    """Returns the pairs of name and value, as JSON, in a file of W&B: a log of protobufs."""
    pairs = re.findall(rb"seta/([a-z_]+)\x82\x01.([-+.\w]+)", file.read_bytes())
    return {(name.decode(), value.decode()) for name, value in pairs}


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
