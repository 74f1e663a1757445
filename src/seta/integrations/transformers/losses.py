"""Per-sample losses from the outputs of a transformers model, and their share in the batch's loss.

The batch's own loss is computed by the model, untouched: with all weights 1 it is the stock one to
the last bit. Here the same terms are computed once more, from the logits: the cross-entropy of each
token or label, or the squared error. Sums over a sample's terms give its share of the batch's loss,
means its loss.

Cost: a log-softmax over the logits, in float32, in pieces of at most 2**26 values; where weights
are not 1, with a graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

SampleLosses = Tensor | tuple[Tensor, Tensor]

_PIECE = 1 << 26  # logits turned into float32 at a time
OVERRIDE = (
    "give PruningArguments(sample_losses=...), a function (outputs, batch) -> losses (B,), or call "
    "self.update(losses) in a compute_loss of your own"
)


class Shares(NamedTuple):
    """What each sample adds to a batch's loss.

    Attributes:
        totals: float32 (B,), the sums of its terms.
        counts: int64 (B,), how many they are.
    """

    totals: Tensor
    counts: Tensor

    @property
    def losses(self) -> Tensor:
        """The means, float32 (B,); 0 for a sample without terms."""
        return self.totals.detach() / self.counts.clamp(min=1)


def output_terms(
    outputs: Any, batch: Mapping[str, Any], *, shift: bool, smoothing: float, problem: str | None
) -> tuple[Tensor, Tensor]:
    """Returns the terms of a model's loss, in the shape of the labels, and which of them count.

    Args:
        outputs: The model's, with `logits`.
        batch: With `labels`, or `shift_labels`.
        shift: Whether the logits of a token are for the label of the next one, where there are
            several.
        smoothing: Of the labels, as `label_smoothing_factor`.
        problem: `problem_type` of the model's configuration.

    Raises:
        ValueError: There are no logits or labels, or they do not fit each other.
    """
    logits = outputs.get("logits") if isinstance(outputs, Mapping) else None
    if "shift_labels" in batch:
        labels, shift = batch["shift_labels"], False
    else:
        labels = batch.get("labels")
    if not isinstance(logits, Tensor) or not isinstance(labels, Tensor):
        keys = list(outputs) if isinstance(outputs, Mapping) else type(outputs).__name__
        raise ValueError(
            "a sample's loss is computed from `logits` and `labels`, got outputs with "
            f"{keys} and a batch with {list(batch)}: {OVERRIDE}"
        )
    labels = labels.to(logits.device)
    if labels.is_floating_point() and logits.numel() == labels.numel():
        return _value_terms(logits, labels, problem)
    if labels.is_floating_point() or logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} and labels of shape {tuple(labels.shape)}, "
            f"{labels.dtype}, do not fit each other: {OVERRIDE}"
        )
    if shift and labels.ndim > 1:
        labels = functional.pad(labels, (0, 1), value=-100)[..., 1:]
    flat, targets = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)
    step = max(1, _PIECE // flat.shape[-1])
    terms = [
        functional.cross_entropy(
            flat[at : at + step].to(torch.promote_types(flat.dtype, torch.float32)),
            targets[at : at + step],
            reduction="none",
            label_smoothing=smoothing,
        )
        for at in range(0, len(flat), step)
    ]
    return torch.cat(terms).view(labels.shape), labels != -100


def _value_terms(logits: Tensor, labels: Tensor, problem: str | None) -> tuple[Tensor, Tensor]:
    """Returns the terms of a regression, or of several yes-or-no labels."""
    values = logits.reshape(labels.shape)
    if problem == "multi_label_classification":
        terms = functional.binary_cross_entropy_with_logits(values, labels, reduction="none")
    else:
        terms = functional.mse_loss(values, labels, reduction="none")
    return terms, torch.ones_like(labels, dtype=torch.bool)


def given_terms(losses: SampleLosses) -> tuple[Tensor, Tensor]:
    """Returns what the user's `sample_losses` gave, with its mask.

    Raises:
        TypeError: It is no tensor of floats, nor a pair of one and a mask.
        ValueError: It is a scalar, or the mask has another shape.
    """
    terms, mask = losses if isinstance(losses, tuple) and len(losses) == 2 else (losses, None)
    if not isinstance(terms, Tensor) or not terms.is_floating_point():
        kind = terms.dtype if isinstance(terms, Tensor) else type(terms).__name__
        raise TypeError(
            "sample_losses must return a tensor of floats, or a pair of one and a mask, got "
            f"{kind}: one loss for each sample of the batch"
        )
    if mask is None:
        mask = torch.ones_like(terms, dtype=torch.bool)
    if terms.ndim == 0 or mask.shape != terms.shape:
        raise ValueError(
            "sample_losses must return one loss for each sample, (B,) or (B, ...), and a mask of "
            f"that shape, got shapes {tuple(terms.shape)} and {tuple(mask.shape)}"
        )
    return terms, mask != 0


def shares_of(terms: Tensor, mask: Tensor, count: int, lengths: list[int] | None) -> Shares:
    """Sums up the terms of each sample.

    Args:
        terms: Floats (B,) or (B, ...), or (1, T) for a flattened batch.
        mask: Which of them count.
        count: B.
        lengths: Of a flattened batch, the tokens of each sample, in order; the term of a token may
            stand one place before it.

    Raises:
        ValueError: The terms are of another number of samples.
    """
    terms = torch.where(mask, terms, 0).float()
    if len(terms) == count:
        return Shares(terms.reshape(count, -1).sum(1), mask.reshape(count, -1).sum(1))
    if lengths is None or len(terms) != 1 or terms.ndim != 2 or terms.shape[1] < sum(lengths) - 1:
        raise ValueError(
            f"a batch of {count} samples gave the losses of {len(terms)} rows, of shape "
            f"{tuple(terms.shape)}: the collate function merged samples or dropped some, or "
            "compute_loss added rows, and which term is whose is not known. Flattened batches are "
            "told apart by the input_ids of their rows, one after another; where rows are dropped, "
            "give index_key=, and the batch says which remain; where rows are added behind the "
            f"batch's, return self.update(losses[:{count}]) + losses[{count}:].mean(), with one "
            f"loss per row; for anything else, {OVERRIDE}"
        )
    cut = [*lengths[:-1], terms.shape[1] - sum(lengths[:-1])]  # the last takes the padding
    return Shares(
        torch.stack([part.sum() for part in torch.split(terms[0], cut)]),
        torch.stack([part.sum() for part in torch.split(mask[0], cut)]),
    )


def scales_of(shares: Shares, items: Tensor | int | None, processes: int) -> list[Tensor]:
    """Returns what a batch's loss may be of the sum of all terms: it is one of these.

    Args:
        shares: Of the samples.
        items: Terms of all batches of the optimizer step, over all processes, if counted.
        processes: What the loss is multiplied with.
    """
    own = shares.counts.sum().clamp(min=1)
    scales = [processes / own.float()]
    if processes > 1:  # the mean of a `compute_loss` that does without the trainer's
        scales.append(1 / own.float())
    if items is not None:
        scales.insert(0, processes / torch.as_tensor(items, device=own.device).float())
    return scales


def weighted(
    loss: Tensor, shares: Shares, weights: NDArray[np.float32], scales: list[Tensor]
) -> Tensor:
    """Returns the loss with each sample's part of it multiplied by its weight, without a wait.

    Args:
        loss: As `Trainer` computed it, all weights 1.
        shares: Of the samples, with a graph.
        weights: float32 (B,).
        scales: From `scales_of`; the one nearest to the loss is taken.
    """
    total = shares.totals.detach().sum()
    scale = scales[0]
    for other in scales[1:]:
        nearer = (loss.detach() - other * total).abs() < (loss.detach() - scale * total).abs()
        scale = torch.where(nearer, other, scale)
    surplus = torch.from_numpy(weights - 1)
    if loss.is_cuda:
        surplus = surplus.pin_memory()
    surplus = surplus.to(shares.totals.device, non_blocking=True)
    return loss + (scale * (surplus * shares.totals).sum()).to(loss.device, loss.dtype)
