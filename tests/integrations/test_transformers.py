"""`seta.integrations.transformers`: losses, lengths, schedules and resuming under `Trainer`."""

import json
import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from math import ceil
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import get_worker_info
from transformers import (
    DataCollatorWithFlattening,
    EarlyStoppingCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainerCallback,
)

from seta.engine import KeepCurve
from seta.integrations.transformers import PrunedTrainer, PrunedTrainerMixin, PruningArguments
from seta.integrations.transformers.batches import (
    INDICES,
    LENGTHS,
    IndexedBatch,
    TrainedBatch,
    in_batch,
)
from seta.integrations.transformers.losses import Shares, scales_of, weighted
from seta.torch.dataset import IndexedRows, indices_of
from tests.integrations.one_class import OneClass
from tests.integrations.told import Told
from tests.integrations.trainer_cases import (
    CLASSES,
    GIVEN,
    LeftOver,
    Probe,
    Sequences,
    alone,  # noqa: F401
    arguments,
    bert,
    check_table,
    experts,
    halves,
    index_of,
    llama,
    pad,
    rows_of,
    sequence,
    t5,
    token_loss,
    trainer_of,
    weighted_loss,
    weights_of,
)
from tests.launch import passes_on_two_ranks

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}  # threads that wait for each other's cores

pytestmark = pytest.mark.usefixtures("alone")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("accumulation", [1, 4])
def test_trap_1_each_loss_lands_on_its_sample(tmp_path, workers, accumulation):
    trainer = trainer_of(
        tmp_path,
        gradient_accumulation_steps=accumulation,
        dataloader_num_workers=workers,
        dataloader_persistent_workers=bool(workers),
    )
    trainer.train()
    check_table(trainer)
    assert [row["trained"] for row in trainer.pruner.history] == trainer.pruner.lengths


def test_trap_8_unused_columns_are_removed_and_indices_are_not(tmp_path):
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_list([Sequences(41)[i] for i in range(41)])
    kept = []

    def collate(rows):
        kept.extend(key for row in rows for key in row)
        return pad(rows)

    for dataset in (table, Sequences(41)):
        trainer = trainer_of(tmp_path, dataset=dataset, collate=collate)
        trainer.train()
        check_table(trainer)
    assert set(kept) == {"input_ids", "labels"}


def test_trap_8_a_batch_without_indices_is_refused(tmp_path):
    class Choosy(PrunedTrainer):
        def get_batch_samples(self, *args):
            batches, items = super().get_batch_samples(*args)
            return [
                {key: batch[key] for key in ("input_ids", "labels")} for batch in batches
            ], items

    with pytest.raises(RuntimeError, match=r"batch has no 'seta_indices', got .*makes a new batch"):
        trainer_of(tmp_path, kind=Choosy).train()


def test_trap_16_a_table_is_read_in_batches(tmp_path):
    datasets = pytest.importorskip("datasets")
    calls = []

    class Table(datasets.Dataset):
        def __getitems__(self, keys):
            calls.append(len(keys))
            return super().__getitems__(keys)

        def remove_columns(self, names):
            table = super().remove_columns(names)
            table.__class__ = Table
            return table

    table = datasets.Dataset.from_list([Sequences(41)[i] for i in range(41)])
    table.__class__ = Table
    trainer = trainer_of(tmp_path, budget=[1.0, 0.5, 1.0], dataset=table)
    trainer.train()
    assert sum(calls) == 41 + 20 + 41 and max(calls) == 2


@pytest.mark.parametrize("accumulation", [1, 2, 4])
@pytest.mark.parametrize("budget", [[0.5, 1.0, 0.8], [1.0, 0.5, 0.8], None])
def test_trap_9_growing_and_shrinking_epochs_are_trained_whole(tmp_path, accumulation, budget):
    left_over = LeftOver()
    trainer = trainer_of(
        tmp_path, budget, callbacks=[left_over], gradient_accumulation_steps=accumulation
    )
    trainer.train()
    check_table(trainer)
    sizes = [row["trained"] for row in trainer.pruner.history]
    if budget:
        assert sizes == trainer.pruner.lengths
    assert all(size == 41 or size % (2 * accumulation) == 0 for size in sizes)
    assert left_over.sums == [0.0, 0.0, 0.0]
    steps = [ceil(ceil(size / 2) / accumulation) for size in sizes]
    assert trainer.state.global_step == trainer.state.max_steps == sum(steps)
    assert trainer.state.epoch == 3


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize(("budget", "policy"), [([0.6, 1.0, 0.7], "SeTa"), (None, "InfoBatch")])
def test_every_optimizer_step_is_full_but_the_last_of_an_epoch_that_keeps_all(
    tmp_path, budget, policy, accumulation, drop_last
):
    trainer = trainer_of(
        tmp_path,
        budget,
        policy,
        gradient_accumulation_steps=accumulation,
        dataloader_drop_last=drop_last,
    )
    trainer.train()
    check_table(trainer)
    full = 2 * accumulation
    sizes = Counter(step for step, _, _ in trainer.seen)
    whole = [row["kept"] == 41 for row in trainer.pruner.history]
    assert any(whole) is not drop_last
    assert sorted(sizes.values()) == [1] * sum(whole) + [full] * (len(sizes) - sum(whole))


class Looks(TrainerCallback):
    """Looks at the loader, between two epochs too."""

    def on_epoch_begin(self, args, state, control, train_dataloader, **kwargs):
        next(iter(train_dataloader))

    def on_step_end(self, args, state, control, train_dataloader, **kwargs):
        next(iter(train_dataloader))

    def on_epoch_end(self, args, state, control, train_dataloader, **kwargs):
        assert len(train_dataloader)


@pytest.mark.parametrize("save", [{}, {"save_strategy": "steps", "save_steps": 1}])
def test_looking_at_batches_uses_up_no_epoch(tmp_path, save):
    trainer = trainer_of(tmp_path, callbacks=[Looks()], n=23, **save)
    next(iter(trainer.get_train_dataloader()))
    trainer.train()
    check_table(trainer)
    assert [row["trained"] for row in trainer.pruner.history] == trainer.pruner.lengths


class InWorkers(Sequences):
    """Notes whether its workers know it by itself."""

    def __getitem__(self, index):
        assert get_worker_info().dataset is self
        return super().__getitem__(index)


def test_workers_have_the_users_own_dataset(tmp_path):
    trainer = trainer_of(
        tmp_path, dataset=InWorkers(41), dataloader_num_workers=1, dataloader_drop_last=True
    )
    trainer.train()
    check_table(trainer)


@pytest.mark.parametrize(("budget", "policy"), [(0.6, "SeTa"), (None, "InfoBatch")])
def test_trap_10_resumes_exactly_from_every_checkpoint(tmp_path, budget, policy):
    def run(folder, checkpoint=None):
        trainer = trainer_of(
            folder,
            budget,
            policy,
            model=llama(dropout=0.3),
            n=23,
            gradient_accumulation_steps=2,
            save_strategy="steps",
            save_steps=1,
            lr_scheduler_type="cosine",
        )
        trainer.train(resume_from_checkpoint=checkpoint)
        return trainer

    whole = run(tmp_path / "whole")
    steps = whole.state.global_step
    checkpoints = [tmp_path / "whole" / f"checkpoint-{step}" for step in range(1, steps + 1)]
    assert all(checkpoint.exists() for checkpoint in checkpoints) and steps > 9
    for step, checkpoint in enumerate(checkpoints, 1):
        rest = run(tmp_path / "rest", str(checkpoint))
        assert rest.seen == [seen for seen in whole.seen if seen[0] >= step]
        assert torch.equal(weights_of(rest.model), weights_of(whole.model)), step
        assert rows_of(rest.pruner) == rows_of(whole.pruner)
        logged = [
            [log for log in one.state.log_history if "train_runtime" not in log]
            for one in (rest, whole)
        ]
        assert logged[0] == logged[1], step


def test_trap_10_resumes_from_a_checkpoint_at_the_end_of_an_epoch(tmp_path):
    options = {"save_strategy": "epoch", "n": 23, "model": llama(dropout=0.3)}
    whole = trainer_of(tmp_path, **options)
    whole.train()
    options["model"] = llama(dropout=0.3)
    rest = trainer_of(tmp_path, **options)
    rest.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert torch.equal(weights_of(rest.model), weights_of(whole.model))
    assert rows_of(rest.pruner) == rows_of(whole.pruner)


def test_trap_10_resumes_exactly_with_workers_and_grouped_lengths(tmp_path):
    def run(folder, checkpoint=None):
        trainer = trainer_of(
            folder,
            model=llama(dropout=0.3),
            n=23,
            save_strategy="steps",
            save_steps=9,
            dataloader_num_workers=2,
            train_sampling_strategy="group_by_length",
        )
        trainer.train(checkpoint)
        return trainer

    whole = run(tmp_path / "whole")
    rest = run(tmp_path / "rest", str(tmp_path / "whole" / "checkpoint-9"))
    assert torch.equal(weights_of(rest.model), weights_of(whole.model))
    assert rows_of(rest.pruner) == rows_of(whole.pruner)


def test_a_run_can_be_resumed_for_more_epochs_if_that_is_meant(tmp_path):
    options = {"save_strategy": "epoch", "n": 23}
    trainer_of(tmp_path, num_train_epochs=1, **options).train()
    checkpoint = str(tmp_path / "checkpoint-6")
    with pytest.raises(ValueError, match=r"saved with epochs=1, this pruner has epochs=3"):
        trainer_of(tmp_path, **options).train(resume_from_checkpoint=checkpoint)
    longer = trainer_of(tmp_path, changed=["epochs"], **options)
    longer.train(resume_from_checkpoint=checkpoint)
    assert [row["epoch"] for row in longer.pruner.history] == [0, 1, 2]
    assert longer.state.global_step == longer.state.max_steps
    assert longer.lr_scheduler.get_last_lr()[0] == 0


def test_a_run_goes_on_with_its_steps_split_up_in_another_way(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 2, "n": 23}
    whole = trainer_of(tmp_path, per_device_train_batch_size=4, **options)
    whole.train()
    for split in ({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}, {}):
        split = split or {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
        rest = trainer_of(tmp_path / "rest", **split, **options)
        rest.train(str(tmp_path / "checkpoint-2"))
        seen = [one[:2] for one in whole.seen if one[0] >= 2]
        assert [one[:2] for one in rest.seen][: 4 * 4] == seen[: 4 * 4]
        assert [row["kept"] for row in rest.pruner.history] == rest.pruner.lengths
        torch.testing.assert_close(weights_of(rest.model), weights_of(whole.model))


def test_resuming_refuses_what_does_not_fit(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 2, "n": 23}
    trainer_of(tmp_path, **options).train()
    checkpoint = tmp_path / "checkpoint-2"
    with pytest.raises(ValueError, match=r"samples_per_step = 2, this run has 4"):
        trainer_of(tmp_path, per_device_train_batch_size=4, **options).train(str(checkpoint))
    with pytest.raises(ValueError, match=r"whole_steps_only = False, this run has True"):
        trainer_of(tmp_path, dataloader_drop_last=True, **options).train(str(checkpoint))
    (checkpoint / "seta_state.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"seta_state.bin is missing.*begin a new run"):
        trainer_of(tmp_path, **options).train(str(checkpoint))


@pytest.mark.parametrize("budget", [0.6, [0.5, 1.0, 0.8], [1.0, 0.5, 0.8], None])
@pytest.mark.parametrize("kind", ["linear", "cosine_with_min_lr"])
def test_trap_11_the_learning_rate_ends_where_it_should(tmp_path, budget, kind):
    options = {"lr_scheduler_kwargs": {"min_lr": 1e-4}} if kind == "cosine_with_min_lr" else {}
    trainer = trainer_of(
        tmp_path,
        budget,
        lr_scheduler_type=kind,
        warmup_steps=2,
        gradient_accumulation_steps=2,
        **options,
    )
    trainer.train()
    last = {"cosine_with_min_lr": 1e-4, "linear": 0.0}[kind]
    assert trainer.lr_scheduler.get_last_lr()[0] == pytest.approx(last, abs=1e-12)
    rates = [log["learning_rate"] for log in trainer.state.log_history if "learning_rate" in log]
    assert max(rates) == pytest.approx(0.01, rel=0.05)


def test_trap_11_a_schedule_of_ones_own_gets_the_true_number_of_steps(tmp_path):
    class Own(Trainer):
        def create_scheduler(self, num_training_steps, optimizer=None):
            self.lr_scheduler = OneCycleLR(self.optimizer, 0.1, total_steps=num_training_steps)
            return self.lr_scheduler

    class Mine(PrunedTrainerMixin, Own):
        pass

    trainer = trainer_of(tmp_path, kind=Mine)
    trainer.train()
    assert trainer.lr_scheduler.last_epoch == trainer.state.global_step == 36
    with pytest.raises(ValueError, match=r"budget=None does not go with OneCycleLR.*Give budget="):
        trainer_of(tmp_path, None, kind=Mine).train()


@pytest.mark.parametrize("kind", ["reduce_lr_on_plateau", "greedy"])
@pytest.mark.parametrize("budget", [0.6, None])
def test_schedules_driven_by_a_metric_work(tmp_path, kind, budget):
    trainer = trainer_of(
        tmp_path,
        budget,
        lr_scheduler_type=kind,
        eval_dataset=Sequences(4),
        eval_strategy="epoch",
        metric_for_best_model="loss",
    )
    trainer.train()
    check_table(trainer)


def stock_and_pruned(folder, model, dataset, **options):
    """Final weights and logged losses of `Trainer`, and of ours with everything kept, in order."""
    results = []
    given = {key: options.pop(key) for key in list(options) if key in GIVEN}
    for kind, more in (
        (Trainer, {}),
        (PrunedTrainer, {"pruning": PruningArguments("Full", budget=1.0)}),
    ):
        trainer = kind(
            model(),
            arguments(folder, train_sampling_strategy="sequential", **options),
            train_dataset=dataset,
            data_collator=pad,
            **given,
            **more,
        )
        trainer.train()
        losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
        results.append((weights_of(trainer.model), losses))
    return results


@pytest.mark.parametrize("accumulation", [1, 2, 4])
@pytest.mark.parametrize("model", [llama, bert, t5], ids=["causal", "classes", "seq2seq"])
def test_trap_22_with_weights_of_1_training_is_the_stock_one_bit_for_bit(
    tmp_path, model, accumulation
):
    stock, pruned = stock_and_pruned(
        tmp_path,
        model,
        CLASSES if model is bert else Sequences(21),
        gradient_accumulation_steps=accumulation,
    )
    assert torch.equal(stock[0], pruned[0])
    assert stock[1] == pruned[1]


@pytest.mark.parametrize("model", [llama, bert], ids=["causal", "classes"])
def test_label_smoothing_is_the_stock_one_and_recorded(tmp_path, model):
    stock, pruned = stock_and_pruned(
        tmp_path,
        model,
        CLASSES if model is bert else Sequences(21),
        gradient_accumulation_steps=2,
        label_smoothing_factor=0.2,
    )
    assert torch.equal(stock[0], pruned[0]) and stock[1] == pruned[1]


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize(
    "model", [llama, bert, t5, experts], ids=["causal", "classes", "seq2seq", "experts"]
)
def test_trap_22_a_weight_multiplies_the_samples_own_term(tmp_path, model, accumulation):
    compared = []

    class Plain(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            self.batch, self.items = dict(inputs), num_items_in_batch
            loss, self.outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
            return (loss, self.outputs) if return_outputs else loss

    class Checked(PrunedTrainerMixin, Plain):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            weights = self.pruner.weights_of(np.array(list(map(index_of, inputs["input_ids"]))))
            loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            if weights is None:
                return loss
            labels, logits = self.batch["labels"], self.outputs["logits"]
            causal = model.config.model_type in ("llama", "mixtral")
            own = (
                (labels[:, 1:] if causal else labels).ne(-100).sum()
            )  # t5 and bert: a batch's mean
            plain = weighted_loss(
                logits, labels, torch.from_numpy(weights), self.items if causal else own, causal
            )
            if model.config.model_type == "mixtral":  # adds a loss that is of no sample
                plain = plain + model.config.router_aux_loss_coef * self.outputs["aux_loss"]
            some = next(model.parameters())
            gradients = [
                torch.autograd.grad(one, some, retain_graph=True)[0] for one in (loss, plain)
            ]
            torch.testing.assert_close(loss, plain, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)
            compared.append(weights.max())
            return loss

    trainer = trainer_of(
        tmp_path,
        1.0,
        halves,
        kind=Checked,
        model=model(),
        dataset=CLASSES if model is bert else Sequences(21),
        gradient_accumulation_steps=accumulation,
        num_train_epochs=2,
    )
    trainer.train()
    assert 3 in compared


def test_a_seq2seq_trainer_with_smoothed_labels(tmp_path):
    class Mine(PrunedTrainerMixin, Seq2SeqTrainer):
        pass

    def collate(rows):
        batch = pad(rows)
        shifted = model.prepare_decoder_input_ids_from_labels(batch["labels"])
        return {**batch, "decoder_input_ids": shifted}

    model = t5()
    args = Seq2SeqTrainingArguments(
        **{**arguments(tmp_path, label_smoothing_factor=0.2).to_dict(), "logging_steps": 1}
    )
    trainer = Mine(
        model,
        args,
        train_dataset=Sequences(21),
        data_collator=collate,
        pruning=PruningArguments("InfoBatch", budget=0.8),
    )
    trainer.train()
    assert [row["trained"] for row in trainer.pruner.history] == trainer.pruner.lengths


def test_trap_22_a_weight_of_1_adds_exactly_nothing():
    totals = torch.tensor([1.5, 2.5, 4.0], requires_grad=True)
    shares = Shares(totals, torch.tensor([1, 1, 2]))
    loss = totals.sum() / 4
    scales = [torch.tensor(1 / 4)]
    changed = weighted(loss, shares, np.array([1, 3, 1], np.float32), scales)
    assert changed.item() == loss.item() + 2 * 2.5 / 4
    (gradient,) = torch.autograd.grad(changed, totals)
    assert gradient.tolist() == [0.25, 0.75, 0.25]
    assert torch.equal(weighted(loss, shares, np.ones(3, np.float32), scales), loss)


def mean_of_tokens(outputs, labels, num_items_in_batch=None):
    terms = cross_entropy(
        outputs["logits"][:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum"
    )
    return terms / num_items_in_batch


def squared(outputs, labels, num_items_in_batch=None):
    return mean_of_tokens(outputs, labels, num_items_in_batch) ** 2


def test_compute_loss_func_is_taken_if_its_terms_are_known(tmp_path):
    trainer = trainer_of(tmp_path, compute_loss_func=mean_of_tokens, gradient_accumulation_steps=2)
    trainer.train()
    check_table(trainer)
    with pytest.raises(
        ValueError, match=r"the loss of a batch is .* add up to .*Give PruningArguments\(sample_"
    ):
        trainer_of(tmp_path, compute_loss_func=squared).train()


def test_compute_loss_func_with_losses_of_its_own(tmp_path):
    def own(outputs, batch):
        return torch.tensor(
            [token_loss(*pair) for pair in zip(outputs["logits"], batch["labels"], strict=True)]
        )

    trainer = trainer_of(tmp_path, compute_loss_func=squared, sample_losses=own)
    trainer.train()
    check_table(trainer)


def test_losses_of_ones_own_have_to_add_up_where_they_are_weighted(tmp_path):
    with pytest.raises(ValueError, match=r"gives weights other than 1, so sample_losses has to"):
        trainer_of(
            tmp_path, 1.0, halves, sample_losses=lambda outputs, batch: outputs["logits"][:, 0, 0]
        ).train()


class NoLogits(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Embedding(64, 1)

    def forward(self, input_ids, attention_mask=None, labels=None):
        values = self.layer(input_ids)[..., 0] * attention_mask
        return {"loss": (values.mean(1) ** 2).mean(), "values": values}


def test_a_model_without_logits_needs_to_be_told_its_losses(tmp_path):
    with pytest.raises(ValueError, match=r"`logits` and `labels`, got outputs with .*'values'"):
        trainer_of(tmp_path, kind=PrunedTrainer, model=NoLogits()).train()
    trainer = trainer_of(
        tmp_path,
        kind=PrunedTrainer,
        model=NoLogits(),
        sample_losses=lambda outputs, batch: outputs["values"].mean(1) ** 2,
    )
    trainer.train()
    assert [row["trained"] for row in trainer.pruner.history] == trainer.pruner.lengths


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda outputs, batch: 1.0, "must return a tensor of floats.*got float"),
        (lambda outputs, batch: batch["labels"], "must return a tensor of floats.*got torch.int64"),
        (lambda outputs, batch: outputs["loss"], r"must return one loss for each sample.*\(\)"),
        (lambda outputs, batch: outputs["logits"][:1, 0, 0], "of 2 samples gave .* 1 rows"),
    ],
)
def test_sample_losses_of_another_kind_are_refused(tmp_path, returned, message):
    with pytest.raises((TypeError, ValueError), match=message):
        trainer_of(tmp_path, sample_losses=returned).train()


@pytest.mark.parametrize(
    ("labels", "options", "label", "plain"),
    [
        (
            1,
            {"problem_type": "regression"},
            lambda index: float(index % 3),
            lambda logits, labels: (logits[:, 0] - labels) ** 2,
        ),
        (
            3,
            {"problem_type": "multi_label_classification"},
            lambda index: [float(index % 2), 1.0, 0.0],
            lambda logits, labels: binary_cross_entropy_with_logits(
                logits, labels, reduction="none"
            ).mean(1),
        ),
    ],
    ids=["regression", "labels"],
)
@pytest.mark.parametrize("accumulation", [1, 2])
def test_regression_and_several_labels(tmp_path, labels, options, label, plain, accumulation):
    seen = {}

    class Plain(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            ids, targets = inputs["input_ids"], inputs["labels"]
            result = super().compute_loss(model, inputs, True, num_items_in_batch)
            values = plain(result[1]["logits"].detach(), targets)
            seen.update(zip(((ids[:, 0] - 1) * 32 + ids[:, 1] - 1).tolist(), values, strict=True))
            return result if return_outputs else result[0]

    class Mine(PrunedTrainerMixin, Plain):
        pass

    trainer = trainer_of(
        tmp_path,
        kind=Mine,
        model=bert(labels, **options),
        dataset=Sequences(20, label),
        gradient_accumulation_steps=accumulation,
    )
    trainer.train()
    table = trainer.pruner.losses
    np.testing.assert_allclose(table[list(seen)], [float(v) for v in seen.values()], rtol=1e-5)


def test_flattened_batches_are_told_apart(tmp_path):
    """`DataCollatorWithFlattening` makes one row of a batch's sequences."""
    seen = {}

    class Plain(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            positions, labels = inputs["position_ids"][0], inputs["labels"][0]
            starts = [*(positions == 0).nonzero().flatten().tolist(), len(positions)]
            ids = inputs["input_ids"][0]
            result = super().compute_loss(model, inputs, True, num_items_in_batch)
            for start, stop in pairwise(starts):
                index = (int(ids[start]) - 1) * 32 + int(ids[start + 1]) - 1
                logits = result[1]["logits"][0, start:stop].detach()
                seen[index] = token_loss(logits, labels[start:stop])
            return result if return_outputs else result[0]

    class Mine(PrunedTrainerMixin, Plain):
        pass

    trainer = trainer_of(
        tmp_path, kind=Mine, collate=DataCollatorWithFlattening(), per_device_train_batch_size=4
    )
    trainer.train()
    table = trainer.pruner.losses
    assert len(seen) == np.isfinite(table).sum()
    np.testing.assert_allclose(table[list(seen)], list(seen.values()), rtol=1e-5)


@pytest.mark.parametrize("positions", [True, False])
def test_flattened_batches_with_tokens_of_their_own_are_told_apart_or_refused(positions, tmp_path):
    """A collate function that ends each row with two more tokens."""
    seen = {}

    class Plain(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            result = super().compute_loss(model, inputs, True, num_items_in_batch)
            starts = [*(inputs["labels"][0] == -100).nonzero().flatten().tolist()]
            ids = inputs["input_ids"][0]
            for start, stop in pairwise([*starts, len(ids)]):
                index = (int(ids[start]) - 1) * 32 + int(ids[start + 1]) - 1
                part = slice(start, stop)
                logits = result[1]["logits"][0, part].detach()
                seen[index] = token_loss(logits, inputs["labels"][0, part])
            return result if return_outputs else result[0]

    class Mine(PrunedTrainerMixin, Plain):
        pass

    def collate(rows):
        ids, labels, position_ids = [], [], []
        for row in rows:
            own = [*row["input_ids"], 63, 63]
            ids += own
            labels += [-100, *own[1:]]
            position_ids += range(len(own))
        batch = {"input_ids": ids, "labels": labels, "position_ids": position_ids}
        if not positions:
            del batch["position_ids"]
        return {name: torch.tensor([values]) for name, values in batch.items()}

    trainer = trainer_of(tmp_path, kind=Mine, collate=collate, per_device_train_batch_size=4)
    if not positions:
        with pytest.raises(ValueError, match="data_collator must flatten the tokens of its rows"):
            trainer.train()
        return
    trainer.train()
    table = trainer.pruner.losses
    assert len(seen) == np.isfinite(table).sum()
    np.testing.assert_allclose(table[list(seen)], list(seen.values()), rtol=1e-5)


def test_rows_that_a_flattened_batch_cuts_are_told_apart_by_their_positions():
    rows = [[1, 2, 3, 4], [5, 6, 7, 8]]
    for kept, ids in (([3, 4], [1, 2, 3, 5, 6, 7, 8]), ([3, 5], [1, 2, 3, 5, 6, 7, 8, 9])):
        places = [at for count in kept for at in range(count)]
        batch = {"input_ids": torch.tensor([ids]), "position_ids": torch.tensor([places])}
        assert in_batch(rows, batch) == kept
    with pytest.raises(ValueError, match="got 7 of rows with 8: where it adds tokens, cuts"):
        in_batch(rows, {"input_ids": torch.tensor([[1, 2, 3, 5, 6, 7, 8]])})


def test_positions_of_packed_texts_do_not_tell_rows_that_came_as_they_are():
    """The second text begins in the first row: as many texts as rows."""
    ids, places = [1, 2, 3, 4, 5, 6, 7], [0, 1, 0, 1, 2, 3, 4]
    batch = {"input_ids": torch.tensor([ids]), "position_ids": torch.tensor([places])}
    assert in_batch([ids[:4], ids[4:]], batch) == [4, 3]


def test_the_lengths_of_a_flattened_batch_are_in_its_order():
    """A collate function that drops a row, turns the others round and adds a token to each."""

    def collate(rows):
        kept = rows[:0:-1]
        ids = [token for row in kept for token in [*row["input_ids"], 9]]
        places = [at for row in kept for at in range(len(row["input_ids"]) + 1)]
        batch = {"input_ids": torch.tensor([ids]), "position_ids": torch.tensor([places])}
        return {**batch, "at": torch.tensor([row["at"] for row in kept])}

    rows = IndexedRows([3, 5, 8], [{"input_ids": [1] * count} for count in (2, 3, 4)])
    batch = IndexedBatch(collate, index_key="at")(rows)
    assert indices_of(batch[INDICES]).tolist() == [8, 5] and batch[LENGTHS] == [5, 4]


def test_padding_at_the_end_of_a_flattened_batch_goes_to_no_row():
    """With positions that begin anew within a row, as of packed ones, they do not tell the rows."""
    for positions in ([0, 1, 2, 0, 1, 0, 1, 0], [0, 1, 2, 3, 0, 1, 2, 0], None):
        batch = {
            "input_ids": torch.tensor([[4, 5, 6, 7, 7, 8, 9, 0]]),
            "labels": torch.tensor([[-100, 5, 6, 7, -100, 8, 9, -100]]),
        }
        if positions is not None:
            batch["position_ids"] = torch.tensor([positions])
        found = in_batch([[4, 5, 6, 7], [7, 8, 9]], batch)
        assert found in ([4, 3], [4, 4])
    batch["labels"][0, -1] = 3
    in_front = {
        "input_ids": torch.tensor([[0] * 3 + [1] * 7]),
        "position_ids": torch.tensor([[0, 1, 2, 0, 1, 2, 0, 1, 2, 3]]),
        "labels": torch.tensor([[-100] * 3 + [1] * 7]),
    }
    for rows, refused in (([[4, 5, 6, 7], [7, 8, 9]], batch), ([[1] * 3, [1] * 4], in_front)):
        with pytest.raises(ValueError, match="must flatten the tokens of its rows as they are"):
            in_batch(rows, refused)


class Squares(torch.nn.Module):
    """A regression whose loss of a row is the square of its label."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, labels=None):
        logits = self.weight + 0 * x.float()
        return {"loss": torch.nn.functional.mse_loss(logits, labels), "logits": logits}


class Sums(torch.nn.Module):
    """Its losses are x + label."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, labels=None):
        losses = x + labels + self.weight
        return {"loss": losses.mean(), "logits": losses}


def table_of_sums(kind, policy, folder, sample_losses=lambda outputs, batch: outputs["logits"]):
    """Trains an epoch of samples whose `x` is twice their index, and their label the index."""
    trainer = kind(
        Sums(),
        arguments(folder, learning_rate=0.0, num_train_epochs=1),
        train_dataset=[{"x": 2.0 * at, "labels": float(at)} for at in range(40)],
        pruning=PruningArguments(policy, budget=1.0, track=True, sample_losses=sample_losses),
    )
    trainer.train()
    return trainer.pruner.table()


@pytest.mark.parametrize("policy", ["Full", "UCB"])
@pytest.mark.parametrize("second", ["the same", "other labels", "the same labels"])
@pytest.mark.parametrize("first", [True, False])
def test_of_two_losses_of_a_step_that_of_the_batch_is_recorded(first, second, policy, tmp_path):
    """`x` is twice the index, and the loss x + label: of 3 times the index, if of the batch."""

    class Twice(PrunedTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            labels = inputs["labels"] + 100 * (second == "other labels")
            other = {"x": inputs["x"] + 100.0 * (second != "the same"), "labels": labels}
            calls = [dict(inputs), other] if first else [other, dict(inputs)]
            return sum(super(Twice, self).compute_loss(model, one) for one in calls)

    table = table_of_sums(Twice, policy, tmp_path)
    np.testing.assert_array_equal(table["loss"], 3 * np.arange(40.0))
    assert set(table["visits"]) == {1}


class Replays(PrunedTrainer):
    """Its steps compute what `made` says, of the batch, and of replayed rows whose loss is 900."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        def of(some, change=0.0):
            some = {**some, "x": some["x"] + change} if change else dict(some)
            return super(Replays, self).compute_loss(model, some)

        def replayed(rows=None):
            shape = (rows or len(inputs["x"]),)
            return {"x": torch.full(shape, 800.0), "labels": torch.full(shape, 100.0)}

        explicit = model(**inputs)["logits"] * 0 + 7
        return self.made(of, inputs, replayed, explicit)


def changed(inputs):
    inputs["x"].add_(50)
    return inputs


def copied(inputs, change=0.0):
    return {name: value + change for name, value in inputs.items()}


def overwritten(inputs, others):
    for name, value in inputs.items():
        value.copy_(others[name])
    return inputs


ORDERS = {
    "batch, replay moved to the device": lambda s, of, i, old, own: (
        of(i) + of(s._prepare_inputs(old()))
    ),
    "replay moved to the device, batch": lambda s, of, i, old, own: (
        of(s._prepare_inputs(old())) + of(i)
    ),
    "replay of other size, batch": lambda s, of, i, old, own: of(old(3)) + of(i),
    "replay of other size, changed batch": lambda s, of, i, old, own: of(old(3)) + of(i, 1.0),
    "batch, changed in place, batch": lambda s, of, i, old, own: of(i) + of(changed(i)),
    "batch, replay, batch": lambda s, of, i, old, own: of(i) + of(old()) + of(i),
    "update, replay": lambda s, of, i, old, own: s.update(own) + of(old()),
    "update, batch": lambda s, of, i, old, own: s.update(own) + of(i),
    "batch, update": lambda s, of, i, old, own: of(i) + s.update(own),
    "skip, replay": lambda s, of, i, old, own: s.skip() or of(old()),
    "skip, batch": lambda s, of, i, old, own: s.skip() or of(i),
    "batch changed": lambda s, of, i, old, own: of(i, 1.0),
    "batch changed, batch changed": lambda s, of, i, old, own: of(i, 1.0) + of(i, 2.0),
    "batch changed, batch": lambda s, of, i, old, own: of(i, 1.0) + of(i),
    "replay, batch changed": lambda s, of, i, old, own: of(old()) + of(i, 1.0),
    "replay, replay, batch": lambda s, of, i, old, own: of(old(3)) + of(old()) + of(i),
    "replay, copy of the batch": lambda s, of, i, old, own: of(old()) + of(copied(i)),
    "replay, batch of views": lambda s, of, i, old, own: (
        of(old()) + of({name: value.detach() for name, value in i.items()})
    ),
    "batch, replay in its place": lambda s, of, i, old, own: of(i) + of(overwritten(i, old())),
    "update of all by index, replay": lambda s, of, i, old, own: (
        s.update(own, indices=i["labels"].long()) + of(old())
    ),
    "replay, update of all by index": lambda s, of, i, old, own: (
        of(old()) + s.update(own, indices=i["labels"].long())
    ),
    "update of all by index, batch": lambda s, of, i, old, own: (
        s.update(own, indices=i["labels"].long()) + of(i)
    ),
    "replay, all computed anew": lambda s, of, i, old, own: (
        of(old()) + of(s.as_batch(copied(i, 0.5)))
    ),
    "all computed anew, batch": lambda s, of, i, old, own: of(s.as_batch(copied(i, 0.5))) + of(i),
    "batch, all computed anew, batch": lambda s, of, i, old, own: (
        of(i) + of(s.as_batch(copied(i, 0.5))) + of(i)
    ),
    "labels changed": lambda s, of, i, old, own: of({**i, "labels": i["labels"] + 1.0}),
}


@pytest.mark.parametrize("order", ORDERS)
def test_whatever_a_step_computes_no_loss_of_other_rows_is_recorded(order, tmp_path):
    class Step(Replays):
        made = ORDERS[order]

    losses = table_of_sums(Step, "Full", tmp_path)["loss"]
    if "update" in order:
        assert set(losses) == {7}
    elif "skip" in order:
        assert np.isnan(losses).all()
    else:
        added = order.endswith(
            ("batch changed", "changed batch", "computed anew", "labels changed")
        )
        np.testing.assert_array_equal(losses, 3 * np.arange(40.0) + added)


OTHERS = {
    "changed altogether": lambda s, of, i, old: of(copied(i, 1.0)),
    "in another order": lambda s, of, i, old: of({name: one.flip(0) for name, one in i.items()}),
    "in another order in its place": lambda s, of, i, old: of(overwritten(i, copied(i, 1.0))),
    "replay": lambda s, of, i, old: of(old()),
    "two replays": lambda s, of, i, old: of(old(3)) + of(old()),
    "replay in its place, copy": lambda s, of, i, old: of_copy(of, i, old),
    "replay beside a constant": lambda s, of, i, old: of({**i, **old()}),
    "in halves": lambda s, of, i, old: (
        of({name: one[::2] for name, one in i.items()}) + of({n: one[1::2] for n, one in i.items()})
    ),
}


def of_copy(of, inputs, replayed):
    copy = copied(inputs)
    return of(overwritten(inputs, replayed())) + of(copy)


@pytest.mark.parametrize("made", OTHERS.values(), ids=OTHERS)
def test_a_step_whose_losses_are_not_known_to_be_of_the_batch_is_refused(made, tmp_path):
    class Step(Replays):
        def made(self, of, inputs, replayed, explicit):
            return made(self, of, inputs, replayed)

    with pytest.raises(RuntimeError, match="its labels or all else unchanged"):
        table_of_sums(Step, "Full", tmp_path)


def sums_of(kind, folder, collate, policy="Full", rows=40, batch=2):
    """Trains `Sums` on data whose `x` is the index, by a collate function, without any check."""
    trainer = kind(
        Sums(),
        arguments(
            folder,
            learning_rate=0.0,
            num_train_epochs=2,
            per_device_train_batch_size=batch,
            remove_unused_columns=False,
        ),
        train_dataset=[{"x": float(at)} for at in range(rows)],
        data_collator=collate,
        pruning=PruningArguments(
            policy, budget=1.0, sample_losses=lambda outputs, batch: outputs["logits"]
        ),
    )
    trainer.train()
    return trainer.pruner.losses


ONES = torch.ones(2)


def with_ones(rows):
    """A batch whose labels are the same tensor each time."""
    return {"x": torch.tensor([row["x"] for row in rows]), "labels": ONES}


class Earlier(PrunedTrainer):
    """Its steps compute what `made` says, of the batch and of the one before it."""

    earlier = None

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        def of(some):
            return super(Earlier, self).compute_loss(model, dict(some))

        if not model.training:
            return super().compute_loss(model, inputs, return_outputs)
        earlier, self.earlier = self.earlier, dict(inputs)
        return of(inputs) if earlier is None else self.made(of, inputs, earlier)


@pytest.mark.filterwarnings("ignore:19 batches of epoch 0 were not answered:UserWarning")
def test_a_replay_with_labels_that_all_batches_share_is_not_the_batch(tmp_path):
    class Prepared(Earlier):
        def made(self, of, inputs, earlier):
            moved = self._prepare_inputs(dict(earlier))
            return of(inputs) + of(moved)

    class BeforeAView(Earlier):
        def made(self, of, inputs, earlier):
            return of(earlier) + of({**inputs, "x": inputs["x"] + 1})

    np.testing.assert_array_equal(sums_of(Prepared, tmp_path, with_ones), np.arange(40.0) + 1)
    with pytest.raises(RuntimeError, match="no batch of BeforeAView was answered in epoch 1"):
        sums_of(BeforeAView, tmp_path, with_ones)


def test_a_prepared_view_takes_the_place_of_no_batch(tmp_path):
    class Viewed(Earlier):
        def made(self, of, inputs, earlier):
            view = self._prepare_inputs({**inputs, "x": inputs["x"] + 100})
            return of(view) + of({name: value.clone() for name, value in inputs.items()})

    def collate(rows):
        return {"x": torch.tensor([row["x"] for row in rows]), "labels": torch.ones(len(rows))}

    np.testing.assert_array_equal(sums_of(Viewed, tmp_path, collate), np.arange(40.0) + 1)


def test_another_window_of_one_stream_is_another_row(tmp_path):
    stream = torch.arange(100.0).repeat_interleave(2)  # rows of four, each two behind the other

    class Windows(Earlier):
        def made(self, of, inputs, earlier):
            return of(earlier) + of({**inputs, "x": inputs["x"].clone() + 0.25})

    def collate(rows):
        at = 2 * int(rows[0]["x"])
        return {"x": stream[None, at : at + 4], "labels": stream[None, at : at + 4]}

    losses = sums_of(Windows, tmp_path, collate, batch=1)
    expected = 2 * np.arange(40.0) + 1
    assert set(losses - expected) <= {0, 0.25} and (losses > expected).sum() >= 38


@pytest.mark.parametrize("same", [True, False])
def test_a_trainer_below_that_changes_the_order_of_rows_is_refused(same, tmp_path):
    class Sorting(Trainer):
        def compute_loss(self, model, inputs, *args, **kwargs):
            order = inputs["x"].argsort()
            inputs = {name: value[order] for name, value in inputs.items()}
            return super().compute_loss(model, inputs, *args, **kwargs)

    class Below(PrunedTrainerMixin, Sorting):
        pass

    def collate(rows):
        x = torch.tensor([row["x"] for row in rows])
        return {"x": x, "labels": torch.ones(len(rows)) if same else x.clone()}

    with pytest.raises(RuntimeError, match="the rows of the batch in another order"):
        sums_of(Below, tmp_path, collate)


def test_a_step_goes_on_training_after_an_evaluation_within_it(tmp_path):
    class Evaluates(Earlier):
        def made(self, of, inputs, earlier):
            self.evaluate([{"x": 900.0}] * 4)
            assert self.model.training
            return of(inputs)

    def collate(rows):
        return {"x": torch.tensor([row["x"] for row in rows]), "labels": torch.ones(len(rows))}

    np.testing.assert_array_equal(sums_of(Evaluates, tmp_path, collate), np.arange(40.0) + 1)


def test_steps_of_replayed_rows_alone_are_counted_and_warned_of(tmp_path):
    class Step(Replays):
        def made(self, of, inputs, replayed, explicit):
            return of(replayed()) if self.state.global_step % 2 else of(inputs)

    with pytest.warns(UserWarning, match="10 batches of epoch 0 were not answered"):
        losses = table_of_sums(Step, "Full", tmp_path)["loss"]
    known = np.isfinite(losses)
    assert known.sum() == 20
    np.testing.assert_array_equal(losses[known], 3 * np.flatnonzero(known))


def test_what_a_part_of_a_batch_was_updated_with_stays(tmp_path):
    class Step(Replays):
        def made(self, of, inputs, replayed, explicit):
            return self.update(explicit[:1], indices=inputs["labels"].long()[:1]) + of(inputs)

    table = table_of_sums(Step, "UCB", tmp_path)
    updated = table["loss"] == 7
    assert updated.sum() == 20 and set(table["visits"]) == {1}
    np.testing.assert_array_equal(table["loss"][~updated], 3 * np.flatnonzero(~updated))


def test_replayed_rows_are_told_apart_in_nested_inputs(tmp_path):
    """Batches of one row, whose label a replayed row may share."""

    class Nested(Sums):
        def forward(self, features, labels=None):
            return super().forward(features["x"], labels)

    class Step(PrunedTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            labels = inputs["labels"].clone()
            old = {"features": {"x": torch.full_like(labels, 800.0)}, "labels": labels}
            return sum(super(Step, self).compute_loss(model, one) for one in (old, inputs))

    trainer = Step(
        Nested(),
        arguments(tmp_path, learning_rate=0.0, num_train_epochs=1, per_device_train_batch_size=1),
        train_dataset=[{"features": {"x": 2.0 * at}, "labels": float(at)} for at in range(40)],
        pruning=PruningArguments(
            "Full", budget=1.0, sample_losses=lambda outputs, batch: outputs["logits"]
        ),
        data_collator=lambda rows: {
            "features": {"x": torch.tensor([row["features"]["x"] for row in rows])},
            "labels": torch.tensor([row["labels"] for row in rows]),
        },
    )
    trainer.train()
    np.testing.assert_array_equal(trainer.pruner.losses, 3 * np.arange(40.0))


def test_the_forward_of_the_batch_is_read_where_a_trainer_has_several(tmp_path):
    class Plain(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            replayed = model(**{name: value + 100 for name, value in inputs.items()})
            with torch.no_grad():
                model(inputs["x"] + 5, inputs["labels"])  # for a metric
            return 0 * replayed["loss"] + model(**inputs)["loss"]

    class Step(PrunedTrainerMixin, Plain):
        pass

    losses = table_of_sums(Step, "Full", tmp_path)["loss"]
    np.testing.assert_array_equal(losses, 3 * np.arange(40.0))


def test_inputs_that_cannot_be_compared_are_of_the_batch_only_if_passed_on():
    batch, others = TrainedBatch(np.arange(2), None), torch.eye(2).to_sparse()
    assert not batch.takes({}) and not batch.takes({"one": others})
    ragged = torch.nested.nested_tensor([torch.ones(1), torch.ones(2)], layout=torch.jagged)
    inputs = {"one": others, "two": [ragged]}
    batch.comes_as(inputs)
    assert batch.takes(inputs) and batch.takes({"first": others, "second": ragged})
    assert not batch.takes({"one": others})
    assert not batch.takes({"one": others.clone(), "two": [ragged.clone()]})


@pytest.mark.parametrize("as_labels", [torch.tensor, list])
def test_the_batch_is_known_by_its_labels_or_by_all_else(as_labels):
    """Beside a constant that all batches share, and labels that other rows have, too."""
    constant, nan = torch.ones(3), float("nan")

    def made(*ids):
        texts = [f"text {one}" for one in ids]
        labels = as_labels([0 for _ in ids])
        return {"texts": texts, "x": torch.tensor([*ids, nan]), "labels": labels, "w": constant}

    batch, inputs = TrainedBatch(np.arange(2), None, ["labels"]), made(5, 7)
    batch.comes_as(inputs)
    x, labels = inputs["x"], inputs["labels"]
    assert batch.takes(made(5, 7)) and batch.takes({**inputs, "labels": made(5, 7, 8)["labels"]})
    assert batch.takes({"x": x + 1, "labels": labels}) == isinstance(labels, torch.Tensor)
    assert not batch.takes(made(5, 6)) and not batch.takes({**inputs, **made(6, 7), "w": constant})
    assert not batch.takes({**inputs, "x": x + 1, "labels": made(5, 7, 8)["labels"]})
    assert not batch.takes({**inputs, "texts": ["text 5", "text 6"], "labels": []})
    moved = made(5, 7)
    batch.moved(inputs, moved)
    batch.moved(moved, made(7, 5) | {"labels": [1]})
    assert batch.parts["x",][0] is moved["x"] and not batch.views


class OtherDevice(Trainer):
    """What it prepares is a copy, as on a GPU."""

    def _prepare_input(self, data):
        data = super()._prepare_input(data)
        return data.clone() if isinstance(data, torch.Tensor) else data


class SomeKeys(OtherDevice):
    def training_step(self, model, inputs, *args):
        return super().training_step(model, {**inputs, "labels": inputs["labels"]}, *args)


class AnyKeywords(OtherDevice):
    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        return super().compute_loss(model, inputs, return_outputs=return_outputs, **kwargs)


class Augments:
    def _prepare_inputs(self, inputs):
        return super()._prepare_inputs({**inputs, "x": inputs["x"] + 1})


@pytest.mark.parametrize("below", [OtherDevice, SomeKeys, AnyKeywords])
@pytest.mark.parametrize("above", [object, Augments])
def test_the_batch_is_known_after_it_was_moved(above, below, tmp_path):
    class Step(*([above] if above is not object else []), PrunedTrainerMixin, below):
        pass

    losses = table_of_sums(Step, "Full", tmp_path)["loss"]
    np.testing.assert_array_equal(losses, 3 * np.arange(40.0) + (above is Augments))


def test_rows_in_another_order_after_they_were_prepared_are_not_recorded(tmp_path):
    """Where the order is the same by chance, they are."""

    class Sorts(Trainer):
        def _prepare_inputs(self, inputs):
            inputs = super()._prepare_inputs(inputs)
            at = inputs["x"].argsort(descending=True)
            return {name: value[at] for name, value in inputs.items()}

    class Step(PrunedTrainerMixin, Sorts):
        pass

    with pytest.warns(UserWarning, match="batches of epoch 0 were not answered"):
        losses = table_of_sums(Step, "Full", tmp_path)["loss"]
    known = np.isfinite(losses)
    assert 0 < known.sum() < 40
    np.testing.assert_array_equal(losses[known], 3 * np.flatnonzero(known))


def test_an_evaluation_within_a_step_records_nothing(tmp_path):
    class Step(Replays):
        evaluated = 0

        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            if model.training and self.state.global_step == 3:
                self.evaluate([{"x": 500.0, "labels": float(at)} for at in range(8)])
                model.train()
            self.evaluated += not model.training
            outputs = model(**inputs)
            loss = self.update(outputs["logits"], indices=inputs["labels"].long())
            return (loss, outputs) if return_outputs else loss

    losses = table_of_sums(Step, "Full", tmp_path)["loss"]
    np.testing.assert_array_equal(losses, 3 * np.arange(40.0))


def test_a_view_of_all_rows_is_of_the_batch_and_one_of_others_is_not():
    batch, ids = TrainedBatch(np.arange(4), None), torch.arange(24).reshape(4, 6)
    batch.comes_as({"ids": ids})
    for own in (ids[:, :3], ids[:, 2:], ids.detach(), ids[..., None], ids[:, ::2]):
        assert batch.takes({"ids": own})
    for other in (ids[1:], ids[:2], ids.flip(0), ids[::2], ids[[0, 1, 3, 2]], ids.T, ids + 1):
        assert not batch.takes({"ids": other})
    assert batch.takes({"other": ids}) and batch.takes({"some": [{"other": ids}]})
    with torch.inference_mode():
        batch.comes_as({"ids": torch.arange(3)})
    ids.add_(1)
    batch.comes_as({"ids": ids})
    assert batch.takes({"ids": ids})
    ids.add_(1)
    assert not batch.takes({"ids": ids[:, :3]})


def test_a_second_update_after_a_loss_of_the_batch_is_refused_too(tmp_path):
    class Step(Replays):
        def made(self, of, inputs, replayed, explicit):
            return self.update(explicit) + of(inputs) + self.update(explicit)

    with pytest.raises(RuntimeError, match="needs a batch that was not answered yet"):
        table_of_sums(Step, "Full", tmp_path)


@pytest.mark.parametrize("first", ["batch", "replay"])
def test_replayed_rows_get_no_weights_and_others_of_the_batch_do(first, tmp_path):
    made = []

    class Step(Replays):
        def made(self, of, inputs, replayed, explicit):
            view = self.as_batch(copied(inputs, 1.0))
            calls = [inputs, replayed(), {**inputs, "x": inputs["x"] + 1}, view]
            calls = calls if first == "batch" else calls[::-1]
            losses = [of(one) for one in calls]
            made.append([float(loss.detach()) for loss in losses])
            return sum(losses)

    class Doubled:
        def __call__(self, histogram, epoch, epochs):
            ones = np.ones(histogram.bins)
            return KeepCurve(ones, weight=2 * ones, unseen_weight=2.0)

    losses = table_of_sums(Step, Doubled(), tmp_path)["loss"]
    np.testing.assert_array_equal(losses, 3 * np.arange(40.0))
    for of_step in made:
        own, old, changed, anew = of_step if first == "batch" else of_step[::-1]
        assert old == 900 and changed == own + 2 and anew == own + 4
    assert sum(one[0 if first == "batch" else -1] for one in made) == 3 * np.arange(40).sum()


def test_a_second_update_in_a_step_is_refused(tmp_path):
    class Twice(PrunedTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            losses = (model(**inputs)["logits"] - inputs["labels"]) ** 2
            return self.update(losses) + self.update(losses + 1)

    trainer = Twice(
        Squares(),
        arguments(tmp_path),
        train_dataset=[{"x": at, "labels": float(at)} for at in range(40)],
        pruning=PruningArguments("Full", budget=1.0),
    )
    with pytest.raises(RuntimeError, match="needs a batch that was not answered yet"):
        trainer.train()


def test_a_collate_function_that_merges_samples_is_refused(tmp_path):
    def merge(rows):
        batch = pad(rows)
        return {key: value[:1] for key, value in batch.items()}

    with pytest.raises(ValueError, match=r"got 10 of rows with 20: where .* or merges them"):
        trainer_of(tmp_path, kind=PrunedTrainer, collate=merge).train()
    with pytest.raises(TypeError, match=r"data_collator must return a dict, got tuple"):
        trainer_of(tmp_path, kind=PrunedTrainer, collate=lambda rows: (1, 2)).train()


def test_samples_of_like_length_share_a_batch_if_grouped(tmp_path):
    def spread(trainer):
        trainer.train()
        check_table(trainer)
        steps = {}
        for step, index, _ in trainer.seen:
            steps.setdefault(step, []).append(len(sequence(index)))
        return np.mean([np.ptp(lengths) for lengths in steps.values()])

    grouped = spread(trainer_of(tmp_path, train_sampling_strategy="group_by_length"))
    assert grouped < 0.5 * spread(trainer_of(tmp_path))


def test_a_sequential_order_is_kept(tmp_path):
    trainer = trainer_of(tmp_path, train_sampling_strategy="sequential", num_train_epochs=1)
    trainer.train()
    order = [index for _, index, _ in trainer.seen]
    assert order == sorted(order)


def test_figures_join_the_trainers_logs(tmp_path):
    trainer = trainer_of(tmp_path, budget=[1.0, 0.5, 0.8])
    trainer.train()
    logs = [log for log in trainer.state.log_history if "seta/kept" in log]
    assert [log["seta/kept"] for log in logs] == trainer.pruner.lengths
    assert [log["epoch"] for log in logs] == [1, 2, 3]
    assert [log["seta/kept_share"] * 41 for log in logs] == trainer.pruner.lengths
    assert logs[-1]["seta/saved"] == trainer.pruner.saved
    names = {"unseen", "nonfinite", "longest_left_out", "never_trained"}
    assert {f"seta/{name}" for name in names} <= logs[0].keys()
    json.dumps(logs)


@pytest.mark.parametrize(
    ("options", "epochs", "steps"),
    [
        ({"max_steps": 20}, 2, 20),
        ({"max_steps": 24}, 2, 24),
        ({"max_steps": 30, "budget": [0.5, 1.0, 0.8]}, 2, 30),
        ({"num_train_epochs": 1.5}, 2, 12 + 6),
        ({"max_steps": 30, "budget": lambda epoch: 0.5}, 3, 30),
    ],
)
def test_a_run_that_ends_within_an_epoch(tmp_path, options, epochs, steps):
    trainer = trainer_of(tmp_path, **options)
    trainer.train()
    assert trainer.pruner.epochs == epochs and trainer.state.global_step == steps
    assert trainer.lr_scheduler.get_last_lr()[0] == 0
    assert len(trainer.seen) == sum(row["trained"] for row in trainer.pruner.history)


def test_evaluation_records_nothing_and_the_best_model_is_loaded(tmp_path):
    trainer = trainer_of(
        tmp_path,
        eval_dataset=Sequences(6),
        eval_strategy="steps",
        eval_steps=3,
        eval_on_start=True,
        save_strategy="steps",
        save_steps=3,
        save_total_limit=2,
        load_best_model_at_end=True,
        callbacks=[EarlyStoppingCallback(100)],
    )
    trainer.train()
    check_table(trainer)
    assert trainer.state.best_model_checkpoint is not None
    assert "eval_loss" in trainer.evaluate()


def test_auto_find_batch_size_begins_a_new_run(tmp_path):
    class Small(Probe):
        def training_step(self, model, inputs, *args):
            if len(inputs["input_ids"]) > 6:
                raise RuntimeError("CUDA out of memory.")
            return super().training_step(model, inputs, *args)

    class Mine(PrunedTrainerMixin, Small):
        pass

    trainer = trainer_of(
        tmp_path, kind=Mine, per_device_train_batch_size=8, auto_find_batch_size=True
    )
    trainer.train()
    check_table(trainer)
    assert trainer._train_batch_size == 6
    assert trainer.state.global_step == trainer.state.max_steps == 4 + 4 + 4


def test_training_twice_makes_two_runs(tmp_path):
    trainer = trainer_of(tmp_path, n=20)
    with pytest.raises(RuntimeError, match=r"no pruner before the first train\(\)"):
        assert trainer.pruner
    trainer.train()
    first = trainer.pruner
    trainer.train()
    assert trainer.pruner is not first
    check_table(trainer)


def test_half_precision_models_pass_the_check(tmp_path):
    model = llama().to(torch.bfloat16)
    trainer = trainer_of(tmp_path, model=model, kind=PrunedTrainer)
    trainer.train()
    assert np.isfinite(trainer.pruner.losses).any()
    trainer = trainer_of(tmp_path, bf16=True, policy=halves, budget=1.0, kind=PrunedTrainer)
    trainer.train()
    assert np.isfinite(trainer.pruner.losses).all()


def test_a_warm_start_and_samples_that_are_always_kept(tmp_path):
    losses = np.arange(41, dtype=np.float32)
    trainer = trainer_of(
        tmp_path, losses=losses, always_keep=[3, 5], count_kept=True, seed=7, threads=1
    )
    trainer.train()
    assert trainer.pruner.threads == 1
    assert trainer.pruner.kept_counts[[3, 5]].tolist() == [3, 3]
    assert trainer.pruner.history[0]["unseen"] == 0 and trainer.pruner.seed == 7
    assert trainer_of(tmp_path, data_seed=11).get_train_dataloader() is not None


def test_a_policy_that_looks_at_classes_is_given_them(tmp_path):
    classes = np.arange(41) % 2
    trainer = trainer_of(tmp_path, policy=OneClass(), budget=0.3, strata=classes, count_kept=True)
    trainer.train()
    assert set(classes[trainer.pruner.kept_counts > 0]) == {1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ignore_data_skip": True}, "ignore_data_skip .*got True: .*skipping costs nothing"),
        ({"dataloader_in_order": False, "dataloader_num_workers": 1}, "dataloader_in_order"),
        ({"train_sampling_strategy": "batch_rebalance"}, "got 'batch_rebalance'.*Use random"),
        ({"accelerator_config": {"split_batches": True}}, "split_batches .*got True"),
        ({"accelerator_config": {"dispatch_batches": True}}, "dispatch_batches .*got True"),
        (
            {"train_sampling_strategy": "sequential", "reorder": np.sort},
            "reorder= together with train_sampling_strategy='sequential'",
        ),
        ({"budget": None, "max_steps": 5}, "max_steps needs a budget, got max_steps=5"),
        ({"budget": None, "num_train_epochs": 1.5}, "must be whole with budget=None, got 1.5"),
    ],
)
def test_settings_that_do_not_go_with_pruning_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        trainer_of(tmp_path, **options)


def test_too_few_shares_for_max_steps_are_refused(tmp_path):
    trainer = trainer_of(tmp_path, budget=[0.5, 0.5], max_steps=100)
    with pytest.raises(
        ValueError, match=r"budget must last for steps=100, got 2 shares of 20 batches"
    ):
        trainer.train()


def test_the_arguments_are_checked(tmp_path):
    with pytest.raises(TypeError, match="budget"):
        PruningArguments()
    with pytest.raises(TypeError, match="pruning"):
        PrunedTrainer(llama(), arguments(tmp_path), train_dataset=Sequences(4))
    with pytest.raises(TypeError, match=r"pruning must be PruningArguments, got float"):
        PrunedTrainer(llama(), arguments(tmp_path), train_dataset=Sequences(4), pruning=0.6)

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(())

    with pytest.raises(TypeError, match=r"must not be iterable-style"):
        trainer_of(tmp_path, dataset=Stream(), max_steps=3)


def test_what_is_not_installed_is_named():
    code = (
        "import seta.extras, transformers\n"
        "found = seta.extras.find_spec\n"
        "seta.extras.find_spec = lambda name: None if name == 'accelerate' else found(name)\n"
        "try: import seta.integrations.transformers\n"
        "except ImportError as error: print(error)\n"
        "seta.extras.find_spec = found\n"
        "del transformers.Trainer._run_epoch\n"
        "try: import seta.integrations.transformers\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert 'accelerate, which is not installed: pip install "seta[transformers]"' in first
    assert "needs transformers 5.3 or later" in second and "has no _run_epoch: pip" in second


def test_a_loader_made_elsewhere_is_refused(tmp_path):
    class Own(PrunedTrainer):
        def get_train_dataloader(self):
            return torch.utils.data.DataLoader(Sequences(4), collate_fn=pad)

    with pytest.raises(RuntimeError, match=r"loader was not made by PrunedTrainerMixin"):
        trainer_of(tmp_path, kind=Own).train()


def test_two_processes(tmp_path):
    """The cases of `trainer_ranks.py`, in one run of torchrun."""
    passes_on_two_ranks("tests.integrations.trainer_ranks", tmp_path, seconds=900)


def test_the_example_trains(tmp_path):
    command = [sys.executable, ROOT / "examples" / "trainer_text.py", "--epochs", "2"]
    done = subprocess.run(
        command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "saved" in done.stdout


class Rows(Told, Sequences):
    pass


def test_a_dataset_is_told_the_epoch_as_by_the_stock_trainer(tmp_path):
    stock, pruned = Rows(40), Rows(40)
    Trainer(llama(), arguments(tmp_path / "a"), train_dataset=stock, data_collator=pad).train()
    trainer_of(tmp_path / "b", dataset=pruned).train()
    assert list(dict.fromkeys(stock.epochs)) == list(dict.fromkeys(pruned.epochs)) == [0, 1, 2]


class Drawn:
    def _get_train_sampler(self, train_dataset=None):
        return torch.utils.data.RandomSampler(self.train_dataset)


class DrawnTrainer(Drawn, Trainer):
    pass


class Above(Drawn, PrunedTrainer):
    pass


class Below(PrunedTrainerMixin, DrawnTrainer):
    pass


@pytest.mark.parametrize("kind", [Above, Below])
def test_a_sampler_of_ones_own_is_refused(tmp_path, kind):
    with pytest.raises(
        ValueError, match=r"sampler of your own does not .*Drawn._get_train_sampler"
    ):
        trainer_of(tmp_path, kind=kind)


class Rebuilt(PrunedTrainer):
    """Trains as many batches as are due, of other samples."""

    def get_train_dataloader(self):
        loader = super().get_train_dataloader()
        return self.accelerator.prepare(
            torch.utils.data.DataLoader(
                loader.dataset, batch_size=2, shuffle=True, collate_fn=loader.collate_fn
            )
        )


def test_batches_that_were_not_selected_are_refused(tmp_path):
    trainer = trainer_of(tmp_path, kind=Rebuilt, n=40, budget=[1, 0.5, 0.5])
    with pytest.raises(RuntimeError, match=r"samples that epoch 1 leaves out, such as"):
        trainer.train()


def test_on_several_processes_the_mean_of_ones_own_compute_loss_adds_up():
    """A batch of 4 losses of 2, of 16 terms in all; the trainer would have 2 x 8 / 16."""
    shares = Shares(torch.full((4,), 2.0), torch.ones(4))
    sums = [float(scale) * 8 for scale in scales_of(shares, 16, processes=2)]
    assert sums == [1.0, 4.0, 2.0]
