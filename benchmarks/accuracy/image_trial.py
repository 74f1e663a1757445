"""Image classification: tasks that hold uint8 images, and trials that train a net on them.

Below the suites of images, which choose data and net. Images stay uint8, on the device of the net,
and are shifted, mirrored and scaled a batch at a time. On a CPU forward passes run in bfloat16
where it has instructions for it, else in float32; losses and weights are float32 always.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]
MakeNet = Callable[[], nn.Module]
Groups = list[dict[str, Any]]
Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class Recipe:
    """How a net is trained.

    Attributes:
        batch_size: Samples per batch.
        rate: Highest learning rate.
        momentum: Nesterov's, of SGD; the first beta of AdamW.
        weight_decay: Of the weights; none of biases and normalisations.
        warmup: Share of the run over which the rate rises, before a cosine takes it to 0.
        smoothing: Of the labels in the training loss.
        shift: Pixels by which images are shifted at most, each way, in training.
        mirror: Whether half of the images are mirrored in training.
    """

    batch_size: int = 128
    rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.2
    smoothing: float = 0.1
    shift: int = 2
    mirror: bool = True


def sgd(groups: Groups, recipe: Recipe) -> torch.optim.Optimizer:
    """Returns SGD with Nesterov's momentum."""
    return torch.optim.SGD(
        groups,
        lr=recipe.rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
    )


def adamw(groups: Groups, recipe: Recipe) -> torch.optim.Optimizer:
    """Returns AdamW."""
    betas = (recipe.momentum, 0.999)
    return torch.optim.AdamW(groups, lr=recipe.rate, betas=betas, weight_decay=recipe.weight_decay)


class Images(torch.utils.data.Dataset[Batch]):
    """Images and labels in memory, given out a batch at a time."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        return self.images[index], self.labels[index]

    def __getitems__(self, indices: list[int]) -> Batch:
        """Returns images uint8 (B, C, H, W) and labels int64 (B,)."""
        at = torch.tensor(indices, device=self.images.device)
        return self.images[at], self.labels[at]


@dataclass
class ImageTask:
    """Images, a net and a recipe.

    Attributes:
        name: Of the data, for the settings.
        train: Images uint8 (n, C, H, W) and labels (n,).
        test: The same, held out.
        net: Makes the net.
        recipe: How it is trained.
        optimizer: Makes the optimizer: `sgd` or `adamw`.
        true_labels: Integers (n,), where the labels of `train` are partly wrong.
        rare: Classes whose accuracy is measured on its own.
        notes: What else makes the task what it is.
        device: Where it is trained.
    """

    name: str
    train: tuple[NDArray[np.uint8], NDArray[np.int64]]
    test: tuple[NDArray[np.uint8], NDArray[np.int64]]
    net: MakeNet
    recipe: Recipe
    optimizer: Callable[[Groups, Recipe], torch.optim.Optimizer] = sgd
    true_labels: NDArray[np.int64] | None = None
    rare: tuple[int, ...] = ()
    notes: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"

    def __post_init__(self) -> None:
        images, labels = self.train
        self.dataset = self._on_device(self.train)
        self.held_out = self._on_device(self.test)
        self.batch_size = self.recipe.batch_size
        self.classes = labels
        self.wrong = None if self.true_labels is None else labels != self.true_labels
        # The scale of the first images stands for all.
        sample = images[:10_000].astype(np.float32)
        self.mean = torch.tensor(sample.mean(axis=(0, 2, 3)), device=self.device)
        self.scale = torch.tensor(sample.std(axis=(0, 2, 3)) + 1e-6, device=self.device)

    def _on_device(self, part: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> Images:
        images, labels = (torch.from_numpy(np.ascontiguousarray(array)) for array in part)
        return Images(images.to(self.device), labels.to(self.device))

    @property
    def settings(self) -> dict[str, Any]:
        """What makes it what it is."""
        return {
            "data": self.name,
            "train": len(self.dataset),
            "test": len(self.held_out),
            "parameters": parameter_count(self.net),
            "precision": "bfloat16" if low_precision(self.device) else "float32",
            **asdict(self.recipe),
            **self.notes,
        }

    def trial(self, seed: int) -> ImageTrial:
        """Returns a new net, and its optimizer."""
        return ImageTrial(self, seed)


class ImageTrial:
    """One net in training.

    Args:
        task: What it is trained on, and how.
        seed: Of its first weights and of the shifts.
    """

    def __init__(self, task: ImageTask, seed: int) -> None:
        self._task, recipe = task, task.recipe
        net = seeded(task.net, seed)
        self.net = net.to(device=task.device, memory_format=torch.channels_last)
        self._shifts = torch.Generator().manual_seed(seed)
        self._optimizer = task.optimizer(parameter_groups(self.net), recipe)

    def losses(self, batch: Batch) -> Tensor:
        """Returns cross-entropies: float32 (B,)."""
        images, labels = batch
        self.net.train()
        logits = self._logits(self._augmented(images))
        return F.cross_entropy(
            logits, labels, reduction="none", label_smoothing=self._task.recipe.smoothing
        )

    def step(self, loss: Tensor, progress: float) -> None:
        """Goes one step down, at the rate that the progress calls for."""
        recipe = self._task.recipe
        descend(self._optimizer, loss, one_cycle(progress, recipe.rate, recipe.warmup))

    def evaluate(self) -> dict[str, float]:
        """Returns accuracy and mean loss on the held-out images; of the rare classes too."""
        task, held_out = self._task, self._task.held_out
        self.net.eval()
        with torch.inference_mode():
            parts = [self._logits(self._scaled(part)) for part in held_out.images.split(1000)]
            logits = torch.cat(parts)
            right = (logits.argmax(dim=1) == held_out.labels).float()
            found = {
                "accuracy": right.mean().item(),
                "loss": F.cross_entropy(logits, held_out.labels).item(),
            }
            if task.rare:
                rare = torch.isin(held_out.labels, torch.tensor(task.rare, device=task.device))
                found["rare_accuracy"] = right[rare].mean().item()
                found["frequent_accuracy"] = right[~rare].mean().item()
        return found

    def _logits(self, images: Tensor) -> Tensor:
        device = self._task.device
        with torch.autocast(device, torch.bfloat16, enabled=low_precision(device)):
            logits: Tensor = self.net(images)
        return logits.float()

    def _augmented(self, images: Tensor) -> Tensor:
        recipe = self._task.recipe
        if not (recipe.shift or recipe.mirror):
            return self._scaled(images)
        return self._scaled(shifted(images, recipe.shift, recipe.mirror, self._shifts))

    def _scaled(self, images: Tensor) -> Tensor:
        shape = (1, -1, 1, 1)
        values = images.to(torch.float32, memory_format=torch.channels_last)
        return (values - self._task.mean.view(shape)) / self._task.scale.view(shape)


def shifted(images: Tensor, shift: int, mirror: bool, generator: torch.Generator) -> Tensor:
    """Shifts each image by its own number of pixels, and mirrors half of them.

    Args:
        images: uint8 (B, C, H, W).
        shift: Pixels at most, each way; what comes in is 0.
        mirror: Whether to mirror.
        generator: Of the choices, on the CPU.
    """
    count, _, height, width = images.shape
    down, right = torch.randint(0, 2 * shift + 1, (2, count, 1), generator=generator)
    columns = torch.arange(width).expand(count, -1)
    if mirror:
        turned = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(turned, width - 1 - columns, columns)
    rows, columns = torch.arange(height) + down, columns + right
    padded = F.pad(images, (shift, shift, shift, shift)).permute(0, 2, 3, 1)
    at = (torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :])
    return padded[tuple(part.to(images.device) for part in at)].permute(0, 3, 1, 2)


def seeded(make: Callable[[], Net], seed: int) -> Net:
    """Returns a net with the first weights of a seed, torch's random state left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def parameter_count(make: MakeNet) -> int:
    """Returns how many parameters a net has."""
    with torch.device("meta"):  # counts, and draws no weights
        return sum(parameter.numel() for parameter in make().parameters())


def parameter_groups(net: nn.Module) -> Groups:
    """Returns the weights, and what is never decayed: biases and normalisations."""
    plain = [p for p in net.parameters() if p.ndim <= 1]
    return [
        {"params": [p for p in net.parameters() if p.ndim > 1]},
        {"params": plain, "weight_decay": 0.0},
    ]


def descend(optimizer: torch.optim.Optimizer, loss: Tensor, rate: float) -> None:
    """Goes one step down at a learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def one_cycle(progress: float, peak: float, warmup: float) -> float:
    """Returns the learning rate: up in a line, then down a cosine to 0."""
    if progress < warmup:
        return peak * progress / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def low_precision(device: str) -> bool:
    """Returns whether nets run in bfloat16 there."""
    if device != "cpu":
        return True
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
