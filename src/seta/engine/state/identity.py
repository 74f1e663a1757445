"""The settings that a state must have in common with the run that loads it."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine.state.describe import digest
from seta.engine.state.fields import Field, same
from seta.engine.steps import Budget, shares_of

CHANGEABLE = ("n", "epochs", "seed", "policy", "budget", "always_keep", "strata")
"""The settings that may differ if they are named in `changed`."""


def describe_budget(budget: Budget | None, epochs: int) -> float | list[float] | None:
    """Returns the share of each epoch: one number if it is the same in all; None for none.

    The batch size has no part in it: a run may go on with another number of ranks.
    """
    if budget is None:
        return None
    shares = [float(share) for share in islice(shares_of(budget), epochs)]
    return shares[0] if len(set(shares)) == 1 else shares


def describe_indices(indices: NDArray[np.integer[Any]] | None) -> str | None:
    """Returns a short string that tells samples, or a number for each, apart; None for none."""
    return None if indices is None else f"{len(indices)} samples ({digest(indices)})"


def counted(description: str | None) -> int:
    """Returns of how many samples `describe_indices` told."""
    return 0 if description is None else int(description.split()[0])


def check_run(saved: Field, own: Mapping[str, Any], changed: set[str], epoch: int | None) -> None:
    """Refuses a state that is not of this run.

    Args:
        saved: The settings in the state.
        own: Those of the run.
        changed: Which of them are meant to differ.
        epoch: The open epoch of the state; None: it is between two.

    Raises:
        ValueError: Names what differs, with both values.
    """
    if not changed <= set(CHANGEABLE):
        raise ValueError(
            f"changed must name some of {', '.join(CHANGEABLE)}, "
            f"got {sorted(changed - set(CHANGEABLE))}: other arguments cannot change"
        )
    check_settings(saved)
    theirs = saved.value
    for key, value in own.items():
        if key in changed or _alike(key, theirs, own, changed):
            continue
        way_out = (
            f', or allow the change, with changed=["{key}"]'
            if key in CHANGEABLE
            else ", or begin a new one with the losses= of that run"
        )
        raise ValueError(
            f"the state was saved with {key}={_shown(theirs[key])}, this pruner has "
            f"{key}={_shown(value)}: make the Pruner with the arguments of the run that was "
            f"saved{way_out}"
        )
    _check_changes(theirs, own, epoch)


def check_settings(saved: Field) -> None:
    """Refuses settings of a wrong type."""
    for key in ("n", "epochs"):
        saved[key].integer(1)
    saved["seed"].integer(most=None)
    saved["policy"].text()
    budget, epochs = saved["budget"], saved["epochs"].integer()
    if isinstance(budget.value, (list, tuple)):
        for share in budget.items(epochs):
            share.number(0, 1)
    elif budget.given:
        budget.number(0, 1)
    for key in ("always_keep", "strata"):
        if saved[key].given:
            described = re.match(r"\d+ samples ", saved[key].text())
            saved[key].require(described is not None, "a number of samples and a digest")
    ways = ("replicated", "sharded")
    saved["sharding"].require(saved["sharding"].text() in ways, f"one of {ways}")


def _alike(key: str, saved: Mapping[str, Any], own: Mapping[str, Any], changed: set[str]) -> bool:
    """Returns whether a setting is the same; a budget, as far as both runs go."""
    if key != "budget" or "epochs" not in changed:
        return same(saved[key], own[key])
    one, other = (_shares(settings) for settings in (saved, own))
    return all(mine == theirs for mine, theirs in zip(one, other, strict=False)) and (
        bool(one) == bool(other)
    )


def _shares(settings: Mapping[str, Any]) -> list[float]:
    budget, epochs = settings["budget"], settings["epochs"]
    if budget is None:
        return []
    return list(budget) if isinstance(budget, (list, tuple)) else [budget] * epochs


def _check_changes(saved: Mapping[str, Any], own: Mapping[str, Any], epoch: int | None) -> None:
    """Refuses changes that are meant, and come at the wrong time."""
    sharded = own["sharding"] == "sharded"
    differ = {key for key in own if not same(saved[key], own[key])}
    if sharded and "n" in differ:
        raise ValueError(
            f"the state is of a sharded table of {saved['n']} samples, and its shards depend on "
            f"their number: n={own['n']} needs a new Pruner, with losses= of that run"
        )
    if epoch is None:
        return
    at = f"the state was saved in the middle of epoch {epoch}"
    if "n" in differ:
        raise ValueError(
            f"{at}, for a dataset of {saved['n']} samples: finish that epoch before the dataset "
            "changes"
        )
    if "seed" in differ:
        raise ValueError(
            f"{at}, in the order that follows from seed={saved['seed']}: finish that epoch before "
            "the seed changes"
        )
    if sharded and "always_keep" in differ:
        raise ValueError(f"{at}, of a sharded table: finish that epoch before always_keep= changes")


def _shown(value: Any) -> str:
    """Returns a setting as a message shows it: lists in short, strings in full."""
    return repr(value) if isinstance(value, str) else reprlib.repr(value)
