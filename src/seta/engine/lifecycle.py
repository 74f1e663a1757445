"""The lifecycle of an epoch: draw, begin, record, end."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine import arguments
from seta.engine.core import Change, Core
from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import Binning, LossHistogram
from seta.engine.curves.policy import curve_of, in_batch
from seta.engine.draw.choose import Choice
from seta.engine.draw.mask import count_bits
from seta.engine.draw.selection import Listed, Order, Selection
from seta.engine.open_epoch import OpenEpoch, Weights
from seta.engine.rows import Row, open_row
from seta.engine.run import Run
from seta.engine.table.exchange import digest_of, refuse_dealt_again


def check(core: Core, epoch: int) -> int:
    """Returns the number of an epoch that may begin now.

    Raises:
        ValueError: The epoch is open or over, or lies beyond the run.
    """
    epoch = arguments.integer("epoch", epoch, 0, "count from 0")
    epochs, latest = core.settings.epochs, core.latest_epoch
    if epoch >= epochs:
        raise ValueError(
            f"epoch {epoch} lies beyond the run of epochs={epochs} (0 to {epochs - 1}): give the "
            "number of epochs of the whole run as epochs="
        )
    if epoch <= latest:
        raise ValueError(
            f"epoch {epoch} is over: the latest is {latest}. Its losses have been overwritten, so "
            "it cannot be drawn again; make a new Pruner, or load a state"
        )
    return epoch


def draw(core: Core, epoch: int) -> tuple[LossHistogram, Choice]:
    """Draws an epoch without beginning it.

    Returns:
        The histogram of the losses, and the choice that follows from it.
    """
    table, settings, run = core.table, core.settings, core.settle()
    core.commit(run, run, partial(table.rescore, run.next_epoch - 1, epoch))
    histogram = table.histogram()
    notes = core.history[-1].get("notes") if core.history else None
    if notes:
        histogram = replace(histogram, notes=notes)
    choice = table.choose(
        histogram,
        curve_of(settings.policy, histogram, epoch, settings.epochs),
        count=None if settings.lengths is None else settings.lengths[epoch],
        sizes=settings.sizes,
        epoch=epoch,
    )
    return histogram, choice


def begin(core: Core, epoch: int) -> Selection:
    """Draws and begins an epoch, and returns its selection."""
    started = time.perf_counter()
    table, settings, run, trace = core.table, core.settings, core.settle(), core.trace
    histogram, choice = draw(core, epoch)
    curve, weights = choice.curve, None
    if curve.weight_by_cell is not None:
        weights = Weights(curve.weight_by_cell, histogram.binning, table, settings.always_keep)
    kept = count_bits(choice.mask) if choice.kept is None else choice.kept
    row = open_row(epoch, settings.n, kept, histogram, choice)
    opened = open_epoch(core, row, curve, histogram.binning, choice.mask, weights)
    row["select_seconds"] = time.perf_counter() - started
    note = None if trace is None else partial(trace.begin, epoch, histogram, curve, table)
    core.commit(run, run.begin(opened, histogram), note)
    return opened.selection


def open_epoch(
    core: Core,
    row: Row,
    curve: KeepCurve,
    binning: Binning,
    mask: NDArray[np.uint8],
    weights: Weights | None,
) -> OpenEpoch:
    """Returns an open epoch, its samples in the order that `reorder` puts them in."""
    settings, epoch = core.settings, int(row["epoch"])
    order: Order = core.table.order(mask, epoch)
    if settings.reorder is not None:
        samples = Selection(epoch, order, threads=settings.threads).indices
        order = Listed(arguments.reordered(settings.reorder, samples))
    return OpenEpoch(row, curve, binning, mask, order, weights, settings.threads)


def recording(core: Core, indices: NDArray[Any], losses: NDArray[Any]) -> Change:
    """Returns the change that records losses."""
    run = core.settle()
    if run.open is None:
        raise RuntimeError("no epoch is open: call begin_epoch() before record()")
    if core.sees_batch is not None:
        losses = in_batch(core.sees_batch, losses)
    trained, nonfinite, apply = core.table.recording(indices, losses, run.open.epoch)
    tally = run.tally.after(indices.size, trained, nonfinite)
    return Change(run, run._replace(tally=tally), apply)


def end(core: Core) -> Row:
    """Closes the open epoch, and returns its row."""
    run = core.collect()
    if run.open is None:
        raise RuntimeError("no epoch is open: call begin_epoch() before end_epoch()")
    table, trace, ranks = core.table, core.trace, core.settings.ranks
    skipped = run.resumed and not run.done  # a framework has skipped what was trained before
    if ranks is not None and run.tally.given and not skipped:
        tally, in_order = run.tally, partial(_in_order, core, run, run.open)
        refuse_dealt_again(tally.came, tally.given, tally.largest, ranks.size, in_order)
    nonfinite, visits, over = table.exchange(run.open.epoch, digests(core, run.open))
    row, after = run.close(run.open.row, visits, nonfinite, core.settings.sizes.most)
    counts = table.columns.counted(run.open.mask)
    at, epoch = len(core.history), run.open.epoch

    def apply() -> None:
        over()
        table.columns.kept_counts = counts
        core.history[at:] = [row]
        if trace is not None:
            trace.end(at, table, epoch)

    core.commit(run, after, apply)
    return row


def _in_order(core: Core, run: Run, opened: OpenEpoch) -> bool:
    """Returns whether the losses that came are those of the first samples of this rank's share."""
    table, epoch = core.table, opened.epoch
    first = table.share(epoch, opened.kept, run.done)[: run.tally.came]
    samples = opened.selection.part(slice(first.start, first.stop, first.step)).indices
    logged = table.state_dict(None, [0, 0], copy=False)["log"]["indices"]
    came = table.columns.last_trained[table.rows_of(samples)] == epoch + 1
    return bool((came | np.isin(samples, logged)).all())


def digests(core: Core, opened: OpenEpoch) -> list[int]:
    """Returns what the processes compare; see `exchange.DIGESTS`."""
    settings = core.settings
    if settings.ranks is None:
        return [0, 0]
    selection = [core.table.digest(opened.mask, opened.epoch, opened.kept)]
    if settings.reorder is not None and settings.sharding == "replicated":
        selection.append(digest_of(opened.selection.indices.tobytes()))
    agreed = {**settings.agreed(), "epoch": opened.epoch}
    return [digest_of(repr(agreed).encode()), digest_of(repr(selection).encode())]
