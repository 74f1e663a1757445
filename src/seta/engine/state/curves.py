"""A keep curve as a state holds it: the few runs of equal values that it mostly consists of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LARGEST_KEY, LEAST_KEY, MAX_BINS, Binning, bins_for
from seta.engine.state.fields import Field

_SAVED_CELLS = 1 << 20  # of all strata together: as many as states of earlier versions may hold


def pack_curve(curve: KeepCurve, binning: Binning) -> dict[str, Any]:
    """Returns the curve as the few runs of equal values that it mostly consists of."""
    return {
        "binning": [binning.smallest, binning.shift, binning.size, *[1] * binning.open_below],
        "strata": curve.strata,
        "keep": _runs(curve.keep_by_cell),
        "weight": None if curve.weight_by_cell is None else _runs(curve.weight_by_cell),
    }


def unpack_curve(packed: Mapping[str, Any]) -> tuple[KeepCurve, Binning]:
    """Inverse of `pack_curve`; what is for reports alone (groups, window) is in the row."""
    keep, binning = _expand(packed["keep"]), _binning(packed["binning"])
    weight = None if packed["weight"] is None else _expand(packed["weight"])
    strata = packed["strata"]
    empty = KeepCurve(np.zeros(binning.size if strata is None else (strata, binning.size)))
    return empty.with_cells(keep, weight), binning


def _binning(packed: Sequence[int]) -> Binning:
    smallest, shift, size, *open_below = packed
    return Binning(smallest, shift, size, bool(open_below))


def check_binning(saved: Field) -> Binning:
    """Refuses what is no binning."""
    parts = saved.items()
    saved.require(len(parts) in (3, 4), "a list of 3 or 4")
    smallest, shift, size, *open_below = parts
    binning = Binning(
        smallest.integer(LEAST_KEY, LARGEST_KEY),
        shift.integer(0, 31),
        size.integer(1, MAX_BINS),
        bool([part.integer(1, 1) for part in open_below]),
    )
    last = binning.smallest + (binning.size - 1 << binning.shift)
    saved.require(last <= LARGEST_KEY, "a binning of float32 numbers")
    return binning


def check_curve(saved: Field, strata: int) -> int | None:
    """Refuses what is no packed curve, before anything of its size is made.

    Args:
        saved: The curve.
        strata: The most strata that it may have.

    Returns:
        How many different weights samples of it may have, that of 1 among them; None: no weights.
    """
    binning = check_binning(saved["binning"])
    cells = binning.size + 1
    if saved["strata"].given:
        kinds = saved["strata"].integer(1, strata)
        most = bins_for(kinds, _SAVED_CELLS)
        saved["binning"].require(binning.size <= most, f"of {most} bins")
        cells *= kinds
    _check_runs(saved["keep"], cells, 1)
    if not saved["weight"].given:
        return None
    weights = _check_runs(saved["weight"], cells, np.finfo(np.float64).max)
    return len(np.unique(np.append(weights, 1.0)))


def _check_runs(saved: Field, cells: int, most: float) -> NDArray[np.float64]:
    values = saved["values"].array(np.float64, None)
    lengths = saved["lengths"].array(np.int64, len(values))
    saved["values"].require(
        bool(np.isfinite(values).all() and (values >= 0).all() and (values <= most).all()),
        f"finite numbers of 0 to {most:g}",
    )
    saved["lengths"].within(lengths, 1, cells)
    total = int(lengths.sum()) if len(lengths) <= cells else len(lengths)
    if total != cells:
        saved["lengths"].refuse(f"{cells} together, the cells of the binning", str(total))
    return values


def _runs(values: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    starts = np.flatnonzero(np.diff(values, prepend=np.nan) != 0)
    return {"values": values[starts], "lengths": np.diff(starts, append=len(values))}


def _expand(runs: Mapping[str, Any]) -> NDArray[np.float64]:
    return np.repeat(np.asarray(runs["values"], np.float64), runs["lengths"])
