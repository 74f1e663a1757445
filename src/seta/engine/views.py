"""Read-only views of a run: the sample table, suspects, a sample's explanation, a plot, a summary.

They change nothing. Those that look at a coming epoch draw it, which costs as much as its start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seta.engine import arguments
from seta.engine.core import Core
from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.policy import takes_signals
from seta.engine.lifecycle import draw
from seta.engine.samples import SampleTable, table_of
from seta.engine.why import why

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def sample_table(core: Core, classes: ArrayLike | None = None) -> tuple[SampleTable, KeepCurve]:
    """Returns what is known of each sample, and the keep curve of the open or the coming epoch.

    Args:
        core: The run.
        classes: Integers (n,), the class of each sample, for the column `suspicion`; None: the
            strata, if the policy looks at them.
    """
    run, settings = core.collect(), core.settings
    compared: NDArray[Any] | None = settings.strata
    if classes is not None:
        compared = arguments.classes(classes, settings.n)
    if run.open is not None:
        curve, binning = run.open.curve, run.open.binning
        if curve.strata is not None and (settings.strata is None or run.reclassed):
            curve = KeepCurve(np.full(binning.size, np.nan), np.nan)
    else:  # after the run, of one more epoch like the last
        histogram, choice = draw(core, min(run.next_epoch, settings.epochs - 1))
        curve, binning = choice.curve, histogram.binning
    table = table_of(
        core.table,
        curve,
        binning,
        n=settings.n,
        epoch=core.latest_epoch,
        always_keep=settings.always_keep,
        opened=run.open,
        classes=compared,
        suspects=not takes_signals(settings.policy),
    )
    return table, curve


def suspects(core: Core, n: int, classes: ArrayLike | None) -> SampleTable:
    """Returns the `n` samples of the highest suspicion; see `Pruner.suspects`."""
    n = arguments.integer("n", n, 1, "the number of samples to return")
    if not core.settings.track:
        raise RuntimeError(
            "suspects() needs the losses of earlier visits, and this run does not keep them: "
            "make the Pruner or the loader with track=True"
        )
    if takes_signals(core.settings.policy):
        raise RuntimeError(
            f"suspects() needs losses, and {core.settings.policy!r} gets signals of rewards: "
            "seta.rl.rate_of(table()['loss']) are the latest success rates"
        )
    table, _ = sample_table(core, classes)
    worst = table.sort("suspicion", descending=True)
    return worst.where(np.arange(min(n, int(np.count_nonzero(table["visits"])))))


def explanation(core: Core, index: int) -> str:
    """Returns why a sample is kept or left out; see `Pruner.why`."""
    index = arguments.integer("index", index, 0, "samples count from 0")
    (table, curve), settings = sample_table(core), core.settings
    row = table.where(table["index"] == index)
    if not row.rows:
        held = core.table.held is not None and index < settings.n
        where = "this process holds" if held else "there is"
        raise IndexError(f"index must be that of a sample that {where}, got {index}")
    run, kept = core.settle(), None
    if run.open is not None:
        at = int(core.table.rows_of(np.array([index]))[0])
        kept = bool(run.open.mask[at // 8] >> (7 - at % 8) & 1)
    return why(
        row,
        curve,
        epoch=min(run.next_epoch, settings.epochs - 1) if run.open is None else run.open.epoch,
        epochs_over=run.begun,
        kept=kept,
        over=run.open is None and run.next_epoch == settings.epochs,
        always=settings.always_keep is not None and index in settings.always_keep,
        stratum=None if settings.strata is None else int(settings.strata[index]),
    )


def figure(core: Core) -> Figure:
    """Returns the plot of losses and keep curve; see `Pruner.plot`."""
    from seta.extras import require
    from seta.report.curves import Snapshot, curves_figure

    require("Pruner.plot", "matplotlib")
    run, policy = core.settle(), core.settings.policy
    if run.histogram is None or run.curve is None or not run.histogram.seen:
        raise RuntimeError("there are no losses to plot: begin an epoch that has some first")
    epoch = f"Epoch {core.latest_epoch} of 0 to {core.settings.epochs - 1}"
    judged = "score" if core.table.columns.own else "loss"
    snapshot = Snapshot(epoch, run.histogram, run.curve, judged)
    name = getattr(policy, "__name__", type(policy).__name__)
    return curves_figure([snapshot], title=f"What {name} trains on")


def summary(core: Core) -> str:
    """Returns a pruner's `repr`."""
    run, settings, history = core.run, core.settings, core.history
    if run.open is not None:
        where = f"epoch {run.open.epoch} of {settings.epochs} open"
    elif run.next_epoch < settings.epochs:
        where = f"epoch {run.next_epoch} of {settings.epochs} to come"
    else:
        where = f"all {settings.epochs} epochs over"
    saved = f", {100 * history[-1]['saved']:.1f} % saved" if history else ""
    return f"Pruner({settings.n:,} samples, {settings.policy!r}, {where}{saved})"
