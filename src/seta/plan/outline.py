"""The plan of a run: its epochs, memory, exchanges and times, put together from the cost model.

Top of `seta.plan`. What is asked for comes in as a `Request`, what this machine can do as a
`Calibration`; nothing here has a clock or a screen. Costs milliseconds, and where there is no
budget some milliseconds per epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from seta import policies
from seta.engine.curves.policy import Policy, counted_columns
from seta.engine.draw.partition import Partition, shards_of
from seta.plan import model
from seta.plan.lengths import is_weighted, planned_lengths
from seta.plan.model import Exchange, Memory
from seta.plan.request import PlanError, Request
from seta.plan.times import Calibration, Times

__all__ = ["EpochPlan", "Plan"]


@dataclass(frozen=True)
class EpochPlan:
    """An epoch to come.

    Attributes:
        chosen: Samples in its selection.
        share: How many of them each rank trains.
        steps: In how many batches.
    """

    chosen: int
    share: int
    steps: int


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Attributes:
        request: The run.
        threads: That each rank chooses with.
    """

    request: Request
    threads: int = 2

    @property
    def exact(self) -> bool:
        """Whether the lengths of the epochs are known, not estimated."""
        return self.request.budget is not None

    @property
    def policy(self) -> Policy:
        """The method that the run trains with, as it is made for the budget."""
        return policies.get(self.request.policy, budget=self.request.budget)

    @cached_property
    def epochs(self) -> list[EpochPlan]:
        """All epochs of the run."""
        request = self.request
        try:
            lengths = planned_lengths(request.sizes, request.epochs, self.policy, request.budget)
        except ValueError as error:
            raise PlanError(f"--budget {request.budget}: {error}") from error
        plans = {chosen: self._epoch(chosen) for chosen in set(lengths)}
        return [plans[chosen] for chosen in lengths]

    def _epoch(self, chosen: int) -> EpochPlan:
        request = self.request
        share = request.sizes.whole(self._share(chosen)[0], chosen)
        if not share:
            raise PlanError(
                f"--ranks {request.ranks}: an epoch of about {chosen:,} samples leaves a rank "
                f"without a batch of {request.batch_size}; give fewer --ranks, or a --budget"
            )
        return EpochPlan(chosen, share, -(-share // request.batch_size))

    def _share(self, chosen: int) -> tuple[int, int]:
        """Returns how many samples each rank trains of an epoch, and the most that one chooses."""
        if not self.partition:
            return chosen // self.request.ranks, chosen
        ranks, partition = self.request.ranks, self.partition
        first = [partition.owned(rank, ranks).start for rank in range(ranks)]
        counts = np.add.reduceat(partition.counts(chosen), first)
        return int(counts.min()), int(counts.max())

    @cached_property
    def partition(self) -> Partition | None:
        """How the samples are dealt out to the ranks; None where each rank has all."""
        if self.request.sharding == "replicated":
            return None
        return Partition(self.request.samples, shards_of(self.request.samples))

    @property
    def left_over(self) -> float:
        """Share of the chosen samples that no rank trains, as some own a shard more than others."""
        if not self.partition:
            return 0.0
        ranks, shards = self.request.ranks, self.partition.shards
        return 1 - shards // ranks * ranks / shards

    @property
    def even_ranks(self) -> tuple[int, int]:
        """The nearest numbers of ranks that own equally many shards: no more than now, and more."""
        shards, ranks = shards_of(self.request.samples), self.request.ranks
        even = [number for number in range(1, shards + 1) if shards % number == 0]
        return max(e for e in even if e <= ranks), min(e for e in even if e >= ranks)

    @property
    def rows(self) -> int:
        """Rows of the largest loss table of a rank."""
        if not self.partition:
            return self.request.samples
        return -(-self.partition.shards // self.request.ranks) * self.partition.length

    @property
    def visits(self) -> int:
        """Samples trained in the whole run, by all ranks."""
        return sum(epoch.share for epoch in self.epochs) * self.request.ranks

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return sum(epoch.steps for epoch in self.epochs)

    @property
    def full_visits(self) -> int:
        """Samples that full training would train on."""
        return self.request.sizes.most * self.request.epochs

    @property
    def average(self) -> int:
        """Samples that all ranks train in the average epoch, equally many on each."""
        return round(self.visits / self.request.ranks / self.request.epochs) * self.request.ranks

    @cached_property
    def memory(self) -> Memory:
        """Of a rank, in the longest epoch."""
        request = self.request
        longest = max(self.epochs, key=lambda epoch: epoch.chosen)
        tells = request.ranks > 1 and not self.partition
        return model.memory(
            request.samples,
            self.rows,
            epochs=request.epochs,
            logged=longest.share if tells else 0,
            exchanged=longest.share * request.ranks if tells else 0,
            weighted=is_weighted(self.policy, request.epochs),
            columns=len(getattr(self.policy, "columns", ())),
            classes=request.classes,
            threads=self.threads,
        )

    @property
    def exchange(self) -> Exchange:
        """At the end of the average epoch."""
        if self.partition:
            columns = len(counted_columns(self.policy))
            return model.sharded_exchange(self.request.ranks, columns=columns)
        return model.replicated_exchange(self.request.samples, self.request.ranks, self.average)

    @property
    def published(self) -> Exchange:
        """In the steps of the average epoch, as the methods' published code makes them."""
        request = self.request
        return model.published_exchange(request.ranks, request.batch_size, self.average)

    def times(self, calibration: Calibration) -> Times:
        """Returns how long an epoch takes, on machines like the one that was timed."""
        request = self.request
        gathered = 0 if self.partition or request.ranks == 1 else self.average
        slower = calibration.crowded(request.node_ranks)
        most = max(self.exchange.sent, self.exchange.received)
        speed = request.throughput and request.ranks * request.throughput
        return Times(
            choose=(self.rows * calibration.choose_ns * 1e-9 + calibration.choose_s) * slower,
            order=self.average / request.ranks * calibration.order_ns * 1e-9,
            record=gathered * calibration.record_ns * 1e-9,
            exchange=most / request.bandwidth if request.bandwidth else None,
            train=self.average / speed if speed else None,
            full=request.sizes.most / speed if speed else None,
        )
