"""One run, and all that cleanlab and `Pruner.suspects` may know of it.

The net's outputs are read off as it trains, by a hook: no forward pass is added, but for the last
one over all samples, which cleanlab's usual way needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.accuracy.run import as_is
from seta.comparison.contenders import Contender
from seta.engine.samples import SampleTable
from seta.torch import PrunedDataLoader


@dataclass(frozen=True)
class Watched:
    """What is known after a run.

    Attributes:
        table: Of the pruner, with the losses.
        by_class: Its column `suspicion` where samples are compared with their class: float32 (n,).
        averaged: float32 (n, C), each sample's probabilities, averaged over its visits; NaN: none.
        last: float32 (n, C), those of the trained net, in a pass over all samples.
        accuracy: On held-out data, in [0, 1].
        visits: Samples trained.
    """

    table: SampleTable
    by_class: NDArray[np.float32]
    averaged: NDArray[np.float32]
    last: NDArray[np.float32]
    accuracy: float
    visits: int


class Outputs:
    """The probabilities of all batches that a net has seen since they were last taken."""

    def __init__(self, net: nn.Module) -> None:
        self._found: list[Tensor] = []
        net.register_forward_hook(self._hear)

    def _hear(self, net: nn.Module, inputs: Any, logits: Tensor) -> None:
        self._found.append(logits.detach().float().softmax(dim=1))

    def take(self) -> NDArray[np.float32]:
        """Returns them in order: float32 (samples, C), and forgets them."""
        found: NDArray[np.float32] = torch.cat(self._found).numpy()
        self._found.clear()
        return found


def watch(task: Any, contender: Contender, seed: int, epochs: int) -> Watched:
    """Trains a net and returns what is known of the samples.

    Args:
        task: Of `benchmarks.suspects.tasks`.
        contender: Chooses the samples.
        seed: Of the net, of the selections and of torch's random state, which is put back.
        epochs: Of full training.
    """
    loader = PrunedDataLoader(
        task.dataset,
        contender.policy(),
        epochs=epochs,
        budget=contender.budget,
        seed=seed,
        batch_size=task.batch_size,
        drop_last=True,
        collate_fn=as_is,
        with_indices=True,
        threads=torch.get_num_threads(),
        track=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        trial = task.trial(seed)
        averaged, visits = _train(loader, trial, Outputs(trial.net), len(np.unique(task.classes)))
        accuracy = trial.evaluate()["accuracy"]
        last = _passed(task, trial)
    pruner = loader.pruner
    compared = pruner.suspects(pruner.n, classes=task.classes)
    by_class = np.full(pruner.n, np.nan, np.float32)
    by_class[compared["index"]] = compared["suspicion"]
    return Watched(pruner.table(), by_class, averaged, last, accuracy, visits)


def _train(
    loader: PrunedDataLoader, trial: Any, outputs: Outputs, classes: int
) -> tuple[NDArray[np.float32], int]:
    """Trains all epochs; returns the averaged probabilities, and the number of visits."""
    sums = np.zeros((loader.pruner.n, classes))
    times = np.zeros(len(sums))
    total = sum(loader.pruner.lengths or ())
    for epoch in range(loader.epochs):
        loader.set_epoch(epoch)
        for indices, batch in loader:
            loss = loader.update(trial.losses(batch), indices=indices)
            sums[indices] += outputs.take()
            times[indices] += 1
            trial.step(loss, times.sum() / total)
        loader.end_epoch()
    with np.errstate(invalid="ignore"):
        averaged = (sums / times[:, None]).astype(np.float32)
    return averaged, int(times.sum())


def _passed(task: Any, trial: Any) -> NDArray[np.float32]:
    """Returns the probabilities of all training samples: they are evaluated as if held out."""
    outputs, held_out = Outputs(trial.net), task.held_out
    task.held_out = task.dataset
    try:
        trial.evaluate()
    finally:
        task.held_out = held_out
    return outputs.take()
