"""The tasks of the suite `backbones`: a CNN, a ViT and a Swin on CIFAR-10, a Mamba on SST-2.

Models of `transformers`, small and with random weights, each for the same small budget: about half
a minute on one core. Attention is the plain one, "eager": in bfloat16 on a CPU it takes a third of
the time of torch's fused one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.accuracy import cifar10
from benchmarks.accuracy.image_trial import ImageTask, MakeNet, Recipe, adamw
from benchmarks.accuracy.sst2 import SentenceTask
from seta.extras import require

require("benchmarks.accuracy.backbones", "transformers", extra="transformers")

from transformers import (  # noqa: E402
    MambaConfig,
    MambaModel,
    ResNetConfig,
    ResNetForImageClassification,
    SwinConfig,
    SwinForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

CLASSES = 10


class ImageNet(nn.Module):
    """An image classifier of `transformers` as a plain net: images in, logits out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits (B, classes) of images (B, C, H, W)."""
        logits: Tensor = self.model(pixel_values=images).logits
        return logits


class SentenceNet(nn.Module):
    """A Mamba, the mean of its last states over the words of a sentence, and a linear layer.

    Args:
        words: Size of the vocabulary.
        width: Of the states.
    """

    def __init__(self, words: int, width: int = 64) -> None:
        super().__init__()
        shape = {"hidden_size": width, "num_hidden_layers": 2, "state_size": 4}
        self.body = MambaModel(MambaConfig(vocab_size=words, use_cache=False, **shape))
        self.head = nn.Linear(width, 2)

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        """Returns logits (B, 2) of words int64 (B, L), padded at the end, and lengths (B,).

        Padding changes nothing: no state of a word depends on what follows it.
        """
        with silent("transformers.integrations.hub_kernels"):  # there are no kernels for a CPU
            states = self.body(input_ids=words).last_hidden_state
        there = torch.arange(words.shape[1], device=words.device) < lengths[:, None]
        mean = (states * there[:, :, None]).sum(dim=1) / lengths[:, None]
        logits: Tensor = self.head(mean)
        return logits


@contextmanager
def silent(name: str) -> Iterator[None]:
    """Keeps a logger from telling less than errors, for as long as the context lasts."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def resnet_net() -> nn.Module:
    """Returns a ResNet of one basic block a stage; without the pooling meant for large images."""
    shape = {"embedding_size": 32, "hidden_sizes": [32, 64, 128], "depths": [1, 1, 1]}
    model = ResNetForImageClassification(
        ResNetConfig(layer_type="basic", num_labels=CLASSES, **shape)
    )
    model.resnet.embedder.pooler = nn.Identity()
    return ImageNet(model)


def vit_net() -> nn.Module:
    """Returns a ViT of 64 patches, 3 layers and a width of 96."""
    shape = {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 3}
    config = ViTConfig(
        image_size=32,
        patch_size=4,
        intermediate_size=192,
        initializer_range=0.1,  # near 1 / sqrt(width); the usual 0.02 is meant for wide ones
        num_labels=CLASSES,
        attn_implementation="eager",
        **shape,
    )
    return ImageNet(ViTForImageClassification(config))


def swin_net() -> nn.Module:
    """Returns a Swin of 64 patches in windows of 16, then 16 patches in one."""
    config = SwinConfig(
        image_size=32,
        patch_size=4,
        embed_dim=48,
        depths=[2, 4],
        num_heads=[2, 4],
        window_size=4,
        mlp_ratio=2.0,
        drop_path_rate=0.0,
        num_labels=CLASSES,
        attn_implementation="eager",
    )
    return ImageNet(SwinForImageClassification(config))


def resnet(data: Path | None, *, train: int = 10_000, device: str = "cpu") -> ImageTask:
    """Some of CIFAR-10, and a ResNet."""
    return _images(data, "ResNet", resnet_net, train, device, rate=3e-3)


def vit(data: Path | None, *, train: int = 10_000, device: str = "cpu") -> ImageTask:
    """Some of CIFAR-10, and a ViT."""
    return _images(data, "ViT", vit_net, train, device, rate=1e-3, batch_size=64)


def swin(data: Path | None, *, train: int = 10_000, device: str = "cpu") -> ImageTask:
    """Some of CIFAR-10, and a Swin."""
    return _images(data, "Swin", swin_net, train, device, rate=2e-3)


def mamba(data: Path | None, *, train: int = 6920, device: str = "cpu") -> SentenceTask:
    """SST-2, or some of it, and a Mamba."""
    return SentenceTask(data, SentenceNet, train=train, longest=32, device=device)


def _images(
    data: Path | None,
    name: str,
    net: MakeNet,
    train: int,
    device: str,
    *,
    rate: float,
    batch_size: int = 128,
) -> ImageTask:
    images, test = cifar10.read(data)
    return ImageTask(
        "CIFAR-10",
        cifar10.subset(images, train),
        test,
        net,
        Recipe(batch_size=batch_size, rate=rate, weight_decay=0.05),
        optimizer=adamw,
        notes={"net": name, "optimizer": "AdamW"},
        device=device,
    )
