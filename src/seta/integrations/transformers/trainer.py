"""`SeTaTrainerMixin`: a `Trainer` that prunes, and the losses of its samples.

The loss, the optimizer and the loop are `Trainer`'s. The losses of the samples come out of what
the model returns, caught by a forward hook around the trainer's own `compute_loss`: so they are
those of the batch at hand, whatever loss the trainer makes of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import Trainer
from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss

from seta.engine import Pruner
from seta.engine.rows import Row
from seta.integrations.transformers.arguments import SeTaArguments, check_seta, check_trainer
from seta.integrations.transformers.batches import INDICES, LENGTHS
from seta.integrations.transformers.epochs import PrunedEpochs
from seta.integrations.transformers.losses import (
    check_loss,
    given_terms,
    output_terms,
    scales_of,
    shares_of,
    weighted,
)
from seta.integrations.transformers.run import Run
from seta.torch.dataset import indices_of

LOGGED = ("kept", "saved", "unseen", "nonfinite", "longest_left_out")


class SeTaTrainerMixin(PrunedEpochs):
    """Makes a `Trainer` prune: `class Mine(SeTaTrainerMixin, Trainer)`.

    After each epoch its figures go to the trainer's logs, as `seta/kept` (samples of the epoch),
    `seta/saved` (share of full training spared up to now), `seta/unseen`, `seta/nonfinite` and
    `seta/longest_left_out`. Checkpoints get one more file, `seta_state.bin`.

    Args:
        *args: As the trainer's.
        seta: How to prune.
        **kwargs: As the trainer's.

    Raises:
        TypeError, ValueError: A setting does not go with pruning; the message says why.
    """

    def __init__(self, *args: Any, seta: SeTaArguments, **kwargs: Any) -> None:
        self.seta = check_seta(seta)
        super().__init__(*args, **kwargs)
        check_trainer(self, self.seta)

    @property
    def pruner(self) -> Pruner:
        """The pruner of the run, or of the last one: `history`, `losses`, `left_out`, `saved`.

        Raises:
            RuntimeError: There was none.
        """
        if self._seta_run is None:
            raise RuntimeError("there is no pruner before the first train(): call it first")
        self._seta_run.buffer.drain()
        return self._seta_run.pruner

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Computes the batch's loss as the trainer does, and records those of its samples.

        Raises:
            RuntimeError: The batch has lost its indices.
            ValueError: The losses of the samples do not add up to the first batch's loss.
        """
        run = self._seta_run
        if run is None or not self.is_in_train or not model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if INDICES not in inputs:
            raise RuntimeError(
                f"the batch has no {INDICES!r}, got {list(inputs)}: something between the loader "
                "and compute_loss makes a new batch without it. Hand on the keys that it finds"
            )
        indices, lengths = indices_of(inputs.pop(INDICES)), inputs.pop(LENGTHS, None)
        batch = dict(inputs)  # the trainer may take labels out
        with _watched(model) as outputs:
            result: Any = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if not outputs:
            raise RuntimeError(
                "compute_loss did not call the model that it was given, so its outputs are not "
                "known: call model(**inputs), not a part of it"
            )
        loss = result[0] if return_outputs else result
        loss = self._answer(run, loss, outputs[0], batch, indices, lengths, num_items_in_batch)
        return (loss, result[1]) if return_outputs else loss

    def _answer(
        self,
        run: Run,
        loss: Tensor,
        outputs: Any,
        batch: dict[str, Any],
        indices: NDArray[np.int64],
        lengths: list[int] | None,
        items: Tensor | int | None,
    ) -> Tensor:
        """Records the losses of a batch's samples and returns its loss, weighted."""
        weights = run.pruner.weights_of(indices)
        with torch.set_grad_enabled(weights is not None):
            terms, mask = self._sample_terms(outputs, batch)
            shares = shares_of(terms, mask, len(indices), lengths)
        scales = scales_of(shares, items, self._loss_factor(items))
        given = self.seta.sample_losses is not None
        if not run.checked and (weights is not None or not given):
            extra = getattr(outputs, "aux_loss", None) is not None  # is in the loss as well
            run.checked = extra or check_loss(
                loss, shares, scales, half=self._in_half(), given=given
            )
        run.buffer.add(indices, shares.losses)
        return loss if weights is None else weighted(loss, shares, weights, scales)

    def _sample_terms(self, outputs: Any, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Returns the terms of the loss, by sample, and which of them count."""
        if self.seta.sample_losses is not None:
            return given_terms(self.seta.sample_losses(outputs, batch))
        model = self.accelerator.unwrap_model(self.model)
        model = model.get_base_model() if hasattr(model, "get_base_model") else model
        config = getattr(model, "config", None)
        causal = LOSS_MAPPING.get(getattr(model, "loss_type", "") or "") is ForCausalLMLoss
        return output_terms(
            outputs,
            batch,
            shift=causal and not getattr(config, "is_encoder_decoder", False),
            smoothing=self.args.label_smoothing_factor,
            problem=getattr(config, "problem_type", None),
        )

    def _in_half(self) -> bool:
        """Whether the loss may be rounded to half precision."""
        model: Any = self.model
        kinds = {parameter.dtype for parameter in model.parameters()}
        return self.accelerator.mixed_precision != "no" or any(kind.itemsize < 4 for kind in kinds)

    def _loss_factor(self, items: Tensor | int | None) -> int:
        """Returns what the trainer multiplies a loss with."""
        if items is None or not self.args.average_tokens_across_devices:
            return 1
        return int(self.accelerator.num_processes)

    def _log_figures(self, row: Row) -> None:
        self.log({f"seta/{name}": row[name] for name in LOGGED})


class SeTaTrainer(SeTaTrainerMixin, Trainer):
    """`transformers.Trainer` that trains each epoch on the samples that a policy keeps.

    Args:
        *args: As `Trainer`'s.
        seta: How to prune.
        **kwargs: As `Trainer`'s.
    """


@contextmanager
def _watched(model: nn.Module) -> Iterator[list[Any]]:
    """Collects what a model returns."""
    seen: list[Any] = []
    handle = model.register_forward_hook(lambda module, args, output: seen.append(output))
    try:
        yield seen
    finally:
        handle.remove()
