"""One loss per sample, from losses of any shape, for any task.

Functions between the model's output and `PrunedDataLoader.update`; the graph stays intact. Sums run
in float32 or better, so that long float16 rows do not overflow. Cost: what torch's own reductions
cost; no wait for the device, but in the first batches in which padding is looked for.
"""

from __future__ import annotations

import logging

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import log_softmax, nll_loss

logger = logging.getLogger(__name__)

_looks_left = 8
"""Batches in which this process will still look for padding."""


def per_sample(losses: Tensor, mask: Tensor | None = None) -> Tensor:
    """Reduces losses to one per sample, by the mean.

    Args:
        losses: Floats (B,), returned as they are, or (B, ...). Rows that begin or end in exact
            zeros look like padding; without a mask, a warning says so once.
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
    if losses.ndim == 1:
        return losses
    rows = losses.flatten(1)
    _look_for_padding(rows)
    return rows.mean(1)


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


def token_counts(labels: Tensor, ignore_index: int = -100, shift: bool = False) -> Tensor:
    """Returns how many tokens of each sequence count in `token_losses` of the same arguments.

    Args:
        labels: Integers (B, T).
        ignore_index: Label of the tokens that do not count.
        shift: Whether the first label has no logits, as in `token_losses`.

    Returns:
        int64 (B,), on the device of `labels`.
    """
    return (labels[:, int(shift) :] != ignore_index).sum(1)


def weighted_mean(
    losses: Tensor, weights: NDArray[np.float32] | None, counts: Tensor | None = None
) -> Tensor:
    """Returns sum(weight x loss) / B, or the mean over elements, without a wait for the device.

    Args:
        losses: Floats (B,).
        weights: float32 (B,); None: all 1.
        counts: Integers (B,), the elements that each loss is the mean of, such as its tokens. Then
            the result is sum(weight x count x loss) / sum(count): with all weights 1 the mean over
            the elements of all samples. 0 where there are none.

    Returns:
        A scalar of the dtype of `losses`; exactly `losses.mean()` where all weights are 1 and no
        counts are given.

    Raises:
        ValueError: The counts are not one for each loss.
    """
    weighted = losses if weights is None else losses * _factors(weights, losses)
    if counts is None:
        return weighted.mean()
    if counts.shape != losses.shape:
        raise ValueError(
            f"counts must have one entry for each of the {len(losses)} losses, got the shape "
            f"{tuple(counts.shape)}: the number of elements that each loss is the mean of"
        )
    counts = counts.to(losses.device, torch.promote_types(losses.dtype, torch.float32))
    return (weighted * (counts / counts.sum().clamp(min=1))).sum().to(losses.dtype)


def _factors(weights: NDArray[np.float32], losses: Tensor) -> Tensor:
    """Returns the weights beside the losses."""
    factors = torch.from_numpy(weights)
    if losses.is_cuda:
        factors = factors.pin_memory()
    return factors.to(losses.device, non_blocking=True).to(losses.dtype)


def _look_for_padding(rows: Tensor) -> None:
    """Warns, once in a process, of zeros at the ends of rows that are averaged with the rest.

    Looks at a few batches only, since it waits for the device.

    Args:
        rows: Floats (B, elements).
    """
    global _looks_left
    if torch.compiler.is_compiling() or not _looks_left:
        return
    if rows.is_cuda and torch.cuda.is_current_stream_capturing():
        return
    _looks_left -= 1
    zero = rows.detach() == 0
    padded = (zero[:, 0] | zero[:, -1]) & ~zero.all(1)
    try:
        count = int(padded.sum())
    except RuntimeError:  # no values to look at: a meta tensor, or within torch.func.vmap
        return
    if count:
        _looks_left = 0
        logger.warning(
            "losses of shape (B, ...) without mask=: %d of %d rows begin or end in exact zeros, "
            "which are averaged in. If they are padding (ignore_index), rows with much of it look "
            "easy: pass mask=, such as labels != -100, or use seta.token_losses. If they are "
            "losses, nothing is wrong. This is said once",
            count,
            len(rows),
        )


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
