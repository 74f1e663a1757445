"""`PerSample`: the loss function of a learner, unreduced in pruned passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastai.layers import NoneReduce  # type: ignore[import-not-found,import-untyped,unused-ignore]


class PerSample:
    """A loss function that returns one loss per element while a pruned pass is running.

    MixUp and `get_preds(with_loss=True)` set its `reduction` for a moment, as of any other.

    Args:
        function: The learner's: it has a `reduction`, or takes one as an argument.
        active: Returns whether a pruned pass is running.
    """

    def __init__(self, function: Any, active: Callable[[], bool]) -> None:
        self.function, self._active = function, active

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Returns the loss, or the losses."""
        if not self._active():
            return self.function(*arguments, **options)
        with NoneReduce(self.function) as unreduced:
            return unreduced(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("function", "_active"):
            raise AttributeError(name)
        return getattr(self.function, name)

    @property
    def reduction(self) -> str:
        """As of the learner's loss function; "none" in a pruned pass."""
        return "none" if self._active() else self.function.reduction

    @reduction.setter
    def reduction(self, value: str) -> None:
        if not self._active():
            self.function.reduction = value
