"""The row of an epoch: a dict of its figures, which can be written as JSON.

`Pruner.history` has one row for each epoch that is over; `end_epoch` returns it, and `on_epoch` is
called with it.

| key | meaning |
| --- | --- |
| epoch | number of the epoch, from 0 on |
| samples | size of the dataset |
| kept, pruned | number of samples in the selection and outside; they add up to `samples` |
| kept_share | kept / samples |
| trained | number of samples whose losses were recorded, each counted once |
| saved | share of full training's sample visits saved so far, in 0..1 |
| unseen | number of samples without a loss when the epoch began |
| nonfinite | number of recorded losses that were not finite |
| longest_left_out | largest number of epochs since a sample was last trained |
| never_trained | number of samples that were not trained so far |
| mean_loss | mean of the losses when the epoch began; None without losses |
| select_seconds | time to select the samples, in seconds |
| train_seconds | time from then to the last recorded loss, in seconds |
| saved_seconds | estimated time saved: the time of the samples not trained, less `select_seconds` |
| group_sizes, group_centres, group_bounds | the difficulty groups; None if the policy has none |
| window | [first, past the last] group of the window; None if the policy has none |
| fit_factor | factor of the keep probabilities; None if the whole window is trained |
| fit_widened | number of samples taken from outside the window |
| fit_trimmed | number of samples kept too many by the coins alone; negative: too few |
| notes | numbers that the policy keeps for its next epoch; missing if there are none |

`unseen`, `mean_loss` and the groups are of scores, if the policy keeps a score.

The `fit_` figures describe how the keep curve was fitted to the length of the epoch. They are None
if the length is free: without a budget, and with a batch size of 1. With a sharded table
`fit_trimmed` is always None: no coins are tossed.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

from seta.engine.curves.histogram import LossHistogram
from seta.engine.draw.choose import Choice

Row = dict[str, Any]

CLOCKED = ("select_seconds", "train_seconds", "saved_seconds")
"""The figures that differ between equal runs."""


def copied(row: Mapping[str, Any]) -> Row:
    """Returns a copy of a row that shares no list or dict with it."""
    return {
        name: copy(value) if isinstance(value, (list, dict)) else value
        for name, value in row.items()
    }


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
