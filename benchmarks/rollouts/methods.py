"""How prompts are chosen: all alike, by the two policies, or by making more groups than are used.

Each is a stream of prompts, and is told the rewards of their groups. All make the same number of
rollouts, to within one batch. A run of the policies has short epochs, so that they choose often.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import seta
from seta.rl import SuccessRate, ZeroSignal, group_signal

SHARE = 0.25
"""Of the prompts, in an epoch of the policies."""


@dataclass(frozen=True)
class Method:
    """A way to choose prompts.

    Attributes:
        policy: Chooses those of an epoch.
        share: Of the prompts, in an epoch.
        resampled: Whether groups without spread are put aside, and the optimizer's step waits until
            there are enough with one.
    """

    policy: seta.Policy | str
    share: float = 1.0
    resampled: bool = False


METHODS: dict[str, Method] = {
    "Uniform": Method("Full"),
    "DynamicResampling": Method("Full", resampled=True),
    "ZeroSignal": Method(ZeroSignal(), SHARE),
    "SuccessRate": Method(SuccessRate(1 - SHARE), SHARE),
}


def batches(
    method: Method, prompts: int, passes: int, batch: int, seed: int
) -> Iterator[tuple[NDArray[np.int64], Callable[[NDArray[np.float32]], None]]]:
    """Yields the prompts of each batch, and what takes the rewards of their groups.

    Args:
        method: Chooses them.
        prompts: How many there are.
        passes: How many groups are made for each on average.
        batch: Prompts of a batch.
        seed: Of the choice.
    """
    epochs = round(passes / method.share)
    budget = None if method.share == 1 else method.share
    pruner = seta.Pruner(
        prompts, method.policy, epochs=epochs, budget=budget, batch_size=batch, seed=seed
    )
    for _ in range(epochs):
        for indices, _ in seta.batches(pruner):

            def take(rewards: NDArray[np.float32], at: NDArray[np.int64] = indices) -> None:
                pruner.record(at, group_signal(rewards))

            yield indices, take
        pruner.end_epoch()
