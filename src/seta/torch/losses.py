"""One loss per sample, from losses of any shape, for any task.

Pure functions between the model's output and `PrunedDataLoader.update`; the graph stays intact.
Sums run in float32 or better, so that long float16 rows do not overflow. Cost: what torch's own
reductions cost.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import log_softmax, nll_loss


def per_sample(losses: Tensor, mask: Tensor | None = None) -> Tensor:
    """Reduces losses to one per sample, by the mean.

    Args:
        losses: Floats (B,), returned as they are, or (B, ...).
        mask: The shape of `losses`; elements where it is 0 or False do not count, whatever their
            loss. A sample without any element that counts has the loss 0.

    Returns:
        (B,), of the dtype of `losses`.

    Raises:
        TypeError: `losses` is no tensor of floats.
        ValueError: `losses` is a scalar or empty; `mask` does not fit.
    """
    _check(losses)
    if mask is not None:
        return _masked_mean(losses, mask)
    return losses if losses.ndim == 1 else losses.flatten(1).mean(1)


def token_losses(
    logits: Tensor, labels: Tensor, ignore_index: int = -100, shift: bool = False
) -> Tensor:
    """Mean cross-entropy over the tokens of each sequence.

    Half-precision logits are normalised in float32, as language-model trainers do; this takes 4
    bytes per logit.

    Args:
        logits: Floats (B, T, V), the vocabulary last.
        labels: int64 (B, T).
        ignore_index: Label of the tokens that do not count (padding, the prompt). A sequence of
            nothing else has the loss 0.
        shift: Compare the logits of each token with the label of the next one, as causal language
            models need where labels are the inputs.

    Returns:
        (B,), float32, or float64 where the logits are.

    Raises:
        TypeError: `labels` are no int64.
        ValueError: The shapes do not fit each other.
    """
    if logits.ndim != 3 or labels.shape != logits.shape[:2]:
        raise ValueError(
            "logits must have the shape (B, T, V) and labels (B, T), got "
            f"{tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    if labels.dtype != torch.int64:
        raise TypeError(f"labels must be int64, got {labels.dtype}: pass labels.long()")
    if shift:
        logits, labels = logits[:, :-1], labels[:, 1:]
    dtype = torch.promote_types(logits.dtype, torch.float32)
    log_probs = log_softmax(logits, -1, dtype=dtype)
    losses = nll_loss(
        log_probs.flatten(0, 1), labels.flatten(), reduction="none", ignore_index=ignore_index
    ).view(labels.shape)
    return losses.sum(1) / (labels != ignore_index).sum(1).clamp(min=1)


def weighted_mean(losses: Tensor, weights: NDArray[np.float32] | None) -> Tensor:
    """Returns sum(weight x loss) / B, without a wait for the device.

    Args:
        losses: Floats (B,).
        weights: float32 (B,); None: all 1.

    Returns:
        A scalar of the dtype of `losses`; exactly `losses.mean()` where all weights are 1.
    """
    if weights is None:
        return losses.mean()
    factors = torch.from_numpy(weights)
    if losses.is_cuda:
        factors = factors.pin_memory()
    factors = factors.to(losses.device, non_blocking=True).to(losses.dtype)
    return (losses * factors).mean()


def _masked_mean(losses: Tensor, mask: Tensor) -> Tensor:
    if losses.ndim == 1 or mask.shape != losses.shape:
        raise ValueError(
            "mask must have the shape of losses, (B, ...) with two dimensions or more, got a mask "
            f"of shape {tuple(mask.shape)} for losses of shape {tuple(losses.shape)}"
        )
    counts = mask != 0
    dtype = torch.promote_types(losses.dtype, torch.float32)
    totals = torch.where(counts, losses, 0).flatten(1).sum(1, dtype=dtype)
    return (totals / counts.flatten(1).sum(1).clamp(min=1)).to(losses.dtype)


def _check(losses: Tensor) -> None:
    if not isinstance(losses, Tensor):
        raise TypeError(f"losses must be a torch.Tensor, got {type(losses).__name__}: {_REMEDY}")
    if not losses.is_floating_point():
        raise TypeError(
            f"losses must be floating-point, got {losses.dtype}: hand over the losses, "
            "not labels or counts"
        )
    if losses.ndim == 0:
        raise ValueError(f"losses is a scalar, already reduced: {_REMEDY}")
    if losses.numel() == 0:
        raise ValueError(f"losses is empty, its shape is {tuple(losses.shape)}: {_REMEDY}")


_REMEDY = (
    'compute one loss per sample with reduction="none", '
    'for example cross_entropy(outputs, targets, reduction="none")'
)
