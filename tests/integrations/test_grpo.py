"""`seta.integrations.trl`: the rewards of `GRPOTrainer`, each on its own prompt."""

import os
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch

pytest.importorskip("trl")

from trl import GRPOTrainer

import seta
import seta.rl
from seta.integrations.trl import PrunedGRPOMixin, PrunedGRPOTrainer, PruningArguments
from seta.integrations.trl.rollouts import NUMBER, NumberedPrompts
from tests.integrations.grpo_cases import (
    ROLLOUTS,
    check_signals,
    config,
    number_of,
    prompts,
    reward,
    signal_of,
    trainer_of,
)
from tests.integrations.sft_cases import tokenizer
from tests.integrations.trainer_cases import (
    alone,  # noqa: F401
    llama,
    rows_of,
    weights_of,
)
from tests.launch import passes_on_two_ranks

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CI": "1"}  # CI: TRL sends no telemetry

pytestmark = [
    pytest.mark.usefixtures("alone"),
    pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


class Noting:
    """The reward function, which notes the prompts that it was asked for."""

    __name__ = "noting"

    def __init__(self):
        self.asked, self.empty = [], 0

    def __call__(self, prompts, completions, completion_ids, **columns):
        self.asked += [number_of(row) for row in prompts[::ROLLOUTS]]
        self.empty += sum(list(ids) in ([], [63]) for ids in completion_ids)
        return reward(prompts, completions, **columns)


GENERATIONS = [
    {},
    {"gradient_accumulation_steps": 2},
    {"gradient_accumulation_steps": 2, "num_iterations": 2},
    {"gradient_accumulation_steps": 1, "steps_per_generation": 3},
    {"gradient_accumulation_steps": 2, "steps_per_generation": 3},
    {"dataloader_num_workers": 2, "gradient_accumulation_steps": 2},
]


@pytest.mark.parametrize("options", GENERATIONS, ids=str)
def test_each_reward_lands_on_its_prompt(tmp_path, options):
    noting = Noting()
    trainer = trainer_of(tmp_path, 26, rewards=noting, budget=[1.0, 0.5], **options)
    trainer.train()
    check_signals(trainer)
    first, second = trainer.pruner.history
    together = trainer.args.generation_batch_size // ROLLOUTS
    assert first["trained"] == 26 // together * together
    assert second["trained"] == second["kept"] == trainer.pruner.lengths[1]
    assert len(noting.asked) == first["trained"] + second["trained"]
    assert trainer.lr_scheduler.get_last_lr()[0] == 0


@pytest.mark.parametrize(
    "options", [*GENERATIONS, {"shuffle_dataset": False}, {"loss_type": "grpo"}], ids=str
)
def test_a_policy_that_keeps_all_trains_as_the_stock_trainer_does_bit_for_bit(tmp_path, options):
    found = []
    for kind in (GRPOTrainer, PrunedGRPOTrainer):
        noting = Noting()
        trainer = trainer_of(tmp_path, 21, kind, noting, num_train_epochs=3, **options)
        trainer.train()
        logs = [
            {k: v for k, v in row.items() if "time" not in k} for row in trainer.state.log_history
        ]
        logs = [row for row in logs if "loss" in row]
        found.append((weights_of(trainer.model), noting.asked, trainer.state.global_step, logs))
    (weights, *stock), (others, *pruned) = found
    assert stock == pruned and len(stock[-1]) == stock[1] > 0
    assert torch.equal(weights, others)


POLICIES = [seta.rl.ZeroSignal(), seta.rl.SuccessRate(0.6, rollouts=ROLLOUTS), "Random"]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
@pytest.mark.parametrize("budget, epochs", [(0.4, 5), ([1.0, 0.2, 0.5], 3)])
def test_budgets_of_rollouts_are_exact(tmp_path, policy, budget, epochs):
    noting = Noting()
    options = {"gradient_accumulation_steps": 2, "num_train_epochs": epochs}
    trainer = trainer_of(tmp_path, 40, rewards=noting, policy=policy, budget=budget, **options)
    trainer.train()
    lengths = trainer.pruner.lengths
    assert all(length % 4 == 0 for length in lengths)
    shares = budget if isinstance(budget, list) else [budget] * epochs
    assert len(noting.asked) == sum(lengths) == 40 * sum(shares)
    assert trainer.state.global_step == trainer.state.max_steps == sum(lengths) // 4
    at = 0
    for length in lengths:
        assert len(set(noting.asked[at : at + length])) == length
        at += length


def test_without_a_budget_a_run_is_as_long_as_the_policy_says(tmp_path):
    noting = Noting()
    trainer = trainer_of(
        tmp_path, 40, rewards=noting, policy=seta.rl.ZeroSignal(), budget=None, num_train_epochs=4
    )
    trainer.train()
    kept = [row["kept"] for row in trainer.pruner.history]
    assert kept[0] == 40 > kept[1] >= kept[3] and len(noting.asked) == sum(kept)
    flat = [number for number in range(40) if signal_of([number])[0] >= 2]
    last = noting.asked[-kept[3] :]
    assert np.isin(last, flat).mean() < len(flat) / 40 / 2


@pytest.mark.parametrize("steps, budget", [(1, 0.6), (4, 0.6), (7, 0.6), (6, [1.0, 0.5, 0.5])])
def test_max_steps_end_the_run_in_mid_epoch(tmp_path, steps, budget):
    noting = Noting()
    options = {"gradient_accumulation_steps": 2, "max_steps": steps}
    trainer = trainer_of(tmp_path, 22, rewards=noting, budget=budget, **options)
    trainer.train()
    assert trainer.state.global_step == steps and len(noting.asked) == 4 * steps
    assert trainer.lr_scheduler.get_last_lr()[0] == 0
    check_signals(trainer)


def test_fractions_of_epochs(tmp_path):
    trainer = trainer_of(tmp_path, 24, budget=0.5, num_train_epochs=1.5)
    trainer.train()
    assert trainer.pruner.lengths == [12, 12] and trainer.state.global_step == 9


def test_several_reward_functions_with_weights_and_none(tmp_path):
    def sometimes(prompts, **columns):
        """Rewards no rollout of every third prompt, and of the others the last alone."""
        last = [at % ROLLOUTS == ROLLOUTS - 1 for at in range(len(prompts))]
        return [
            10.0 if end and number_of(row) % 3 else None
            for end, row in zip(last, prompts, strict=True)
        ]

    def evens(prompts, completions, **columns):
        """Rewards the rollouts of even prompts alone."""
        values = reward(prompts, completions, **columns)
        return [
            None if number_of(row) % 2 else value
            for row, value in zip(prompts, values, strict=True)
        ]

    trainer = trainer_of(
        tmp_path,
        rewards=[evens, sometimes],
        num_train_epochs=1,
        reward_weights=[2.0, 0.5],
        right=1.5,
    )
    trainer.train()
    for number, found in enumerate(trainer.pruner.losses):
        first = signal_of([number])[0]
        groups = []
        for at in range(ROLLOUTS):
            parts = [] if number % 2 else [2.0 * (at < first % 2 * ROLLOUTS or first == 3)]
            if number % 3 and at == ROLLOUTS - 1:
                parts.append(5.0)
            groups.append(sum(parts) if parts else np.nan)
        expected = seta.rl.group_signal([groups], right=1.5)[0]
        assert found == expected or (np.isnan(found) and np.isnan(expected)), number
    assert np.isnan(trainer.pruner.losses[3]) and trainer.pruner.history[0]["nonfinite"] == 4
    assert trainer.pruner.history[0]["trained"] == 24


@pytest.mark.parametrize("way", ["sum_then_normalize", "normalize_then_sum"])
def test_a_group_is_flat_if_its_advantages_are(tmp_path, way):
    """Of two functions whose weighted sum is always 2: normalized first, they do not cancel out."""

    def other(prompts, completions, **columns):
        return [2 - 2 * value for value in reward(prompts, completions, **columns)]

    trainer = trainer_of(
        tmp_path,
        rewards=[reward, other],
        reward_weights=[2.0, 1.0],
        multi_objective_aggregation=way,
        num_train_epochs=1,
    )
    trainer.train()
    both = signal_of(range(24)) < 2
    expected = np.where(both & (way == "normalize_then_sum"), 1.0, 3.0)
    np.testing.assert_array_equal(trainer.pruner.losses, expected)
    weights = weights_of(trainer.model)
    assert torch.equal(weights, weights_of(llama())) == (way == "sum_then_normalize")


def test_truncated_and_empty_completions_count(tmp_path):
    noting = Noting()
    trainer = trainer_of(
        tmp_path, 48, rewards=noting, mask_truncated_completions=True, max_completion_length=2
    )
    trainer.train()
    assert noting.empty
    check_signals(trainer)
    assert trainer.pruner.history[-1]["never_trained"] == 0


@pytest.mark.parametrize("remove", [False, True])
def test_prompts_that_repeat_are_different_samples(tmp_path, remove):
    numbers = iter(range(1000))

    def by_column(prompts, completions, number=None, **columns):
        assert (number is None) == remove and set(prompts) == {"w1 w1"}
        if number is None:
            return [float(next(numbers) % 3 == 0) for _ in prompts]
        return [float(at % ROLLOUTS < int(one) % 5) for at, one in enumerate(number)]

    rows = [{"prompt": "w1 w1", "number": at} for at in range(20)]
    trainer = trainer_of(
        tmp_path,
        dataset=datasets.Dataset.from_list(rows),
        rewards=by_column,
        remove_unused_columns=remove,
        num_train_epochs=1,
    )
    trainer.train()
    if not remove:
        rates = np.arange(20) % 5 / ROLLOUTS
        expected = np.where((rates == 0) | (rates == 1), rates + 2, rates)
        np.testing.assert_array_equal(trainer.pruner.losses, expected.astype(np.float32))
    assert trainer.pruner.history[0]["trained"] == 20


def test_evaluation_records_nothing(tmp_path):
    others = prompts(32).select(range(16, 32))
    options = {"eval_strategy": "steps", "eval_steps": 1, "num_train_epochs": 1}
    trainer = trainer_of(tmp_path, 8, eval_dataset=others, **options)
    trainer.train()
    check_signals(trainer)
    assert trainer.pruner.history[0]["trained"] == 8


def checkpoints(folder, **options):
    return trainer_of(folder, 24, save_strategy="steps", num_train_epochs=4, **options)


@pytest.mark.parametrize(
    "policy, budget",
    [
        (seta.rl.ZeroSignal(), [1.0, 0.5, 0.5, 0.5]),
        (seta.rl.ZeroSignal(), None),
        (seta.rl.SuccessRate(rollouts=ROLLOUTS), 0.5),
    ],
    ids=str,
)
def test_killed_and_resumed_bitwise(tmp_path, policy, budget):
    options = {
        "policy": policy,
        "budget": budget,
        "gradient_accumulation_steps": 2,
        "num_iterations": 2,
        "save_steps": 2,
    }
    whole = checkpoints(tmp_path, **options)
    whole.train()
    steps = whole.state.global_step
    for step in (2, steps // 4 * 2, steps // 2 * 2 - 2):
        rest = checkpoints(tmp_path / "rest", **options)
        rest.train(str(tmp_path / f"checkpoint-{step}"))
        assert torch.equal(weights_of(rest.model), weights_of(whole.model)), step
        assert rows_of(rest.pruner) == rows_of(whole.pruner), step
        np.testing.assert_array_equal(rest.pruner.losses, whole.pruner.losses)


def test_resumed_within_a_generation_each_prompt_is_recorded_once(tmp_path):
    options = {
        "policy": seta.rl.ZeroSignal(),
        "budget": 0.5,
        "gradient_accumulation_steps": 1,
        "steps_per_generation": 4,
        "save_steps": 3,
    }
    whole = checkpoints(tmp_path, **options)
    whole.train()
    rest = checkpoints(tmp_path / "rest", **options)
    rest.train(str(tmp_path / "checkpoint-3"))
    assert rest.state.global_step == whole.state.global_step
    assert rows_of(rest.pruner) == rows_of(whole.pruner)
    assert rest.pruner.history[-1]["notes"]["groups"] == sum(rest.pruner.lengths[:-1])


def test_a_checkpoint_of_other_generations_is_refused(tmp_path):
    whole = checkpoints(tmp_path, budget=0.5, save_steps=2)
    whole.train()
    other = checkpoints(tmp_path / "rest", budget=0.5, gradient_accumulation_steps=2)
    with pytest.raises(ValueError, match="saved with prompts_per_generation = 2, this run has 4"):
        other.train(str(tmp_path / "checkpoint-2"))


def test_what_does_not_go_together_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"num_generations=4 rollouts of a prompt, got rollouts=8"):
        trainer_of(tmp_path, policy=seta.rl.SuccessRate())
    with pytest.raises(ValueError, match=f"has the key '{NUMBER}' already"):
        trainer_of(tmp_path, dataset=prompts(24, **{NUMBER: list(range(24))})).train()
    with pytest.raises(ValueError, match=r"must have the 64 prompts of one generation.*got 24"):
        trainer_of(tmp_path, generation_batch_size=256).train()
    with pytest.raises(ValueError, match=r"InfoBatch\(.*gives weights, which rollouts cannot have"):
        trainer_of(tmp_path, policy=seta.InfoBatch(), budget=None, num_train_epochs=4).train()
    with pytest.raises(ValueError, match=r"max_steps=1000, got 2 shares of 24 steps"):
        trainer_of(tmp_path, budget=[1.0, 1.0], max_steps=1000).train()
    stream = prompts(24).to_iterable_dataset()
    with pytest.raises(TypeError, match="IterableDataset"):
        trainer_of(tmp_path, dataset=stream, max_steps=2)
    with pytest.raises(RuntimeError, match="no pruner before the first train"):
        _ = trainer_of(tmp_path).pruner


def test_other_arguments_are_refused(tmp_path):
    rows = {"args": config(tmp_path), "train_dataset": prompts(8), "reward_funcs": reward}
    with pytest.raises(TypeError, match="pruning must be RolloutArguments, got PruningArguments"):
        PrunedGRPOTrainer(
            llama(), **rows, processing_class=tokenizer(), pruning=PruningArguments(budget=1.0)
        )
    from seta.integrations.trl import RolloutArguments

    with pytest.raises(ValueError, match="index_key has no use for rollouts, got 'index'"):
        RolloutArguments(budget=0.5, index_key="index")
    for right in (np.nan, "0.5"):
        with pytest.raises((TypeError, ValueError), match="right must"):
            RolloutArguments(budget=0.5, right=right)


def test_rewards_that_are_not_seen_are_an_error(tmp_path):
    class Stock(GRPOTrainer):
        pass

    class Silent(PrunedGRPOMixin, Stock):
        def _calculate_rewards(self, inputs, prompts, *args):
            return torch.rand(len(prompts), 1)

    with pytest.raises(RuntimeError, match="no rewards of epoch 0 were seen"):
        trainer = Silent(
            llama(),
            reward_funcs=reward,
            args=config(tmp_path),
            train_dataset=prompts(8),
            processing_class=tokenizer(),
            pruning=trainer_of(tmp_path).pruning,
        )
        trainer.train()


def test_two_processes(tmp_path):
    """The cases of `grpo_ranks.py`, in one run of torchrun."""
    passes_on_two_ranks("tests.integrations.grpo_ranks", tmp_path, seconds=900)


@pytest.mark.parametrize(
    "name, options, rollouts",
    [
        ("grpo.py", [], "960"),
        ("grpo_loop.py", [], "3,840"),
        ("grpo_loop.py", ["--full"], "3,840"),
    ],
)
def test_the_examples_train(tmp_path, name, options, rollouts):
    command = [sys.executable, ROOT / "examples" / name, "--epochs", "4", *options]
    done = subprocess.run(
        command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"after {rollouts} rollouts" in done.stdout


class SortsIndices(torch.utils.data.Dataset):
    """Prompts read in file order, of which the list of indices is sorted in place."""

    def __len__(self):
        return 20

    def __getitems__(self, indices):
        rows = [{"prompt": f"w{index}"} for index in indices]
        indices.sort()
        return rows


def test_prompts_that_change_the_list_of_indices_are_refused():
    loader = torch.utils.data.DataLoader(
        NumberedPrompts(SortsIndices()), batch_size=10, shuffle=True, collate_fn=list
    )
    with pytest.raises(RuntimeError, match="__getitems__ of SortsIndices changed the list of ind"):
        next(iter(loader))
