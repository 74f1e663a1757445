"""What the figures of a demo say, and what they do not, in plain sentences.

Last step of a demo: read beside the table. The noise is that of the runs themselves (Student's t
for the difference of two means), so that nobody takes a tenth of a point for a finding.
"""

import math
from collections.abc import Sequence

from seta.demo.data import ImageData
from seta.demo.settings import EQUAL_COST, takes_cost
from seta.report.results import MethodSummary

__all__ = ["sentences"]

# Two-sided 95 % quantiles of Student's t, by degrees of freedom; beyond them, the normal's.
_T95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13)


def sentences(summaries: Sequence[MethodSummary], data: ImageData, epochs: int) -> list[str]:
    """What a reader of the table has to know, a few sentences.

    Args:
        summaries: The rows of the table.
        data: What was trained on.
        epochs: Epochs of full training.
    """
    found = {summary.method: summary for summary in summaries if not summary.stopped}
    images = len(data.test_labels)
    notes = [
        f"Accuracy is that of the last epoch, on {images:,} held-out images (one image is "
        f"{100 / images:.2f} points), ± the standard deviation over the seeds. Seconds are those "
        "of training alone."
    ]
    seta, equal = found.get("SeTa"), found.get(EQUAL_COST)
    if seta:
        notes.append(
            f"SeTa saved {100 * seta.saved:.0f} % of the samples: an outcome of these losses and "
            f"{'this epoch' if epochs == 1 else f'these {epochs} epochs'}, not a setting."
        )
    same = [method for method in found if takes_cost(method)]
    if seta and same:
        notes.append(f"{_listed(same)} trained as many samples as SeTa with the same seed.")
    if seta and "Full" in found:
        notes.append(_difference(seta, found["Full"]))
    if seta and equal:
        notes.append(_difference(seta, equal))
    return notes


def _listed(names: Sequence[str]) -> str:
    """Names as a person lists them: "A, B and C"."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _difference(one: MethodSummary, other: MethodSummary) -> str:
    """One method against another, beside the noise of their difference."""
    points = 100 * (one.accuracy - other.accuracy)
    said = f"{one.method} against {other.method}: {points:+.2f} points"
    noise = _noise(one, other)
    if noise is None:
        return f"{said}; a single seed does not say how much of that is chance (--seeds 3)."
    if abs(points) <= noise:
        return f"{said}, which these seeds cannot tell from chance (±{noise:.2f})."
    return f"{said}, more than chance between these seeds explains (±{noise:.2f})."


def _noise(one: MethodSummary, other: MethodSummary) -> float | None:
    """Half the width of the 95 % interval of the difference of two means, in points."""
    if one.spread is None or other.spread is None:
        return None
    freedom = 2 * min(one.runs, other.runs) - 2
    t = _T95[freedom - 1] if freedom <= len(_T95) else 1.96
    return 100 * t * math.sqrt(one.spread**2 / one.runs + other.spread**2 / other.runs)
