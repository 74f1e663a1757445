"""The pruner: loss table + policy + epoch, the one stateful object of the engine.

`begin_epoch` counts the losses, asks the policy for a keep curve and draws the selection; `record`
takes the losses that training has computed; `end_epoch` closes the epoch and writes its row. Losses
that wait elsewhere, on a device, are collected first, whoever asks for what they change (`attach`).

Each of these is done whole or not at all, wherever an interrupt falls: what it changes is made
beside what there is, and then put in its place (`_commit`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seta.engine import arguments
from seta.engine.arguments import Listener, Reorder
from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import Binning, LossHistogram
from seta.engine.curves.policy import Policy, SeesBatch, curve_of, in_batch
from seta.engine.draw.choose import Choice
from seta.engine.draw.mask import count_bits
from seta.engine.draw.selection import Listed, Order, Selection
from seta.engine.open_epoch import OpenEpoch, Weights
from seta.engine.rows import Row, open_row
from seta.engine.run import Run, Tally
from seta.engine.samples import SampleTable, table_of
from seta.engine.settings import Settings
from seta.engine.shown import html_of_run
from seta.engine.state.checked import check
from seta.engine.state.curves import unpack_curve
from seta.engine.state.formats import name_of
from seta.engine.state.parts import part_of, parts_of
from seta.engine.steps import Budget, Steps
from seta.engine.table import tracked
from seta.engine.table.exchange import agree, digest_of, equally_long, refuse_dealt_again
from seta.engine.table.ranks import Ranks
from seta.engine.table.table import Reopened, Sharding, State
from seta.engine.trace import Trajectories
from seta.engine.why import why

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

_TALLIED = ("trained", "nonfinite", "seconds")
"""What a state in mid-epoch holds of the tally."""


class Holder(Protocol):
    """What holds losses back for a pruner, such as `seta.torch.LossBuffer`; see `Pruner.attach`."""

    def drain(self) -> None:
        """Records all that it holds."""

    def clear(self) -> None:
        """Forgets all that it holds."""


@dataclass(eq=False)
class _Change:
    """A change under way.

    Attributes:
        before: Where the run stood when it was made.
        run: Where it stands after it.
        apply: Writes it to the table; again, it changes nothing more.
        done: Whether it was made.
    """

    before: Run
    run: Run
    apply: Callable[[], None] | None = None
    done: bool = False


class Pruner:
    """Chooses the samples of each epoch from the losses of the earlier ones.

    Memory: 6 bytes per sample, and while an epoch is open a quarter of a byte (one byte more where
    the policy weights losses). Time of an epoch start: 5 to 20 ns per sample on two cores.

    Args:
        n: Number of samples, >= 1.
        policy: Makes the keep curve: `seta.SeTa()`, any `(histogram, epoch, epochs) -> KeepCurve`,
            or the name of a registered method with its defaults.
        epochs: Length of the run, >= 1. None: `steps` says it.
        seed: Of all random choices, an integer >= 0.
        budget: Share of full training's sample visits that the run may pay, in (0, 1]: one for all
            epochs, one for each, or a function of the epoch. Then the length of every epoch is
            known, in `lengths`. None: lengths vary, as the policy says.
        steps: Under a budget, the length of the run in batches on each rank, >= 1, in place of
            `epochs`; the last epoch is cut short where they end.
        batch_size: Samples per batch on each rank, >= 1. Every epoch is a whole number of global
            batches; only one that keeps all samples may have a remainder.
        drop_last: Whether that remainder is left out, too (samples chosen at random).
        always_keep: Integers, the indices of samples that are never pruned; their weight is 1.
        losses: float (n,), a warm start from an earlier run's table (NaN = unseen).
        strata: Integers (n,), from 0 on, the class of each sample, for a policy that looks at
            classes; others leave them alone.
        reorder: Called with an epoch's indices in training order; returns them in another order
            (length bucketing). Must be a function of its argument alone.
        on_epoch: Called with each epoch's row when it ends; or several such.
        count_kept: Whether to count how often each sample was kept, in `kept_counts`, for 4 more
            bytes per sample.
        track: Whether to keep how many losses each sample had, their mean and their spread, for
            `table()`: 12 more bytes per sample, 16 where the policy keeps a score; and the losses
            of all epochs of some samples, for `trajectories()`. Or integers, samples that have to
            be among these.
        threads: Threads to use; by default all cores. The selection does not depend on it.
        ranks: The processes that train together, each its share of every epoch; None: this one
            alone. All of them make the pruner with the same arguments.
        sharding: "replicated": each process holds all losses. "sharded": each holds those of its
            own part of the samples, and trains on that. By default "sharded" from 100 million
            samples on, where there are ranks.

    Raises:
        ValueError, TypeError: An argument is not what it must be.

    Examples:
        >>> pruner = Pruner(6, "InfoBatch", epochs=4, seed=0)
        >>> first = pruner.begin_epoch()                  # nothing is known: all are kept
        >>> sorted(first.indices.tolist())
        [0, 1, 2, 3, 4, 5]
        >>> pruner.record(first.indices, first.indices.astype("float32"))
        >>> pruner.end_epoch()["trained"]
        6
        >>> second = pruner.begin_epoch()                 # 3, 4, 5 lie above the mean: always kept
        >>> {3, 4, 5} <= set(second.indices.tolist())
        True
    """

    def __init__(
        self,
        n: int,
        policy: Policy | str,
        *,
        epochs: int | None = None,
        seed: int = 0,
        budget: Budget | None = None,
        steps: int | None = None,
        batch_size: int = 1,
        drop_last: bool = False,
        always_keep: ArrayLike | None = None,
        losses: ArrayLike | None = None,
        strata: ArrayLike | None = None,
        reorder: Reorder | None = None,
        on_epoch: Listener | Iterable[Listener] | None = None,
        count_kept: bool = False,
        track: bool | ArrayLike = False,
        threads: int | None = None,
        ranks: Ranks | None = None,
        sharding: Sharding | None = None,
    ) -> None:
        self._settings = Settings.of(
            n,
            policy,
            epochs=epochs,
            seed=seed,
            budget=budget,
            steps=steps,
            batch_size=batch_size,
            drop_last=drop_last,
            always_keep=always_keep,
            strata=strata,
            reorder=reorder,
            count_kept=count_kept,
            track=track,
            threads=threads,
            ranks=ranks,
            sharding=sharding,
        )
        self._listeners = arguments.listeners(on_epoch)
        # Asked once: it takes longer than recording a batch should.
        self._sees_batch = self.policy if isinstance(self.policy, SeesBatch) else None
        self._table = self._settings.table(losses)
        arguments.check_shares(self.sizes, self.lengths, self._table.share_size)
        self._holders: list[Holder] = []
        self._history: list[Row] = []
        self._trace = self._settings.trace()
        self._run = Run()
        self._change: _Change | None = None
        self._torn: str | None = None  # what left the table half written
        if ranks is not None:
            told = None if losses is None else digest_of(np.ascontiguousarray(losses).data)
            agree(ranks, {**self._settings.agreed(), "losses": told}, "the making of a Pruner")

    def __repr__(self) -> str:
        run, epochs = self._run, self.epochs
        if run.open is not None:
            where = f"epoch {run.open.epoch} of {epochs} open"
        elif run.next_epoch < epochs:
            where = f"epoch {run.next_epoch} of {epochs} to come"
        else:
            where = f"all {epochs} epochs over"
        saved = f", {100 * self._history[-1]['saved']:.1f} % saved" if self._history else ""
        return f"Pruner({self.n:,} samples, {self.policy!r}, {where}{saved})"

    def _repr_html_(self) -> str:
        return html_of_run(repr(self), self._history)

    # What it was made with.

    @property
    def n(self) -> int:
        """Number of samples."""
        return self._settings.n

    @property
    def policy(self) -> Policy:
        """Makes the keep curve."""
        return self._settings.policy

    @property
    def epochs(self) -> int:
        """Length of the run."""
        return self._settings.epochs

    @property
    def seed(self) -> int:
        """Of all random choices."""
        return self._settings.seed

    @property
    def sizes(self) -> Steps:
        """Of batches, and of epochs in whole batches."""
        return self._settings.sizes

    @property
    def lengths(self) -> list[int] | None:
        """Samples of each epoch under a budget, a copy; None: they vary."""
        lengths = self._settings.lengths
        return None if lengths is None else list(lengths)

    @property
    def always_keep(self) -> NDArray[np.int64] | None:
        """Samples that are never pruned, sorted; None: none."""
        return self._settings.always_keep

    @property
    def threads(self) -> int:
        """Threads to use."""
        return self._settings.threads

    @property
    def ranks(self) -> Ranks | None:
        """The processes that train together; None: this one alone."""
        return self._settings.ranks

    @property
    def sharding(self) -> Sharding:
        """How the losses are held: "replicated" or "sharded"."""
        return self._settings.sharding

    # Where it stands.

    def _settle(self) -> Run:
        """Completes what was interrupted, and returns where the run stands.

        Raises:
            RuntimeError: The table is half written.
        """
        change = self._change
        if change is not None:
            if self._run is change.before:
                try:
                    if change.apply is not None:
                        change.apply()
                except Exception:  # of a policy's own code; an interrupt leaves the change to do
                    self._change = None
                    raise
                # In one line: a signal handler may have come here first, and gone on from there.
                self._run = change.run if self._run is change.before else self._run
                change.done = True
            self._change = None
        if self._torn is not None:
            raise RuntimeError(
                f"{self._torn} was interrupted while it wrote to the loss table: load a state with "
                "load_state_dict(), or make a new Pruner"
            )
        return self._run

    def _try(self, change: _Change) -> bool:
        """Changes table and run together: from here on it happens, whatever interrupts it.

        Returns:
            Whether it did: it does not where a signal handler changed the run since it was made.
        """
        self._change = change
        self._settle()
        return change.done

    def _commit(self, before: Run, run: Run, apply: Callable[[], None] | None = None) -> None:
        """Changes table and run together.

        Raises:
            RuntimeError: The run was changed meanwhile.
        """
        if not self._try(_Change(before, run, apply)):
            raise RuntimeError(
                "the run was changed while a step of it was under way: a signal handler or another "
                "thread may call state_dict(), and nothing else"
            )

    @property
    def epoch(self) -> int | None:
        """The open epoch; None between epochs."""
        open_epoch = self._settle().open
        return None if open_epoch is None else open_epoch.epoch

    @property
    def next_epoch(self) -> int:
        """The first epoch that has not ended."""
        return self._settle().next_epoch

    @property
    def done(self) -> int:
        """Samples of the open epoch's selection, the first ones, trained before a resume."""
        return self._settle().done

    @done.setter
    def done(self, samples: int) -> None:
        run = self._settle()
        self._commit(run, run._replace(done=samples))

    @property
    def resumed(self) -> bool:
        """Whether the open epoch had been trained in part when its state was saved."""
        return self._settle().resumed

    @property
    def history(self) -> list[Row]:
        """The rows of the epochs that are over, in a list of its own."""
        self._settle()
        return list(self._history)

    @property
    def selection(self) -> Selection | None:
        """The selection of the open epoch; None between epochs."""
        open_epoch = self._settle().open
        return None if open_epoch is None else open_epoch.selection

    @property
    def kept(self) -> int:
        """Samples of the open epoch's selection, over all ranks; 0 between epochs."""
        open_epoch = self._settle().open
        return 0 if open_epoch is None else open_epoch.kept

    @property
    def histogram(self) -> LossHistogram | None:
        """Of the losses that the latest epoch began with; None before the first."""
        return self._settle().histogram

    @property
    def curve(self) -> KeepCurve | None:
        """The keep curve of the latest epoch; None before the first."""
        return self._settle().curve

    @property
    def losses(self) -> NDArray[np.float32]:
        """Latest losses: float32 (n,), NaN = unseen; a read-only view.

        Of a policy that keeps a score: the scores.

        Alone it follows `record`, with ranks `end_epoch`. Of a sharded table the losses of the
        samples `held`. Waits for losses that are still on a device.
        """
        self._collect()
        view = self._table.columns.values.view()
        view.flags.writeable = False
        return view

    @property
    def held(self) -> NDArray[np.int64] | None:
        """The samples whose losses this process holds, n or more for an empty row; None: all."""
        return self._table.held

    @property
    def left_out(self) -> NDArray[np.int64]:
        """Epochs since each sample was last trained: int64 (n,), 0 = in the latest epoch."""
        self._collect()
        return self._table.columns.left_out(self._latest_epoch())

    @property
    def kept_counts(self) -> NDArray[np.uint32]:
        """How often each sample was kept, in the open epoch too: uint32 (n,), a copy.

        Raises:
            RuntimeError: The pruner was made without `count_kept=True`.
        """
        open_epoch = self._settle().open
        counts = self._table.columns.counted(None if open_epoch is None else open_epoch.mask)
        if counts is None:
            raise RuntimeError("kept counts were not taken: make the Pruner with count_kept=True")
        return counts

    def table(self) -> SampleTable:
        """Returns what the run knows of each sample: loss, visits, group, keep probability, ...

        `keep`, `weight` and `group` are those of the coming epoch; of the open one, `keep` and
        `group` by the losses of now; after the run, of one more like the last. Of a sharded table
        the samples `held`. Costs as much as the start of an epoch.

        Returns:
            Columns; `SampleTable` says which.
        """
        return self._looked_up()[0]

    def trajectories(self) -> Trajectories:
        """Returns the losses of all epochs that are over, of some samples of a tracked run.

        That is 256 samples, chosen by the seed, and those that `track=` names. Of a sharded table
        it is the losses of the samples `held`, and of all of them up to the latest resume.

        Raises:
            RuntimeError: The pruner was made without `track=`.
        """
        self._settle()
        if self._trace is None:
            raise RuntimeError("no losses were followed: make the Pruner with track=True")
        return self._trace.trajectories()

    def suspects(self, n: int = 100, classes: ArrayLike | None = None) -> SampleTable:
        """Returns the samples whose losses stay worst from visit to visit, the worst first.

        By the column `suspicion` of `table()`; `docs/suspects.md` says how many wrong labels it
        finds. Of a sharded table the samples `held`, compared with each other. Costs as much as
        `table()`, and a sort; with classes another one.

        Args:
            n: How many, >= 1; fewer where fewer have a loss.
            classes: Integers (samples,), such as the labels: samples are compared with their class.
                None: the strata, where the policy looks at them; else with all samples.

        Raises:
            RuntimeError: The run is not tracked.
            TypeError, ValueError: `n` or `classes` is not what it must be.
        """
        n = arguments.integer("n", n, 1, "the number of samples to return")
        if not self._settings.track:
            raise RuntimeError(
                "suspects() needs the losses of earlier visits, and this run does not keep them: "
                "make the Pruner or the loader with track=True"
            )
        table = self.table() if classes is None else self._looked_up(classes)[0]
        worst = table.sort("suspicion", descending=True)
        return worst.where(np.arange(min(n, int(np.count_nonzero(table["visits"])))))

    def why(self, index: int) -> str:
        """Returns why the open or the coming epoch keeps a sample or leaves it out, in words.

        Costs as much as `table()`.

        Raises:
            IndexError: There is no such sample, or another process holds it.
        """
        index = arguments.integer("index", index, 0, "samples count from 0")
        table, curve = self._looked_up()
        row = table.where(table["index"] == index)
        if not row.rows:
            held = "this process holds" if self.held is not None and index < self.n else "there is"
            raise IndexError(f"index must be that of a sample that {held}, got {index}")
        run, strata = self._settle(), self._settings.strata
        kept = None
        if run.open is not None:
            at = int(self._table.rows_of(np.array([index]))[0])
            kept = bool(run.open.mask[at // 8] >> (7 - at % 8) & 1)
        return why(
            row,
            curve,
            epoch=min(run.next_epoch, self.epochs - 1) if run.open is None else run.open.epoch,
            epochs_over=self._latest_epoch() + 1,
            kept=kept,
            over=run.open is None and run.next_epoch == self.epochs,
            always=self.always_keep is not None and index in self.always_keep,
            stratum=None if strata is None else int(strata[index]),
        )

    def plot(self) -> Figure:
        """Draws the losses that the latest epoch began with, and the keep curve over them.

        Returns:
            A figure of matplotlib; notebooks show it, `savefig(path)` writes it.

        Raises:
            RuntimeError: No epoch with losses has begun since the pruner was made or loaded.
            ImportError: matplotlib is not installed.
        """
        from seta.extras import require
        from seta.report.curves import Snapshot, curves_figure

        require("Pruner.plot", "matplotlib")
        run = self._settle()
        if run.histogram is None or run.curve is None or not run.histogram.seen:
            raise RuntimeError("there are no losses to plot: begin an epoch that has some first")
        epoch = f"Epoch {self._latest_epoch()} of 0 to {self.epochs - 1}"
        judged = "score" if self._table.columns.own else "loss"
        snapshot = Snapshot(epoch, run.histogram, run.curve, judged)
        name = getattr(self.policy, "__name__", type(self.policy).__name__)
        return curves_figure([snapshot], title=f"What {name} trains on")

    def _looked_up(self, classes: ArrayLike | None = None) -> tuple[SampleTable, KeepCurve]:
        """Returns the table of samples, and the curve of the coming epoch."""
        compared: NDArray[Any] | None = self._settings.strata
        if classes is not None:
            compared = arguments.classes(classes, self.n)
        self._collect()
        run = self._settle()
        if run.open is not None:
            curve, binning = run.open.curve, run.open.binning
        elif run.next_epoch < self.epochs:
            histogram, choice = self._drawn(run.next_epoch)
            curve, binning = choice.curve, histogram.binning
        else:
            histogram, choice = self._drawn(self.epochs - 1)
            curve, binning = choice.curve, histogram.binning
        table = table_of(
            self._table,
            curve,
            binning,
            n=self.n,
            epoch=self._latest_epoch(),
            always_keep=self.always_keep,
            opened=run.open,
            classes=compared,
        )
        return table, curve

    @property
    def saved(self) -> float:
        """1 - samples trained / samples that full training would have trained on, up to now."""
        self._collect()
        return self._settle().saved(self.sizes.most)

    def _latest_epoch(self) -> int:
        epoch = self.epoch
        return self.next_epoch - 1 if epoch is None else epoch

    # Losses that wait elsewhere.

    def attach(self, holder: Holder) -> None:
        """Takes note of what holds losses back for this pruner, to collect them when they matter.

        That is before an epoch ends, a state is saved or losses are looked at, whoever asks. Called
        by `LossBuffer`; again for the same one it changes nothing.

        Args:
            holder: Its `drain()` hands over to `record` all that it holds.
        """
        if holder not in self._holders:
            self._holders.append(holder)

    def _collect(self) -> None:
        self._settle()
        for holder in self._holders:
            holder.drain()

    # The life of an epoch.

    def begin_epoch(self, epoch: int | None = None) -> Selection:
        """Draws an epoch's selection; of the open epoch, returns the same one again.

        Args:
            epoch: 0 .. epochs - 1; an open epoch before it is ended. By default the open epoch, or
                else the next one.

        Raises:
            ValueError: The epoch is over already, or the run has no such epoch.
        """
        open_epoch = self._settle().open
        if open_epoch is not None and epoch in (None, open_epoch.epoch):
            return open_epoch.selection
        epoch = self.check_epoch(self.next_epoch if epoch is None else epoch)
        if open_epoch is not None:
            self.end_epoch()
        return self._begin(epoch)

    def check_epoch(self, epoch: int) -> int:
        """Returns the number of an epoch that may begin now.

        Raises:
            ValueError: The epoch is over already, or open, or the run has no such epoch.
        """
        epoch = arguments.integer("epoch", epoch, 0, "count from 0")
        if epoch >= self.epochs:
            raise ValueError(
                f"epoch {epoch} lies beyond the run of epochs={self.epochs} (0 to "
                f"{self.epochs - 1}): give the number of epochs of the whole run as epochs="
            )
        if epoch <= self._latest_epoch():
            raise ValueError(
                f"epoch {epoch} is over: the latest is {self._latest_epoch()}. Its losses have "
                "been overwritten, so it cannot be drawn again; make a new Pruner, or load a state"
            )
        return epoch

    def _drawn(self, epoch: int) -> tuple[LossHistogram, Choice]:
        """Draws an epoch; it does not begin by that."""
        table, lengths, run = self._table, self._settings.lengths, self._settle()
        self._commit(run, run, partial(table.rescore, run.next_epoch - 1, epoch))
        histogram = table.histogram()
        notes = self._history[-1].get("notes") if self._history else None
        if notes:
            histogram = replace(histogram, notes=notes)
        choice = table.choose(
            histogram,
            curve_of(self.policy, histogram, epoch, self.epochs),
            count=None if lengths is None else lengths[epoch],
            sizes=self.sizes,
            epoch=epoch,
        )
        return histogram, choice

    def _begin(self, epoch: int) -> Selection:
        started = time.perf_counter()
        table, settings, run = self._table, self._settings, self._settle()
        histogram, choice = self._drawn(epoch)
        weights = None
        if choice.curve.weight_by_cell is not None:
            weights = Weights(
                choice.curve.weight_by_cell, histogram.binning, table, settings.always_keep
            )
        kept = count_bits(choice.mask) if choice.kept is None else choice.kept
        row = open_row(epoch, self.n, kept, histogram, choice)
        opened = self._opened(row, choice.curve, histogram.binning, choice.mask, weights)
        row["select_seconds"] = time.perf_counter() - started
        trace = self._trace
        note = (
            None if trace is None else partial(trace.begin, epoch, histogram, choice.curve, table)
        )
        self._commit(run, run.begin(opened, histogram), note)
        return opened.selection

    def _opened(
        self,
        row: Row,
        curve: KeepCurve,
        binning: Binning,
        mask: NDArray[np.uint8],
        weights: Weights | None,
    ) -> OpenEpoch:
        """Returns an open epoch, in the order that `reorder` makes of its samples."""
        order: Order = self._table.order(mask, int(row["epoch"]))
        reorder = self._settings.reorder
        if reorder is not None:
            samples = Selection(int(row["epoch"]), order, threads=self.threads).indices
            order = Listed(arguments.reordered(reorder, samples))
        return OpenEpoch(row, curve, binning, mask, order, weights, self.threads)

    @property
    def begun(self) -> bool:
        """Whether any of the open epoch was trained; losses on a device are not waited for."""
        run = self._settle()
        if run.open is None:
            return False
        return bool(run.resumed or run.done or run.tally.came or run.tally.trained)

    def forget_epoch(self) -> None:
        """Closes the open epoch as if it had not begun; nothing is exchanged.

        For one of which nothing was trained: what a look at a batch opened. Drawn again, it is the
        same.

        Raises:
            RuntimeError: No epoch is open, or losses of it were recorded.
        """
        self._collect()
        run = self._settle()
        if run.open is None or self.begun:
            raise RuntimeError(
                "forget_epoch() needs an open epoch without losses, got "
                + ("none open" if run.open is None else f"epoch {self.epoch}, which has some")
                + ": end_epoch() ends one that was trained"
            )
        self._commit(run, run._replace(open=None))

    def share(self) -> Selection:
        """Returns what this process trains of the open epoch: equally many samples on each rank.

        With ranks and a whole table on each, rank r of W trains every W-th sample of the longest
        part of the selection that W divides, from the r-th on. Begins an epoch if none is open.
        After a resume it is the rest: without the first `done` samples of the selection. It costs
        nothing: samples are made when they are read.

        Raises:
            RuntimeError: The epoch has fewer samples than there are ranks.
        """
        selection = self.begin_epoch()
        run = self._settle()
        positions = self._table.share(selection.epoch, self.kept, run.done)
        positions = positions[: self.sizes.whole(len(positions), self.kept)]
        if not len(positions) and not run.resumed and self.ranks is not None:
            raise RuntimeError(
                f"epoch {self.epoch} keeps too few samples for {self.ranks.size} ranks: of "
                f"{len(selection)} each would get none. Train on fewer ranks, keep more samples, "
                "or give a budget"
            )
        return selection.part(slice(positions.start, positions.stop, positions.step))

    def share_size(self, kept: int) -> int:
        """Returns how many samples each rank trains of an epoch that keeps so many."""
        return self.sizes.whole(self._table.share_size(kept), kept)

    def walked(self, given: int) -> None:
        """Notes that this rank's share of the open epoch was given out to its end.

        Then `end_epoch` can tell whether something dealt it out among the ranks once more.

        Args:
            given: Samples that were given out.
        """
        run = self._settle()
        self._commit(run, run._replace(tally=run.tally._replace(given=given)))

    def weights_of(self, indices: NDArray[np.integer[Any]]) -> NDArray[np.float32] | None:
        """Returns the weights that the open epoch's curve gives to samples.

        They follow from the losses that the epoch began with, and stay as they are until it ends.

        Args:
            indices: Integers (B,) in 0..n-1.

        Returns:
            float32 (B,); None where all weights of the epoch are 1.

        Raises:
            RuntimeError: No epoch is open.
        """
        open_epoch = self._settle().open
        if open_epoch is None:
            raise RuntimeError("no epoch is open: call begin_epoch() first")
        return None if open_epoch.weights is None else open_epoch.weights.of(indices)

    def record(self, indices: ArrayLike, losses: ArrayLike) -> None:
        """Takes the losses of samples that have just been trained, a batch at a time.

        Args:
            indices: Integers (B,) in 0..n-1.
            losses: Floats (B,), one per sample. One that is not finite is counted in the epoch's
                row, and its sample keeps the last finite loss, but counts as trained.

        Raises:
            ValueError, IndexError: The arrays do not fit; nothing is recorded then.
            RuntimeError: No epoch is open.
        """
        while not self._try(self._recording(np.asarray(indices), np.asarray(losses))):
            pass  # a signal handler has recorded meanwhile: once more, after that

    def _recording(self, indices: NDArray[Any], losses: NDArray[Any]) -> _Change:
        run = self._settle()
        if run.open is None:
            raise RuntimeError("no epoch is open: call begin_epoch() before record()")
        if self._sees_batch is not None:
            losses = in_batch(self._sees_batch, losses)
        trained, nonfinite, apply = self._table.recording(indices, losses, run.open.epoch)
        tally = run.tally.after(indices.size, trained, nonfinite)
        return _Change(run, run._replace(tally=tally), apply)

    def end_epoch(self) -> Row:
        """Closes the open epoch: its row joins `history` and goes to `on_epoch`.

        With ranks it is the one exchange of the epoch, for which all of them have to call it. The
        rows are the same on all, but for the times.

        Raises:
            RuntimeError: No epoch is open; or the ranks do not agree, or one has nothing to report.
                The epoch stays open then.
        """
        self._collect()
        run = self._settle()
        if run.open is None:
            raise RuntimeError("no epoch is open: call begin_epoch() before end_epoch()")
        if self.ranks is not None and run.tally.given:
            refuse_dealt_again(run.tally.came, run.tally.given, run.tally.largest, self.ranks.size)
        nonfinite, visits, over = self._table.exchange(run.open.epoch, self._digests(run.open))
        row, after = run.close(run.open.row, visits, nonfinite, self.sizes.most)
        counts = self._table.columns.counted(run.open.mask)
        at, epoch = len(self._history), run.open.epoch

        def apply() -> None:
            over()
            self._table.columns.kept_counts = counts
            self._history[at:] = [row]
            if self._trace is not None:
                self._trace.end(at, self._table, epoch)

        self._commit(run, after, apply)
        if after.next_epoch == self.epochs and row["never_trained"]:
            logger.warning(
                "the run ends with %d of %d samples never trained: more epochs, a larger budget or "
                "always_keep= would reach them",
                row["never_trained"], self.n,
            )  # fmt: skip
        for listener in self._listeners:
            listener(dict(row))
        return dict(row)

    def _digests(self, open_epoch: OpenEpoch) -> list[int]:
        """Returns what the processes compare, see `exchange.DIGESTS`."""
        if self.ranks is None:
            return [0, 0]
        selection = [self._table.digest(open_epoch.mask, open_epoch.epoch, open_epoch.kept)]
        if self._settings.reorder is not None and self.sharding == "replicated":
            selection.append(digest_of(open_epoch.selection.indices.tobytes()))
        settings = {**self._settings.agreed(), "epoch": open_epoch.epoch}
        return [digest_of(repr(settings).encode()), digest_of(repr(selection).encode())]

    # Saving and resuming.

    def __getstate__(self) -> dict[str, Any]:
        self._collect()
        return vars(self)

    def __copy__(self) -> NoReturn:
        """Refuses.

        Raises:
            TypeError: Always.
        """
        raise TypeError("a shallow copy of a Pruner would share its losses: use copy.deepcopy")

    def state_dict(
        self, *, done: int = 0, begun: bool = False, gather: bool = True, copy: bool = True
    ) -> dict[str, Any]:
        """Returns all there is to go on from here, in mid-epoch too.

        Plain Python objects and numpy arrays, some 6 bytes per sample; `seta.save` writes it. With
        ranks and a whole table on each, one state serves all of them: between epochs any rank's,
        in mid-epoch one that is gathered, for which all ranks have to call this, unless nothing of
        the epoch was trained yet. Of a sharded table, or with `gather=False`, each rank has a part:
        save all, and load all.

        Args:
            done: In mid-epoch, how many samples of the selection, the first ones, over all ranks,
                are trained by now: where to go on from. 0: what goes on skips them by itself.
            begun: Whether something of the open epoch is done of which no losses were recorded:
                batches that were left out. All ranks say the same.
            gather: In mid-epoch, gather what the other ranks recorded, and take the least `done`.
            copy: Copies of the table's columns. False: views, to be saved before the next `record`.

        Raises:
            RuntimeError: The ranks do not agree.
        """
        self._collect()
        run = self._settle()
        arguments.done(done, self.epoch, self.kept)
        what, digests, opened = None, [0, 0], None
        if run.open is not None:
            begun = begun or bool(done) or self.begun
            if begun:
                digests = self._digests(run.open)
                what = f"state_dict() in epoch {self.epoch}" if gather else None
            if self.ranks is not None and what is not None and self.sharding == "replicated":
                done = int(equally_long(self.ranks, np.array([done]), what)[:, 0].min())
            tally = {name: getattr(run.tally, name) for name in _TALLIED}
            order = self._order_of(run.open)
            opened = {
                **run.open.state_dict(),
                **tally,
                "order": order,
                "done": done,
                "begun": begun,
            }
        part = part_of(self.ranks, self.sharding, whole=opened is None or gather)
        table = self._table.state_dict(what, digests, copy)
        return {
            "format": name_of("pruner"),
            "settings": self._settings.identity(),
            "run": {"history": [dict(row) for row in self._history], "full": run.full},
            "table": {**part, **table},
            "trace": None
            if self._trace is None
            else self._trace.state_dict(run.begun, opened=opened is not None),
            "open": opened,
        }

    def load_state_dict(
        self, saved: Mapping[str, Any] | Iterable[Mapping[str, Any]], *, changed: Iterable[str] = ()
    ) -> None:
        """Goes on from a saved state, on as many ranks as there are now.

        The rest of an open epoch is what `share` returns then. Where some ranks were ahead of
        others, the least counts: what the others had done more is done again.

        Args:
            saved: What `state_dict` returned; the states of all ranks, where each had a part.
            changed: What is meant to differ from the run that was saved: "policy", "budget",
                "epochs", "seed", "always_keep", "strata", or "n", for a dataset that has grown
                or shrunk at its end. A budget is the same if it has the same share for each epoch
                that both runs have. An open epoch is finished as it was begun; "n" and "seed", and
                of a sharded table "always_keep", need one that is over.

        Raises:
            ValueError: Something else differs, or this is no such state, or one that is damaged;
                nothing is changed then.
        """
        settings = self._settings
        roots = parts_of(saved)
        check(
            roots,
            settings.identity(),
            arguments.changed(changed),
            strata=settings.kinds,
            columns=self._table.columns.own,
        )
        states: list[State] = [root.value for root in roots]
        history, full = states[0]["run"]["history"], states[0]["run"]["full"]
        run, reopened = Run.after(history, full), None
        if states[0]["open"] is not None:
            reopened = self._table.reopened(states)
            run = self._resumed(run, states, reopened)
            own = 0 if self.ranks is None or self.sharding != "sharded" else self.ranks.process
            if reopened.same_order:
                self._check_order(run, states[own]["open"]["order"])
        if settings.track and tracked.VISITS not in states[0]["table"]["columns"]:
            logger.warning("the losses of samples are tracked from here on: the state was not")
        for holder in self._holders:
            holder.clear()
        self._torn, self._change = "load_state_dict()", None
        trained, nonfinite = self._table.load_state_dict(states, reopened)
        self._history = [dict(row) for row in history]
        if self._trace is not None:
            traces = [state["trace"] for state in states]
            self._trace.load_state_dict(traces, len(history), self.n, self._table)
        if reopened is not None:
            run = run._replace(tally=run.tally.after(0, trained, nonfinite))
        self._run = run
        self._torn = None

    def _resumed(self, run: Run, states: Sequence[State], reopened: Reopened) -> Run:
        """Returns the run in the midst of the epoch that was open; changes nothing."""
        saved, table = states[0]["open"], self._table
        curve, binning = unpack_curve(saved["curve"])
        weights = None
        if curve.weight_by_cell is not None:
            weights = Weights(
                curve.weight_by_cell, binning, table, None, table.open_weights(states)
            )
        tally = Tally(*(saved[name] for name in _TALLIED))
        return run._replace(
            open=self._opened(dict(saved["row"]), curve, binning, reopened.mask, weights),
            tally=tally._replace(clock=time.perf_counter()),
            # On other ranks the mask of a sharded table is what is left to train.
            done=min(int(part["open"]["done"]) for part in states) if reopened.same_order else 0,
            resumed=any(
                part["open"]["begun"] or len(part["table"]["log"]["indices"]) for part in states
            ),
            curve=curve,
        )

    def _order_of(self, opened: OpenEpoch) -> int | None:
        """Returns what tells the orders that `reorder` makes apart; None without it."""
        return digest_of(opened.selection.indices.data) if self._settings.reorder else None

    def _check_order(self, run: Run, saved: int | None) -> None:
        """Refuses to go on in another order: some samples would come twice, and some never.

        Raises:
            ValueError: It is another one, and a part of the epoch is trained.
        """
        if run.open is not None and run.resumed and saved != self._order_of(run.open):
            raise ValueError(
                f"the state was saved in epoch {run.open.epoch}, whose samples have another order "
                "now: give the same reorder= (shuffle= of a loader) as the run that was saved, and "
                "one that returns the same order, or load a state from between two epochs"
            )

    def resize(self, n: int, *, strata: ArrayLike | None = None) -> None:
        """Takes up a dataset that has grown or shrunk at its end; new samples are unseen.

        Args:
            n: Its new length. A budget is a share of that length from the next epoch on.
            strata: Integers (n,), where the pruner was made with some.

        Raises:
            RuntimeError: An epoch is open, or the table is sharded.
            ValueError, IndexError: `n` is not allowed, or a sample of `always_keep` is gone.
        """
        run = self._settle()
        if run.open is not None:
            raise RuntimeError(f"epoch {self.epoch} is open: call end_epoch() before resize()")
        if self.sharding == "sharded":
            raise RuntimeError(
                "a sharded table cannot be resized, since its shards depend on the length: make a "
                "new Pruner for the longer dataset"
            )
        settings = self._settings.resized(n, strata, run.next_epoch)
        table = settings.table()
        saved = self._table.state_dict(None, [0, 0], False)
        table.load_state_dict([{"table": saved}])
        self._settings, self._table = settings, table
        if self._trace is not None:
            self._trace.resize(n)
