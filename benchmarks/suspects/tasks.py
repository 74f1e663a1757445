"""The tasks: 4,000 images of CIFAR-10 and 5,000 sentences of SST-2, a share of their labels wrong.

Data, nets and recipes are those of `benchmarks.accuracy`. Each seed has wrong labels of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.accuracy import cifar10
from benchmarks.accuracy.convnets import small_net
from benchmarks.accuracy.image_suites import with_wrong
from benchmarks.accuracy.image_trial import ImageTask, Recipe
from benchmarks.accuracy.sst2 import SentenceTask, WordNet

IMAGES, SENTENCES, HELD_OUT = 4_000, 5_000, 1_000


@dataclass(frozen=True)
class Kind:
    """One kind of data.

    Attributes:
        make: Called with the data folder, the share of wrong labels and the seed; returns a task.
        epochs: Of full training.
        rates: Shares of wrong labels.
    """

    make: Callable[[Path | None, float, int], Any]
    epochs: int
    rates: tuple[float, ...] = (0.05, 0.1, 0.2)


def images(data: Path | None, wrong: float, seed: int) -> ImageTask:
    """Some of CIFAR-10, and the small net."""
    found, (held_out, of) = cifar10.read(data)
    pictures, labels = cifar10.subset(found, IMAGES)
    test = held_out[:HELD_OUT], of[:HELD_OUT]
    notes = {"wrong": wrong}
    given = with_wrong(labels, wrong, seed)
    return ImageTask(
        "CIFAR-10", (pictures, given), test, small_net, Recipe(), true_labels=labels, notes=notes
    )


def sentences(data: Path | None, wrong: float, seed: int) -> SentenceTask:
    """SST-2, and a small net over words."""
    return SentenceTask(data, WordNet, train=SENTENCES, longest=32, wrong=wrong, seed=seed)


KINDS = {"cifar10": Kind(images, epochs=7), "sst2": Kind(sentences, epochs=7)}
