"""TRL: trainers with pruning of samples, preferences and prompts.

    trainer = PrunedSFTTrainer(model, args=..., pruning=PruningArguments(budget=0.6), ...)
    trainer = PrunedDPOTrainer(model, args=..., pruning=PruningArguments(budget=0.6), ...)
    trainer = PrunedGRPOTrainer(model, args=..., pruning=RolloutArguments(budget=0.6), ...)
    trainer.train()

A trainer is imported on first use, since each imports much of TRL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seta.extras import require

require("seta.integrations.trl", "torch", "transformers", "accelerate", "trl", extra="trl")

from seta.integrations.transformers.arguments import PruningArguments  # noqa: E402

if TYPE_CHECKING:
    from seta.integrations.trl.grpo import PrunedGRPOMixin, PrunedGRPOTrainer
    from seta.integrations.trl.preferences import (
        PrunedDPOMixin,
        PrunedDPOTrainer,
        PrunedKTOMixin,
        PrunedKTOTrainer,
        PrunedRewardMixin,
        PrunedRewardTrainer,
    )
    from seta.integrations.trl.rollouts import RolloutArguments
    from seta.integrations.trl.sft import PrunedSFTMixin, PrunedSFTTrainer

__all__ = [
    "PrunedDPOMixin",
    "PrunedDPOTrainer",
    "PrunedGRPOMixin",
    "PrunedGRPOTrainer",
    "PrunedKTOMixin",
    "PrunedKTOTrainer",
    "PrunedRewardMixin",
    "PrunedRewardTrainer",
    "PrunedSFTMixin",
    "PrunedSFTTrainer",
    "PruningArguments",
    "RolloutArguments",
]

_PLACES = {
    "PrunedDPOMixin": "preferences",
    "PrunedDPOTrainer": "preferences",
    "PrunedGRPOMixin": "grpo",
    "PrunedGRPOTrainer": "grpo",
    "PrunedKTOMixin": "preferences",
    "PrunedKTOTrainer": "preferences",
    "PrunedRewardMixin": "preferences",
    "PrunedRewardTrainer": "preferences",
    "PrunedSFTMixin": "sft",
    "PrunedSFTTrainer": "sft",
    "RolloutArguments": "rollouts",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Imports a trainer when it is asked for."""
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import importlib

        return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
