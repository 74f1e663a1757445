"""What each epoch kept, pruned and saved, in TensorBoard, W&B or MLflow: three lines each.

    pip install tensorboard scikit-learn     # or wandb, or mlflow
    python examples/trackers.py tensorboard  # a second or two; then: tensorboard --logdir tracked
    python examples/trackers.py wandb        # offline; then: wandb sync tracked/wandb/offline-run-*
    python examples/trackers.py mlflow       # into a folder of files; then, with the whole mlflow:
                                             # mlflow ui --backend-store-uri tracked/mlruns

Trains a linear classifier on scikit-learn's digits, in numpy.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

import seta
from seta.engine.batches import batches

Listener = Callable[[dict[str, Any]], object]


def figures(row: dict[str, Any]) -> dict[str, float]:
    """Returns what to log of a row: its numbers."""
    return {f"seta/{name}": value for name, value in row.items() if isinstance(value, (int, float))}


def tensorboard(folder: Path) -> Listener:
    """Returns what writes a row into an event file."""
    from tensorboard.summary import Writer  # with PyTorch: torch.utils.tensorboard.SummaryWriter

    writer = Writer(str(folder))

    def log(row: dict[str, Any]) -> None:
        for name, value in figures(row).items():
            writer.add_scalar(name, value, row["epoch"])
        writer.flush()

    return log


def wandb(folder: Path) -> Listener:
    """Returns what logs a row to W&B; without `mode` and `dir`, to their server.

    At the current step or a later one: what you log beside it, with steps or without, stays.
    """
    import wandb

    run = wandb.init(project="seta", mode="offline", dir=folder)
    run.define_metric("seta/*", step_metric="seta/epoch")
    return lambda row: run.log(figures(row), step=max(run.step, row["epoch"]))


def mlflow(folder: Path) -> Listener:
    """Returns what logs a row to MLflow; by itself that takes a database or a server."""
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    import mlflow

    mlflow.set_tracking_uri((folder.absolute() / "mlruns").as_uri())

    def log(row: dict[str, Any]) -> None:
        mlflow.log_metrics(figures(row), step=row["epoch"])

    return log


def train(on_epoch: Listener, epochs: int) -> dict[str, Any]:
    """Returns the row of the last epoch."""
    images, labels = load_digits(return_X_y=True)
    images, targets = images / 16, np.eye(10)[labels]
    net = np.zeros((64, 10))
    pruner = seta.Pruner(len(images), "SeTa", epochs=epochs, batch_size=32, on_epoch=on_epoch)
    while pruner.next_epoch < epochs:
        for indices, weights in batches(pruner):
            logits = images[indices] @ net
            logits -= np.log(np.exp(logits).sum(1, keepdims=True))
            pruner.record(indices, -(targets[indices] * logits).sum(1))
            error = weights[:, None] * (np.exp(logits) - targets[indices])
            net -= images[indices].T @ error * 0.5 / len(indices)
        pruner.end_epoch()
    return pruner.history[-1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    trackers = {"tensorboard": tensorboard, "wandb": wandb, "mlflow": mlflow}
    parser.add_argument("tracker", choices=trackers)
    parser.add_argument("--folder", type=Path, default=Path("tracked"))
    parser.add_argument("--epochs", type=int, default=20)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    last = train(trackers[args.tracker](args.folder), args.epochs)
    print(
        f"epoch {last['epoch']}: kept {last['kept']} of {last['samples']}, mean loss before it "
        f"{last['mean_loss']:.3f}; saved {last['saved']:.0%} of the run"
    )
