"""A run on digits of which 10 % have a wrong label, and the page that finds them.

    python examples/inspect_digits.py                  # seconds; writes run.seta and report.html
    seta inspect run.seta --data examples/inspect_digits.py:train_set   # the page alone

Prints how many of the 100 first suspects have a wrong label. Needs scikit-learn, for its digits.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset

import seta
from seta.report import page


class Digits(Dataset):
    """The digits, 10 % of them with a label that is not theirs: those of `wrong`."""

    classes = tuple(f"digit {digit}" for digit in range(10))

    def __init__(self) -> None:
        """Loads them, and plants the errors."""
        digits = load_digits()
        self.images = torch.tensor(digits.images / 16, dtype=torch.float32)[:, None]
        generator = np.random.default_rng(0)
        self.wrong = generator.random(len(self.images)) < 0.1
        other = (digits.target + generator.integers(1, 10, len(self.images))) % 10
        self.targets = np.where(self.wrong, other, digits.target)

    def __len__(self) -> int:
        """Returns how many there are."""
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Returns an image and its label."""
        return self.images[index], int(self.targets[index])


def train_set() -> Digits:
    """Returns the data set, for `seta inspect --data`."""
    return Digits()


def trained(dataset: Digits, epochs: int) -> seta.PrunedDataLoader:
    """Trains a small convolutional net, and returns the loader, which knows what became of it."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loader = seta.PrunedDataLoader(
        dataset, "SeTa", epochs=epochs, budget=0.6, batch_size=32, seed=0, track=True
    )
    for _ in range(epochs):
        for images, labels in loader:
            losses = cross_entropy(model(images), labels, reduction="none")
            loss = loader.update(losses)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return loader


def main() -> None:
    """Trains, saves, and writes the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path())
    args = parser.parse_args()
    dataset = Digits()
    pruner = trained(dataset, args.epochs).pruner
    seta.save(pruner.state_dict(), args.out / "run.seta")
    path = page(pruner, dataset, path=args.out / "report.html")
    suspects = pruner.suspects(100, classes=dataset.targets)["index"]
    print(f"{path}: {dataset.wrong[suspects].mean():.0%} of the first 100 suspects are wrong")


if __name__ == "__main__":
    main()
