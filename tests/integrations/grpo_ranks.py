"""What `test_grpo` runs by `torchrun -m tests.integrations.grpo_ranks FOLDER`."""

import os
import sys
from pathlib import Path

os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "CI": "1"}

import numpy as np
import torch
import torch.distributed as dist
from trl import GRPOTrainer

import seta.rl
from seta.integrations.trl import PrunedGRPOTrainer
from tests.integrations.grpo_cases import check_signals, number_of, right_of, trainer_of
from tests.integrations.trainer_cases import rows_of, weights_of
from tests.integrations.trainer_ranks import gathered, same_everywhere


class Rewards:
    """Rewards by the place of a rollout among all of its prompt, on whichever rank it is."""

    __name__ = "rewards"

    def __init__(self, rollouts):
        self.rollouts, self.asked = rollouts, []

    def __call__(self, prompts, completions, **columns):
        first = dist.get_rank() * len(prompts)
        self.asked += [number_of(row) for row in prompts]
        return [
            float((first + at) % self.rollouts < right_of(number_of(row)))
            for at, row in enumerate(prompts)
        ]


def trained(folder, checkpoint=None, kind=PrunedGRPOTrainer, **options):
    rewards = Rewards(4)
    trainer = trainer_of(folder, 26, kind, rewards, **{"num_train_epochs": 3, **options})
    trainer.train(checkpoint)
    trainer.asked = rewards.asked
    return trainer


def rewards_land_on_their_prompts(folder, **options):
    """The groups of some prompts lie on both ranks, with 6 rows on each."""
    trainer = trained(folder, budget=[1.0, 0.5, 0.7], **options)
    check_signals(trainer)
    same_everywhere((trainer.pruner.losses.tobytes(), rows_of(trainer.pruner)))
    same_everywhere(weights_of(trainer.model).tolist())
    rows = sum(len(part) for part in gathered(trainer.asked))
    assert rows == 4 * sum(row["trained"] for row in trainer.pruner.history)
    assert [row["trained"] for row in trainer.pruner.history][1:] == trainer.pruner.lengths[1:]


def a_policy_that_keeps_all_trains_as_the_stock_trainer_does(folder):
    pruned = trained(folder, per_device_train_batch_size=6)
    stock = trained(folder, kind=GRPOTrainer, per_device_train_batch_size=6)
    assert pruned.asked == stock.asked
    assert torch.equal(weights_of(pruned.model), weights_of(stock.model))


def a_resumed_run_is_the_same(folder):
    options = {
        "policy": seta.rl.ZeroSignal(),
        "budget": [1.0, 0.5, 0.5],
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "save_strategy": "steps",
        "save_steps": 2,
    }
    whole = trained(folder / "whole", **options)
    for step in (2, 14, 18):
        rest = trained(folder / "rest", str(folder / "whole" / f"checkpoint-{step}"), **options)
        assert torch.equal(weights_of(rest.model), weights_of(whole.model)), step
        assert rows_of(rest.pruner) == rows_of(whole.pruner), step
        np.testing.assert_array_equal(rest.pruner.losses, whole.pruner.losses)


def main(folder):
    torch.set_num_threads(1)
    rewards_land_on_their_prompts(folder, per_device_train_batch_size=6)
    rewards_land_on_their_prompts(
        folder, per_device_train_batch_size=2, gradient_accumulation_steps=2, num_iterations=2
    )
    a_policy_that_keeps_all_trains_as_the_stock_trainer_does(folder)
    a_resumed_run_is_the_same(folder)
    (folder / f"passed-{dist.get_rank()}").write_text("all")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
