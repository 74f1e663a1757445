"""The training of a demo: a net, and the loop of any user of `seta.compare`.

Between the data and the comparison, which calls it once a run. Three lines of the loop are seta's
(the loader, `set_epoch`, `update`); the rest is ordinary PyTorch. A run of 40 epochs on the digits
takes some seconds on one core.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seta import Pruner
from seta.demo.data import ImageData
from seta.demo.net import learning_rate, make_net
from seta.torch import PrunedDataLoader

__all__ = ["ImageTraining", "Recipe", "TensorImages", "accuracy", "batch_as_is", "tensors"]

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


@dataclass(frozen=True)
class ImageTraining:
    """Trains a net and measures it; called as `seta.compare` calls the function of a user.

    Attributes:
        shape: Channels, height and width of an image.
        classes: Number of labels.
        held_out: The images to measure on.
        recipe: What all runs have in common.
        look: Called with the pruner when an epoch has begun.
    """

    shape: tuple[int, int, int]
    classes: int
    held_out: TensorImages
    recipe: Recipe
    look: Callable[[Pruner], None]

    def __call__(self, loader: PrunedDataLoader, seed: int) -> dict[str, float]:
        """Returns the accuracy on the held-out images after the last epoch, in percent."""
        net, optimizer = self._made(seed)
        steps, step = loader.total_steps, 0
        for epoch in range(loader.epochs):
            loader.set_epoch(epoch)
            self.look(loader.pruner)
            for images, labels in loader:
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(step / steps, self.recipe.peak_rate)
                losses = F.cross_entropy(net(images), labels, reduction="none")
                loss = loader.update(losses)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                step += 1
        return {"accuracy %": 100 * accuracy(net, self.held_out)}

    def warm_up(self) -> None:
        """Makes a few steps that count for nothing: the first run does not pay for first calls."""
        net, optimizer = self._made(0)
        for _ in range(3):
            optimizer.zero_grad()
            net(self.held_out.images[: self.recipe.batch_size]).square().mean().backward()
            optimizer.step()

    def _made(self, seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        recipe = self.recipe
        net = make_net(self.shape, self.classes, seed, recipe.width).to(recipe.device)
        return net, torch.optim.AdamW(net.parameters(), weight_decay=recipe.weight_decay)


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
