"""What a run cost and saved, epoch by epoch: the first section of a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seta.report.inspection.charts import epochs_chart
from seta.report.inspection.facts import Facts
from seta.report.inspection.parts import Chart, Finding, Section, Table
from seta.report.units import in_time, many, percent

_BARS = 120
_DEAR = 0.05  # of the time of an epoch, from which on choosing is dear
_SHORT = 30.0  # seconds of a run, below which nothing is said of its time
_TABLE = 500


def cost_section(facts: Facts) -> Section:
    """Returns the section on what the run cost; without epochs that are over it says so."""
    rows = facts.history
    if not rows:
        return Section("cost", "Cost", "No epoch is over yet: nothing was trained and saved.")
    trained = sum(int(row["trained"]) for row in rows)
    choosing = sum(float(row["select_seconds"]) for row in rows)
    training = sum(float(row["train_seconds"]) for row in rows)
    spared = sum(float(row["saved_seconds"]) for row in rows)
    figures = [
        ("saved, of full training's samples", percent(rows[-1]["saved"])),
        ("samples trained", f"{trained:,} of {facts.full:,}"),
        ("time in training", in_time(training)),
        ("time in choosing", in_time(choosing)),
        ("time saved (estimated)", in_time(spared)),
    ]
    due = _due(facts)
    if due is not None:
        figures.insert(2, ("budget up to now", f"{percent(sum(due) / facts.full)} of full"))
    budget = "; the line is the budget" if due is not None else ""
    lead = f"What each epoch trained, of what full training would have trained{budget}."
    return Section(
        "cost",
        "What it cost and saved",
        lead,
        _findings(facts, choosing, training),
        figures,
        [Chart("cost", "Samples trained by epoch", _chart(facts, due), _table(facts))],
    )


def _due(facts: Facts) -> list[float] | None:
    """Returns the samples that each epoch's budget is; None where there is none."""
    budget = facts.settings["budget"]
    if budget is None:
        return None
    shares = budget if isinstance(budget, (list, tuple)) else [budget] * facts.epochs
    return [
        float(shares[int(row["epoch"])]) * full
        for row, full in zip(facts.history, _full(facts), strict=True)
    ]


def _full(facts: Facts) -> list[float]:
    """Returns the samples that full training would have trained in each epoch that is over.

    A data set may have grown or shrunk between two of them.
    """
    samples = [int(row["samples"]) for row in facts.history]
    return [facts.full * one / sum(samples) for one in samples]


def _findings(facts: Facts, choosing: float, training: float) -> list[Finding]:
    found, rows = [], facts.history
    nonfinite = sum(int(row["nonfinite"]) for row in rows)
    if nonfinite and facts.signals:
        found.append(
            Finding(
                f"{many(nonfinite, 'group', 'groups')} had no rewards: what is known of these "
                "prompts did not change.",
                "Look at the reward function.",
            )
        )
    elif nonfinite:
        found.append(
            Finding(
                f"{many(nonfinite, 'loss was', 'losses were')} NaN or infinite: the run may be "
                "unstable, and these samples keep their earlier loss.",
                "Lower the learning rate, clip gradients, or look for damaged samples.",
                warning=True,
            )
        )
    if choosing + training < _SHORT:
        return found
    share = choosing / (choosing + training)
    if share > _DEAR:
        found.append(
            Finding(
                f"Choosing samples took {percent(share)} of the time of the epochs, which eats up "
                "a part of what is saved.",
                "It takes as long for any model: with a larger one it is a smaller share.",
            )
        )
    spared = sum(float(row["saved_seconds"]) for row in rows)
    if spared < 0 and not any(one.meaning.startswith("Choosing") for one in found):
        found.append(
            Finding(
                "Up to now the run took longer than full training would have taken.",
                "Prune more, or train without pruning.",
            )
        )
    return found


def _chart(facts: Facts, due: Sequence[float] | None) -> dict[str, Any]:
    rows = facts.history
    step = -(-len(rows) // _BARS)
    full = _full(facts)
    bars = []
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        first, last = int(some[0]["epoch"]), int(some[-1]["epoch"])
        bars.append(
            {
                "start": first - 0.5,
                "end": last + 0.5,
                "epoch": str(first) if first == last else f"{first} to {last}",
                "trained": sum(int(row["trained"]) for row in some) / len(some),
                "full": sum(full[start : start + step]) / len(some),
                "due": None if due is None else sum(due[start : start + step]) / len(some),
            }
        )
    return epochs_chart(bars, budget=due is not None)


def _table(facts: Facts) -> Table:
    rows = facts.history
    shown = rows[-_TABLE:]
    cut = f", the last {_TABLE}" if len(rows) > _TABLE else ""
    headers = (
        "epoch", "kept", "trained", "saved so far", f"mean {facts.judged} before", "choosing",
        "training",
    )  # fmt: skip
    return Table(
        f"Epochs{cut}",
        headers,
        [
            (
                str(row["epoch"]),
                f"{row['kept']:,}",
                f"{row['trained']:,}",
                percent(row["saved"]),
                "none" if row["mean_loss"] is None else f"{row['mean_loss']:.4g}",
                in_time(row["select_seconds"]),
                in_time(row["train_seconds"]),
            )
            for row in shown
        ],
    )
