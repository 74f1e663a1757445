"""The pruner: loss table + policy + epoch, the one stateful object of the engine.

`begin_epoch` counts the losses, asks the policy for a keep curve and draws the selection; `record`
takes the losses that training has computed; `end_epoch` closes the epoch and writes its row. Losses
that wait elsewhere, on a device, are collected first, whoever asks for what they change (`attach`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seta.engine import arguments, parallel, state
from seta.engine.arguments import Listener, Reorder
from seta.engine.curve import KeepCurve
from seta.engine.draw import Selection
from seta.engine.exchange import agree, digest_of
from seta.engine.histogram import LossHistogram
from seta.engine.ledger import Ledger
from seta.engine.open_epoch import OpenEpoch
from seta.engine.policy import Policy, SeesBatch, curve_of, in_batch, score_of
from seta.engine.ranks import Ranks
from seta.engine.rows import Row, open_row
from seta.engine.steps import Budget
from seta.engine.table import Sharding, Table
from seta.engine.tables import make_table

logger = logging.getLogger(__name__)


class Holder(Protocol):
    """What holds losses back for a pruner, such as `seta.torch.LossBuffer`; see `Pruner.attach`."""

    def drain(self) -> None:
        """Records all that it holds."""

    def clear(self) -> None:
        """Forgets all that it holds."""


class Pruner:
    """Chooses the samples of each epoch from the losses of the earlier ones.

    Memory: 6 bytes per sample, and while an epoch is open 4 bytes per kept sample and one bit per
    sample (one byte more where the policy weights losses). Time of an epoch start: 10 to 30 ns per
    sample on two cores.

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
        threads: int | None = None,
        ranks: Ranks | None = None,
        sharding: Sharding | None = None,
    ) -> None:
        self.n = arguments.integer("n", n, 1, "a dataset needs at least one sample")
        self.seed = arguments.integer("seed", seed, 0, "give a fixed number, such as 0")
        self.threads = (
            parallel.available_threads()
            if threads is None
            else arguments.integer("threads", threads, 1, "leave it out to use all cores")
        )
        self.policy = arguments.policy(policy)
        self.always_keep = arguments.always_keep(always_keep, self.n)
        self._budget, self._steps = budget, steps
        self.sizes = arguments.sizes(self.n, batch_size, drop_last, ranks)
        self.lengths = arguments.lengths(self.sizes, budget, epochs, steps, self.always_keep)
        self.epochs = arguments.epochs(epochs) if self.lengths is None else len(self.lengths)
        self._budget_text = state.describe_budget(budget, self.epochs)
        self._reorder = reorder
        self._ledger = Ledger(arguments.listeners(on_epoch))
        self.ranks = ranks
        self._count_kept = count_kept
        self.sharding = arguments.sharding(sharding, self.n, ranks)
        self._scored = score_of(self.policy, self.epochs, warm=losses is not None)
        # Asked once: it takes longer than recording a batch should.
        self._sees_batch = self.policy if isinstance(self.policy, SeesBatch) else None
        self._strata = arguments.strata(strata, self.n, self.policy)
        self._table = self._make_table(losses)
        self._holders: list[Holder] = []
        self._open: OpenEpoch | None = None
        self.next_epoch = 0
        self.done = 0
        self._resumed = False  # the open epoch was trained in part when it was saved
        if ranks is not None:
            agree(ranks, self._settings(), "the making of a Pruner")
        self.histogram: LossHistogram | None = None
        self.curve: KeepCurve | None = None

    # What can be looked at.

    @property
    def epoch(self) -> int | None:
        """The open epoch; None between epochs."""
        return None if self._open is None else self._open.epoch

    @property
    def history(self) -> list[Row]:
        """The rows of the epochs that are over."""
        return self._ledger.history

    @property
    def selection(self) -> Selection | None:
        """The selection of the open epoch; None between epochs."""
        return None if self._open is None else self._selection_of(self._open)

    @property
    def kept(self) -> int:
        """Samples of the open epoch's selection, over all ranks; 0 between epochs."""
        return 0 if self._open is None else int(self._open.row["kept"])

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
        """How often each sample was kept: uint32 (n,), a copy.

        Raises:
            RuntimeError: The pruner was made without `count_kept=True`.
        """
        counts = self._table.columns.kept_counts
        if counts is None:
            raise RuntimeError("kept counts were not taken: make the Pruner with count_kept=True")
        return counts.copy()

    @property
    def saved(self) -> float:
        """1 - samples trained / samples that full training would have trained on, up to now."""
        self._collect()
        return self._ledger.saved(self.sizes.most if self._open is not None else 0)

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
        if self._open is not None and epoch in (None, self._open.epoch):
            return self._selection_of(self._open)
        epoch = self.check_epoch(self.next_epoch if epoch is None else epoch)
        if self._open is not None:
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

    def _begin(self, epoch: int) -> Selection:
        started = time.perf_counter()
        table = self._table
        self.histogram = histogram = table.histogram(self.next_epoch - 1, epoch)
        choice = table.choose(
            histogram,
            curve_of(self.policy, histogram, epoch, self.epochs),
            count=None if self.lengths is None else self.lengths[epoch],
            sizes=self.sizes,
            epoch=epoch,
        )
        self.curve = choice.curve
        row = open_row(epoch, self.n, histogram, choice)
        self._open = OpenEpoch(
            row, choice.curve, histogram.binning, choice.mask, table, self.always_keep
        )
        self._count_kept_samples(np.add)
        selection = self._selection_of(self._open)
        row["kept"] = len(selection) if choice.kept is None else choice.kept
        row["pruned"] = self.n - row["kept"]
        row["kept_share"] = row["kept"] / self.n
        self._ledger.begin(row, started)
        return selection

    def _selection_of(self, open_epoch: OpenEpoch) -> Selection:
        """Returns the selection, made from the mask where it is not there yet."""
        if open_epoch.selection is None:
            indices = self._table.order(open_epoch.mask, open_epoch.epoch)
            if self._reorder is not None:
                indices = arguments.reordered(self._reorder, indices)
            weights = self.weights_of(indices)
            open_epoch.selection = Selection(open_epoch.epoch, indices, weights)
        return open_epoch.selection

    def _count_kept_samples(self, change: np.ufunc) -> None:
        counts = self._table.columns.kept_counts
        if counts is not None and self._open is not None:
            kept = np.unpackbits(self._open.mask, count=len(counts)).view(np.bool_)
            # Of an epoch that a state without counts began, nothing was counted.
            kept &= (counts > 0) | (change is np.add)
            change(counts, np.uint32(1), out=counts, where=kept)

    @property
    def begun(self) -> bool:
        """Whether any of the open epoch was trained; losses on a device are not waited for."""
        if self._open is None:
            return False
        return bool(self._resumed or self.done or self._ledger.came or self._open.row["trained"])

    def forget_epoch(self) -> None:
        """Closes the open epoch as if it had not begun; nothing is exchanged.

        For one of which nothing was trained: what a look at a batch opened. Drawn again, it is the
        same.

        Raises:
            RuntimeError: No epoch is open, or losses of it were recorded.
        """
        self._collect()
        if self._open is None or self.begun:
            raise RuntimeError(
                "forget_epoch() needs an open epoch without losses, got "
                + ("none open" if self._open is None else f"epoch {self.epoch}, which has some")
                + ": end_epoch() ends one that was trained"
            )
        self._count_kept_samples(np.subtract)
        self._open = None

    def share(self) -> NDArray[np.unsignedinteger[Any]]:
        """Returns what this process trains of the open epoch: equally many samples on each rank.

        With ranks and a whole table on each, rank r of W trains every W-th sample of the longest
        part of the selection that W divides, from the r-th on. Begins an epoch if none is open.
        After a resume it is the rest: without the first `done` samples of the selection.

        Returns:
            uint32 (M,), uint64 from 2**32 samples on, in training order.

        Raises:
            RuntimeError: The epoch has fewer samples than there are ranks.
        """
        selection = self.begin_epoch()
        share = self._table.share(selection.indices, self.done)
        share = share[: self.sizes.whole(len(share), self.kept)]
        if not len(share) and not self._resumed and self.ranks is not None:
            raise RuntimeError(
                f"epoch {self.epoch} keeps too few samples for {self.ranks.size} ranks: of "
                f"{len(selection)} each would get none. Train on fewer ranks, keep more samples, "
                "or give a budget"
            )
        return share

    def share_size(self, kept: int) -> int:
        """Returns how many samples each rank trains of an epoch that keeps so many."""
        return self.sizes.whole(self._table.share_size(kept), kept)

    def walked(self, given: int) -> None:
        """Notes that this rank's share of the open epoch was given out to its end.

        Then `end_epoch` can tell whether something dealt it out among the ranks once more.

        Args:
            given: Samples that were given out.
        """
        self._ledger.walked(given)

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
        if self._open is None:
            raise RuntimeError("no epoch is open: call begin_epoch() first")
        return None if self._open.weights is None else self._open.weights.of(indices)

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
        if self._open is None:
            raise RuntimeError("no epoch is open: call begin_epoch() before record()")
        values = np.asarray(losses)
        if self._sees_batch is not None:
            values = in_batch(self._sees_batch, values)
        recorded = self._table.record(np.asarray(indices), values, self._open.epoch)
        self._ledger.record(self._open.row, np.size(indices), recorded)

    def end_epoch(self) -> Row:
        """Closes the open epoch: its row joins `history` and goes to `on_epoch`.

        With ranks it is the one exchange of the epoch, for which all of them have to call it. The
        rows are the same on all, but for the times.

        Raises:
            RuntimeError: No epoch is open; or the ranks do not agree, or one has nothing to report.
                The epoch stays open then.
        """
        if self._open is None:
            raise RuntimeError("no epoch is open: call begin_epoch() before end_epoch()")
        self._collect()
        row = self._open.row
        if self.ranks is not None:
            self._ledger.check_share(self.ranks.size)
        row["nonfinite"] += self._table.exchange(row["epoch"], self._digests(self._open))
        self._ledger.close(row, self._table.visits(row["epoch"]), self.sizes.most)
        self.next_epoch = row["epoch"] + 1
        self._open, self.done, self._resumed = None, 0, False
        if self.next_epoch == self.epochs and row["never_trained"]:
            logger.warning(
                "the run ends with %d of %d samples never trained: more epochs, a larger budget or "
                "always_keep= would reach them",
                row["never_trained"], self.n,
            )  # fmt: skip
        self._ledger.tell(row)
        return dict(row)

    def _digests(self, open_epoch: OpenEpoch) -> list[int]:
        """Returns what the processes compare, see `exchange.DIGESTS`."""
        selection = [self._table.digest(open_epoch.mask)]
        if self._reorder is not None and self.sharding == "replicated":
            selection.append(digest_of(self._selection_of(open_epoch).indices.tobytes()))
        settings = {**self._settings(), "epoch": open_epoch.epoch}
        return [digest_of(repr(settings).encode()), digest_of(repr(selection).encode())]

    def _settings(self) -> dict[str, Any]:
        """Returns what all ranks must have in common."""
        lengths = None if self.lengths is None else digest_of(repr(self.lengths).encode())
        return {
            **self._identity(),
            "batch_size": self.sizes.batch_size,
            "drop_last": self.sizes.drop_last,
            "lengths of the epochs": lengths,
        }

    # Saving and resuming.

    def __getstate__(self) -> dict[str, Any]:
        self._collect()
        return vars(self)

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
        what, digests = None, [0, 0]
        begun = self._open is not None and (begun or bool(done) or self.begun)
        if self._open is not None and begun:
            digests = self._digests(self._open)
            what = f"state_dict() in epoch {self.epoch}" if gather else None
            if self.ranks is not None and what is not None and self.sharding == "replicated":
                done = min(int(place[0]) for place in self.ranks.gather(np.array([done]), what))
        return {
            "format": state.FORMAT,
            **self._identity(),
            **self._table.state_dict(what, digests, copy),
            **self._ledger.state_dict(),
            "next_epoch": self.next_epoch,
            "done": done,
            "begun": begun,
            "open": None if self._open is None else self._open.state_dict(),
            **state.part_of(self.ranks, self.sharding, whole=self._open is None or gather),
        }

    def _identity(self) -> dict[str, Any]:
        """Returns what a state must have in common with this pruner."""
        return {
            "n": self.n,
            "epochs": self.epochs,
            "seed": self.seed,
            "policy": state.describe(self.policy),
            "budget": self._budget_text,
            "always_keep": state.describe_indices(self.always_keep),
            "strata": state.describe_indices(self._strata),
            "sharding": self.sharding,
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
                or shrunk at its end. An open epoch is finished as it was begun ("n" needs one that
                is over).

        Raises:
            ValueError: Something else differs, or this is no such state; nothing is changed then.
        """
        states = state.parts(saved)
        for part in states:
            state.check(part, self._identity(), set(changed))
        state.check_complete(states)
        head = states[0]
        for holder in self._holders:
            holder.clear()
        recorded = self._table.load_state_dict(states)
        self.next_epoch = int(head["next_epoch"])
        self._ledger.load_state_dict(head)
        self.histogram = self.curve = self._open = None
        self.done, self._resumed = 0, False
        if head["open"] is not None:
            # On other ranks the mask of a sharded table is what is left to train.
            mask, same_order = self._table.open_mask(states)
            self.done = min(int(part["done"]) for part in states) if same_order else 0
            self._resumed = any(part["begun"] or len(part["log"]["indices"]) for part in states)
            weights = self._table.open_weights(states)
            self._open = OpenEpoch.from_state(head["open"], mask, weights, self._table)
            self.curve = self._open.curve
            self._ledger.count(self._open.row, recorded)

    def resize(self, n: int, *, strata: ArrayLike | None = None) -> None:
        """Takes up a dataset that has grown or shrunk at its end; new samples are unseen.

        Args:
            n: Its new length. A budget is a share of that length from the next epoch on.
            strata: Integers (n,), where the pruner was made with some.

        Raises:
            RuntimeError: An epoch is open, or the table is sharded.
            ValueError, IndexError: `n` is not allowed, or a sample of `always_keep` is gone.
        """
        if self._open is not None:
            raise RuntimeError(f"epoch {self.epoch} is open: call end_epoch() before resize()")
        if self.sharding == "sharded":
            raise RuntimeError(
                "a sharded table cannot be resized, since its shards depend on the length: make a "
                "new Pruner for the longer dataset"
            )
        n = arguments.integer("n", n, 1, "a dataset needs at least one sample")
        always_keep = arguments.always_keep(self.always_keep, n)
        classes = arguments.strata(strata, n, self.policy)
        own = self.sizes
        sizes = arguments.sizes(n, own.batch_size, own.drop_last, self.ranks)
        if self._steps is None or self.lengths is None or self._budget is None:
            lengths = arguments.lengths(sizes, self._budget, self.epochs, None, always_keep)
        else:
            lengths = arguments.resized_lengths(
                sizes, self._budget, self.lengths, self.next_epoch, own, always_keep
            )
        saved = self._table.state_dict(None, [0, 0], True)
        self.n, self.sizes, self.lengths, self.always_keep = n, sizes, lengths, always_keep
        self._strata = classes
        self._table = self._make_table()
        self._table.load_state_dict([{**saved, "open": None}])

    def _make_table(self, losses: ArrayLike | None = None) -> Table:
        return make_table(
            self.sharding,
            self.n,
            self.epochs,
            losses,
            always_keep=self.always_keep,
            count_kept=self._count_kept,
            scored=self._scored,
            strata=self._strata,
            seed=self.seed,
            threads=self.threads,
            ranks=self.ranks,
        )
