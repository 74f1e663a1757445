"""The tables of the pages, in Markdown: methods at a budget, and Full's own curve.

Every figure comes from `statistics`; here it is only written down. What is clearly better or worse,
its interval being on one side of zero, is bold and says so in a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median

from benchmarks.accuracy.report.measures import ACCURACY, EXTRA, Measure
from benchmarks.accuracy.report.statistics import (
    saved_time,
    share,
    to_reference,
    values_of,
)
from benchmarks.accuracy.report.studies import CURVE, Cell, Study
from seta.comparison.cells import WHOLE, Key
from seta.comparison.contenders import EQUAL_COST, FULL, REFERENCES
from seta.comparison.statistics import Difference, mean_and_spread
from seta.comparison.table import NONE, markdown
from seta.comparison.verdict import number


def at_budget(study: Study, budget: float) -> str:
    """All methods at one budget, the best first, with Full and Full at equal cost among them."""
    keys = [key for key in study.cells if key[1] == budget and key != WHOLE]
    return methods_table(study, [WHOLE, *keys] if study.full else keys)


def as_published(study: Study) -> str:
    """The methods whose saving is an outcome; empty if none was run."""
    keys = [(method, None) for method in study.methods if study.cell(method, None)]
    return methods_table(study, keys) if keys else ""


def methods_table(study: Study, keys: Sequence[Key]) -> str:
    """A row per cell, by mean accuracy; columns that nothing is known for are left out."""
    accuracies = {key: mean_and_spread(values_of(study.cell(*key), "accuracy")) for key in keys}
    ranked = sorted(keys, key=lambda key: -(accuracies[key] or (0.0,))[0])
    rows = [_method_row(study, *key) for key in ranked]
    headers = list(rows[0])
    known = [h for h in headers if any(row[h] not in (NONE, "reference") for row in rows)]
    return markdown(known, [[row[header] for header in known] for row in rows])


def _method_row(study: Study, method: str, budget: float | None) -> dict[str, str]:
    cell = study.cell(method, budget)
    row = {"method": method, "seeds": str(len(cell))} | _measured(study, method, budget, ACCURACY)
    row["saved: samples %"] = percent(fmean(1 - share(line) for line in cell.values()), 1)
    row["wall time %"] = percent(saved_time(study, cell), 0)
    row["CPU time %"] = percent(saved_time(study, cell, "cpu_seconds"), 0)
    for measure in EXTRA.get(study.suite, ()):
        row |= _measured(study, method, budget, measure)
    wrong = mean_and_spread(values_of(cell, "wrong_share"))
    row["wrong labels among trained %"] = percent(wrong and wrong[0], 1)
    row["hardest group: precision / recall %"] = hardest(cell)
    return row


def _measured(study: Study, method: str, budget: float | None, of: Measure) -> dict[str, str]:
    """A figure, and its distances to the references."""
    row = {of.name: level(study.cell(method, budget), of)}
    prefix = "" if of is ACCURACY else f"{of.name}: "
    for reference in REFERENCES:
        way = to_reference(study, method, budget, reference, of.key)
        own = method in (CURVE if reference == EQUAL_COST else (reference,))
        row[f"{prefix}to {reference}"] = "reference" if own else difference(way, of)
    return row


def full_curve(study: Study) -> str:
    """Full's own accuracy against epochs, the longest run first; empty where it has one length."""
    keys = [key for key in study.cells if key[0] in CURVE]
    rows = []
    for key in sorted(keys, key=lambda key: -_mean_share(study.cell(*key))):
        cell, whole = study.cell(*key), key == WHOLE
        epochs = {line["epochs"] for line in cell.values() if "epochs" in line}
        rows.append(
            (
                f"{100 * _mean_share(cell):.1f} %",
                ", ".join(f"{count:g}" for count in sorted(epochs)) or NONE,
                str(len(cell)),
                level(cell, ACCURACY),
                "reference" if whole else difference(to_reference(study, *key, FULL), ACCURACY),
            )
        )
    headers = ("visits, of Full's", "epochs", "seeds", "accuracy %", "to Full")
    return markdown(headers, rows) if len(rows) > 1 else ""


def level(cell: Cell, of: Measure) -> str:
    """Mean and sample standard deviation, such as `81.70 ± 0.20`."""
    figures = mean_and_spread(values_of(cell, of.key))
    if figures is None:
        return NONE
    mean, spread = figures
    text = f"{of.scale * mean:.{of.digits}f}"
    return text if spread is None else f"{text} ± {of.scale * spread:.{of.digits}f}"


def difference(way: Difference | None, of: Measure) -> str:
    """A difference and its interval, such as `-0.35 (-0.81 to 0.11)`; bold where it is clear."""
    if way is None:
        return NONE
    digits = way.digits(of.digits, of.scale)
    text = number(way.mean * of.scale, digits, signed=True)
    if way.low is not None and way.high is not None:
        ends = (number(end * of.scale, digits) for end in (way.low, way.high))
        text += " ({} to {})".format(*ends)
    text = f"~ {text}" if way.interpolated else text
    sign = -way.sign if of.lower_is_better else way.sign
    return {0: text, 1: f"**{text} better**", -1: f"**{text} worse**"}[sign]


def saved(budget: float | None) -> str:
    """What a budget saves, such as `30 % saved`; empty for a run as published."""
    return "" if budget is None else f"{percent(1 - budget, 0)} % saved"


def percent(value: float | None, digits: int) -> str:
    """A share in percent, without its sign."""
    return NONE if value is None else number(100 * value, digits)


def hardest(cell: Cell) -> str:
    """Precision and recall of the hardest group against the wrong labels, in percent.

    The mean over the runs that know it.
    """
    kinds = []
    for kind in ("precision", "recall"):
        found = [(line.get("hardest") or {}).get(kind) for line in cell.values()]
        known = [value for value in found if value is not None]
        kinds.append(fmean(known) if known else None)
    return " / ".join(percent(kind, 0) for kind in kinds) if kinds != [None, None] else NONE


def spread_of(values: Sequence[float], digits: int = 3) -> str:
    """Median and range, such as `1.013 (0.998 to 1.031)`."""
    if not values:
        return NONE
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _mean_share(cell: Cell) -> float:
    return fmean(share(line) for line in cell.values())
