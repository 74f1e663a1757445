"""Checks that a state is complete and consistent, before anything of it is loaded.

A state comes from a file, and files are damaged, mixed up and edited. What passes here can be
loaded, and the run can go on from it. Costs a pass over each column, in blocks; nothing is copied.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine import parallel
from seta.engine.draw.mask import count_bits
from seta.engine.state import sharded
from seta.engine.state.curves import check_curve
from seta.engine.state.fields import Field
from seta.engine.state.identity import check_run
from seta.engine.state.parts import check_together
from seta.engine.state.rows import check_row
from seta.engine.trace import check_trace

_FLOAT32 = float(np.finfo(np.float32).max)


def check(
    roots: Sequence[Field],
    own: Mapping[str, Any],
    changed: set[str],
    *,
    columns: Collection[str],
) -> None:
    """Refuses states that are not of this run, not whole, or not true to themselves.

    Args:
        roots: The parts of a state.
        own: The settings of the run.
        changed: Which of them are meant to differ.
        columns: The names of what its policy keeps of each sample.

    Raises:
        ValueError: Names the entry, what it is and what it must be.
    """
    for root in roots:
        opened = root["open"]
        epoch = opened["row"]["epoch"].integer() if opened.given else None
        check_run(root["settings"], own, changed, epoch)
        _check_part(root, int(own["epochs"]))
        if "policy" not in changed:
            for name in columns:
                root["table"]["columns"][name]
    check_together(roots)
    if roots[0]["settings"]["sharding"].value == "sharded":
        sharded.check_shards(roots)


def _check_part(root: Field, own_epochs: int) -> None:
    settings, opened, table = root["settings"], root["open"], root["table"]
    n = settings["n"].integer()
    epochs = settings["epochs"].integer()
    latest = _check_run(root["run"], epochs)
    history = root["run"]["history"].value
    if opened.given:
        latest = opened["row"]["epoch"].integer(latest, epochs - 1) + 1
    if latest > own_epochs:
        raise ValueError(
            f"the state is of epoch {latest - 1}, which lies beyond the run of epochs={own_epochs} "
            f"(0 to {own_epochs - 1}): give the number of epochs of the whole run as epochs="
        )
    rows = n
    check_trace(root["trace"], n, max(1, latest), history)
    if settings["sharding"].value == "sharded":
        rows = sharded.check_table(table, n, epochs)
    _check_columns(table, rows, latest, len(history) + opened.given)
    _check_log(table["log"], n, opened.given)
    if opened.given:
        _check_open(opened, n, rows)
        mask = opened["mask"].array(np.uint8, -(-rows // 8))
        if settings["sharding"].value == "sharded":
            sharded.check_mask(root, mask)
        else:
            _check_mask(opened, mask, n)


def _check_run(run: Field, epochs: int) -> int:
    """Checks the epochs that are over, and returns the number of the one after them."""
    over = most = 0
    for row in run["history"].items():
        over = check_row(row, over, epochs) + 1
        most += row["samples"].integer()
    run["full"].integer(len(run["history"].value), most)
    return over


def _check_columns(table: Field, rows: int, latest: int, begun: int) -> None:
    """Checks the columns.

    Args:
        table: It.
        rows: How many it must have.
        latest: One more than the latest epoch in which a sample may have been trained.
        begun: How many epochs have begun: a sample may have been kept in each.
    """
    losses = table["losses"]
    losses.within(losses.array(np.float32, rows), -_FLOAT32, _FLOAT32)
    trained = table["last_trained"]
    wide = isinstance(trained.value, np.ndarray) and trained.value.dtype == np.uint32
    trained.within(trained.array(np.uint32 if wide else np.uint16, rows), 0, latest)
    if table["kept_counts"].given:
        counts = table["kept_counts"]
        counts.within(counts.array(np.uint32, rows), 0, begun)
    columns = table["columns"]
    columns.require(isinstance(columns.value, Mapping), "a dict")
    for name in columns.value:
        columns[name].array(np.float32, rows)


def _check_log(log: Field, n: int, opened: bool) -> None:
    indices = log["indices"].array(np.uint32 if n < 2**32 else np.uint64, None)
    log["indices"].within(indices, 0, n - 1)
    log["losses"].array(np.float32, len(indices))
    log["indices"].require(opened or not len(indices), "empty, since no epoch is open")


def _check_open(opened: Field, n: int, rows: int) -> None:
    row = opened["row"]
    check_row(row, 0, row["epoch"].integer() + 1)
    row["samples"].integer(n, n)
    done = opened["done"].integer(0, row["kept"].integer())
    opened["begun"].require(opened["begun"].flag() or not done, "True, since samples are done")
    if opened["order"].given:
        opened["order"].integer()
    for name in ("trained", "nonfinite"):
        opened[name].integer()
    opened["seconds"].number(0)
    weights = check_curve(opened["curve"], n)
    packed = opened["weights"]
    if weights is None:
        packed.require(not packed.given, "None, since the curve has no weights")
        return
    planes = packed.array(np.uint8, max(1, (weights - 1).bit_length()), -(-rows // 8))
    _check_codes(packed, planes, weights)


def _check_codes(packed: Field, planes: NDArray[np.uint8], weights: int) -> None:
    """Refuses the codes of weights that there are not."""
    if weights == 1 << len(planes):
        return
    for block in parallel.blocks(range(planes.shape[1]), parallel.BLOCK // 8):
        bits = np.unpackbits(planes[:, block], axis=1)
        codes = sum(plane.astype(np.uint32) << at for at, plane in enumerate(bits))
        if int(np.max(codes)) >= weights:
            packed.refuse(f"numbers below {weights}, of the weights of the curve", "larger ones")


def _check_mask(opened: Field, mask: NDArray[np.uint8], n: int) -> None:
    beyond = int(mask[-1]) & (0xFF >> (n % 8 or 8))
    if beyond:
        opened["mask"].refuse(f"of the {n} samples there are", "samples beyond them")
    _check_kept(opened["mask"], count_bits(mask), opened["row"]["kept"].integer())


def _check_kept(mask: Field, found: int, kept: int) -> None:
    if found != kept:
        mask.refuse(f"of {kept} samples, as the row of the epoch says (kept)", str(found))
