"""The checked arguments of a `Pruner`, and what follows from them.

An immutable value: the lengths of the epochs, the kind of the loss table, and what all ranks, and a
state to be loaded, must have in common with the run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seta.engine import arguments, parallel
from seta.engine.arguments import Reorder
from seta.engine.curves.policy import Policy, score_of
from seta.engine.state import identity
from seta.engine.state.describe import describe
from seta.engine.steps import Budget, Steps
from seta.engine.table.exchange import digest_of
from seta.engine.table.make import make_table
from seta.engine.table.ranks import Ranks
from seta.engine.table.table import Sharding, Table
from seta.engine.trace import Trace


@dataclass(frozen=True)
class Settings:
    """The arguments of a run, checked.

    Attributes:
        n: Samples of the dataset.
        policy: Makes the keep curve.
        epochs: Length of the run.
        seed: Of all random choices.
        budget: Share of full training's visits; None: none.
        steps: Under a budget, the length of the run in batches on each rank, if it was given so.
        sizes: Of batches.
        lengths: Samples of each epoch under a budget; None: they vary.
        always_keep: int64 (A,), sorted; None: none.
        strata: Unsigned integers (n,), where the policy looks at them.
        reorder: Puts an epoch's indices into another order.
        count_kept: Whether to count how often each sample was kept.
        track: Whether visits, mean and spread of each sample's losses are kept.
        traced: int64, sorted, samples whose losses of all epochs are kept, as the user named them.
        threads: Threads to use.
        ranks: The processes that train together.
        sharding: "replicated" or "sharded".
    """

    n: int
    policy: Policy
    epochs: int
    seed: int
    budget: Budget | None
    steps: int | None
    sizes: Steps
    lengths: list[int] | None
    always_keep: NDArray[np.int64] | None
    strata: NDArray[np.unsignedinteger[Any]] | None
    reorder: Reorder | None
    count_kept: bool
    track: bool
    traced: NDArray[np.int64] | None
    threads: int
    ranks: Ranks | None
    sharding: Sharding

    @classmethod
    def of(
        cls,
        n: int,
        policy: Policy | str,
        *,
        epochs: int | None,
        seed: int,
        budget: Budget | None,
        steps: int | None,
        batch_size: int,
        drop_last: bool,
        always_keep: ArrayLike | None,
        strata: ArrayLike | None,
        reorder: Reorder | None,
        count_kept: bool,
        track: bool | ArrayLike,
        threads: int | None,
        ranks: Ranks | None,
        sharding: Sharding | None,
    ) -> Settings:
        """Checks the arguments of a `Pruner`, which says what they are.

        Raises:
            ValueError, TypeError: One is not what it must be.
        """
        n = arguments.integer("n", n, 1, "a dataset needs at least one sample")
        kept = arguments.always_keep(always_keep, n)
        sizes = arguments.sizes(n, batch_size, drop_last, ranks)
        lengths = arguments.lengths(sizes, budget, epochs, steps, kept)
        length = arguments.epochs(epochs) if lengths is None else len(lengths)
        method = arguments.policy(policy, arguments.share(budget, length))
        return cls(
            n,
            method,
            length,
            arguments.integer("seed", seed, 0, "give a fixed number, such as 0"),
            budget,
            steps,
            sizes,
            lengths,
            kept,
            arguments.strata(strata, n, method),
            reorder,
            count_kept,
            bool(track) if isinstance(track, (bool, np.bool_)) else True,
            arguments.traced(track, n),
            parallel.available_threads()
            if threads is None
            else arguments.integer("threads", threads, 1, "leave it out to use all cores"),
            ranks,
            arguments.sharding(sharding, n, ranks),
        )

    def resized(self, n: int, strata: ArrayLike | None, next_epoch: int) -> Settings:
        """Returns the settings for a dataset that has grown or shrunk at its end.

        Args:
            n: Its new length.
            strata: Integers (n,), where there were some.
            next_epoch: The first epoch that has it.
        """
        n = arguments.integer("n", n, 1, "a dataset needs at least one sample")
        kept = arguments.always_keep(self.always_keep, n)
        own = self.sizes
        sizes = arguments.sizes(n, own.batch_size, own.drop_last, self.ranks)
        if self.lengths is None or self.budget is None:
            lengths = arguments.lengths(sizes, None, self.epochs, None, kept)
        else:
            batches = None
            if self.steps is not None:
                batches = sum(map(own.batches, self.lengths[next_epoch:]))
            lengths = arguments.resized_lengths(
                sizes, self.budget, self.lengths, next_epoch, batches, kept
            )
        classes = arguments.strata(strata, n, self.policy)
        if classes is None and self.strata is not None:
            raise ValueError(
                "strata=None, but this run chooses by class: give strata= for the resized dataset, "
                f"the class of each of its {n} samples"
            )
        traced = None if self.traced is None else self.traced[self.traced < n]
        return replace(
            self,
            n=n,
            sizes=sizes,
            lengths=lengths,
            always_keep=kept,
            strata=classes,
            traced=traced,
        )

    def table(self, losses: ArrayLike | None = None, *, begun: bool = False) -> Table:
        """Returns the table of a run that begins.

        Args:
            losses: float (n,), a warm start, NaN = unseen; None: all are unseen.
            begun: Whether it is the table of a run that has begun, with losses to come.
        """
        return make_table(
            self.sharding,
            self.n,
            self.epochs,
            losses,
            always_keep=self.always_keep,
            count_kept=self.count_kept,
            track=self.track,
            scored=score_of(self.policy, self.epochs, warm=begun or losses is not None),
            strata=self.strata,
            seed=self.seed,
            threads=self.threads,
            ranks=self.ranks,
        )

    def trace(self) -> Trace | None:
        """Returns what remembers the course of a run that begins; None if it is not tracked."""
        return Trace(self.n, self.seed, self.traced) if self.track else None

    def identity(self) -> dict[str, Any]:
        """Returns what a state must have in common with the run."""
        return {
            "n": self.n,
            "epochs": self.epochs,
            "seed": self.seed,
            "policy": describe(self.policy),
            "budget": identity.describe_budget(self.budget, self.epochs),
            "always_keep": identity.describe_indices(self.always_keep),
            "strata": identity.describe_indices(self.strata),
            "sharding": self.sharding,
        }

    def agreed(self) -> dict[str, Any]:
        """Returns what all ranks must have in common."""
        lengths = None if self.lengths is None else digest_of(repr(self.lengths).encode())
        return {
            **self.identity(),
            "batch_size": self.sizes.batch_size,
            "drop_last": self.sizes.drop_last,
            "steps": self.steps,
            "reorder": self.reorder is not None,
            "count_kept": self.count_kept,
            "track": self.track and (identity.describe_indices(self.traced) or True),
            "lengths of the epochs": lengths,
        }
