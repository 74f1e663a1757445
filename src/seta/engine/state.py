"""What a saved state holds beside the table: whose it is, and the open epoch's curve, packed."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine.curve import KeepCurve
from seta.engine.histogram import Binning
from seta.engine.policy import Policy

FORMAT = "seta-pruner-1"


def describe(policy: Policy) -> str:
    """Returns a string that tells policies and their settings apart."""
    if dataclasses.is_dataclass(policy) and not isinstance(policy, type):
        return repr(policy)
    name = getattr(policy, "__qualname__", None) or type(policy).__qualname__
    return f"{getattr(policy, '__module__', '')}.{name}"


def describe_lengths(lengths: list[int] | None) -> str | None:
    """Returns a short string that tells budgets apart; None for none."""
    if lengths is None:
        return None
    return f"{sum(lengths)} visits in {len(lengths)} epochs ({_digest(np.array(lengths))})"


def describe_indices(indices: NDArray[np.int64] | None) -> str | None:
    """Returns a short string that tells sets of samples apart; None for none."""
    return None if indices is None else f"{len(indices)} samples ({_digest(indices)})"


def _digest(values: NDArray[Any]) -> str:
    return hashlib.sha256(values.astype("<i8").tobytes()).hexdigest()[:8]


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


def pack_curve(curve: KeepCurve, binning: Binning) -> dict[str, Any]:
    """Returns the curve as the few runs of equal values that it mostly consists of."""
    return {
        "binning": [binning.smallest, binning.shift, binning.size],
        "keep": _runs(curve.keep_by_bin),
        "weight": None if curve.weight_by_bin is None else _runs(curve.weight_by_bin),
    }


def unpack_curve(packed: Mapping[str, Any]) -> tuple[KeepCurve, Binning]:
    """Inverse of `pack_curve`; what is for reports alone (groups, window) is in the row."""
    keep = _expand(packed["keep"])
    weight = None if packed["weight"] is None else _expand(packed["weight"])
    curve = KeepCurve(
        keep[:-1],
        float(keep[-1]),
        None if weight is None else weight[:-1],
        1.0 if weight is None else float(weight[-1]),
    )
    return curve, Binning(*packed["binning"])


def _runs(values: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    starts = np.flatnonzero(np.diff(values, prepend=np.nan) != 0)
    return {"values": values[starts], "lengths": np.diff(starts, append=len(values))}


def _expand(runs: Mapping[str, Any]) -> NDArray[np.float64]:
    return np.repeat(np.asarray(runs["values"], np.float64), runs["lengths"])
