"""What the tasks on text share: their recipe, their files, and batches of unequal lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from benchmarks.accuracy.image_trial import descend, one_cycle, parameter_groups


@dataclass(frozen=True)
class TextRecipe:
    """How a net is trained, by AdamW.

    Attributes:
        batch_size: Samples per batch.
        rate: Highest learning rate.
        weight_decay: Of the weights; none of biases and normalisations.
        warmup: Share of the run over which the rate rises, before a cosine takes it to 0.
    """

    batch_size: int = 32
    rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: float = 0.2


class Descent:
    """The optimizer of a net, and its learning rate by progress."""

    def __init__(self, net: nn.Module, recipe: TextRecipe) -> None:
        self._recipe = recipe
        self._optimizer = torch.optim.AdamW(
            parameter_groups(net), lr=recipe.rate, weight_decay=recipe.weight_decay
        )

    def step(self, loss: Tensor, progress: float) -> None:
        """Goes one step down, at the rate that the progress calls for."""
        rate = one_cycle(progress, self._recipe.rate, self._recipe.warmup)
        descend(self._optimizer, loss, rate)


def find(data: Path | None, name: str, layout: str) -> Path:
    """Returns the path of a file in the data folder.

    Args:
        data: The folder.
        name: Of the file.
        layout: Which files are needed, and what is in them; for the message.

    Raises:
        ValueError: No folder was given, or the file is not in it.
    """
    if data is None or not (data / name).is_file():
        raise ValueError(f"--data {data}: {name} is not there; give a folder with {layout}")
    return data / name


def padded(rows: Sequence[Sequence[int]], device: str) -> tuple[Tensor, Tensor]:
    """Returns rows filled up with zeros at the end: int64 (B, L); and their lengths: int64 (B,)."""
    lengths = torch.tensor([len(row) for row in rows])
    filled = pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    return filled.to(device), lengths.to(device)
