"""The scores, and how well each finds the wrong labels.

cleanlab is given the same run twice over. `averaged`: the probabilities of each visit, averaged, as
much as the losses are made of, and more, since the loss knows of the label's probability alone.
`last pass`: the usual way, the trained net once over all samples, one forward pass more.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.suspects.names import AVERAGED, LAST_PASS, OURS, PLAIN
from benchmarks.suspects.watch import Watched
from seta.extras import MissingExtra

Floats = NDArray[np.floating[Any]]
Scores = dict[str, Floats]


def cleanlab_version() -> str:
    """Returns the version of cleanlab.

    Raises:
        MissingExtra: It is not installed.
    """
    if find_spec("cleanlab") is None:
        raise MissingExtra(
            "benchmarks.suspects needs cleanlab, which is not installed: pip install cleanlab"
        )
    return metadata.version("cleanlab")


def scores_of(found: Watched, labels: NDArray[np.int64]) -> Scores:
    """Returns the scores by name: float (n,), the higher, the more suspicious; NaN: no loss."""
    table = found.table
    ours = {OURS[0]: table["suspicion"], OURS[1]: found.by_class}
    plain = {PLAIN[0]: table["loss"], PLAIN[1]: table["mean"]}
    averaged = zip(AVERAGED, cleanlab_scores(labels, found.averaged), strict=True)
    last_pass = zip(LAST_PASS, cleanlab_scores(labels, found.last), strict=True)
    return {**ours, **plain, **dict(averaged), **dict(last_pass)}


def cleanlab_scores(labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> list[Floats]:
    """Returns what cleanlab makes of the probabilities: float (n,), in the order of `WAYS`.

    Confident learning ranks those that `find_label_issues` (its defaults) takes for wrong first;
    within both parts by self-confidence.

    Args:
        labels: int64 (n,).
        probabilities: float32 (n, C), NaN where a sample has none.
    """
    cleanlab_version()
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    seen = ~np.isnan(probabilities[:, 0])
    known, given = probabilities[seen].astype(np.float64), labels[seen]
    known /= known.sum(axis=1, keepdims=True)
    confidence, margin = (
        -get_label_quality_scores(given, known, method=method)
        for method in ("self_confidence", "normalized_margin")
    )
    issues = find_label_issues(given, known, n_jobs=1)
    found = [confidence, margin, confidence + 2.0 * issues]
    return [_at(seen, score) for score in found]


def _at(seen: NDArray[np.bool_], score: Floats) -> Floats:
    everywhere = np.full(len(seen), np.nan)
    everywhere[seen] = score
    return everywhere


def figures(scores: Mapping[str, Floats], wrong: NDArray[np.bool_]) -> dict[str, dict[str, float]]:
    """Returns how well each score finds the wrong labels.

    `ap`: average precision; `auroc`; `precision`: the share of wrong labels among as many suspects
    as there are wrong labels. A sample without a score comes last.

    Args:
        scores: By name.
        wrong: bool (n,).
    """
    found = {}
    for name, score in scores.items():
        filled = np.where(np.isnan(score), np.nanmin(score) - 1, score).astype(np.float64)
        first = np.argsort(-filled, kind="stable")[: int(wrong.sum())]
        found[name] = {
            "ap": float(average_precision_score(wrong, filled)),
            "auroc": float(roc_auc_score(wrong, filled)),
            "precision": float(wrong[first].mean()),
        }
    return found
