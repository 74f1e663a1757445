"""The row of an epoch: a plain dict of figures, JSON-able, one for each epoch in `Pruner.history`.

| key | meaning |
| --- | --- |
| epoch | 0, 1, ... |
| samples | size of the dataset |
| kept, pruned | samples in the selection and out of it; they add up to `samples` |
| kept_share | kept / samples |
| trained | samples whose losses were recorded, each once |
| saved | 1 - samples trained / samples that full training would have trained on, up to now |
| unseen | samples without a loss when the epoch began |
| nonfinite | losses recorded that were not finite |
| longest_left_out | the most epochs that any sample has not been trained for |
| never_trained | samples that no epoch up to now has trained |
| mean_loss | mean of the losses when the epoch began; None where there were none |
| select_seconds | time spent choosing |
| train_seconds | time from then to the last loss recorded |
| saved_seconds | time saved, estimated from the time per trained sample, less that spent choosing |
| group_sizes, group_centres, group_bounds | the difficulty groups; None where the policy has none |
| window | [first, past the last] group of the window; None where there is none |
| fit_factor | what the keep probabilities were multiplied by; None if the whole window is trained |
| fit_widened | samples taken from outside the window |
| fit_trimmed | samples that the coins alone would have kept too many; negative: too few |
| notes | numbers by name that the policy left for its next epoch; there only where it left some |

The `fit_` figures tell how the keep curve was fitted to the length of the epoch; None where that is
free: without a budget, and with a batch size of 1.
"""

from __future__ import annotations

from typing import Any

from seta.engine.curves.histogram import LossHistogram
from seta.engine.draw.choose import Choice

Row = dict[str, Any]

CLOCKED = ("select_seconds", "train_seconds", "saved_seconds")
"""The figures that differ between two equal runs."""


def open_row(epoch: int, n: int, kept: int, histogram: LossHistogram, choice: Choice) -> Row:
    """Returns the row of an epoch that begins."""
    curve = choice.curve
    groups, notes = curve.groups, curve.notes
    return {
        "epoch": epoch,
        "samples": n,
        "kept": kept,
        "kept_share": kept / n,
        "pruned": n - kept,
        "trained": 0,
        "saved": 0.0,
        "unseen": histogram.unseen,
        "nonfinite": 0,
        "longest_left_out": 0,
        "never_trained": 0,
        "mean_loss": histogram.mean() if histogram.seen else None,
        "select_seconds": 0.0,
        "train_seconds": 0.0,
        "saved_seconds": 0.0,
        "group_sizes": None if groups is None else groups.sizes.tolist(),
        "group_centres": None if groups is None else groups.centres.tolist(),
        "group_bounds": None if groups is None else groups.bounds.tolist(),
        "window": None if curve.window is None else list(curve.window),
        **choice.figures,
        **({"notes": {name: float(value) for name, value in notes.items()}} if notes else {}),
    }
