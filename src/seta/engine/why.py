"""The explanation of why a sample is kept or left out."""

from __future__ import annotations

from math import isnan
from typing import Any

from seta.engine.curves.curve import KeepCurve
from seta.engine.samples import SampleTable


def why(
    row: SampleTable,
    curve: KeepCurve,
    *,
    epoch: int,
    epochs_over: int,
    kept: bool | None,
    over: bool,
    always: bool,
    stratum: int | None,
) -> str:
    """Returns what is known of a sample, and what an epoch makes of it, as one or two sentences.

    Args:
        row: The row of the sample.
        curve: Keep curve of the epoch.
        epoch: Number of the open or the coming epoch.
        epochs_over: Number of epochs that have begun, including `epoch` if it is open.
        kept: Whether the epoch keeps it; None: it has not begun.
        over: Whether the run is over; the text then says what the last epoch would have done.
        always: Whether it is in `always_keep`.
        stratum: Its class, where the policy looks at classes.
    """
    known = {name: column[0].item() for name, column in row.items()}
    reasons = [_loss(known), _group(known, curve)]
    if stratum is not None:
        reasons.append(f"class {stratum}")
    reasons.append("never pruned (always_keep)" if always else _chance(known["keep"]))
    if known["weight"] != 1:
        reasons.append(f"its loss counts {known['weight']:.3g} times")
    if kept is not None and known["left_out"] == 0:  # the loss that it was chosen by is gone
        reasons = [f"trained in this epoch, {reasons[0]} since"]
    told = ", ".join(filter(None, reasons))
    outcome = {True: "kept", False: "left out", None: "not drawn yet"}[kept]
    past = _past(known, epochs_over)
    if over:
        return f"sample {known['index']}, the run is over, by epoch {epoch}'s curve: {told}. {past}"
    return f"sample {known['index']}, epoch {epoch}: {told}: {outcome}. {past}"


def _loss(known: dict[str, Any]) -> str:
    if "loss" in known:
        return "no loss yet" if isnan(known["loss"]) else f"loss {known['loss']:.4g}"
    return "no score yet" if isnan(known["score"]) else f"score {known['score']:.4g}"


def _group(known: dict[str, Any], curve: KeepCurve) -> str:
    group = known.get("group", -1)
    if group < 0 or curve.groups is None:
        return ""
    place = {0: ", the easiest", len(curve.groups) - 1: ", the hardest"}.get(group, "")
    text = f"group {group} of 0 to {len(curve.groups) - 1}{place}"
    if curve.window is None:
        return text
    first, past = curve.window
    return f"{text} (the window is {first} to {past - 1})"


def _chance(keep: float) -> str:
    if keep in (0, 1):
        return f"its like are {'all kept' if keep else 'not trained'}"
    return f"kept with a probability of {keep:.3g}"


def _past(known: dict[str, Any], epochs_over: int) -> str:
    if not epochs_over or known["left_out"] >= epochs_over:
        return "It has not been trained."
    last = epochs_over - 1 - known["left_out"]
    if "visits" not in known:
        return f"It was last trained in epoch {last}."
    losses = f"{known['visits']} loss{'' if known['visits'] == 1 else 'es'}"
    begun = f"{epochs_over} epoch{'' if epochs_over == 1 else 's'}"
    text = f"It had {losses} in {begun}, and was last trained in epoch {last}"
    if known["visits"] > 1:
        text += f"; mean {known['mean']:.4g}, spread {known['spread']:.2g}"
    return text + "."
