"""What is measured beside the accuracy, by suite: the extra columns of its tables."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """A figure of the evaluation, and how it is written.

    Attributes:
        key: Field of a line, or entry of its `metrics`.
        name: Heading of the column.
        scale: What a figure is multiplied with: 100 for shares.
        digits: Digits behind the point.
        lower_is_better: As for a loss.
    """

    key: str
    name: str
    scale: float = 100.0
    digits: int = 2
    lower_is_better: bool = False


ACCURACY = Measure("accuracy", "accuracy %")
EXTRA = {
    "imbalance": (Measure("rare_accuracy", "rare classes %"),),
    "instruction": (
        Measure("loss", "held-out loss", 1.0, 3, lower_is_better=True),
        Measure("exact_match", "exact match %"),
    ),
}
