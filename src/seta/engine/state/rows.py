"""The row of an epoch in a state: whether it is one."""

from __future__ import annotations

from collections.abc import Mapping

from seta.engine.rows import CLOCKED
from seta.engine.state.fields import Field

_COUNTS = ("trained", "unseen", "never_trained")
_LISTS = ("group_sizes", "group_centres", "group_bounds")


def check_row(row: Field, least: int, epochs: int) -> int:
    """Refuses what is no row, and returns its epoch.

    Args:
        row: The entry.
        least: The first epoch that it may be of.
        epochs: Length of the run.
    """
    epoch = row["epoch"].integer(least, epochs - 1)
    samples = row["samples"].integer(1)
    kept = row["kept"].integer(1, samples)
    row["pruned"].integer(samples - kept, samples - kept)
    row["kept_share"].number(0, 1)
    row["saved"].number(most=1)
    for name in _COUNTS:
        row[name].integer(0, samples)
    row["nonfinite"].integer()
    row["longest_left_out"].integer(0, epoch + 1)
    for name in CLOCKED:
        row[name].number()
    for name in _LISTS:
        if row[name].given:
            for entry in row[name].items():
                entry.number()
    if row["window"].given:
        for end in row["window"].items(2):
            end.integer()
    for name in ("mean_loss", "fit_factor"):
        if row[name].given:
            row[name].number()
    for name, low in (("fit_widened", 0), ("fit_trimmed", -samples)):
        if row[name].given:
            row[name].integer(low, samples)
    if "notes" in row.value:
        row["notes"].require(isinstance(row["notes"].value, Mapping), "a dict")
        for name in row["notes"].value:
            row["notes"][name].number()
    return epoch
