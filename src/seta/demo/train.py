"""One training run: a net, a policy, and the loop of any user of `PrunedDataLoader`.

Between the data and the rows: `train` yields one row per epoch and holds nothing else back. Three
lines of its loop are seta's (the loader, `set_epoch`, `update`); the rest is ordinary PyTorch. A
run of 40 epochs on the digits takes about two seconds on one core.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from seta import Pruner
from seta.demo.data import ImageData
from seta.demo.files import Labels
from seta.demo.net import learning_rate, make_net
from seta.engine import Policy
from seta.engine.curves.policy import is_stratified
from seta.engine.steps import Steps
from seta.torch import PrunedDataLoader

__all__ = ["Recipe", "TensorImages", "accuracy", "batch_as_is", "sizes", "train", "warm_up"]

Batch = tuple[Tensor, Tensor]

_PIXELS = 1 << 20


@dataclass(frozen=True)
class Recipe:
    """What all runs have in common."""

    batch_size: int = 64
    peak_rate: float = 0.01
    weight_decay: float = 0.01
    width: int = 16
    device: str = "cpu"


class TensorImages(torch.utils.data.Dataset[Batch]):
    """Images and labels held in memory; whole batches are taken at once."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: list[int]) -> Batch:
        """The images float32 (B, C, H, W) and labels int64 (B,) of a batch."""
        return self.images[indices], self.labels[indices]


def batch_as_is(batch: Batch) -> Batch:
    """The collate function of `TensorImages`, whose batches are made already."""
    return batch


def tensors(data: ImageData, device: str) -> tuple[TensorImages, TensorImages]:
    """The images to train on and to measure on, on a device."""
    pairs = ((data.train, data.train_labels), (data.test, data.test_labels))
    first, second = (
        TensorImages(torch.as_tensor(images).to(device), torch.as_tensor(labels).to(device))
        for images, labels in pairs
    )
    return first, second


def sizes(data: ImageData, recipe: Recipe) -> Steps:
    """What fills batches: a smaller last one, which takes as large a step, is left to no method."""
    n = len(data.train)
    return Steps(n, recipe.batch_size, drop_last=n >= recipe.batch_size)


def train(
    data: ImageData,
    policy: Policy,
    recipe: Recipe,
    *,
    epochs: int,
    seed: int,
    budget: float | None = None,
    on_begin: Callable[[Pruner], None] | None = None,
) -> Iterator[dict[str, Any]]:
    """Train one net, epoch by epoch.

    Args:
        data: The images.
        policy: Chooses the samples of every epoch.
        recipe: What all runs have in common.
        epochs: Number of epochs; the learning rate is fitted to them.
        seed: Seed of the initial weights, and of what is drawn in which order.
        budget: Share of full training's visits; None: as many as the policy keeps.
        on_begin: Called when an epoch's selection has been made, with the pruner to look at.

    Yields:
        A row per epoch: `epoch` (from 0), `accuracy` (0..1, held-out images), `visits` (samples
        trained up to now), `seconds` (of training up to now, without measuring), `pruning` (the
        pruner's own row of this epoch).
    """
    images, held_out = tensors(data, recipe.device)
    net = make_net(data.shape, data.classes, seed, recipe.width).to(recipe.device)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=recipe.weight_decay)
    loader = PrunedDataLoader(
        images,
        policy,
        epochs=epochs,
        seed=seed,
        budget=budget,
        batch_size=recipe.batch_size,
        drop_last=sizes(data, recipe).drop_last,
        collate_fn=batch_as_is,
        strata=_classes(data.train_labels) if is_stratified(policy) else None,
    )
    visits, seconds = 0, 0.0
    for epoch in range(epochs):
        began = time.perf_counter()
        loader.set_epoch(epoch)
        if on_begin:
            on_begin(loader.pruner)
        visits += _train_epoch(net, optimizer, loader, recipe, epoch, epochs)
        pruning = loader.end_epoch()
        seconds += time.perf_counter() - began
        measured = accuracy(net, held_out)
        yield {
            "epoch": epoch,
            "accuracy": measured,
            "visits": visits,
            "seconds": seconds,
            "pruning": pruning,
        }


def _classes(labels: Labels) -> NDArray[np.intp]:
    """The labels that are trained on, numbered without gaps: of few images some have none."""
    classes: NDArray[np.intp] = np.unique(labels, return_inverse=True)[1]
    return classes


def _train_epoch(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: PrunedDataLoader,
    recipe: Recipe,
    epoch: int,
    epochs: int,
) -> int:
    """Train one epoch; returns the number of samples trained."""
    visits = 0
    batches = len(loader)
    for position, (images, labels) in enumerate(loader):
        rate = learning_rate((epoch + position / batches) / epochs, recipe.peak_rate)
        for group in optimizer.param_groups:
            group["lr"] = rate
        losses = F.cross_entropy(net(images), labels, reduction="none")
        loss = loader.update(losses)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        visits += len(labels)
    return visits


@torch.no_grad()
def accuracy(net: nn.Module, held_out: TensorImages) -> float:
    """Share of the held-out images that the net labels rightly; a million pixels at a time."""
    net.eval()
    right = 0
    batch_size = max(1, _PIXELS // held_out.images[0, 0].numel())
    for start in range(0, len(held_out), batch_size):
        images = held_out.images[start : start + batch_size]
        labels = held_out.labels[start : start + batch_size]
        right += int((net(images).argmax(1) == labels).sum())
    net.train()
    return right / len(held_out)


def warm_up(data: ImageData, recipe: Recipe) -> None:
    """A few steps that count for nothing, so that the first run does not pay for first calls."""
    net = make_net(data.shape, data.classes, 0, recipe.width).to(recipe.device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.0)
    images = torch.as_tensor(data.train[: recipe.batch_size]).to(recipe.device)
    for _ in range(3):
        optimizer.zero_grad()
        net(images).square().mean().backward()
        optimizer.step()
