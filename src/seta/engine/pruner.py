"""The pruner: the loss table, the policy and the open epoch. The one stateful object of the engine.

This file is its interface. The work is done in `lifecycle` (begin, record and end an epoch),
`saving` (state dicts) and `views` (tables and texts). `core` holds the parts of a pruner, and makes
every change complete or not at all.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seta.engine import arguments, lifecycle, saving, views
from seta.engine.arguments import Listener, Reorder
from seta.engine.core import Core, Holder
from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import LossHistogram
from seta.engine.curves.policy import Policy, takes_signals
from seta.engine.draw.selection import Selection
from seta.engine.rows import Row, copied
from seta.engine.samples import SampleTable
from seta.engine.settings import Settings
from seta.engine.shown import html_of_run
from seta.engine.steps import Budget, Steps
from seta.engine.table.exchange import agree, digest_of
from seta.engine.table.ranks import Ranks
from seta.engine.table.table import Sharding
from seta.engine.trace import Trajectories

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

_FEW = 0.01
"""A share of the samples that no warning is worth."""


def _without_losses(row: Row) -> bool:
    """Returns whether many losses of an epoch were not finite."""
    few: bool = row["nonfinite"] <= _FEW * row["trained"]
    return not few


class Pruner:
    """Selects the samples of each epoch by their losses in earlier epochs.

    A training loop calls `begin_epoch`, trains the samples of `share`, passes their losses to
    `record`, and calls `end_epoch`. With PyTorch, `seta.PrunedDataLoader` makes these calls.

    - Epochs: `begin_epoch`, `share`, `weights_of`, `record`, `end_epoch`; for authors of loaders
      also `check_epoch`, `forget_epoch`, `share_size`, `walked` and `attach`.
    - Progress: `epoch`, `next_epoch`, `begun`, `done`, `resumed`, `history`, `saved`.
    - The open epoch: `selection`, `selects`, `kept`, `curve`, `histogram`.
    - Samples: `losses`, `held`, `left_out`, `kept_counts`, `table`, `suspects`, `trajectories`,
      `why`, `plot`.
    - Saving: `state_dict`, `load_state_dict`, `resize`.
    - Arguments: `n`, `policy`, `epochs`, `seed`, `sizes`, `lengths`, `always_keep`, `threads`,
      `ranks`, `sharding`.

    Memory: 6 bytes per sample; while an epoch is open, a quarter of a byte more, and another byte
    if the policy weights losses. Starting an epoch takes tens of milliseconds
    on small sets, and 5 to 30 ns per sample on large ones, on two cores.

    Args:
        n: Number of samples, >= 1.
        policy: The method: an object such as `seta.SeTa()`, a name such as "SeTa" (with default
            arguments, or under a budget with those for it), or a function
            `(histogram, epoch, epochs) -> KeepCurve`.
        epochs: Length of the run in epochs, >= 1. None: `steps` gives the length.
        seed: Seed of all random choices, an integer >= 0.
        budget: Share of full training's sample visits that the run may use, in (0, 1]: one number,
            one per epoch, or a function of the epoch. It fixes the length of every epoch in
            advance; see `lengths`. None: the policy decides, and lengths vary.
        steps: Length of the run in batches per rank, >= 1; only with a budget, in place of
            `epochs`. The last epoch is cut short at this number.
        batch_size: Samples per batch and rank, >= 1. Every epoch is a whole number of global
            batches, except that an epoch which keeps all samples may have a remainder.
        drop_last: Whether to drop that remainder too (a random choice of samples).
        always_keep: Indices of samples that are never pruned and have weight 1, integers.
        losses: Initial losses, float (n,), NaN = unseen; for example those of an earlier run.
        strata: Class of each sample, integers (n,) from 0 on. Used by policies that look at
            classes, ignored by others.
        reorder: Function of an epoch's indices in training order that returns them in another
            order (length bucketing, for example). It must be deterministic.
        on_epoch: Function, or several, called with each epoch's row when the epoch ends.
        count_kept: Whether to count how often each sample was kept, for `kept_counts`; 4 bytes per
            sample.
        track: Whether to keep the number, mean and standard deviation of each sample's losses, for
            `table` and `suspects` (12 bytes per sample, 16 if the policy keeps a score), and the
            losses of some samples in every epoch, for `trajectories`. Indices: True, and the
            trajectories include these samples.
        threads: Number of threads. None: all cores. The selection does not depend on it.
        ranks: The processes that train together. None: this process alone. All of them must make
            their pruner with the same arguments.
        sharding: "replicated": each process holds all losses. "sharded": each process holds the
            losses of one part of the samples and trains on that part. None: "sharded" with ranks
            and at least 100 million samples, else "replicated".

    Raises:
        ValueError, TypeError: An argument is invalid; the message names it.

    Examples:
        >>> pruner = Pruner(6, "InfoBatch", epochs=4, seed=0)
        >>> first = pruner.begin_epoch()                  # no losses yet: all samples are kept
        >>> sorted(first.indices.tolist())
        [0, 1, 2, 3, 4, 5]
        >>> pruner.record(first.indices, first.indices.astype("float32"))
        >>> pruner.end_epoch()["trained"]
        6
        >>> second = pruner.begin_epoch()                 # 3, 4, 5 are above the mean loss: kept
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
        settings = Settings.of(
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
        table = settings.table(losses)
        arguments.check_shares(settings.sizes, settings.lengths, table.share_size)
        self._core = Core(settings, table)
        if losses is None:
            self._warn_of_no_choice()
        if ranks is not None:
            warm = None if losses is None else digest_of(np.ascontiguousarray(losses).data)
            agree(ranks, {**settings.agreed(), "losses": warm}, "the making of a Pruner")

    def _warn_of_no_choice(self) -> None:
        pruning_epochs = getattr(self.policy, "pruning_epochs", None)
        if callable(pruning_epochs) and self.epochs > 1 and pruning_epochs(self.epochs) == 1:
            logger.warning(
                "%r chooses by the loss in none of %d epochs: it may in floor(delta x epochs) = 1 "
                "of them, the first, when no losses are known. Set delta=1, or give losses=",
                self.policy, self.epochs,
            )  # fmt: skip

    def __repr__(self) -> str:
        return views.summary(self._core)

    def _repr_html_(self) -> str:
        return html_of_run(repr(self), self._core.history)

    # Arguments.

    @property
    def n(self) -> int:
        """Number of samples."""
        return self._core.settings.n

    @property
    def policy(self) -> Policy:
        """The method that makes the keep curve."""
        return self._core.settings.policy

    @property
    def epochs(self) -> int:
        """Length of the run in epochs."""
        return self._core.settings.epochs

    @property
    def seed(self) -> int:
        """Seed of all random choices."""
        return self._core.settings.seed

    @property
    def sizes(self) -> Steps:
        """Sizes of batches and epochs."""
        return self._core.settings.sizes

    @property
    def lengths(self) -> list[int] | None:
        """Number of samples of each epoch under a budget, a copy; None without a budget."""
        lengths = self._core.settings.lengths
        return None if lengths is None else list(lengths)

    @property
    def always_keep(self) -> NDArray[np.int64] | None:
        """Indices of the samples that are never pruned: int64, sorted; None if there are none."""
        return self._core.settings.always_keep

    @property
    def threads(self) -> int:
        """Number of threads."""
        return self._core.settings.threads

    @property
    def ranks(self) -> Ranks | None:
        """The processes that train together; None for this process alone."""
        return self._core.settings.ranks

    @property
    def sharding(self) -> Sharding:
        """How the losses are held, "replicated" or "sharded"."""
        return self._core.settings.sharding

    # Progress.

    @property
    def epoch(self) -> int | None:
        """Number of the open epoch; None between epochs."""
        opened = self._core.settle().open
        return None if opened is None else opened.epoch

    @property
    def next_epoch(self) -> int:
        """Number of the first epoch that has not ended."""
        return self._core.settle().next_epoch

    @property
    def begun(self) -> bool:
        """Whether any part of the open epoch was trained; does not wait for losses on a device."""
        return self._core.settle().any_trained

    @property
    def done(self) -> int:
        """Samples trained before a resume, counted from the start of the open epoch's selection."""
        return self._core.settle().done

    @done.setter
    def done(self, samples: int) -> None:
        run = self._core.settle()
        self._core.commit(run, run._replace(done=samples))

    @property
    def resumed(self) -> bool:
        """Whether the open epoch was partly trained when its state was saved."""
        return self._core.settle().resumed

    @property
    def history(self) -> list[Row]:
        """The rows of the epochs that are over, one dict per epoch, a copy.

        A row has the keys "epoch", "kept", "trained", "saved" and more; `seta.engine.rows` lists
        them.
        """
        self._core.settle()
        return [copied(row) for row in self._core.history]

    @property
    def saved(self) -> float:
        """Share of full training's sample visits saved in the epochs that are over, in 0..1.

        0 before the first epoch has ended.
        """
        return self._core.collect().saved

    # The open epoch.

    @property
    def selection(self) -> Selection | None:
        """Selection of the open epoch; None between epochs."""
        opened = self._core.settle().open
        return None if opened is None else opened.selection

    @property
    def kept(self) -> int:
        """Number of samples in the open epoch's selection, over all ranks; 0 between epochs."""
        opened = self._core.settle().open
        return 0 if opened is None else opened.kept

    @property
    def histogram(self) -> LossHistogram | None:
        """Histogram of the losses at the start of the latest epoch.

        None before the first, and after a resume in mid-epoch until the next begins.
        """
        return self._core.settle().histogram

    @property
    def curve(self) -> KeepCurve | None:
        """Keep curve of the latest epoch; None before the first.

        After a resume in mid-epoch it lacks `groups` and `window` until the next begins.
        """
        return self._core.settle().curve

    def begin_epoch(self, epoch: int | None = None) -> Selection:
        """Draws the selection of an epoch, or returns that of the open epoch again.

        Args:
            epoch: Number in 0 .. epochs - 1. If an earlier epoch is open, it is ended first. None:
                the open epoch, or else the next one.

        Raises:
            ValueError: The epoch is over, or lies beyond the run; or the table is sharded, and an
                epoch that was left out should have updated the scores.
        """
        opened = self._core.settle().open
        if opened is not None and epoch in (None, opened.epoch):
            return opened.selection
        epoch = self.check_epoch(self.next_epoch if epoch is None else epoch)
        if opened is not None:
            self.end_epoch()
        return lifecycle.begin(self._core, epoch)

    def check_epoch(self, epoch: int) -> int:
        """Returns `epoch` as an int if it may begin now.

        Raises:
            ValueError: The epoch is open or over, or lies beyond the run.
        """
        return lifecycle.check(self._core, epoch)

    def share(self) -> Selection:
        """Returns the part of the open epoch that this process trains, equally long on each rank.

        Begins an epoch if none is open. Rank r of W trains every W-th sample of the selection from
        the r-th on, without the remainder that W does not divide; with a sharded table, samples of
        its own part. After a resume it is the rest, without the first `done` samples of the
        selection. It costs nothing: indices are computed when they are read.

        Raises:
            RuntimeError: The epoch has fewer samples than there are ranks.
        """
        selection = self.begin_epoch()
        run = self._core.settle()
        positions = self._core.table.share(selection.epoch, self.kept, run.done)
        positions = positions[: self.sizes.whole(len(positions), self.kept)]
        if not len(positions) and not run.resumed and self.ranks is not None:
            raise RuntimeError(
                f"epoch {self.epoch} keeps too few samples for {self.ranks.size} ranks: of "
                f"{len(selection)} each would get none. Train on fewer ranks, keep more samples, "
                "or give a budget"
            )
        return selection.part(slice(positions.start, positions.stop, positions.step))

    def share_size(self, kept: int) -> int:
        """Returns the number of samples per rank in an epoch that keeps `kept` samples."""
        return self.sizes.whole(self._core.table.share_size(kept), kept)

    def selects(self, indices: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """Returns whether samples are in the selection of the open epoch.

        Args:
            indices: Integers (B,) in 0..n-1.

        Returns:
            bool (B,); False for samples of a sharded table that other processes hold.

        Raises:
            RuntimeError: No epoch is open.
        """
        opened = self._core.settle().open
        if opened is None:
            raise RuntimeError("no epoch is open: call begin_epoch() first")
        rows = self._core.table.rows_of(indices).astype(np.int64)
        kept: NDArray[np.bool_] = (rows >= 0) & (opened.mask[rows >> 3] << (rows & 7) & 0x80 > 0)
        return kept

    def weights_of(self, indices: NDArray[np.integer[Any]]) -> NDArray[np.float32] | None:
        """Returns the loss weights of samples in the open epoch; they are fixed when it begins.

        Args:
            indices: Integers (B,) in 0..n-1.

        Returns:
            float32 (B,); None if all weights of the epoch are 1.

        Raises:
            RuntimeError: No epoch is open.
        """
        opened = self._core.settle().open
        if opened is None:
            raise RuntimeError("no epoch is open: call begin_epoch() first")
        return None if opened.weights is None else opened.weights.of(indices)

    def record(self, indices: ArrayLike, losses: ArrayLike) -> None:
        """Records the losses of a batch that has just been trained.

        Args:
            indices: Integers (B,) in 0..n-1.
            losses: Floats (B,), one per sample. A loss that is not finite is counted in the epoch's
                row; its sample keeps its last finite loss and counts as trained.

        Raises:
            ValueError, IndexError: The arrays are invalid; nothing is recorded.
            RuntimeError: No epoch is open.
        """
        samples, values = np.asarray(indices), np.asarray(losses)
        while not self._core.attempt(lifecycle.recording(self._core, samples, values)):
            pass  # a signal handler has recorded meanwhile: once more, after that

    def end_epoch(self) -> Row:
        """Ends the open epoch, appends its row to `history` and calls `on_epoch`.

        With ranks, all of them must call it: the ranks exchange their losses here. The rows are the
        same on all ranks, except for the times.

        Returns:
            The row, a dict of the epoch's figures; see `history`.

        Raises:
            RuntimeError: No epoch is open, the ranks do not agree, or a rank recorded no loss. In
                the last two cases the epoch stays open.
        """
        row = lifecycle.end(self._core)
        if _without_losses(row) and not any(map(_without_losses, self._core.history[:-1])):
            told = "recorded losses were not finite (NaN or infinite)"
            look = "learning rate, the data and the loss function"
            if takes_signals(self.policy):
                told, look = "groups had no rewards", "reward function"
            logger.warning(
                "epoch %d: %d of %d %s. They are left out, so that the samples keep what was "
                "recorded before: look at the %s",
                row["epoch"], row["nonfinite"], row["trained"], told, look,
            )  # fmt: skip
        if self.next_epoch == self.epochs and row["never_trained"] > self.n * _FEW:
            logger.warning(
                "the run ends with %d of %d samples never trained: more epochs, a larger budget or "
                "always_keep= would reach them",
                row["never_trained"], self.n,
            )  # fmt: skip
        for listener in self._listeners:
            listener(copied(row))
        return copied(row)

    def forget_epoch(self) -> None:
        """Closes the open epoch as if it had not begun; drawn again, it is the same.

        For an epoch that was opened to look at a batch, and of which nothing was trained. The ranks
        exchange nothing.

        Raises:
            RuntimeError: No epoch is open, or losses of it were recorded.
        """
        run = self._core.collect()
        if run.open is None or self.begun:
            raise RuntimeError(
                "forget_epoch() needs an open epoch without losses, got "
                + ("none open" if run.open is None else f"epoch {self.epoch}, which has some")
                + ": end_epoch() ends one that was trained"
            )
        self._core.commit(run, run._replace(open=None), self._core.table.forget_epoch)

    def walked(self, given: int) -> None:
        """Notes that a sampler has given out this rank's whole share of the open epoch.

        `end_epoch` can then detect that a framework split the share among the ranks a second time.

        Args:
            given: Number of samples given out.
        """
        run = self._core.settle()
        self._core.commit(run, run._replace(tally=run.tally._replace(given=given)))

    def attach(self, holder: Holder) -> None:
        """Registers a buffer of losses that are not recorded yet, such as `LossBuffer`.

        It is drained before an epoch ends, a state is saved or losses are read. Attaching the same
        buffer again has no effect.

        Args:
            holder: Its `drain()` passes all its losses to `record`.
        """
        if holder not in self._core.holders:
            self._core.holders.append(holder)

    # Samples.

    @property
    def losses(self) -> NDArray[np.float32]:
        """Latest losses: float32 (n,), NaN = unseen, a read-only view.

        `record` updates them at once; with ranks, `end_epoch` does. If the policy keeps a score,
        these are the scores, which an epoch updates when it begins (with a sharded table, when the
        one before it ends), in epochs that are multiples of the policy's `every`. Of a sharded
        table, the losses of the samples `held`. Waits for losses that are still on a device.
        """
        self._core.collect()
        view = self._core.table.columns.values.view()
        view.flags.writeable = False
        return view

    @property
    def held(self) -> NDArray[np.int64] | None:
        """Samples whose losses this process holds: int64, >= n for an empty row; None: all."""
        return self._core.table.held

    @property
    def left_out(self) -> NDArray[np.int64]:
        """Epochs since each sample was last trained: int64 (n,), 0 = in the latest epoch.

        Of a sharded table, of the samples `held`.
        """
        self._core.collect()
        return self._core.table.columns.left_out(self._core.latest_epoch)

    @property
    def kept_counts(self) -> NDArray[np.uint32]:
        """How often each sample was kept, including the open epoch: uint32 (n,), a copy.

        Of a sharded table, of the samples `held`.

        Raises:
            RuntimeError: The pruner was made without `count_kept=True`.
        """
        opened = self._core.settle().open
        counts = self._core.table.columns.counted(None if opened is None else opened.mask)
        if counts is None:
            raise RuntimeError("kept counts were not taken: make the Pruner with count_kept=True")
        return counts

    def table(self) -> SampleTable:
        """Returns what is known of each sample: loss, visits, group, keep probability, weight, ...

        `keep`, `weight` and `group` are those of the next epoch. While an epoch is open they are
        those of its curve, at the latest losses (weights stay fixed). After the run they are those
        of one more epoch like the last. Of a sharded table, the samples `held`. Costs as much as
        starting an epoch.

        Returns:
            A `SampleTable`, which lists its columns.
        """
        return views.sample_table(self._core)[0]

    def trajectories(self) -> Trajectories:
        """Returns the losses of some samples in all epochs that are over.

        These are 256 samples, chosen by the seed, and those named in `track=`. Of a sharded table,
        the losses of the samples `held`, and of all of them up to the latest resume.

        Raises:
            RuntimeError: The pruner was made without `track=`.
        """
        self._core.settle()
        if self._core.trace is None:
            raise RuntimeError("no losses were followed: make the Pruner with track=True")
        return self._core.trace.trajectories()

    def suspects(self, n: int = 100, classes: ArrayLike | None = None) -> SampleTable:
        """Returns the samples whose losses stay highest over their visits: likely label errors.

        Sorted by the column `suspicion` of `table`, the highest first; `docs/suspects.md` reports
        how many wrong labels this finds. Of a sharded table, the samples `held`, compared with each
        other. Costs as much as `table` and a sort, two sorts with classes.

        Args:
            n: Number of samples, >= 1; fewer are returned if fewer have a loss.
            classes: Integers (number of samples,), such as the labels: each sample is compared with
                its class. None: the strata, if the policy uses them; else each sample is compared
                with all others.

        Raises:
            RuntimeError: The pruner was made without `track=`, or its policy is one of `seta.rl`,
                whose signals are no losses.
            TypeError, ValueError: `n` or `classes` is invalid.
        """
        return views.suspects(self._core, n, classes)

    def why(self, index: int) -> str:
        """Returns, in words, why the open or the next epoch keeps a sample or leaves it out.

        Costs as much as `table`.

        Raises:
            IndexError: There is no such sample, or another process holds it.
        """
        return views.explanation(self._core, index)

    def plot(self) -> Figure:
        """Plots the losses at the start of the latest epoch, and the keep curve over them.

        Returns:
            A matplotlib figure; notebooks show it, `savefig(path)` writes it.

        Raises:
            RuntimeError: No epoch with losses has begun since the pruner was made or loaded.
            ImportError: matplotlib is not installed.
        """
        return views.figure(self._core)

    # Saving.

    def state_dict(
        self, *, done: int = 0, begun: bool = False, gather: bool = True, copy: bool = True
    ) -> dict[str, Any]:
        """Returns the state to resume from, between epochs or within one.

        It consists of plain Python objects and numpy arrays, about 6 bytes per sample, and
        `seta.save` writes it to a file. With ranks and a replicated table, one state serves all
        ranks: between epochs that of any rank; within an epoch it is gathered, so all ranks must
        call this, unless nothing of the epoch was trained yet. With a sharded table, or
        `gather=False`, each rank has a part: save all parts, and load all of them.

        Args:
            done: Within an epoch, how many samples from the start of the selection are trained,
                over all ranks; a resumed run skips them. 0: the resumed loop skips them itself.
            begun: Whether batches of the open epoch were skipped without recording losses. Must be
                the same on all ranks.
            gather: Within an epoch, whether to gather what the other ranks recorded, and use the
                least `done` of all ranks.
            copy: Whether to copy the table's columns. False: the arrays are views, to be saved
                before the next `record`.

        Raises:
            RuntimeError: The ranks do not agree.
        """
        return saving.state_of(self._core, done=done, begun=begun, gather=gather, copy=copy)

    def load_state_dict(
        self, saved: Mapping[str, Any] | Iterable[Mapping[str, Any]], *, changed: Iterable[str] = ()
    ) -> None:
        """Resumes from a saved state; the number of ranks may have changed.

        `share` then returns the rest of an open epoch. If some ranks were ahead of others when the
        state was saved, all resume where the last one was: the rest is trained again.

        Args:
            saved: The return value of `state_dict`; the states of all ranks if each had a part.
            changed: Names of arguments that may differ from those of the saved run: "policy",
                "budget", "epochs", "seed", "always_keep", "strata", or "n", for a dataset that has
                grown or shrunk at its end. A budget counts as equal if it has the same share for
                each epoch of both runs. An open epoch is finished as it was begun; "n", "seed" and,
                with a sharded table, "always_keep" can change only between epochs.

        Raises:
            ValueError: Another argument differs, or the state is invalid or damaged; nothing is
                changed.
        """
        saving.load(self._core, saved, changed)

    def resize(self, n: int, *, strata: ArrayLike | None = None) -> None:
        """Adapts to a dataset that has grown or shrunk at its end; new samples are unseen.

        Args:
            n: New number of samples. From the next epoch on, a budget is a share of it.
            strata: Integers (n,), the class of each sample; required if the run chooses by class.

        Raises:
            RuntimeError: An epoch is open, or the table is sharded.
            ValueError, IndexError: `n` or `strata` is invalid, or a sample of `always_keep` no
                longer exists.
        """
        core, run = self._core, self._core.settle()
        if run.open is not None:
            raise RuntimeError(f"epoch {self.epoch} is open: call end_epoch() before resize()")
        if self.sharding == "sharded":
            raise RuntimeError(
                "a sharded table cannot be resized, since its shards depend on the length: make a "
                "new Pruner for the longer dataset"
            )
        settings = core.settings.resized(n, strata, run.next_epoch)
        table = settings.table(begun=True)
        saved = core.table.state_dict(None, [0, 0], False)
        table.load_state_dict([{"table": saved}])
        trace = None if core.trace is None else core.trace.resized(n)

        def apply() -> None:
            core.settings, core.table, core.trace = settings, table, trace

        core.commit(run, run, apply)

    def __getstate__(self) -> dict[str, Any]:
        self._core.collect()
        return vars(self)

    def __copy__(self) -> NoReturn:
        """Refuses.

        Raises:
            TypeError: Always.
        """
        raise TypeError("a shallow copy of a Pruner would share its losses: use copy.deepcopy")
