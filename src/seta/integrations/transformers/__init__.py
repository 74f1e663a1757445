"""Hugging Face `Trainer`: trains, in each epoch, on the samples that a policy keeps.

    trainer = PrunedTrainer(
        model=model, args=args, train_dataset=dataset, pruning=PruningArguments(budget=0.6)
    )
    trainer.train()

`PrunedTrainerMixin` does the same for a trainer of your own:
`class Mine(PrunedTrainerMixin, Trainer)`. Every process reads the same selection, and Accelerate
splits it among them. Batches carry the indices of their samples, and the losses are computed from
the logits that the model returns anyway.

Cost per batch: one more pass over the logits, without a graph and in pieces of at most 256 MB. The
first batches wait for the device, later ones ever more rarely. Per epoch one exchange of losses.
"""

from seta.extras import MissingExtra, require

require(
    "seta.integrations.transformers",
    "torch",
    "transformers",
    "accelerate",
    extra="transformers",
)

import transformers  # noqa: E402

_HOOKS = (
    "_get_collator_with_removed_columns",
    "_get_train_sampler",
    "_init_training_state",
    "_finalize_training",
    "_remove_unused_columns",
    "_run_epoch",
    "_save_rng_state",
    "set_initial_training_values",
)  # what this package overrides or calls beside the documented methods

_missing = [name for name in _HOOKS if not hasattr(transformers.Trainer, name)]
if _missing:
    raise MissingExtra(
        "seta.integrations.transformers needs transformers 5.3 or later (5.23 is what it is tested "
        f"with): Trainer of transformers {transformers.__version__} has no "
        f'{", ".join(_missing)}: pip install "transformers>=5.3,<6"'
    )

from seta.integrations.transformers.arguments import PruningArguments  # noqa: E402
from seta.integrations.transformers.trainer import PrunedTrainer, PrunedTrainerMixin  # noqa: E402

__all__ = ["PrunedTrainer", "PrunedTrainerMixin", "PruningArguments"]
