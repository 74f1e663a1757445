"""The tasks of the image suites: digits; CIFAR-10 as it is, with wrong labels, thinned, repeated.

Each function returns a task; a suite names it, with its options. What is changed in the data is
drawn with a seed of its own, 0, so that all runs share it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import cifar10
from benchmarks.accuracy.convnets import resnet18, small_net, tiny_net
from benchmarks.accuracy.image_trial import ImageTask, Recipe
from seta.demo.data import load_digits

CLASSES = 10


def digits(data: Path | None = None) -> ImageTask:
    """Handwritten digits of 8 x 8 pixels, from scikit-learn; `data` is not needed."""
    found = load_digits()
    low, high = float(found.train.min()), float(found.train.max())
    train, test = (
        (np.interp(images, (low, high), (0, 255)).round().astype(np.uint8), labels)
        for images, labels in ((found.train, found.train_labels), (found.test, found.test_labels))
    )
    recipe = Recipe(batch_size=32, rate=0.05, shift=0, mirror=False, smoothing=0.0)
    return ImageTask("digits", train, test, tiny_net, recipe)


def small(data: Path | None, *, train: int = 50_000, rate: float = 0.1) -> ImageTask:
    """CIFAR-10, or some of it, and the small net."""
    images, test = cifar10.read(data)
    return ImageTask("CIFAR-10", cifar10.subset(images, train), test, small_net, Recipe(rate=rate))


def resnet(data: Path | None, *, device: str = "cpu") -> ImageTask:
    """CIFAR-10 and ResNet-18, by SeTa's published recipe but for the optimizer.

    There: LARS at a rate of 5.2, one cycle, label smoothing 0.1, batches of 128. Here SGD with
    Nesterov's momentum at 0.2, which serves this net and batch alike, and needs no code of others.
    """
    images, test = cifar10.read(data)
    recipe = Recipe(rate=0.2, warmup=0.3, shift=4)
    return ImageTask("CIFAR-10", images, test, resnet18, recipe, device=device)


def noise(
    data: Path | None, *, wrong: float, train: int = 10_000, rate: float = 0.1, batch: int = 128
) -> ImageTask:
    """CIFAR-10, a share of whose labels is replaced by another class each."""
    images, test = cifar10.read(data)
    pictures, labels = cifar10.subset(images, train)
    given = with_wrong(labels, wrong)
    return ImageTask(
        "CIFAR-10",
        (pictures, given),
        test,
        small_net,
        Recipe(batch_size=batch, rate=rate),
        true_labels=labels,
        notes={"wrong": wrong},
    )


def imbalance(data: Path | None, *, ratio: float = 100.0, wrong: float = 0.0) -> ImageTask:
    """CIFAR-10 thinned so that class c keeps ratio ** (-c / 9) of its images.

    A share of the labels is then replaced by another class each.
    """
    (pictures, labels), test = cifar10.read(data)
    chosen = thinned(labels, ratio)
    given = with_wrong(labels[chosen], wrong)
    return ImageTask(
        "CIFAR-10",
        (pictures[chosen], given),
        test,
        small_net,
        Recipe(),
        true_labels=labels[chosen] if wrong else None,
        rare=(7, 8, 9),
        notes={"ratio": ratio, "wrong": wrong},
    )


def redundant(
    data: Path | None, *, originals: int = 6400, samples: int = 40_000, wrong: float = 0.1
) -> ImageTask:
    """CIFAR-10 images repeated 1 to 50 times, most of them seldom, each copy augmented anew.

    The copies of an image have one label, right or wrong.
    """
    images, test = cifar10.read(data)
    pictures, labels = cifar10.subset(images, originals)
    given = with_wrong(labels, wrong)
    of = repeats(originals, samples)
    return ImageTask(
        "CIFAR-10",
        (pictures[of], given[of]),
        test,
        small_net,
        Recipe(),
        true_labels=labels[of],
        notes={"originals": originals, "wrong": wrong, "most_copies": int(np.bincount(of).max())},
    )


def with_wrong(
    labels: NDArray[np.int64], share: float, seed: int = 0, *, classes: int = CLASSES
) -> NDArray[np.int64]:
    """Returns labels of which a share is another class, any with equal probability."""
    rng = np.random.default_rng(seed)
    changed = rng.permutation(len(labels))[: round(share * len(labels))]
    given = labels.copy()
    given[changed] = (labels[changed] + rng.integers(1, classes, len(changed))) % classes
    return given


def thinned(labels: NDArray[np.int64], ratio: float, seed: int = 0) -> NDArray[np.int64]:
    """Returns the samples that are left of each class, in random order."""
    order = np.random.default_rng(seed).permutation(len(labels))
    left = []
    for label in range(CLASSES):
        members = order[labels[order] == label]
        left.append(members[: max(1, round(len(members) * ratio ** (-label / (CLASSES - 1))))])
    chosen = np.concatenate(left)
    return chosen[np.random.default_rng(seed + 1).permutation(len(chosen))]


def repeats(originals: int, samples: int, most: int = 50, seed: int = 0) -> NDArray[np.int64]:
    """Returns of which image each sample is a copy: int64 (samples,), in random order.

    The number of copies follows a power law on 1 .. `most`: most images are seldom.
    """
    rng, numbers = np.random.default_rng(seed), np.arange(1.0, most + 1)
    low, high = -4.0, 4.0
    for _ in range(60):  # the exponent at which the copies add up to the samples
        power = (low + high) / 2
        chance = numbers**-power / (numbers**-power).sum()
        low, high = (power, high) if chance @ numbers * originals > samples else (low, power)
    levels = (np.arange(originals) + 0.5) / originals
    copies = np.searchsorted(np.cumsum(chance), levels).clip(max=most - 1) + 1
    while missing := samples - int(copies.sum()):
        free = np.flatnonzero(copies < most if missing > 0 else copies > 1)
        copies[rng.permutation(free)[: abs(missing)]] += 1 if missing > 0 else -1
    return rng.permutation(np.repeat(rng.permutation(originals), copies))
