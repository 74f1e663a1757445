"""A training of some milliseconds, as a user would write it, for the tests: a line through points.

A part of the targets is far off: a method that leaves them out wins, one that prefers them loses.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import seta
from seta import KeepCurve

N = 512


class Points(torch.utils.data.Dataset):
    """Points of a line, and the share `wrong` of them far off."""

    def __init__(self, n=N, wrong=0.0, seed=0):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(n, 4)).astype(np.float32)
        self.truth = np.array([1, -2, 0.5, 1], np.float32)
        y = x @ self.truth + rng.normal(0, 0.3, n).astype(np.float32)
        self.wrong = np.arange(n) < wrong * n
        y[self.wrong] += rng.normal(0, 12, n)[self.wrong].astype(np.float32)
        self.x, self.y = torch.tensor(x), torch.tensor(y)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


def run(loader, seed):
    """Returns the distance to the true line, less is better, and the mean loss."""
    net = torch.nn.Linear(4, 1)  # of the seed that compare has set
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02)
    total, count = 0.0, 0
    for _ in range(loader.epochs):
        for x, y in loader:
            loss = loader.update((net(x)[:, 0] - y) ** 2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total, count = total + loss.item(), count + 1
    truth = torch.tensor([1, -2, 0.5, 1])
    return {"distance": (net.weight[0] - truth).norm().item(), "loss": total / count}


def fails(loader, seed):
    """Cannot train: for calls that have nothing left to make."""
    raise RuntimeError("nothing was to be trained")


def exits(loader, seed):
    """The same, but ends the program at the second seed."""
    if seed:
        sys.exit("no such file")
    return run(loader, seed)


def slow(loader, seed):
    """The same, slow enough to be killed in mid-run."""
    time.sleep(0.1)
    return run(loader, seed)


def nothing_differs(loader, seed):
    """Trains, and returns noise that no method has a part in."""
    run(loader, seed)
    name = repr(loader.pruner.policy).encode()
    return float(np.random.default_rng([seed, loader.epochs, *name]).normal(50, 1))


@dataclass(frozen=True)
class ByLoss:
    """Keeps the samples of the lowest losses, or of the highest."""

    lowest: bool = True
    share: float = 0.5

    def __call__(self, histogram, epoch, epochs):
        order = np.cumsum(histogram.counts)
        known = order[-1] if len(order) else 0
        below = order <= self.share * known if self.lowest else order > (1 - self.share) * known
        return KeepCurve(np.where(below, 1.0, 1e-3), 1.0)


def points():
    """A data set, for the command line."""
    return Points()


def local_points():
    """One that no other process can import."""

    class Local(Points):
        pass

    return Local()


def classes():
    """Its classes."""
    return np.arange(N) % 4


def to_be_killed(folder, jobs):
    """Compares twelve runs."""
    return seta.compare(
        slow, Points(), epochs=4, batch_size=32, methods=["SeTa", "Random"], seeds=3,
        out=folder, jobs=jobs, progress=False,
    )  # fmt: skip


if __name__ == "__main__":  # FOLDER JOBS
    to_be_killed(Path(sys.argv[1]), int(sys.argv[2]))
