"""What a ragged last batch costs: 10,000 CIFAR-10 images, half of their visits, five ways.

    python -m benchmarks.ragged --data DIR [--seeds 0 1 2]

An epoch of 5,000 samples is 39 batches of 128 and one of 8. Plain loops, without seta's loader,
which would not cut such a batch: each way differs in the last batch alone. A few minutes on two
cores; the table of `docs/budgets.md` is of this.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from benchmarks.accuracy.image_suites import noise
from benchmarks.accuracy.image_trial import ImageTask

EPOCHS = 8  # of full training
WAYS = [  # name, share of the samples, what becomes of the last batch
    ("Random, half of the samples; last batch of 8", 0.5, "ragged"),
    ("Random, half of the samples; the loss of the last batch times 8 / 128", 0.5, "scaled"),
    ("Random, half of the samples; no last batch", 0.5, "whole"),
    ("Full, half of the epochs; last batch of 16", 1.0, "ragged"),
    ("Full, half of the epochs; no last batch", 1.0, "whole"),
]


def accuracy(task: ImageTask, share: float, last: str, seed: int) -> float:
    """Trains a net on a fresh random share of the samples in each epoch.

    Args:
        task: What is trained.
        share: Of the samples, in each epoch; there are so many epochs that visits come out alike.
        last: What becomes of an incomplete last batch: "ragged" leaves it as it is, "scaled"
            divides the sum of its losses by the size of a whole batch, "whole" leaves it out.
        seed: Of the net and of the choice.
    """
    rng, trial, size = np.random.default_rng(seed), task.trial(seed), task.batch_size
    epochs, kept = round(EPOCHS * 0.5 / share), round(share * len(task.dataset))
    for epoch in range(epochs):
        order = rng.permutation(len(task.dataset))[:kept]
        for start in range(0, kept, size):
            batch = order[start : start + size].tolist()
            if len(batch) < size and last == "whole":
                break
            losses = trial.losses(task.dataset.__getitems__(batch))
            scale = len(batch) / size if last == "scaled" else 1.0
            trial.step(losses.mean() * scale, (epoch + start / kept) / epochs)
    return trial.evaluate()["accuracy"]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the CIFAR-10 files")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    task = noise(arguments.data, wrong=0.0)
    print(f"| accuracy in %, seeds {', '.join(map(str, arguments.seeds))} | each | mean |")
    print("| --- | --- | --- |")
    for way, share, last in WAYS:
        found = []
        for seed in arguments.seeds:
            print(f"{way}: seed {seed}", file=sys.stderr)
            found.append(100 * accuracy(task, share, last, seed))
        print(f"| {way} | {', '.join(f'{one:.1f}' for one in found)} | {np.mean(found):.1f} |")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
