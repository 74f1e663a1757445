"""A small net on scikit-learn's digits under Hugging Face Accelerate, on 60 % of the sample visits.

    pip install "seta[accelerate]" scikit-learn
    python examples/accelerate_digits.py                  # some 97 % right, 10 s on two CPU cores
    python examples/accelerate_digits.py --method Full --budget 1         # the same on all samples
    python examples/accelerate_digits.py --folder run --stop-after 250    # stop in mid-epoch ...
    python examples/accelerate_digits.py --folder run                     # ... and go on
    torchrun --nproc-per-node 2 examples/accelerate_digits.py --batch-size 14    # shared by two

The last needs two GPUs, or `--cpu`; `accelerate launch` does as well as torchrun. The number of
steps is known before the first, so the learning rate reaches its end with the last of them. A run
that was stopped ends with the net of one that was not.
"""

import argparse
from pathlib import Path

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from seta.integrations.accelerate import PrunedAccelerateLoader

TRAIN = 1400  # of 1,797


def digits() -> tuple[TensorDataset, TensorDataset]:
    """Returns images (8, 8) with their labels, in random order: to train on, and to test on."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(data.images, dtype=torch.float32)[order] / 16
    labels = torch.tensor(data.target)[order]
    return (
        TensorDataset(images[:TRAIN], labels[:TRAIN]),
        TensorDataset(images[TRAIN:], labels[TRAIN:]),
    )


def net() -> nn.Sequential:
    """Returns a net of one hidden layer."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def train(arguments: argparse.Namespace) -> None:
    """Trains, and says how it went."""
    accelerator = Accelerator(cpu=arguments.cpu)
    train_set, test_set = digits()
    loader = PrunedAccelerateLoader(
        accelerator,
        train_set,
        arguments.method,
        epochs=arguments.epochs,
        budget=arguments.budget,
        batch_size=arguments.batch_size,
    )
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, loader.schedule_steps)
    test_loader = DataLoader(test_set, batch_size=100)
    model, optimizer, schedule, test_loader = accelerator.prepare(
        model, optimizer, schedule, test_loader
    )
    folder = arguments.folder
    if folder is not None and folder.exists():
        accelerator.load_state(folder)

    step = 0
    for epoch in range(loader.pruner.next_epoch, arguments.epochs):
        model.train()
        for images, labels in loader:
            losses = cross_entropy(model(images), labels, reduction="none")
            accelerator.backward(loader.update(losses))
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            step += 1
            if step == arguments.stop_after:
                accelerator.save_state(folder)
                accelerator.print(f"stopped in epoch {epoch}: {loader.progress:.0%} of the run")
                return
        right = accuracy(accelerator, model, test_loader)
        rate = schedule.get_last_lr()[0]
        accelerator.print(f"epoch {epoch}: {right:.1%} right, learning rate {rate:.1e}")
        if folder is not None:
            accelerator.save_state(folder)
    accelerator.print(f"{loader.pruner.saved:.0%} of the sample visits saved")


@torch.no_grad()
def accuracy(accelerator: Accelerator, model: nn.Module, loader: DataLoader) -> float:
    """Returns the share of the test set that is told right."""
    model.eval()
    hits = []
    for images, labels in loader:
        right = model(images).argmax(1) == labels
        hits.append(accelerator.gather_for_metrics(right))
    return torch.cat(hits).float().mean().item()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--method", default="SeTa")
    parser.add_argument("--budget", type=float, default=0.6)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=28)
    parser.add_argument("--folder", type=Path, help="where to save, and to go on from")
    parser.add_argument("--stop-after", type=int, metavar="STEPS", help="needs --folder")
    parser.add_argument("--cpu", action="store_true")
    train(parser.parse_args())
