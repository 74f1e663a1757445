"""Times of a planned run: what was timed on this machine, and what follows for an epoch.

Plain data; `stopwatch` fills the one, `Plan.times` the other.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Calibration", "Times"]


@dataclass(frozen=True)
class Calibration:
    """What was timed.

    Attributes:
        samples: At which size.
        choose_ns: Nanoseconds per sample to choose an epoch.
        choose_s: Seconds per epoch besides, however many samples it has: what each class costs.
        order_ns: Nanoseconds per trained sample to look up which comes next, on one thread.
        record_ns: Nanoseconds per sample to take over the losses of an epoch at once.
        threads: Threads that a rank uses.
        cores: Cores that this process may use.
    """

    samples: int
    choose_ns: float
    order_ns: float
    record_ns: float
    threads: int
    cores: int
    choose_s: float = 0.0

    def crowded(self, ranks_here: int) -> float:
        """Returns how many times slower a rank is where several share cores like these."""
        return max(1.0, ranks_here * self.threads / self.cores)


@dataclass(frozen=True)
class Times:
    """Seconds of the average epoch, as every rank sees them.

    Attributes:
        choose: To choose it.
        order: To look up which samples come next, a block at a time, as it is trained.
        record: To take over the losses of all ranks when it ends.
        exchange: To exchange them; None: the bandwidth is not known.
        train: To train it; None: the throughput is not known.
        full: To train on all samples instead; None likewise.
    """

    choose: float
    order: float
    record: float
    exchange: float | None
    train: float | None
    full: float | None

    @property
    def overhead(self) -> float:
        """What choosing adds to an epoch."""
        return self.choose + self.order + self.record + (self.exchange or 0.0)

    @property
    def run(self) -> float | None:
        """What an epoch takes: training, and all that choosing adds to it."""
        return None if self.train is None else self.train + self.overhead

    @property
    def saved(self) -> float | None:
        """What an epoch is shorter than one of full training."""
        return None if self.run is None or self.full is None else self.full - self.run
