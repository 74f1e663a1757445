"""What `test_transformers` runs by `torchrun -m tests.integrations.trainer_ranks FOLDER`."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from transformers import Trainer

from seta.integrations.transformers import PrunedTrainer, PrunedTrainerMixin, PruningArguments
from tests.integrations.trainer_cases import (
    Sequences,
    arguments,
    halves,
    index_of,
    llama,
    pad,
    rows_of,
    trainer_of,
    weighted_loss,
    weights_of,
)


def gathered(value):
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def same_everywhere(value):
    first, second = gathered(value)
    assert first == second


def check_seen(trainer, **tolerance):
    """Each epoch trains its samples once, and the tables hold the losses that were seen last.

    Args:
        trainer: Has `seen`: (step, index, loss) of each sample that its rank trained.
        **tolerance: Of `assert_allclose`, for the losses.
    """
    table, parts, at, last = trainer.pruner.losses, gathered(trainer.seen), 0, {}
    same_everywhere((table.tobytes(), rows_of(trainer.pruner), weights_of(trainer.model).tolist()))
    for size in [row["trained"] for row in trainer.pruner.history]:
        epoch = [seen for part in parts for seen in part[at : at + size // 2]]
        assert len({index for _, index, _ in epoch}) == len(epoch) == size
        last.update({index: loss for _, index, loss in epoch})
        at += size // 2
    assert at == len(parts[0]) == len(parts[1])
    np.testing.assert_allclose(table[list(last)], list(last.values()), **tolerance)
    assert np.isfinite(table).sum() == len(last)


def trap_2_and_4_each_sample_is_trained_once(folder, budget, policy, **options):
    """Not sharded twice, nothing filled up; and each loss on its sample, on both ranks."""
    trainer = trainer_of(folder, budget, policy, **options)
    trainer.train()
    check_seen(trainer, rtol=1e-5)
    steps_of = [[step for step, _, _ in part] for part in gathered(trainer.seen)]
    assert steps_of[0] == steps_of[1]
    sizes = [row["trained"] for row in trainer.pruner.history]
    if budget is not None:
        assert sizes == trainer.pruner.lengths
    accumulation = options.get("gradient_accumulation_steps", 1)
    assert not any(size % (4 * accumulation) for size in sizes)
    steps = sum(sizes) // (4 * accumulation)
    assert trainer.state.global_step == trainer.state.max_steps == steps
    assert trainer.lr_scheduler.get_last_lr()[0] == 0  # trap 11: not twice a step


def trap_22_training_is_the_stock_one(folder):
    results = []
    for kind, more in (
        (Trainer, {}),
        (PrunedTrainer, {"pruning": PruningArguments("Full", budget=1.0)}),
    ):
        args = arguments(
            folder, train_sampling_strategy="sequential", gradient_accumulation_steps=2
        )
        trainer = kind(llama(), args, train_dataset=Sequences(24), data_collator=pad, **more)
        trainer.train()
        results.append(weights_of(trainer.model))
    assert torch.equal(*results)


class Plain(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        self.batch, self.items = dict(inputs), num_items_in_batch
        loss, self.outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        return (loss, self.outputs) if return_outputs else loss


class Weighted(PrunedTrainerMixin, Plain):
    compared = 0

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        weights = self.pruner.weights_of(np.array(list(map(index_of, inputs["input_ids"]))))
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if weights is not None:
            plain = weighted_loss(
                self.outputs["logits"],
                self.batch["labels"],
                torch.from_numpy(weights),
                self.items / 2,
                True,
            )
            torch.testing.assert_close(loss, plain, rtol=1e-5, atol=1e-6)
            self.compared += int((weights == 3).sum())
        return loss


def trap_22_weights_count_for_their_own_samples(folder):
    trainer = trainer_of(folder, 1.0, halves, kind=Weighted, gradient_accumulation_steps=2)
    trainer.train()
    assert trainer.compared


def trap_10_a_resumed_run_is_the_same(folder):
    def run(name, checkpoint=None):
        trainer = trainer_of(
            folder / name,
            0.6,
            model=llama(dropout=0.3),
            n=40,
            gradient_accumulation_steps=2,
            save_strategy="steps",
            save_steps=1,
        )
        trainer.train(checkpoint)
        return trainer

    whole = run("whole")
    assert whole.state.global_step == 9
    for step in (1, 2, 3, 5, 6, 8, 9):
        rest = run("rest", str(folder / "whole" / f"checkpoint-{step}"))
        assert rest.seen == [seen for seen in whole.seen if seen[0] >= step]
        assert torch.equal(weights_of(rest.model), weights_of(whole.model)), step
        assert rows_of(rest.pruner) == rows_of(whole.pruner), step


def an_optimizer_step_of_samples_is_needed(folder):
    with pytest.raises(ValueError, match=r"one optimizer step, .* got 7 for .* = 8: make"):
        trainer_of(folder, None, n=7, gradient_accumulation_steps=2).train()


def processes_that_trainer_does_not_count_are_refused(folder):
    """As on CPUs without `use_cpu=True`, where `Trainer` trains in each process by itself."""
    with pytest.raises(ValueError, match=r"group of 2 with a Trainer .* got 1: .*use_cpu=True"):
        trainer_of(folder, 0.6, use_cpu=False)


def main(folder):
    torch.set_num_threads(1)
    for budget in ([0.5, 1.0, 0.8], [1.0, 0.5, 0.8]):
        trap_2_and_4_each_sample_is_trained_once(
            folder, budget, "SeTa", gradient_accumulation_steps=2
        )
    for accumulation in (1, 2):
        trap_2_and_4_each_sample_is_trained_once(
            folder, None, "InfoBatch", gradient_accumulation_steps=accumulation
        )
    trap_2_and_4_each_sample_is_trained_once(folder, None, "InfoBatch", dataloader_drop_last=True)
    an_optimizer_step_of_samples_is_needed(folder)
    trap_22_training_is_the_stock_one(folder)
    trap_22_weights_count_for_their_own_samples(folder)
    trap_10_a_resumed_run_is_the_same(folder)
    if not torch.accelerator.is_available():
        processes_that_trainer_does_not_count_are_refused(folder)
    (folder / f"passed-{dist.get_rank()}").write_text("all")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
