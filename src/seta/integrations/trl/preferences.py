"""TRL's `DPOTrainer`, `KTOTrainer` and `RewardTrainer`: train on preferences that a policy keeps.

    trainer = PrunedDPOTrainer(
        model, args=DPOConfig(...), train_dataset=pairs, pruning=PruningArguments(budget=0.6)
    )
    trainer.train()

They work like `seta.integrations.transformers`. A sample is a row of `trainer.train_dataset`: a
pair of answers, in KTO one answer. Its loss is the number that the trainer takes the mean of, with
the reference model in it, so nothing is computed twice. A pruned pair costs neither the model nor
the reference model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Trainer
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.reward_trainer import RewardTrainer

from seta.engine.rows import Row
from seta.integrations.transformers.arguments import PruningArguments
from seta.integrations.transformers.means import Mean, PrunedMeansMixin, Seen
from seta.integrations.transformers.trainer import figures_of

__all__ = [
    "PrunedDPOMixin",
    "PrunedDPOTrainer",
    "PrunedKTOMixin",
    "PrunedKTOTrainer",
    "PrunedRewardMixin",
    "PrunedRewardTrainer",
    "PruningArguments",
]


class PrunedRewardMixin(PrunedMeansMixin):
    """Adds pruning to a trainer of your own: `class Mine(PrunedRewardMixin, RewardTrainer)`.

    See `PrunedTrainerMixin`, which has the methods `update` and `skip`, for a `compute_loss` of
    your own, and `pruner`.

    Args:
        *args: Arguments of the trainer.
        pruning: How to prune.
        **kwargs: Keyword arguments of the trainer.

    Raises:
        TypeError, ValueError: A setting is not possible with pruning; the message names it.
    """

    def _log_figures(self, row: Row) -> None:
        # Past TRL's log, which puts the averages of its metrics into whatever is logged next.
        Trainer.log(self, figures_of(row))

    def _given(self, seen: Seen) -> Any:
        # The reference, and the divergence of KTO, are computed without a graph.
        return next(one for one in seen.outputs if any(map(_has_graph, one.values())))


class PrunedDPOMixin(PrunedRewardMixin):
    """Adds pruning to a trainer of your own: `class Mine(PrunedDPOMixin, DPOTrainer)`.

    See `PrunedRewardMixin`.

    Args:
        *args: Arguments of the trainer.
        pruning: How to prune.
        **kwargs: Keyword arguments of the trainer.

    Raises:
        TypeError, ValueError: A setting is not possible with pruning; the message names it.
    """

    loss_types: list[str]

    def __init__(self, *args: Any, pruning: PruningArguments, **kwargs: Any) -> None:
        super().__init__(*args, pruning=pruning, **kwargs)
        sorts = [name for name in self.loss_types if name.startswith("aot")]
        if sorts and pruning.sample_losses is None:
            raise ValueError(
                f"loss_type {sorts} does not go with pruning: it sorts the pairs of a batch, so "
                "that no term belongs to one pair. Use another, or give "
                "PruningArguments(sample_losses=...), a function (outputs, batch) -> losses (B,)"
            )

    def _per_sample(self, seen: Seen, batch: dict[str, Any]) -> Tensor:
        if "sft" in self.loss_types:  # the same number for all pairs, the mean over their tokens
            own = _sft_losses(self._given(seen), batch)
            seen.means = [
                Mean(own, mean.result) if mean.values.stride() == (0,) else mean
                for mean in seen.means
            ]
        return super()._per_sample(seen, batch)


class PrunedKTOMixin(PrunedRewardMixin):
    """Adds pruning to a trainer of your own: `class Mine(PrunedKTOMixin, KTOTrainer)`.

    See `PrunedRewardMixin`.

    Args:
        *args: Arguments of the trainer.
        pruning: How to prune.
        **kwargs: Keyword arguments of the trainer.

    Raises:
        TypeError, ValueError: A setting is not possible with pruning; the message names it.
    """

    def _per_sample(self, seen: Seen, batch: dict[str, Any]) -> Tensor:
        losses = super()._per_sample(seen, batch)  # the desirable answers first, then the others
        labels = torch.as_tensor(batch["label"], dtype=torch.bool, device=losses.device)
        return losses[torch.argsort(torch.argsort(~labels, stable=True))]


class PrunedDPOTrainer(PrunedDPOMixin, DPOTrainer):
    """A `trl.DPOTrainer` that trains, in each epoch, on the pairs that a policy keeps.

    Use it like `DPOTrainer`; `pruner` has the history and the losses. For a trainer of your own,
    see `PrunedDPOMixin`.

    Args:
        *args: Arguments of `DPOTrainer`.
        pruning: How to prune.
        **kwargs: Keyword arguments of `DPOTrainer`.

    Raises:
        TypeError, ValueError: A setting is not possible with pruning; the message names it.
    """


class PrunedKTOTrainer(PrunedKTOMixin, KTOTrainer):
    """A `trl.KTOTrainer` that trains, in each epoch, on the answers that a policy keeps.

    Use it like `KTOTrainer`; `pruner` has the history and the losses. For a trainer of your own,
    see `PrunedKTOMixin`.

    Args:
        *args: Arguments of `KTOTrainer`.
        pruning: How to prune.
        **kwargs: Keyword arguments of `KTOTrainer`.

    Raises:
        TypeError, ValueError: A setting is not possible with pruning; the message names it.
    """


class PrunedRewardTrainer(PrunedRewardMixin, RewardTrainer):
    """A `trl.RewardTrainer` that trains, in each epoch, on the pairs that a policy keeps.

    Use it like `RewardTrainer`; `pruner` has the history and the losses. For a trainer of your own,
    see `PrunedRewardMixin`.

    Args:
        *args: Arguments of `RewardTrainer`.
        pruning: How to prune.
        **kwargs: Keyword arguments of `RewardTrainer`.

    Raises:
        TypeError, ValueError: A setting is not possible with pruning; the message names it.
    """


def _has_graph(value: Any) -> bool:
    """Whether it is a tensor with a graph."""
    return isinstance(value, Tensor) and value.requires_grad


def _sft_losses(outputs: Any, batch: dict[str, Any]) -> Tensor:
    """Returns the share of each pair in DPO's "sft" loss, floats (B,), whose mean is the loss.

    Args:
        outputs: The model's, with `log_probs` (2B, T), the chosen answers first.
        batch: With `completion_mask` (2B, T + 1).
    """
    mask = batch["completion_mask"][..., 1:].chunk(2)[0]
    terms = -outputs.log_probs[:, -mask.shape[1] :].chunk(2)[0] * mask
    shares: Tensor = terms.sum(1) * len(mask) / mask.sum()
    return shares
