"""TRL's `SFTTrainer`: fine-tunes, in each epoch, on the sequences that a policy keeps.

    trainer = PrunedSFTTrainer(
        model, args=SFTConfig(...), train_dataset=dataset, pruning=PruningArguments(budget=0.6)
    )
    trainer.train()

It works like `seta.integrations.transformers`. TRL's model returns the log-probabilities of the
labels in place of logits, so that the losses of the sequences are sums of them, and nothing is
computed twice. Padding-free batches (one row of many sequences) are split by the lengths of the
sequences. With packing, a sample is a packed row, as TRL makes them before training.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import Trainer
from trl.trainer.sft_trainer import SFTTrainer

from seta.engine.rows import Row
from seta.integrations.transformers.arguments import PruningArguments
from seta.integrations.transformers.trainer import PrunedTrainerMixin, figures_of

__all__ = ["PrunedSFTMixin", "PrunedSFTTrainer", "PruningArguments"]


class PrunedSFTMixin(PrunedTrainerMixin):
    """Adds pruning to an SFT trainer of your own: `class Mine(PrunedSFTMixin, SFTTrainer)`.

    See `PrunedTrainerMixin`, which has the methods `update` and `skip`, for a `compute_loss` of
    your own, and `pruner`.

    Args:
        *args: Arguments of the trainer.
        pruning: How to prune.
        **kwargs: Keyword arguments of the trainer.

    Raises:
        TypeError, ValueError: A setting is not possible with pruning; the message names it.
    """

    def _sample_terms(
        self, outputs: Any, batch: dict[str, Any], shift: bool
    ) -> tuple[Tensor, Tensor]:
        fused = getattr(outputs, "log_probs", None)  # absent under label smoothing and the like
        if fused is None or self.pruning.sample_losses is not None:
            return super()._sample_terms(outputs, batch, shift)
        terms: Tensor = -fused
        if getattr(self.args, "loss_type", "nll") == "dft":
            terms = terms * fused.exp().detach()
        return terms, outputs.label_mask

    def _log_figures(self, row: Row) -> None:
        # Past SFTTrainer.log, which puts the averages of its metrics into whatever is logged next.
        Trainer.log(self, figures_of(row))


class PrunedSFTTrainer(PrunedSFTMixin, SFTTrainer):
    """A `trl.SFTTrainer` that trains, in each epoch, on the samples that a policy keeps.

    Use it like `SFTTrainer`; `pruner` has the history and the losses. For a trainer of your own,
    see `PrunedSFTMixin`.

    Args:
        *args: Arguments of `SFTTrainer`.
        pruning: How to prune.
        **kwargs: Keyword arguments of `SFTTrainer`.

    Raises:
        TypeError, ValueError: A setting is not possible with pruning; the message names it.
    """
