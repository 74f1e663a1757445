"""What a saved state holds beside the table: whose it is, and the open epoch's curve, packed."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine.curve import KeepCurve
from seta.engine.histogram import Binning
from seta.engine.policy import Policy
from seta.engine.ranks import Ranks
from seta.engine.steps import Budget, shares_of

FORMAT = "seta-pruner-2"


def describe(policy: Policy) -> str:
    """Returns a string that tells policies and their settings apart."""
    if dataclasses.is_dataclass(policy) and not isinstance(policy, type):
        return repr(policy)
    name = getattr(policy, "__qualname__", None) or type(policy).__qualname__
    return f"{getattr(policy, '__module__', '')}.{name}"


def describe_budget(budget: Budget | None, epochs: int) -> str | None:
    """Returns a short string that tells budgets apart; None for none.

    The batch size has no part in it: a run may go on with another number of ranks.
    """
    if budget is None:
        return None
    shares = [float(share) for share in islice(shares_of(budget), epochs)]
    return f"{sum(shares):.9g} of {epochs} epochs ({_digest(np.array(shares))})"


def describe_indices(indices: NDArray[np.integer[Any]] | None) -> str | None:
    """Returns a short string that tells samples, or a number for each, apart; None for none."""
    return None if indices is None else f"{len(indices)} samples ({_digest(indices)})"


def _digest(values: NDArray[Any]) -> str:
    little = values.astype(values.dtype.newbyteorder("<"))
    return hashlib.sha256(little.tobytes()).hexdigest()[:8]


def check(saved: Mapping[str, Any], own: Mapping[str, Any], changed: set[str]) -> None:
    """Refuses a state that is not of this run.

    Args:
        saved: The state.
        own: What it must have in common with the run.
        changed: The keys of `own` that are meant to differ.

    Raises:
        ValueError: Names what differs, with both values.
    """
    if not isinstance(saved, Mapping) or saved.get("format") != FORMAT:
        found = saved.get("format") if isinstance(saved, Mapping) else type(saved).__name__
        raise ValueError(
            f"not a state of a Pruner: its format must be {FORMAT!r}, got {found!r}; "
            "pass what Pruner.state_dict() returned"
        )
    if not changed <= own.keys():
        raise ValueError(
            f"changed must name some of {', '.join(own)}, got {sorted(changed - own.keys())}"
        )
    for key, value in own.items():
        if key not in changed and saved.get(key) != value:
            raise ValueError(
                f"the state was saved with {key}={saved.get(key)!r}, this pruner has "
                f"{key}={value!r}: make the Pruner with the arguments of the run that was saved, "
                f'or say that the change is meant: load_state_dict(state, changed=["{key}"])'
            )
    if saved["n"] != own["n"] and saved["open"] is not None:
        raise ValueError(
            f"the state was saved in the middle of epoch {saved['open']['row']['epoch']}, for a "
            f"dataset of {saved['n']} samples: finish that epoch before the dataset changes"
        )


def part_of(ranks: Ranks | None, sharding: str, *, whole: bool) -> dict[str, int]:
    """Returns whose state it is: part p of P; 0 of 1 where one serves all ranks."""
    if ranks is None or (whole and sharding == "replicated"):
        return {"part": 0, "parts": 1}
    return {"part": ranks.process, "parts": ranks.processes}


def parts(saved: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Returns the states that were given, by their part."""
    if isinstance(saved, Mapping):
        return [saved]
    return sorted(saved, key=lambda part: part.get("part", 0) if isinstance(part, Mapping) else 0)


def check_complete(states: Sequence[Mapping[str, Any]]) -> None:
    """Refuses parts that do not make a whole.

    Raises:
        ValueError: Names what is missing.
    """
    if not states:
        raise ValueError("no state was given: give what Pruner.state_dict() returned")
    count = int(states[0]["parts"])
    missing = sorted(set(range(count)) - {int(state["part"]) for state in states})
    if missing or len(states) != count or any(int(state["parts"]) != count for state in states):
        raise ValueError(
            f"the state was saved in {count} parts, one by each rank, and "
            + (f"part {missing[0]} is missing" if missing else f"{len(states)} states were given")
            + ": give all of one checkpoint, load_state_dict([state_of_rank_0, ...])"
        )
    positions = {(int(s["next_epoch"]), s["open"] and s["open"]["row"]["epoch"]) for s in states}
    if len(positions) > 1:
        raise ValueError(
            "the states of the ranks are of different epochs: give those of one checkpoint"
        )


def pack_curve(curve: KeepCurve, binning: Binning) -> dict[str, Any]:
    """Returns the curve as the few runs of equal values that it mostly consists of."""
    return {
        "binning": [binning.smallest, binning.shift, binning.size],
        "strata": curve.strata,
        "keep": _runs(curve.keep_by_cell),
        "weight": None if curve.weight_by_cell is None else _runs(curve.weight_by_cell),
    }


def unpack_curve(packed: Mapping[str, Any]) -> tuple[KeepCurve, Binning]:
    """Inverse of `pack_curve`; what is for reports alone (groups, window) is in the row."""
    keep, binning = _expand(packed["keep"]), Binning(*packed["binning"])
    weight = None if packed["weight"] is None else _expand(packed["weight"])
    strata = packed.get("strata")
    empty = KeepCurve(np.zeros(binning.size if strata is None else (strata, binning.size)))
    return empty.with_cells(keep, weight), binning


def _runs(values: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    starts = np.flatnonzero(np.diff(values, prepend=np.nan) != 0)
    return {"values": values[starts], "lengths": np.diff(starts, append=len(values))}


def _expand(runs: Mapping[str, Any]) -> NDArray[np.float64]:
    return np.repeat(np.asarray(runs["values"], np.float64), runs["lengths"])
