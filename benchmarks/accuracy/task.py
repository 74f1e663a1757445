"""What a suite trains: a task holds the data and makes trials; a trial is one net in training.

The harness owns the loop, the same three lines of seta for every task:

    for batch in loader:
        losses = trial.losses(batch)
        loss = loader.update(losses)
        trial.step(loss, loader.progress)

so that a task says how losses are computed and how the net is updated, and never which samples are
trained.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


class Trial(Protocol):
    """One net in training: made with a seed, and equal for equal seeds, whatever the method."""

    def losses(self, batch: Any) -> Tensor:
        """Returns the loss of each sample of a training batch: float (B,), with gradients."""

    def step(self, loss: Tensor, progress: float) -> None:
        """Goes one step down.

        Args:
            loss: The scalar to call `backward()` on.
            progress: The share of the run that lies behind once this batch is trained, in (0, 1],
                counted in epochs; what the learning rate follows.
        """

    def evaluate(self) -> dict[str, float]:
        """Returns what is measured on held-out data; `accuracy`, in [0, 1], is always there.

        A trial may have `evaluate_last` too: called in its place after the last epoch, it returns
        the same and what costs too much to measure more than once.
        """


class Task(Protocol):
    """Data, a net and a recipe; made once in a process, and asked for many trials.

    Attributes:
        dataset: Map-style, with `__getitems__` that returns a whole batch, which is not collated.
        batch_size: Samples per batch.
        classes: Integers (n,), the class of each training sample, right or wrong; None: no classes.
        wrong: bool (n,), which training samples have a wrong label; None: none has.
        settings: All that makes it what it is, JSON-able: sizes, net, recipe.
    """

    dataset: Any
    batch_size: int
    classes: NDArray[np.integer[Any]] | None
    wrong: NDArray[np.bool_] | None
    settings: dict[str, Any]

    def trial(self, seed: int) -> Trial:
        """Returns a new net, and its optimizer, for a run."""
