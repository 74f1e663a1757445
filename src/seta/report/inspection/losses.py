"""The losses or scores of each epoch under the keep curve: the picture that explains a method."""

from __future__ import annotations

from typing import Any

import numpy as np

from seta.engine.curves.bars import BARS, Bars
from seta.engine.rows import Row
from seta.report.inspection.charts import losses_chart
from seta.report.inspection.facts import Facts
from seta.report.inspection.parts import Chart, Finding, Section, Table, rounded
from seta.report.inspection.scales import Scale
from seta.report.units import many

_TITLES = {"loss": "Losses", "score": "Scores"}
_PICTURES = 200
_RATIO = 3  # of the ends of an axis, from which on it is logarithmic
_ALIKE = 0.01  # of the mean: losses that lie closer together are hardly told apart


def losses_section(facts: Facts) -> Section | None:
    """Returns the section on the losses; None where there are none."""
    pictures = _pictures(facts)
    if not pictures:
        return None
    low = min(float(picture["edges"][0]) for picture in pictures)
    high = max(float(picture["edges"][-1]) for picture in pictures)
    judged = f"{facts.judged} of the sample"
    kind = "log" if low > 0 and high / low >= _RATIO else "linear"
    windows = [at for at, picture in enumerate(pictures) if picture["window"]]
    start = windows[-1] if windows else len(pictures) - 1  # one with groups, where there are any
    keep = pictures[0]["kept"] is not None
    spec = losses_chart(judged, kind=kind, domain=(low, high), keep=keep)
    several, grouped = len(pictures) > 1, any(picture["bounds"] for picture in pictures)
    lead = (
        f"How many samples had which {facts.judged} when an epoch began, and with what probability "
        "each was kept. " + ("Move the slider to go through the epochs." if several else "")
    )
    always = facts.settings["always_keep"]
    if always is not None:
        lead += f" The {always.partition(' (')[0]} of always_keep are kept besides."
    if not keep:
        lead = (
            f"How many samples have which {facts.judged} now. The keep curve of each epoch is "
            "there in runs made with track=True."
        )
    table = Table(
        "The epoch that is shown",
        (f"{facts.judged} from", "to", "samples", "kept (expected)"),
        [],
    )
    return Section(
        "losses",
        f"{_TITLES[facts.judged]} and the keep curve",
        lead.strip(),
        _findings(facts),
        charts=[Chart("losses", f"Histogram of {facts.judged} and keep curve", spec, table)],
        data={
            "pictures": pictures,
            "ends": [kind, low, high],
            "grouped": grouped,
            "start": start,
            "judged": facts.judged,
        },
    )


def _pictures(facts: Facts) -> list[dict[str, Any]]:
    pictures = facts.trace.pictures if facts.trace is not None else []
    rows = {int(row["epoch"]): row for row in [*facts.history, *filter(None, [facts.open])]}
    if not pictures:
        now = _now(facts)
        return [] if now is None else [_packed(facts.begun, now, {}, known=False)]
    if len(pictures) > _PICTURES:
        at = np.unique(np.linspace(0, len(pictures) - 1, _PICTURES).round().astype(int))
        pictures = [pictures[place] for place in at]
    return [_packed(epoch, bars, rows.get(epoch, {}), known=True) for epoch, bars in pictures]


def _now(facts: Facts) -> Bars | None:
    """Returns the bars of the latest losses or scores, of which nothing is kept yet."""
    seen = facts.judged_by[np.isfinite(facts.judged_by)]
    if not len(seen):
        return None
    scale = Scale.over(seen, BARS)
    counts = np.bincount(scale.bar_of(seen), minlength=BARS)
    return Bars(scale.edges, counts, np.zeros(BARS), scale.kind == "log")


def _packed(epoch: int, bars: Bars, row: Row, *, known: bool) -> dict[str, Any]:
    mean = row.get("mean_loss")
    return {
        "epoch": epoch,
        "edges": [rounded(edge) for edge in bars.edges],
        "samples": bars.samples.tolist(),
        "kept": [rounded(kept) for kept in bars.kept] if known else None,
        "bounds": [rounded(bound) for bound in row.get("group_bounds") or []],
        "window": row.get("window"),
        "mean": None if mean is None else rounded(mean),
        "unseen": row.get("unseen", 0),
    }


def _findings(facts: Facts) -> list[Finding]:
    found = []
    widened = [row for row in facts.history if row.get("fit_widened")]
    if widened:
        epochs = many(len(widened), "epoch")
        most = max(widened, key=lambda row: float(row["fit_widened"] / max(row["kept"], 1)))
        found.append(
            Finding(
                f"In {epochs} the window held fewer samples than the budget pays for, so that "
                f"others were taken from outside it: {most['fit_widened']:,} of {most['kept']:,} "
                f"in epoch {most['epoch']}, the largest share.",
                "To train on the window alone, lower the budget or widen the window.",
            )
        )
    seen = facts.latest[np.isfinite(facts.latest)]
    if len(seen) > 1 and not facts.signals:  # prompts may well be alike
        low, high = np.quantile(
            seen[:: max(1, len(seen) // 200_000)].astype(np.float64), [0.05, 0.95]
        )
        if high - low <= _ALIKE * abs(high + low) / 2:
            found.append(
                Finding(
                    f"Nine of ten samples have nearly the same {facts.measure} ({low:.4g} to "
                    f"{high:.4g}): they can hardly be told apart, and pruning by it is much like "
                    "pruning at random.",
                    "Check that update() gets the loss of each sample, not a mean of the batch.",
                    warning=True,
                )
            )
    return found
