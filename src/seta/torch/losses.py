"""Per-sample losses, from losses of any shape.

Functions between the model's output and `PrunedDataLoader.update`; they are differentiable. Sums
are computed in float32 or better, so that long float16 rows do not overflow. Cost: that of torch's
own reductions. They do not wait for the device, except to check the first batches for padding.
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
"""Number of batches in which this process still checks for padding."""


def per_sample(losses: Tensor, mask: Tensor | None = None) -> Tensor:
    """Reduces losses to one per sample by the mean over all other dimensions.

    Args:
        losses: Floats (B,), returned unchanged, or (B, ...). Without a mask, a warning is logged
            once if rows begin or end in exact zeros, which look like padding.
        mask: Bool or numbers, same shape as `losses`; elements that are 0 or False do not count,
            even if they are NaN. A sample without elements that count has the loss 0.

    Returns:
        (B,), same dtype as `losses`.

    Raises:
        TypeError: `losses` is not a floating-point tensor.
        ValueError: `losses` is a scalar or empty, or `mask` has another shape.

    Examples:
        >>> losses = torch.tensor([[1.0, 3.0], [5.0, 0.0]])
        >>> per_sample(losses, mask=losses > 0)
        tensor([2., 5.])
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
    """Returns the mean cross-entropy over the tokens of each sequence.

    Half-precision logits are normalised in float32, which takes 4 bytes per logit.

    Args:
        logits: Floats (B, T, V), with vocabulary size V.
        labels: int64 (B, T).
        ignore_index: Label of tokens that do not count (padding, the prompt). A sequence without
            other tokens has the loss 0.
        shift: Whether to compare the logits of each token with the label of the next token, as
            needed for causal language models if the labels are the input ids.

    Returns:
        (B,), float32, or float64 if the logits are float64.

    Raises:
        TypeError: `labels` is not int64.
        ValueError: The shapes do not match.

    Examples:
        >>> logits = torch.zeros(2, 3, 4)                 # log(4) for each token
        >>> labels = torch.tensor([[1, 2, -100], [0, 3, 1]])
        >>> token_losses(logits, labels)
        tensor([1.3863, 1.3863])
        >>> token_counts(labels)
        tensor([2, 3])
    """
    if logits.ndim != 3 or labels.shape != logits.shape[:2]:
        raise ValueError(
            "logits must have the shape (B, T, V) and labels (B, T), got "
            f"{tuple(logits.shape)} and {tuple(labels.shape)}: the vocabulary is the last dimension"
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
    """Returns the number of tokens per sequence that count in `token_losses`, for `update`.

    Args:
        labels: Integers (B, T).
        ignore_index: Label of tokens that do not count.
        shift: Whether the first label of each sequence is left out, as in `token_losses`.

    Returns:
        int64 (B,), on the device of `labels`.
    """
    return (labels[:, int(shift) :] != ignore_index).sum(1)


def weighted_mean(
    losses: Tensor, weights: NDArray[np.float32] | None, counts: Tensor | None = None
) -> Tensor:
    """Returns the weighted mean loss of a batch, sum(weight x loss) / B.

    Args:
        losses: Floats (B,).
        weights: float32 (B,). None: all weights are 1.
        counts: Numbers (B,), the number of terms that each loss is the mean of, such as tokens, or
            the weight of its class. The result is then sum(weight x count x loss) / sum(count): the
            mean over all terms if all weights are 1, and 0 without terms.

    Returns:
        Scalar, same dtype as `losses`; exactly `losses.mean()` without weights and counts. Does not
        wait for the device.

    Raises:
        ValueError: `counts` does not have one entry per loss.
    """
    weighted = losses if weights is None else losses * _factors(weights, losses)
    if counts is None:
        return weighted.mean()
    if counts.shape != losses.shape:
        raise ValueError(
            f"counts must have one entry for each of the {len(losses)} losses, got the shape "
            f"{tuple(counts.shape)}: the number of elements that each loss is the mean of, or the "
            "weight of its class"
        )
    counts = counts.to(losses.device, torch.promote_types(losses.dtype, torch.float32))
    total = counts.sum()
    return (weighted * (counts / (total + (total == 0)))).sum().to(losses.dtype)


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
            "losses, ignore this warning. It is logged once",
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
            f"losses must be floating-point, got {losses.dtype}: pass the losses, not labels or "
            "counts"
        )
    if losses.ndim == 0:
        raise ValueError(f"losses is a scalar, already reduced: {_REMEDY}")
    if losses.numel() == 0:
        raise ValueError(f"losses is empty, its shape is {tuple(losses.shape)}: {_REMEDY}")


_REMEDY = (
    'compute one loss per sample with reduction="none", '
    'for example cross_entropy(outputs, targets, reduction="none")'
)
