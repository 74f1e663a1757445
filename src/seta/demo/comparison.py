"""The runs of a demo: which there are, in which order they are made, and what one tells.

Between the settings and the training. Seed after seed, all methods of a seed: whenever the user has
seen enough, what was measured is a fair comparison.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from seta.demo.data import ImageData
from seta.demo.display import Display
from seta.demo.rows import RowWriter
from seta.demo.settings import EQUAL_COST, DemoSettings, make_policy, takes_cost
from seta.demo.snapshots import SnapshotTaker
from seta.demo.train import Recipe, sizes, train
from seta.engine import Policy
from seta.report.results import Run
from seta.report.units import many

__all__ = ["Comparison"]


@dataclass
class Comparison:
    """All runs of a demo, made or not yet made.

    Attributes:
        settings: What was asked for.
        data: What is trained on.
        recipe: What all runs have in common.
        epochs: Epochs of full training, and of every run that is not cut short.
        runs: A run per method and seed, in the order of the table.
        snapshots: Takes the epochs to draw.
    """

    settings: DemoSettings
    data: ImageData
    recipe: Recipe
    epochs: int = field(init=False)
    runs: list[Run] = field(init=False)
    snapshots: SnapshotTaker = field(init=False)

    def __post_init__(self) -> None:
        methods, seeds = self.settings.methods, range(self.settings.seeds)
        self.epochs = self.settings.epochs or self.data.epochs
        self.runs = [Run(method, seed, self.epochs) for method in methods for seed in seeds]
        self.snapshots = SnapshotTaker(methods, self.epochs)

    @property
    def title(self) -> str:
        """What is compared, in a line."""
        length = f"{many(self.epochs, 'epoch')}, {many(self.settings.seeds, 'seed')}"
        return f"seta demo: {self.data.name}, {length}"

    @property
    def finished(self) -> int:
        """Number of runs that are finished."""
        return sum(run.finished for run in self.runs)

    def make_all(self, rows: RowWriter, display: Display) -> None:
        """Make all runs, and tell of every epoch."""
        for run in sorted(self.runs, key=_turn):
            budget = self._budget(run)
            policy = make_policy(run.method, self.settings.prune_ratio, budget)
            for row in self._epochs(run, policy, budget):
                run.rows.append(row)
                rows.write("epoch", row)
                display.update(run)
            rows.write("run", _closing_row(run, policy))

    @property
    def _full(self) -> int:
        """Samples that an epoch of full training trains."""
        return sizes(self.data, self.recipe).most

    def _budget(self, run: Run) -> float | None:
        """What SeTa trained with the seed of a run about to be made, if that is to cost as much.

        The epochs of full training are cut to it.
        """
        for model in self.runs:
            if model.method == "SeTa" and model.seed == run.seed and model.finished:
                if run.method == EQUAL_COST:
                    run.epochs = max(1, round(model.last("visits") / self._full))
                if takes_cost(run.method):
                    return model.last("visits") / (self._full * self.epochs)
        return None

    def _epochs(self, run: Run, policy: Policy, budget: float | None) -> Iterable[dict[str, Any]]:
        """The rows of a run; `saved` is beside full training that has come equally far."""
        steps = train(
            self.data,
            policy,
            self.recipe,
            epochs=run.epochs,
            seed=run.seed,
            budget=budget,
            on_begin=self.snapshots.listener(run),
        )
        full = self._full * self.epochs / run.epochs
        for step in steps:
            saved = 1 - step["visits"] / (full * (step["epoch"] + 1))
            yield {"method": run.method, "seed": run.seed, "saved": saved, **step}


def _turn(run: Run) -> tuple[int, int]:
    """When a run is made: seed by seed, and SeTa before those that take their cost from it."""
    order = ("Full", "SeTa")
    return run.seed, order.index(run.method) if run.method in order else len(order)


def _closing_row(run: Run, policy: Policy) -> dict[str, Any]:
    """The line that closes a run."""
    figures = {key: run.rows[-1][key] for key in ("accuracy", "visits", "saved", "seconds")}
    named = {"method": run.method, "seed": run.seed, "epochs": run.epochs}
    return {**named, "policy": repr(policy), **figures}
