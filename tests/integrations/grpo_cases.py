"""Prompts whose content is their own number, and rewards that follow from it, for `GRPOTrainer`."""

import datasets
import numpy as np
from trl import GRPOConfig

import seta.rl
from seta.integrations.trl import PrunedGRPOTrainer, RolloutArguments
from tests.integrations.sft_cases import tokenizer
from tests.integrations.trainer_cases import BARE, llama

ROLLOUTS = 4


def prompts(n, **columns):
    """Rows of a prompt that says its number in two words."""
    rows = [{"prompt": f"w{i // 32 + 1} w{i % 32 + 1}"} for i in range(n)]
    return datasets.Dataset.from_list(
        [{**row, **{k: v[i] for k, v in columns.items()}} for i, row in enumerate(rows)]
    )


def number_of(prompt):
    first, second = (int(word[1:]) for word in prompt.split())
    return (first - 1) * 32 + second - 1


def right_of(number):
    """How many rollouts of a prompt are right: all numbers from 0 to 4 come up."""
    return number * 7 % (ROLLOUTS + 1)


def signal_of(numbers):
    rate = np.array([right_of(int(number)) for number in numbers]) / ROLLOUTS
    return np.where((rate == 0) | (rate == 1), rate + seta.rl.signal.FLAT, rate).astype(np.float32)


def reward(prompts, completions, **columns):
    """Rewards the first rollouts of each prompt; the rollouts of this process lie together."""
    assert not any(key.startswith("seta") for key in columns)
    return [float(at % ROLLOUTS < right_of(number_of(row))) for at, row in enumerate(prompts)]


def config(folder, **options):
    defaults = {
        "per_device_train_batch_size": 8,
        "num_generations": ROLLOUTS,
        "max_completion_length": 4,
        "num_train_epochs": 2,
    }
    return GRPOConfig(output_dir=str(folder), **(BARE | defaults | options))


def trainer_of(
    folder,
    n=24,
    kind=PrunedGRPOTrainer,
    rewards=reward,
    dataset=None,
    eval_dataset=None,
    **options,
):
    """Returns a trainer; `policy`, `budget` and `right` say how it prunes, the rest is TRL's."""
    names = ("policy", "budget", "right", "count_kept", "changed")
    given = {name: options.pop(name) for name in names if name in options}
    pruning = RolloutArguments(**{"policy": "Full", "budget": 1.0, **given})
    return kind(
        llama(),
        reward_funcs=rewards,
        args=config(folder, **options),
        train_dataset=prompts(n) if dataset is None else dataset,
        eval_dataset=eval_dataset,
        processing_class=tokenizer(),
        **({"pruning": pruning} if issubclass(kind, PrunedGRPOTrainer) else {}),
    )


def check_signals(trainer):
    """Whether the table of a run under a policy without a score holds the prompts' own signals."""
    table = trainer.pruner.losses
    seen = np.flatnonzero(~np.isnan(table))
    assert len(seen)
    np.testing.assert_array_equal(table[seen], signal_of(seen))
