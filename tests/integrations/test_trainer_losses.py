"""`Trainer` with losses of every kind: unknown models, losses of one's own, reordered batches."""

import logging

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from torch.nn.functional import cross_entropy, interpolate
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    BertGenerationConfig,
    BertGenerationDecoder,
    BertLMHeadModel,
    CTRLConfig,
    CTRLLMHeadModel,
    DataCollatorWithFlattening,
    GPT2Config,
    GPT2LMHeadModel,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    Trainer,
    XLNetConfig,
    XLNetLMHeadModel,
)

import seta
from seta.integrations.transformers import PrunedTrainer, PrunedTrainerMixin
from seta.torch.dataset import followed
from tests.integrations.trainer_cases import (
    CLASSES,
    VOCABULARY,
    PrunedProbe,
    Sequences,
    alone,  # noqa: F401
    arguments,
    bert,
    check_table,
    halves,
    index_of,
    pad,
    trainer_of,
    weights_of,
)

pytestmark = pytest.mark.usefixtures("alone")

# Models whose loss transformers does not name.

SMALL = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 62, "eos_token_id": 63}
BERT = {
    **SMALL,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
GPT = {**SMALL, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64}
DRY = {"resid_pdrop": 0.0, "embd_pdrop": 0.0}
UNNAMED = {
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT, **DRY, attn_pdrop=0.0)),
    "openai-gpt": lambda: OpenAIGPTLMHeadModel(OpenAIGPTConfig(**GPT, **DRY, attn_pdrop=0.0)),
    "ctrl": lambda: CTRLLMHeadModel(CTRLConfig(**GPT, **DRY, dff=32)),
    "bert": lambda: BertLMHeadModel(BertConfig(**BERT, is_decoder=True)),
    "bert-generation": lambda: BertGenerationDecoder(BertGenerationConfig(**BERT, is_decoder=True)),
    "xlnet": lambda: XLNetLMHeadModel(
        XLNetConfig(**SMALL, d_model=16, n_layer=1, n_head=2, d_inner=32, dropout=0.0)
    ),
}


def seeded(make):
    torch.manual_seed(0)
    return make()


class UnshiftedProbe(Trainer):
    """As `Probe`, for a model whose labels are those of the same token."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if model.training:
            for ids, labels, logits in zip(
                inputs["input_ids"], inputs["labels"], outputs["logits"].detach(), strict=True
            ):
                value = float(cross_entropy(logits.double(), labels))
                self.seen.append((self.state.global_step, index_of(ids), value))
        return (loss, outputs) if return_outputs else loss

    def train(self, *args, **kwargs):
        self.seen = []
        return super().train(*args, **kwargs)


class PrunedUnshiftedProbe(PrunedTrainerMixin, UnshiftedProbe):
    pass


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("name", UNNAMED)
def test_a_model_whose_loss_has_no_name_is_read_the_way_that_adds_up(tmp_path, name, accumulation):
    trainer = trainer_of(
        tmp_path,
        kind=PrunedUnshiftedProbe if name == "xlnet" else PrunedProbe,
        model=seeded(UNNAMED[name]),
        gradient_accumulation_steps=accumulation,
        warmup_steps=3,
    )
    trainer.train()
    assert trainer._seta_run.check.readings == (name != "xlnet",)
    check_table(trainer)


@pytest.mark.parametrize("name", ["gpt2", "xlnet"])
def test_weights_and_smoothed_labels_of_a_model_without_a_name(tmp_path, name):
    trainer = trainer_of(tmp_path, 1.0, halves, kind=PrunedTrainer, model=seeded(UNNAMED[name]))
    trainer.train()
    assert np.isfinite(trainer.pruner.losses).all()
    trainer = trainer_of(
        tmp_path, kind=PrunedTrainer, model=seeded(UNNAMED[name]), label_smoothing_factor=0.2
    )
    trainer.train()
    assert trainer._seta_run.check.readings == (True,)  # the smoothed loss of both is shifted


def test_a_half_precision_model_without_a_name_is_read_right(tmp_path):
    model = seeded(UNNAMED["gpt2"]).to(torch.bfloat16)
    trainer = trainer_of(tmp_path, kind=PrunedTrainer, model=model, num_train_epochs=6)
    trainer.train()
    assert trainer._seta_run.check.readings[0] is True


# Losses that only look like those of the samples.


class ClassWeights(Trainer):
    factors = torch.tensor([1.0, 5.0, 1.0, 5.0])

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = cross_entropy(outputs["logits"], labels, weight=self.factors)
        return (loss, outputs) if return_outputs else loss


class PrunedClassWeights(PrunedTrainerMixin, ClassWeights):
    pass


@pytest.mark.parametrize("seed", range(6))
def test_class_weights_are_seen_though_all_losses_are_alike_at_first(tmp_path, seed):
    torch.manual_seed(seed)
    model = bert()
    torch.nn.init.zeros_(model.classifier.weight)
    trainer = trainer_of(tmp_path, kind=PrunedClassWeights, model=model, dataset=CLASSES, seed=seed)
    with pytest.raises(ValueError, match=r"the loss of a batch is .* but the losses of its sam"):
        trainer.train()


class SomeMore(Trainer):
    """Adds something from step 50 on."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if self.state.global_step >= 50:
            loss = loss + 1
        return (loss, outputs) if return_outputs else loss


class PrunedSomeMore(PrunedTrainerMixin, SomeMore):
    pass


def test_batches_are_looked_at_until_enough_have_told_and_then_no_more(tmp_path):
    looked = []

    class Counted(PrunedTrainer):
        def _sample_terms(self, outputs, batch, shift):
            if not torch.is_grad_enabled():
                looked.append(self.state.global_step)
            return super()._sample_terms(outputs, batch, shift)

    options = {"dataset": CLASSES, "num_train_epochs": 4, "per_device_train_batch_size": 1}
    alike = bert()
    torch.nn.init.zeros_(alike.classifier.weight)
    trainer = trainer_of(tmp_path, 1.0, kind=Counted, model=alike, learning_rate=0.0, **options)
    trainer.train()
    more = [step for step in set(looked) if looked.count(step) > 1]
    assert sorted(more) == [*range(8), 15, 31, 63, 127]
    late = trainer_of(tmp_path, 1.0, kind=PrunedSomeMore, model=bert(), **options)
    with pytest.raises(ValueError, match=r"the loss of a batch is"):
        late.train()
    assert late.state.global_step == 63


# Losses of one's own.


def test_a_compute_loss_that_answers_no_batch_is_an_error_in_the_first(tmp_path):
    steps = []

    class Own(PrunedTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            steps.append(self.state.global_step)
            return ClassWeights.compute_loss(self, model, inputs, return_outputs)

        factors = ClassWeights.factors

    with pytest.raises(RuntimeError, match=r"no batch of Own was answered in epoch 0.*self.upd"):
        trainer_of(tmp_path, kind=Own, model=bert(), dataset=CLASSES).train()
    assert len(steps) == 1


def test_a_training_step_that_answers_no_batch_is_an_error_in_the_first_epoch(tmp_path):
    class Own(PrunedTrainer):
        def training_step(self, model, inputs, num_items_in_batch=None):
            given = {key: inputs[key] for key in ("input_ids", "attention_mask", "labels")}
            loss = model(**given)["loss"]
            loss.backward()
            return loss.detach()

    with pytest.raises(RuntimeError, match=r"no batch of Own was answered"):
        trainer_of(tmp_path, kind=Own, model=bert(), dataset=CLASSES).train()


def test_a_training_step_of_ones_own_may_call_compute_loss(tmp_path):
    class Own(PrunedProbe):
        def training_step(self, model, inputs, num_items_in_batch=None):
            model.train()
            loss = self.compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
            loss.backward()
            return loss.detach()

    trainer = trainer_of(tmp_path, kind=Own)
    trainer.train()
    check_table(trainer)


class Updating(PrunedTrainer):
    """Class weights, by `update`; the losses of some batches are kept back, or skipped."""

    factors = ClassWeights.factors
    loss_is_scaled_for_ga = False
    back: tuple = ()
    skipped: tuple = ()

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        losses = cross_entropy(outputs["logits"], labels, weight=self.factors, reduction="none")
        if model.training and self.state.global_step in self.back:
            loss = losses.mean()
        elif model.training and self.state.global_step in self.skipped:
            self.skip()
            loss = losses.mean()
        else:
            loss = self.update(losses)
        if model.training:
            self.mean = losses.mean()
            self.seen.append((inputs["input_ids"].clone(), losses.detach()))
        return (loss, outputs) if return_outputs else loss

    def train(self, *args, **kwargs):
        self.seen = []
        return super().train(*args, **kwargs)


def check_updated(trainer):
    last = {}
    for ids, losses in trainer.seen:
        last.update(zip(map(index_of, ids), losses.tolist(), strict=True))
    np.testing.assert_allclose(trainer.pruner.losses[list(last)], list(last.values()), rtol=1e-6)
    assert [row["trained"] for row in trainer.pruner.history] == trainer.pruner.lengths


def test_update_takes_the_losses_of_a_compute_loss_of_ones_own(tmp_path):
    trainer = trainer_of(
        tmp_path,
        kind=Updating,
        model=bert(),
        dataset=CLASSES,
        eval_dataset=CLASSES,
        eval_strategy="epoch",
        gradient_accumulation_steps=2,
    )
    trainer.train()
    check_updated(trainer)


def test_update_with_weights_of_1_returns_the_plain_mean_and_trains_as_the_stock_trainer(tmp_path):
    class Plain(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            labels = inputs.pop("labels")
            outputs = model(**inputs)
            losses = cross_entropy(
                outputs["logits"], labels, weight=ClassWeights.factors, reduction="none"
            )
            return (losses.mean(), outputs) if return_outputs else losses.mean()

        loss_is_scaled_for_ga = False

    options = {"train_sampling_strategy": "sequential", "gradient_accumulation_steps": 2}
    args = arguments(tmp_path, **options)
    stock = Plain(bert(), args, train_dataset=CLASSES, data_collator=pad)
    stock.train()
    pruned = trainer_of(
        tmp_path, 1.0, "Full", kind=Updating, model=bert(), dataset=CLASSES, **options
    )
    pruned.train()
    assert torch.equal(weights_of(stock.model), weights_of(pruned.model))


def test_update_weights_the_losses(tmp_path):
    compared = []

    class Checked(Updating):
        def update(self, losses, indices=None, mask=None):
            weights = self.pruner.weights_of(self._seta_batch.indices)
            loss = super().update(losses, indices, mask)
            if weights is not None:
                plain = (torch.from_numpy(weights) * losses).mean()
                compared.append(float((loss - plain).detach()))
            return loss

    trainer_of(tmp_path, 1.0, halves, kind=Checked, model=bert(), dataset=CLASSES).train()
    assert compared and np.abs(compared).max() < 1e-6


def test_batches_left_unanswered_later_are_counted_in_a_warning(tmp_path):
    class Back(Updating):
        back = (3, 4, 14)

    trainer = trainer_of(tmp_path, kind=Back, model=bert(), dataset=CLASSES)
    with pytest.warns(UserWarning) as caught:
        trainer.train()
    messages = [str(one.message) for one in caught if "not answered" in str(one.message)]
    assert [message[:22] for message in messages] == [
        "2 batches of epoch 0 w",
        "1 batches of epoch 1 w",
    ]
    assert [row["trained"] for row in trainer.pruner.history] == [20, 22, 24]


def test_an_epoch_of_which_no_batch_is_answered_is_an_error(tmp_path):
    class Back(Updating):
        back = range(12, 24)

    trainer = trainer_of(tmp_path, kind=Back, model=bert(), dataset=CLASSES)
    with pytest.raises(RuntimeError, match=r"no batch of Back was answered in epoch 1"):
        trainer.train()


class TokenMean(PrunedTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs["labels"]
        outputs = model(**inputs)
        losses = seta.token_losses(outputs["logits"], labels, shift=True)
        loss = self.update(losses, counts=seta.token_counts(labels, shift=True))
        return (loss, outputs) if return_outputs else loss


class Replacing(PrunedTrainer):
    """Class weights in place of what `super()` computed."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs["labels"]
        _, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        loss = cross_entropy(outputs["logits"], labels, weight=ClassWeights.factors)
        return (loss, outputs) if return_outputs else loss


class Adding(PrunedTrainer):
    """A penalty on top of what `super()` computed."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        loss = loss + outputs["logits"].square().mean()
        return (loss, outputs) if return_outputs else loss


class UpdatingAfterwards(PrunedTrainer):
    """`super()` for the outputs only, then `update`."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs["labels"]
        _, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        loss = self.update(cross_entropy(outputs["logits"], labels, reduction="none"))
        return (loss, outputs) if return_outputs else loss


@pytest.mark.parametrize(
    ("kind", "policy", "times"),
    [
        (Replacing, "InfoBatch", 1),
        (Adding, "InfoBatch", 0),
        (Replacing, "SeTa", 0),
        (Updating, "InfoBatch", 0),
        (UpdatingAfterwards, "InfoBatch", 0),
        (PrunedTrainer, "InfoBatch", 0),
        (PrunedProbe, "InfoBatch", 0),
    ],
)
def test_a_loss_without_the_weights_of_the_policy_is_told_once(
    tmp_path, caplog, kind, policy, times
):
    trainer = trainer_of(tmp_path, 0.8, policy, kind=kind, model=bert(), dataset=CLASSES)
    with caplog.at_level(logging.WARNING, logger="seta"):
        trainer.train()
    assert caplog.text.count("not computed from the one with the policy's weights") == times
    assert "compute_loss" not in vars(trainer)


def test_update_with_counts_is_the_mean_of_all_tokens(tmp_path):
    results = []
    for kind in (PrunedTrainer, TokenMean):
        trainer = trainer_of(tmp_path, kind=kind, learning_rate=1e-3, eval_dataset=Sequences(8))
        trainer.train()
        results.append((trainer.pruner.losses, trainer.evaluate()["eval_loss"]))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-4)
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-4)


def test_batches_that_are_skipped_are_no_fault(tmp_path):
    class Skipping(Updating):
        skipped = (0, 4)

    trainer = trainer_of(tmp_path, kind=Skipping, model=bert(), dataset=CLASSES)
    trainer.train()
    assert [row["trained"] for row in trainer.pruner.history] == [20, 24, 24]


def test_update_refuses_losses_that_do_not_fit(tmp_path):
    class Short(Updating):
        def update(self, losses, indices=None, mask=None):
            return super().update(losses[:1], indices, mask)

    with pytest.raises(ValueError, match=r"got 1 for a batch of 2: compute them with reduction="):
        trainer_of(tmp_path, kind=Short, model=bert(), dataset=CLASSES).train()


def test_update_below_the_mixin_is_taken_too(tmp_path):
    class Inner(Trainer):
        compute_loss = Updating.compute_loss
        factors, back, skipped, seen = Updating.factors, (), (), []

    class Mine(PrunedTrainerMixin, Inner):
        pass

    trainer = trainer_of(tmp_path, kind=Mine, model=bert(), dataset=CLASSES)
    trainer.train()
    check_updated(trainer)


def test_update_takes_indices_that_the_samples_carry(tmp_path):
    def collate(rows):
        rows = sorted(rows, key=lambda row: len(row["input_ids"]))
        return {**pad(rows), "position": torch.tensor([row["position"] for row in rows])}

    class Carried(Updating):
        def compute_loss(self, model, inputs, *args, **kwargs):
            self.position = inputs.pop("position")
            return super().compute_loss(model, inputs, *args, **kwargs)

        def update(self, losses, indices=None, mask=None):
            return super().update(losses, self.position, mask)

    dataset = [{**CLASSES[index], "position": index} for index in range(40)]
    trainer = trainer_of(
        tmp_path,
        kind=Carried,
        model=bert(),
        dataset=dataset,
        collate=collate,
        remove_unused_columns=False,
    )
    trainer.train()
    check_updated(trainer)


class Spans(torch.utils.data.Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        ids = Sequences(40)[index]["input_ids"][:4]
        return {"input_ids": ids, "start_positions": index % 3, "end_positions": index % 4}


def span_losses(outputs, batch):
    starts = cross_entropy(outputs["start_logits"], batch["start_positions"], reduction="none")
    ends = cross_entropy(outputs["end_logits"], batch["end_positions"], reduction="none")
    return (starts + ends) / 2


class Pictures(torch.utils.data.Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, index):
        torch.manual_seed(index)
        labels = torch.randint(0, 3, (32, 32))
        labels[:index] = 255
        return {"pixel_values": torch.randn(3, 32, 32), "labels": labels}


def pixel_losses(outputs, batch):
    labels = batch["labels"]
    logits = interpolate(
        outputs["logits"], size=labels.shape[-2:], mode="bilinear", align_corners=False
    )
    return cross_entropy(logits, labels, ignore_index=255, reduction="none"), labels != 255


def segformer():
    config = SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        hidden_sizes=[8, 8],
        sr_ratios=[2, 1],
        strides=[4, 2],
        patch_sizes=[7, 3],
        num_attention_heads=[1, 1],
        mlp_ratios=[2, 2],
        decoder_hidden_size=8,
        num_labels=3,
    )
    return SegformerForSemanticSegmentation(config)


@pytest.mark.parametrize("policy", ["SeTa", halves], ids=["plain", "weighted"])
@pytest.mark.parametrize(
    ("model", "dataset", "losses"),
    [
        (lambda: BertForQuestionAnswering(BertConfig(**BERT)), Spans(), span_losses),
        (segformer, Pictures(), pixel_losses),
    ],
    ids=["question-answering", "segmentation"],
)
def test_sample_losses_of_other_tasks_add_up_to_the_models_loss(
    tmp_path, model, dataset, losses, policy
):
    trainer = trainer_of(
        tmp_path,
        1.0,
        policy,
        kind=PrunedTrainer,
        model=seeded(model),
        dataset=dataset,
        collate=None,
        sample_losses=losses,
    )
    trainer.train()
    assert np.isfinite(trainer.pruner.losses).all()


# Collate functions that reorder.


def by_length(rows):
    rows.sort(key=lambda row: len(row["input_ids"]), reverse=True)
    return pad(rows)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("table", [False, True], ids=["rows", "table"])
@pytest.mark.parametrize("removed", [False, True], ids=["all columns", "used columns"])
def test_rows_that_are_reordered_in_place_are_followed(tmp_path, removed, table, workers):
    dataset = Sequences(41)
    if table:
        datasets = pytest.importorskip("datasets")
        dataset = datasets.Dataset.from_list([dataset[index] for index in range(41)])
    trainer = trainer_of(
        tmp_path,
        dataset=dataset,
        collate=by_length,
        per_device_train_batch_size=4,
        remove_unused_columns=removed,
        dataloader_num_workers=workers,
    )
    trainer.train()
    check_table(trainer)


def test_flattened_rows_that_are_reordered_are_followed(tmp_path):
    flatten = DataCollatorWithFlattening(return_position_ids=True)
    seen = {}

    def collate(rows):
        rows.sort(key=lambda row: len(row["input_ids"]), reverse=True)
        return flatten(rows)

    class Noted(PrunedTrainer):
        def _answer(self, run, batch, *rest):
            loss = super()._answer(run, batch, *rest)
            seen.update(zip(batch.indices.tolist(), batch.lengths or [], strict=True))
            return loss

    trainer = trainer_of(
        tmp_path, 1.0, kind=Noted, collate=collate, per_device_train_batch_size=4, n=40
    )
    trainer.train()
    assert seen == {index: len(Sequences(40)[index]["input_ids"]) for index in range(40)}


def dropped(rows):
    del rows[0]
    return pad(rows)


def replaced(rows):
    rows[:] = [dict(row) for row in rows]
    return pad(rows)


def doubled(rows):
    rows[0] = rows[1]
    return pad(rows)


@pytest.mark.parametrize("collate", [dropped, replaced, doubled])
def test_rows_that_are_dropped_or_replaced_in_place_are_refused(tmp_path, collate):
    with pytest.raises(ValueError, match=r"replaced or dropped rows in its list of 2.*index_key="):
        trainer_of(tmp_path, kind=PrunedTrainer, collate=collate).train()


def carried(rows):
    """What a batch carries of its rows: in evaluation nothing."""
    return {"index": torch.tensor([row["index"] for row in rows])} if "index" in rows[0] else {}


def sorted_copy(rows):
    rows = sorted(rows, key=lambda row: len(row["input_ids"]), reverse=True)
    return {**pad(rows), **carried(rows)}


def without_short_ones(rows):
    rows = [row for row in rows if len(row["input_ids"]) > 4] or rows
    return {**pad(rows), **carried(rows)}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("collate", [sorted_copy, without_short_ones])
def test_the_index_may_ride_inside_the_samples(tmp_path, collate, workers):
    trainer = trainer_of(
        tmp_path,
        eval_dataset=Sequences(8),
        eval_strategy="epoch",
        collate=collate,
        index_key="index",
        per_device_train_batch_size=4,
        dataloader_num_workers=workers,
    )
    trainer.train()
    if collate is sorted_copy:
        check_table(trainer)
    last = {index: loss for _, index, loss in trainer.seen}
    np.testing.assert_allclose(trainer.pruner.losses[list(last)], list(last.values()), rtol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([100, 101], r"must be of the indices of its rows, \[\d+, \d+\], got \[100, 101\]"),
        ([[1, 2]], r"must be one integer for each sample"),
        ([0.5, 1.5], r"must be one integer for each sample"),
        (None, r"must keep the key index_key='index'"),
    ],
)
def test_indices_that_are_not_those_of_the_rows_are_refused(tmp_path, wrong, message):
    def collate(rows):
        return {**pad(rows), "index": wrong}

    with pytest.raises(ValueError, match=message):
        trainer_of(tmp_path, kind=PrunedTrainer, collate=collate, index_key="index").train()


def test_followed_returns_the_indices_in_the_order_of_the_rows():
    first, second, third = [1], [2], [3]
    rows = [first, second, third]
    assert followed([7, 8, 9], rows, list(rows)) == [7, 8, 9]
    assert followed([7, 8, 9], rows, [third, first, second]) == [9, 7, 8]
    assert sorted(followed([7, 8, 9], [first, first, second], [second, first, first])) == [7, 8, 9]
