"""What a case of the demo plants in the images that are trained on: wrong labels, unequal classes.

Between the images and the runs. What is planted is drawn once by a fixed seed, the same for all
runs; the images that are measured on stay as they are. Costs nothing.
"""

from dataclasses import replace

import numpy as np

from seta.demo.data import ImageData
from seta.demo.settings import DemoError

__all__ = ["planted"]

_SEED = 20250313
_WRONG = 0.3
"""Share of the labels that are wrong."""

_RAREST = 0.05
"""Images that the rarest class keeps, as a share of its own; the others lie in between."""

# These shares, and the epochs of the cases in `settings`, were chosen on seeds 100 to 102. A demo
# shows the seeds from 0 on, whatever comes of them.


def planted(case: str, data: ImageData) -> ImageData:
    """Returns the images of a case.

    Args:
        case: One of `settings.CASES`.
        data: The images as they are.

    Raises:
        DemoError: There is one class alone.
    """
    if case == "plain":
        return data
    if data.classes < 2:
        raise DemoError(f"--case {case}: needs images of two labels at least; give --case plain")
    return _wrong_labels(data) if case == "wrong" else _unequal_classes(data)


def _wrong_labels(data: ImageData) -> ImageData:
    """Gives a share of the images to train on one of the other labels."""
    rng = np.random.default_rng(_SEED)
    labels = data.train_labels.copy()
    wrong = rng.permutation(len(labels))[: round(_WRONG * len(labels))]
    labels[wrong] = (labels[wrong] + rng.integers(1, data.classes, len(wrong))) % data.classes
    note = (
        f"{len(wrong):,} of the {len(labels):,} labels trained on are wrong, drawn once by a fixed "
        "seed; those measured on are right."
    )
    name = f"{data.name}, {100 * _WRONG:.0f} % of the labels wrong"
    return replace(data, name=name, train_labels=labels, notes=(*data.notes, note))


def _unequal_classes(data: ImageData) -> ImageData:
    """Leaves fewer images to train on of each class than of the one before it."""
    rng = np.random.default_rng(_SEED)
    kept = []
    for label in range(data.classes):
        rows = np.flatnonzero(data.train_labels == label)
        share = _RAREST ** (label / (data.classes - 1))
        kept.append(rng.permutation(rows)[: max(2, round(share * len(rows)))])
    sizes = [len(rows) for rows in kept]
    chosen = np.sort(np.concatenate(kept))
    note = (
        f"The most frequent class has {max(sizes):,} images to train on, the rarest "
        f"{min(sizes):,}; those measured on are as they were."
    )
    return replace(
        data,
        name=f"{data.name}, classes thinned",
        train=data.train[chosen],
        train_labels=data.train_labels[chosen],
        notes=(*data.notes, note),
    )
