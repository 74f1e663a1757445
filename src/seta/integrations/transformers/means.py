"""Per-sample losses of a trainer that takes the mean of them itself.

DPO, reward models and most losses of embedding models compute one number per sample and return
their mean, or a weighted sum of several such means. While the trainer computes its loss, `Means`
notes each vector that a mean is taken of. Autograd then says with what factor each mean went into
the loss, so that no loss is written down here again, and none is computed twice. The losses of the
samples are checked to add up to the loss, as everywhere.

Cost per batch: one Python call per torch function of the forward pass, and a backward pass from the
loss to the means alone, a few scalars.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from seta.integrations.transformers.batches import TrainedBatch
from seta.integrations.transformers.check import LossCheck
from seta.integrations.transformers.losses import OVERRIDE, given_terms
from seta.integrations.transformers.run import Run
from seta.integrations.transformers.trainer import GIVEN, PrunedTrainerMixin

_MEANS = {torch.mean, torch.nanmean, Tensor.mean, Tensor.nanmean}
_LOSSES = {
    functional.binary_cross_entropy,
    functional.binary_cross_entropy_with_logits,
    functional.cosine_embedding_loss,
    functional.cross_entropy,
    functional.huber_loss,
    functional.kl_div,
    functional.l1_loss,
    functional.margin_ranking_loss,
    functional.mse_loss,
    functional.smooth_l1_loss,
    functional.triplet_margin_loss,
}
_OTHER = (
    "its loss is not, or not only, the mean of one number per sample of the batch. With a policy "
    f"without weights (SeTa, Random) any score serves: {OVERRIDE}"
)


class Mean(NamedTuple):
    """A mean over the samples of a batch.

    Attributes:
        values: Floats (B,), what it was taken of.
        result: Where it stands in the graph.
    """

    values: Tensor
    result: GradientEdge


class Means(TorchFunctionMode):
    """Notes the means that are taken over the samples of a batch.

    Args:
        count: B, the number of samples.

    Attributes:
        found: The means.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count
        self.found: list[Mean] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls a function of torch as it is, and notes it if it took a mean."""
        given = kwargs or {}
        result = func(*args, **given)
        if isinstance(result, Tensor) and result.ndim == 0 and result.requires_grad:
            values = None
            if func in _MEANS:
                values = args[0] if args else given["input"]
            elif func in _LOSSES and given.get("reduction", "mean") in ("mean", "batchmean"):
                values = func(*args, **{**given, "reduction": "none"})
            if values is not None and values.shape[:1] == (self._count,):
                rows = values.reshape(self._count, -1)
                whole = given.get("reduction") == "batchmean"
                self.found.append(
                    Mean(
                        values if values.ndim == 1 else rows.sum(1) if whole else rows.mean(1),
                        get_gradient_edge(result),
                    )
                )
        return result


@dataclass
class Seen:
    """What was seen of the loss of a batch.

    Attributes:
        outputs: What the model returned, one entry per call.
        means: The means over its samples.
        loss: The loss that was made of them.
    """

    outputs: list[Any]
    means: list[Mean] = field(default_factory=list)
    loss: Tensor | None = None

    @property
    def aux_loss(self) -> Any:
        """A loss of the model's own that is part of the loss, or None."""
        found = (getattr(output, "aux_loss", None) for output in self.outputs)
        return next((loss for loss in found if loss is not None), None)

    def losses(self) -> Tensor:
        """Returns the samples' losses, floats (B,), with a graph where one is kept.

        Raises:
            ValueError: None of the means is part of the loss.
        """
        factors: tuple[Tensor | None, ...] = ()
        if self.loss is not None and self.loss.grad_fn is not None and self.means:
            edges = [mean.result for mean in self.means]
            factors = torch.autograd.grad(self.loss, edges, retain_graph=True, allow_unused=True)
        parts = [
            factor * mean.values
            for factor, mean in zip(factors, self.means, strict=False)
            if factor is not None and not self._is_of_means(mean)
        ]
        if not parts:
            raise ValueError(f"the losses of the samples are not known: {_OTHER}")
        return torch.stack(parts).sum(0)

    def _is_of_means(self, mean: Mean) -> bool:
        """Returns whether a mean was taken of other means, such as one for each text column."""
        edges = [one.result for one in self.means if one is not mean]
        if not edges or not mean.values.requires_grad:
            return False
        made_of = torch.autograd.grad(
            mean.values,
            edges,
            torch.ones_like(mean.values),
            retain_graph=True,
            allow_unused=True,
        )
        return any(part is not None for part in made_of)


class PrunedMeansMixin(PrunedTrainerMixin):
    """Adds pruning to a trainer whose loss is the mean of one number per sample.

    As `PrunedTrainerMixin`, which reads the losses from logits and labels instead.
    """

    def _watch(
        self, model: nn.Module, given: dict[str, Any], count: int
    ) -> AbstractContextManager[list[Any]]:
        return self._seen(model, given, count)

    @contextmanager
    def _seen(self, model: nn.Module, given: dict[str, Any], count: int) -> Iterator[list[Any]]:
        seen: list[Any] = []
        with super()._watch(model, given, count) as outputs, Means(count) as means:
            yield seen
        seen.append(Seen(outputs, means.found))

    def _answer(
        self,
        run: Run,
        batch: TrainedBatch,
        loss: Tensor,
        outputs: Seen,
        given: dict[str, Any],
        items: Tensor | int | None,
    ) -> Tensor:
        outputs.loss = loss
        # The loss is a mean over the batch, however many terms the optimizer step has.
        return super()._answer(run, batch, loss, outputs, given, None)

    def _sample_terms(
        self, outputs: Seen, batch: dict[str, Any], shift: bool
    ) -> tuple[Tensor, Tensor]:
        if self.pruning.sample_losses is not None:
            return given_terms(self.pruning.sample_losses(self._given(outputs), batch))
        losses = self._per_sample(outputs, batch)
        return given_terms((losses, ~losses.isnan()))  # in a nanmean they do not count

    def _given(self, seen: Seen) -> Any:
        """Returns the outputs that `sample_losses` gets."""
        return seen.outputs[0] if seen.outputs else None

    def _per_sample(self, seen: Seen, batch: dict[str, Any]) -> Tensor:
        """Returns the losses of the samples, in the order of the batch."""
        return seen.losses()

    def _new_check(self) -> LossCheck:
        why = _OTHER if self.pruning.sample_losses is None else GIVEN
        return LossCheck((False,), half=self._in_half(), why=why)
