"""`python -m benchmarks.simulate`: hundreds of ranks in one process, beside what `seta.plan` says.

A sharded epoch as every rank would choose it: the samples are dealt out, each virtual rank counts
the losses of its shards, the counts are summed, and each draws its part with the engine's own code.
What the ranks have then is counted, and compared with the plan and with a single rank. No time is
taken, and nothing is random: the figures are the same everywhere.

Half a minute on two cores; writes `results/simulate.json`, which `benchmarks.scale_table` reads.
`--quick` takes few samples and writes nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.measure import Result
from seta import SeTa
from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.fit import fit
from seta.engine.curves.histogram import LossHistogram
from seta.engine.draw.partition import Partition, shards_of
from seta.engine.draw.shards import count_shards, draw_shards
from seta.plan import Plan, read
from seta.plan.lengths import gamma_losses

BATCH, EPOCH, EPOCHS = 16, 1, 10
SAMPLES, RANKS = 20_000_000, (8, 64, 500, 512, 4096)
QUICK = 1_000_000, (8, 64, 500, 512)

Indices = npt.NDArray[np.int64]


class Simulation:
    """One epoch of a dataset in shards, on any number of virtual ranks.

    Args:
        n: Number of samples.
        losses: float32 (n,); by default made up, and sorted, as where a dataset is in the order of
            its classes.
    """

    def __init__(self, n: int, losses: npt.NDArray[np.float32] | None = None) -> None:
        self.losses = np.sort(gamma_losses(n)) if losses is None else losses
        self.partition = Partition(n, shards_of(n))
        slots = self.partition.slots(range(self.partition.shards))
        self.slots = np.full(len(slots), np.nan, np.float32)
        self.slots[self.partition.slot_of(np.arange(n))] = self.losses
        self.whole = LossHistogram.from_losses(self.losses)
        self._curve = SeTa()(self.whole, EPOCH, EPOCHS)

    def curve(self, length: int) -> KeepCurve:
        """Returns the curve that every rank makes of the summed histogram."""
        return fit(self._curve, self.whole, length).curve

    def counted(self, ranks: int) -> LossHistogram:
        """Returns the histogram that the virtual ranks have after summing their counts."""
        total = None
        for rank in range(ranks):
            shards = self.partition.owned(rank, ranks)
            own = count_shards(self._of(shards), self.partition, shards, binning=self.whole.binning)
            total = own if total is None else total.merge(own)
        assert total is not None
        return total

    def drawn(self, rank: int, ranks: int, length: int, curve: KeepCurve) -> Indices:
        """Returns the samples that a virtual rank chooses, of an epoch of that length."""
        shards = self.partition.owned(rank, ranks)
        mask = draw_shards(
            self._of(shards),
            self.partition,
            shards,
            self.whole,
            curve,
            length,
            seed=0,
            epoch=EPOCH,
            threads=1,
        )
        slots = np.flatnonzero(np.unpackbits(mask)) + self.partition.slots(shards).start
        return self.partition.index_of(slots)

    def _of(self, shards: range) -> npt.NDArray[np.float32]:
        slots = self.partition.slots(shards)
        return self.slots[slots.start : slots.stop]


def simulate(simulation: Simulation, ranks: int) -> dict[str, Any]:
    """Runs an epoch on virtual ranks and returns what they have, beside the plan's figures."""
    n, partition = len(simulation.losses), simulation.partition
    plan = Plan(
        read(
            {
                "samples": str(n),
                "epochs": str(EPOCHS),
                "ranks": str(ranks),
                "batch-size": str(BATCH),
                "budget": "0.6",
                "sharding": "sharded",
            }
        )
    )
    planned = plan.epochs[EPOCH]
    curve = simulation.curve(planned.chosen)
    drawn = [simulation.drawn(rank, ranks, planned.chosen, curve) for rank in range(ranks)]
    counts = [len(indices) for indices in drawn]
    rows = [len(partition.slots(partition.owned(rank, ranks))) for rank in range(ranks)]
    present = [
        int(partition.sizes[owned.start : owned.stop].sum())
        for owned in (partition.owned(rank, ranks) for rank in range(ranks))
    ]
    alone = simulation.drawn(0, 1, planned.chosen, curve)
    merged = simulation.counted(ranks)
    share = plan.request.sizes.whole(min(counts), sum(counts))
    return {
        "samples": n,
        "ranks": ranks,
        "shards": partition.shards,
        "samples_of_rank": [min(present), max(present)],
        "rows_of_rank": [min(rows), max(rows)],
        "chosen": sum(counts),
        "chosen_of_rank": [min(counts), max(counts)],
        "share_of_rank": share,
        "steps_of_rank": -(-share // BATCH),
        "left_over": 1 - share * ranks / sum(counts),
        "loss_of_rank": _spread([simulation.losses[indices].mean() for indices in drawn]),
        "planned": {"rows": plan.rows, "chosen": planned.chosen, "share": planned.share,
                    "steps": planned.steps},
        "same_as_one_rank": bool(np.array_equal(np.sort(np.concatenate(drawn)), np.sort(alone))),
        "merged_is_whole": bool(
            np.array_equal(merged.counts, simulation.whole.counts)
            and merged.unseen == simulation.whole.unseen
        ),
    }  # fmt: skip


def _spread(values: Sequence[float]) -> list[float]:
    return [float(min(values)), float(max(values))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulates all numbers of ranks, prints a line for each, and writes the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulate", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few samples; writes nothing")
    quick = parser.parse_args(arguments).quick
    n, numbers = QUICK if quick else (SAMPLES, RANKS)
    simulation, result = Simulation(n), Result("simulate")
    for ranks in numbers:
        row = simulate(simulation, ranks)
        result.rows.append(row)
        print(", ".join(f"{name} {value}" for name, value in row.items()))
    if not quick:
        result.write(Path(__file__).resolve().parent / "results", "python -m benchmarks.simulate")
    return 0


if __name__ == "__main__":
    sys.exit(main())
