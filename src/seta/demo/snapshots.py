"""Four epochs to look at: an early one, two in the middle, and the last.

Looks on while one run trains, and keeps the histogram and the curve of these epochs for a picture,
and the pruner for a page. Holds at most four of each, some megabytes.
"""

from collections.abc import Sequence
from pathlib import Path

from seta.comparison.picture import save
from seta.engine import Pruner
from seta.engine.curves.policy import score_of
from seta.report.curves import Snapshot, curves_figure

__all__ = ["KeepCurves"]


class KeepCurves:
    """What the first whole run of one method trains on.

    Args:
        methods: The methods of the demo; the first that prunes is looked at.

    Attributes:
        pruner: That of the run; None: none was whole.
    """

    def __init__(self, methods: Sequence[str]) -> None:
        self.method = next((name for name in methods if name != "Full"), None)
        self._taken: list[Snapshot] = []
        self._title = ""
        self.pruner: Pruner | None = None

    def look(self, pruner: Pruner) -> None:
        """Looks at an epoch that has just begun."""
        epoch, epochs = pruner.epoch, pruner.epochs
        if epoch is None or type(pruner.policy).__name__ != self.method or self._title:
            return
        if epoch == 0:
            self._taken = []  # an earlier run was not whole
        # Of SeTa's defaults, odd epochs leave out the easiest group and even ones the hardest.
        middle = epochs // 2 - epochs // 2 % 2
        if epoch in (1, middle, middle + 1, epochs - 1):
            self._take(pruner)
        if epoch == epochs - 1:
            self.pruner = pruner
            trained = sum(pruner.lengths or [])
            self._title = (
                f"What a run of {self.method} trains on: {trained:,} sample visits in {epochs} "
                "epochs"
            )

    def _take(self, pruner: Pruner) -> None:
        histogram, curve = pruner.histogram, pruner.curve
        if histogram is None or curve is None or not histogram.seen:
            return
        kept = f"trains {pruner.kept:,} of {pruner.n:,} samples"
        title = f"Epoch {(pruner.epoch or 0) + 1} of {pruner.epochs}\n{kept}"
        scored = score_of(pruner.policy, pruner.epochs) is not None
        self._taken.append(Snapshot(title, histogram, curve, "score" if scored else "loss"))

    def save(self, path: Path) -> None:
        """Draws the run into a PNG, if one was whole and knew any losses."""
        if self._title and self._taken:
            save(curves_figure(self._taken, title=self._title), path)
