"""Four epochs to look at: an early one, two in the middle, and the last.

A listener on one run, that of SeTa with the first seed, which keeps the histogram and the curve of
these epochs for the plot. Holds at most four of each, some megabytes.
"""

from collections.abc import Callable, Sequence

from seta.demo.settings import EQUAL_COST
from seta.engine import Pruner
from seta.report.curves import Snapshot
from seta.report.results import Run

__all__ = ["SnapshotTaker"]


class SnapshotTaker:
    """Takes the snapshots of the first run of one method.

    Args:
        methods: The methods of the demo; SeTa is looked at, or else the first that prunes.
        epochs: Epochs of its runs.
    """

    def __init__(self, methods: Sequence[str], epochs: int) -> None:
        pruning = [name for name in methods if name not in ("Full", EQUAL_COST)]
        self.method = "SeTa" if "SeTa" in pruning else (*pruning, "Full")[0]
        self.taken: list[Snapshot] = []
        # Of SeTa's defaults, odd epochs leave out the easiest group and even ones the hardest.
        middle = epochs // 2 - epochs // 2 % 2
        names = {middle: "Middle", middle + 1: "The next one", 1: "Early", epochs - 1: "Annealing"}
        self._names = {epoch: name for epoch, name in names.items() if epoch < epochs}
        self._epochs = epochs

    def listener(self, run: Run) -> Callable[[Pruner], None] | None:
        """What to call when the epochs of this run begin; None if it is not the one looked at."""
        return self._look if run.method == self.method and run.seed == 0 else None

    def _look(self, pruner: Pruner) -> None:
        epoch, histogram, curve = pruner.epoch, pruner.histogram, pruner.curve
        if epoch not in self._names or histogram is None or curve is None or not histogram.seen:
            return
        name = self._names[epoch]
        if name == "Annealing" and (curve.window or not hasattr(pruner.policy, "delta")):
            name = "Last"
        kept = f"{curve.expected(histogram):,.0f} of {histogram.total:,}"
        title = f"{name}: epoch {epoch + 1} of {self._epochs}\n{kept} samples expected"
        self.taken.append(Snapshot(title, histogram, curve))
