"""The regime of a run, from what full training shows anyway: is it learning, what, and from what?

`Observer` looks at the losses after each epoch of a Full run; `regime_of` puts several seeds
together, each figure with what follows from it. No figure needs more than the losses, and none
costs more than a pass over them per epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.comparison.lines import Line
from seta.engine.curves.histogram import LossHistogram
from seta.policies.learnable import JUDGED, RISEN, Learnable

FALLING = 0.05
"""From this share of the whole fall of the training loss on, the last fifth of a run still falls.

Of the tasks that were looked at, all that gain by more epochs lie above 0.06, and those that have
learned all below 0.02; but wrong labels that are learned by heart make it fall, too (0.12 to 0.17).
"""

SATURATED = 0.02
DOUBTED = 0.08
"""In the suites 0.00 to 0.05 were in doubt without wrong labels, and 0.00 to 0.07, 0.10 and 0.23 of
those with 10, 20 and 40 % wrong."""

UNEQUAL = 3.0
LEARNED = 0.1
"""A loss counts as learned below this share of the way from the least loss to the first median."""

VISITS = 6
"""Of a sample, after which `Learnable` begins to doubt."""

BELOW = 0.01
"""With a larger share of losses below 0, where `Learnable` cuts them off, doubt is not known."""

MANY = 0.25
HARDLY = 0.01
"""Where fewer were learned by half of the run, samples in doubt may be just not learned yet."""


class Observer:
    """Looks at the losses of all samples after each epoch of full training.

    Args:
        n: Samples.
        epochs: Of the run.
        strata: Integers (n,), their classes; None: not known.
    """

    def __init__(self, n: int, epochs: int, strata: NDArray[np.integer[Any]] | None) -> None:
        self._epochs, self._strata = epochs, strata
        self._policy = Learnable()
        empty = np.full(n, np.nan, np.float32)
        self._columns = dict.fromkeys(Learnable.columns, empty)
        self._means: list[float] = []
        self._first = np.nan
        self._cut_off = False
        self._half = self._last = empty

    def look(self, losses: NDArray[np.float32]) -> None:
        """Looks at the losses after an epoch: float32 (n,), NaN = unseen."""
        seen = np.isfinite(losses)
        known = losses[seen]
        wide = known.astype(np.float64)  # float32 does not hold the sum of far losses
        self._means.append(float(wide.mean()) if len(wide) else np.nan)
        if len(self._means) == 1:
            self._first = float(np.median(wide)) if len(wide) else np.nan
        self._cut_off |= int((known < 0).sum()) > BELOW * len(known)
        columns = {name: column.copy() for name, column in self._columns.items()}
        folded = self._policy.fold({name: column[seen] for name, column in columns.items()}, known)
        for name, column in folded.items():
            columns[name][seen] = column
        self._columns = columns
        self._last = losses.copy()
        if len(self._means) <= max(1, self._epochs // 2):
            self._half = self._last

    def figures(self) -> dict[str, float] | None:
        """Returns the figures; None before four epochs, from which nothing follows.

        `falling`: the share of the whole fall of the mean loss that came in the last fifth of the
        epochs, if it fell at all. `in_doubt`: the share of samples whose first losses rise more
        often than they fall, as `Learnable` finds them, if there were six epochs, the mean loss
        fell, losses are not below 0, and not all levels got worse. `learned`: the share whose loss
        was near the least one at half of the run, and is at its end. `imbalance`: the largest class
        beside the smallest, where classes are known. What is not finite is left out.
        """
        if len(self._means) < 4 or not np.isfinite(self._last).any():
            return None
        at = self._means[max(0, round(0.8 * len(self._means)) - 1)]
        fall = self._means[0] - self._means[-1]
        early = self._columns["early"]
        doubt = self._policy.doubt(LossHistogram.from_losses(early))
        told = doubt or 2 * np.sum(early > RISEN) <= np.sum(early > JUDGED)  # not all got worse
        floor = float(np.nanquantile(self._last, 0.01))
        level = floor + LEARNED * (self._first - floor)
        found = {"learned": float(np.mean((self._half < level) & (self._last < level)))}
        if fall > 0:
            found["falling"] = (at - self._means[-1]) / fall
            if told and not self._cut_off and len(self._means) >= VISITS:
                found["in_doubt"] = doubt
        if self._strata is not None:
            sizes = np.unique(self._strata, return_counts=True)[1]
            found["imbalance"] = float(sizes.max() / sizes.min())
        return {name: float(f"{value:.6g}") for name, value in found.items() if isfinite(value)}


def regime_of(found: Iterable[Mapping[str, float] | None]) -> dict[str, float]:
    """Returns the mean of each figure over the runs that know it."""
    known = [one for one in found if one]
    names = dict.fromkeys(name for one in known for name in one)
    return {name: float(np.mean([one[name] for one in known if name in one])) for name in names}


def seldom(lines: Iterable[Line]) -> list[float]:
    """Returns the budgets of runs that are too short for six visits to more than a few samples."""
    short = (line for line in lines if line["visits"] <= (VISITS - 1) * line["n"])
    return sorted({line["budget"] for line in short if line["budget"] is not None})


def sentences(regime: Mapping[str, float], short: Sequence[float] = ()) -> list[str]:
    """Returns what the figures mean, a sentence for each that is known.

    Args:
        regime: The figures.
        short: Budgets at which hardly any sample is visited six times.
    """
    said = []
    if (falling := regime.get("falling")) is not None:
        part = f"{100 * falling:.0f} % of the fall of its loss"
        told = f"The last fifth of full training brought {part}"
        if falling < 0:
            said.append("The loss of full training rose in its last fifth.")
        elif falling > 1:
            said.append("Before its last fifth, the loss of full training was above its first.")
        elif falling < SATURATED:
            said.append(f"{told}: its training loss hardly falls any more.")
        elif falling < FALLING:
            said.append(f"{told}: its training loss is close to its end.")
        else:
            said.append(f"{told}: it was still learning its training data, right labels or wrong.")
    if (doubt := regime.get("in_doubt")) is not None:
        few = ""
        if short:
            at = " and ".join(f"{budget:.4g}" for budget in short)
            few = f", but not at a budget of {at}, where hardly any sample gets six visits"
        told = f"{100 * doubt:.0f} % of the samples got worse while the easier ones were learned"
        if doubt >= DOUBTED and regime.get("learned", 1.0) < HARDLY:
            said.append(
                f"{told}, which tells nothing of labels: hardly any sample was learned by half of "
                "the run."
            )
        elif doubt >= DOUBTED and regime.get("imbalance", 1.0) >= UNEQUAL:
            said.append(
                f"{told}: they have wrong labels, or are of rare classes, which are learned late. "
                "Pruner.suspects(), with classes, lists them."
            )
        elif doubt >= DOUBTED and "imbalance" not in regime:
            said.append(
                f"{told}: they have wrong labels, or are of rare classes, which are learned late. "
                "To know, compare anew with strata= (--strata) and another out= (--out); without "
                f"classes Learnable would leave rare ones out{few}."
            )
        elif doubt >= DOUBTED:
            said.append(
                f"{told}: wrong labels are likely. Pruner.suspects(), with track=True, lists them. "
                "Methods that put hard samples first would train on them; Learnable trains as "
                f"many less often{few}."
            )
        else:
            said.append(f"{told}: no sign of wrong labels, though a tenth of them may give none.")
    if (imbalance := regime.get("imbalance")) is not None:
        told = f"The largest class has {imbalance:.3g} times as many samples as the smallest"
        told = "All classes have as many samples" if imbalance < 1.005 else told
        if imbalance >= UNEQUAL:
            said.append(
                f"{told}: try to draw each class equally often. No method here does, though RCAP "
                "and Learnable give each class a quota."
            )
        else:
            said.append(f"{told}: balancing them has nothing to gain.")
    if (learned := regime.get("learned")) is not None:
        told = f"{100 * learned:.0f} % of the samples were learned by half of the run and stayed so"
        if learned >= MANY:
            said.append(f"{told}: later visits hardly change their losses.")
        else:
            said.append(f"{told}: few are learned early.")
    return said
