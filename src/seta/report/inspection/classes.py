"""The classes of samples, and how each fares: its share of the data, its visits, its loss."""

from __future__ import annotations

import reprlib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.report.inspection.facts import Facts

_MOST = 10_000  # classes; more are no classes, but numbers of some other kind
_LONGEST = 80  # characters of a name that a page shows ...
_CUT = 2 * _LONGEST  # ... and that are looked at
_JOINERS = "\u200c\u200d"  # of Persian, and of emoji
_UNSHOWN = {"Cc", "Cf", "Cs"}  # controls, marks of direction, halves of characters


@dataclass(frozen=True, eq=False)
class Classes:
    """The class of each sample of a data set.

    Attributes:
        of: Integers (n,), from 0 on.
        names: Of the classes.
        count: How many there are: those that have a name, or a sample.
    """

    of: NDArray[np.integer[Any]]
    names: list[str]
    count: int


@dataclass(frozen=True)
class ClassRow:
    """How a class fares.

    Attributes:
        name: Its name.
        samples: How many there are.
        share: Its share of the samples.
        visits: Its share of the visits, divided by `share`; None where visits are not known.
        loss: Mean of `Facts.latest`; None where there are none.
        never: Samples of it that were not trained in any epoch.
    """

    name: str
    samples: int
    share: float
    visits: float | None
    loss: float | None
    never: int


def classes_of(given: Any, n: int, names: Sequence[Any] | None = None) -> Classes:
    """Returns the classes of samples.

    Args:
        given: (n,), integers or texts.
        n: Samples of the data set.
        names: Of the classes, where `given` has integers from 0 on.

    Raises:
        ValueError: There is not one for each sample, or there are too many classes.
    """
    try:
        labels = given.detach().cpu().numpy() if hasattr(given, "detach") else np.asarray(given)
    except ValueError as error:  # lists of unlike lengths
        raise ValueError(
            f"classes must have one integer or text for each of the {n} samples of the run, got "
            f"{reprlib.repr(given)}"
        ) from error
    if labels.shape != (n,):
        raise ValueError(
            f"classes must have one entry for each of the {n} samples of the run, got shape "
            f"{labels.shape}: give those of the data set that was trained on"
        )
    if labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() < _MOST:
        count = int(labels.max()) + 1
        known = [_text(name) for name in ([] if names is None else names)]
        shown = _apart(known + [str(at) for at in range(len(known), count)])
        own = len(known) + np.count_nonzero(np.bincount(labels)[len(known) :])
        return Classes(labels, shown, int(own))
    if labels.dtype.kind not in "iubUSO":
        raise ValueError(f"classes must be integers or texts, got {labels.dtype}")
    if labels.dtype.kind == "O":
        labels = labels.astype(str)
    found, inverse = np.unique(labels, return_inverse=True)
    if len(found) > _MOST:
        raise ValueError(f"classes must be at most {_MOST:,} different ones, got {len(found):,}")
    return Classes(inverse, _apart([_text(name) for name in found]), len(found))


def _apart(names: list[str]) -> list[str]:
    """Returns names of which no two are alike: a name that comes twice is followed by its number.

    As ImageNet has two classes "crane": a chart would draw them as one.
    """
    times = Counter(names)
    return [f"{name} ({at})" if times[name] > 1 else name for at, name in enumerate(names)]


def _text(name: Any) -> str:
    text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
    text = "".join("\ufffd" if _unshown(one) else one for one in text[:_CUT])
    text = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
    return text if text.strip() else "(empty)"


def _unshown(one: str) -> bool:
    """Returns whether a character controls or turns the text around it."""
    return unicodedata.category(one) in _UNSHOWN and one not in _JOINERS


def rows_of(facts: Facts, classes: Classes) -> list[ClassRow]:
    """Returns a row for each class that has samples, those with the fewest visits first."""
    of = classes.of[facts.samples]
    kinds = len(classes.names)
    counts = np.bincount(of, minlength=kinds)
    seen = np.isfinite(facts.latest)
    with_loss = np.bincount(of[seen], minlength=kinds)
    losses = np.bincount(of[seen], weights=facts.latest[seen], minlength=kinds)
    never = np.bincount(of[facts.left_out >= facts.begun], minlength=kinds)
    visits = visits_of(facts)
    told = None if visits is None else np.bincount(of, weights=visits, minlength=kinds)
    every, total = len(of), 0.0 if told is None else float(told.sum())
    rows = [
        ClassRow(
            classes.names[at],
            int(counts[at]),
            float(counts[at] / every),
            float(told[at] / total * every / counts[at]) if told is not None and total else None,
            float(losses[at] / with_loss[at]) if with_loss[at] else None,
            int(never[at]),
        )
        for at in np.flatnonzero(counts).tolist()
    ]
    return sorted(rows, key=lambda row: 1.0 if row.visits is None else row.visits)


def visits_of(facts: Facts) -> NDArray[Any] | None:
    """Returns how often each sample was visited, or else kept; None where neither is known."""
    return facts.visits if facts.visits is not None else facts.kept
