"""TRL: `SFTTrainer` and `GRPOTrainer` with pruning of samples and prompts.

    trainer = PrunedSFTTrainer(model, args=..., pruning=PruningArguments(budget=0.6), ...)
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
    from seta.integrations.trl.rollouts import RolloutArguments
    from seta.integrations.trl.sft import PrunedSFTMixin, PrunedSFTTrainer

__all__ = [
    "PrunedGRPOMixin",
    "PrunedGRPOTrainer",
    "PrunedSFTMixin",
    "PrunedSFTTrainer",
    "PruningArguments",
    "RolloutArguments",
]

_PLACES = {
    "PrunedGRPOMixin": "grpo",
    "PrunedGRPOTrainer": "grpo",
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
