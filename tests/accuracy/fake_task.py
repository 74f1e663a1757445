"""A task of 64 samples and a linear model: a run takes some milliseconds."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.accuracy.suites import Suite, Variant

N = 64


class Points(torch.utils.data.Dataset):
    def __init__(self, points, labels):
        self.points, self.labels = points, labels

    def __len__(self):
        return len(self.labels)

    def __getitems__(self, indices):
        return self.points[indices], self.labels[indices]


class FakeTrial:
    def __init__(self, task, seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.net = nn.Linear(4, 3)
        self.task = task
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.0)
        self.progress, self.sizes = [], []
        self.evaluations = 0

    def losses(self, batch):
        points, labels = batch
        self.sizes.append(len(labels))
        return F.cross_entropy(self.net(points), labels, reduction="none")

    def step(self, loss, progress):
        self.progress.append(progress)
        self.optimizer.param_groups[0]["lr"] = 0.5 * (1.01 - progress)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        time.sleep(self.task.pause)

    def evaluate(self):
        self.evaluations += 1
        with torch.no_grad():
            scores = self.net(self.task.dataset.points)
        right = (scores.argmax(1) == self.task.dataset.labels).float().mean()
        return {"accuracy": float(right), "evaluations": self.evaluations, "odd": float("nan")}


class FakeTask:
    batch_size = 8

    def __init__(self, data=None, *, n=N, wrong=None, classes=True, pause=0.0):
        draw = np.random.default_rng(0)
        labels = draw.integers(0, 3, n)
        points = draw.normal(size=(n, 4)) + np.eye(3, 4)[labels]
        self.classes = labels if classes else None
        self.wrong = draw.random(n) < wrong if wrong else None
        if wrong:
            labels = np.where(self.wrong, (labels + 1) % 3, labels)
        self.dataset = Points(torch.tensor(points, dtype=torch.float32), torch.tensor(labels))
        self.settings = {"n": n, "wrong": wrong}
        self.pause = pause
        self.trials = []

    def trial(self, seed):
        self.trials.append(FakeTrial(self, seed))
        return self.trials[-1]


class BrokenTask(FakeTask):
    """Fails where a run has seed 1, and takes its process along where it has seed 2."""

    def trial(self, seed):
        if seed == 1:
            raise RuntimeError("no seed 1 here")
        if seed == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().trial(seed)


def fake(data: Path | None, **options):
    return FakeTask(data, **options)


def broken(data: Path | None, **options):
    return BrokenTask(data, **options)


METHODS = ("Full", "Full at equal cost", "SeTa", "InfoBatch", "Random", "Static")
SUITE = Suite(
    "fake",
    {
        "clean": Variant("tests.accuracy.fake_task:fake", 5, N, {"pause": 0.002}),
        "wrong": Variant("tests.accuracy.fake_task:fake", 5, N, {"wrong": 0.25, "pause": 0.002}),
    },
    methods=(*METHODS, "SeTa as published", "InfoBatch as published"),
    budgets=(0.7, 0.3),
    curve=(1.5,),
    seeds=2,
    needs_data=False,
)
BROKEN = Suite(
    "broken",
    {"": Variant("tests.accuracy.fake_task:broken", 3, N)},
    methods=("Full",),
    seeds=4,
    needs_data=False,
)
NEEDY = Suite("needy", BROKEN.variants, methods=("Full",))
