"""Tiny models and data for the tests of `Trainer`, whose rows say which they are."""

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

import seta
from seta.engine.rows import CLOCKED
from seta.integrations.transformers import PrunedTrainerMixin, PruningArguments

VOCABULARY = 64


SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
"""Of a model that trains in no time."""


def llama_config(dropout=0.0, **options):
    return LlamaConfig(
        **SMALL,
        num_key_value_heads=2,
        attention_dropout=dropout,
        pad_token_id=0,
        eos_token_id=63,
        **options,
    )


def llama(dropout=0.0):
    torch.manual_seed(0)
    return LlamaForCausalLM(llama_config(dropout))


def experts():
    """A mixture of experts, whose loss has a part that is of no sample, and outweighs the rest."""
    torch.manual_seed(0)
    return MixtralForCausalLM(
        MixtralConfig(
            **SMALL,
            num_key_value_heads=2,
            num_local_experts=4,
            output_router_logits=True,
            router_aux_loss_coef=3.0,
            pad_token_id=0,
            eos_token_id=63,
        )
    )


def bert(labels=4, **options):
    torch.manual_seed(0)
    config = BertConfig(
        **SMALL,
        num_labels=labels,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **options,
    )
    return BertForSequenceClassification(config)


def t5():
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        dropout_rate=0.0,
        decoder_start_token_id=0,
    )
    return T5ForConditionalGeneration(config)


def sequence(index):
    """Token ids whose first two are the index, of 4 to 10 tokens."""
    rng = np.random.default_rng(index)
    rest = rng.integers(1, 60, int(rng.integers(2, 9)))
    return [index // 32 + 1, index % 32 + 1, *rest.tolist()]


def index_of(ids):
    return (int(ids[0]) - 1) * 32 + int(ids[1]) - 1


class Sequences(Dataset):
    """Rows for a language model, with a key that no model knows."""

    def __init__(self, n, label=None):
        self.n, self.label = n, label

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        if index >= self.n:
            raise IndexError(index)  # Trainer walks through it to find lengths
        ids = sequence(index)
        labels = ids if self.label is None else self.label(index)
        return {"input_ids": ids, "labels": labels, "note": f"row {index}"}


CLASSES = Sequences(40, label=lambda index: index % 4)


def pad(rows):
    """The collate function: pads ids with 0 and, where they are lists, labels with -100."""
    longest = max(len(row["input_ids"]) for row in rows)

    def padded(key, value):
        return torch.tensor([row[key] + [value] * (longest - len(row[key])) for row in rows])

    batch = {"input_ids": padded("input_ids", 0)}
    batch["attention_mask"] = (batch["input_ids"] != 0).long()
    if isinstance(rows[0]["labels"], list) and isinstance(rows[0]["labels"][0], int):
        batch["labels"] = padded("labels", -100)
    else:
        batch["labels"] = torch.tensor([row["labels"] for row in rows])
    return batch


def arguments(folder, **options):
    defaults = {
        "per_device_train_batch_size": 2,
        "num_train_epochs": 3,
        "learning_rate": 0.01,
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    return TrainingArguments(output_dir=str(folder), **(defaults | options))


def token_loss(logits, labels):
    """The mean loss of a causal model on one sequence, the plain way."""
    kept = labels[1:] != -100
    return float(cross_entropy(logits[:-1][kept].double(), labels[1:][kept]))


class Probe(Trainer):
    """Notes each sample of each batch, and its loss, computed anew from what the batch holds."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        assert not any(key.startswith("seta") for key in inputs)
        ids, labels = inputs["input_ids"], inputs["labels"]
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if model.training:
            logits = outputs["logits"].detach()
            for row in range(len(ids)):
                value = (
                    token_loss(logits[row], labels[row])
                    if logits.ndim == 3
                    else float(cross_entropy(logits[row], labels[row]))
                )
                self.seen.append((self.state.global_step, index_of(ids[row]), value))
        return (loss, outputs) if return_outputs else loss

    seen: list  # of (step, index, loss)

    def train(self, *args, **kwargs):
        self.seen = []
        return super().train(*args, **kwargs)


class PrunedProbe(PrunedTrainerMixin, Probe):
    pass


def trainer_of(folder, budget=0.6, policy="SeTa", n=41, kind=PrunedProbe, model=None, **options):
    given = {key: options.pop(key) for key in list(options) if key in GIVEN}
    own = {key: options.pop(key) for key in list(options) if key in OWN}
    return kind(
        model or llama(),
        arguments(folder, **options),
        train_dataset=given.pop("dataset", Sequences(n)),
        data_collator=given.pop("collate", pad),
        pruning=PruningArguments(policy, budget=budget, **own),
        **given,
    )


BARE = {
    "learning_rate": 0.01,
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": [],
    "save_strategy": "no",
    "logging_steps": 1,
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
}
"""Of a trainer of TRL, whose own defaults are for a GPU."""

OWN = PruningArguments.__annotations__
GIVEN = ("dataset", "collate", "callbacks", "compute_loss_func", "optimizers", "eval_dataset")


@pytest.fixture
def alone(monkeypatch):
    """No network, and no state of Accelerate's left over for other tests."""
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("CI", "1")
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    PartialState._reset_state()


class LeftOver(TrainerCallback):
    """Notes the gradient that is left over at the end of each epoch."""

    def __init__(self):
        self.sums = []

    def on_epoch_end(self, args, state, control, model, **kwargs):
        gradients = [p.grad.abs().sum() for p in model.parameters() if p.grad is not None]
        self.sums.append(float(sum(gradients, torch.tensor(0.0))))


def check_table(trainer):
    """The table holds for each sample the loss that the probe saw last; each epoch is complete."""
    last = {index: loss for _, index, loss in trainer.seen}
    table = trainer.pruner.losses
    assert len(last) == int(np.isfinite(table).sum())
    np.testing.assert_allclose(table[list(last)], list(last.values()), rtol=1e-5)
    history = trainer.pruner.history
    assert len(trainer.seen) == sum(row["trained"] for row in history)
    at = 0
    for row in history:
        indices = [index for _, index, _ in trainer.seen[at : at + row["trained"]]]
        assert len(set(indices)) == row["trained"] == row["kept"]
        at += row["trained"]


def rows_of(pruner):
    """The rows of the epochs, without the times."""
    return [{k: v for k, v in row.items() if k not in CLOCKED} for row in pruner.history]


def weights_of(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def halves(histogram, epoch, epochs):
    """A policy that keeps all, one half of them with the weight 3."""
    keep = np.ones(len(histogram.centres))
    weight = np.where(histogram.centres < histogram.quantile(0.5), 3.0, 1.0)
    return seta.KeepCurve(keep=keep, unseen=1.0, weight=weight)


def weighted_loss(logits, labels, weights, items, shift):
    """The loss of a batch with weights, the plain way."""
    if shift:
        logits, labels = logits[:, :-1], labels[:, 1:]
    terms = cross_entropy(
        logits.flatten(0, -2), labels.flatten(), reduction="none", ignore_index=-100
    )
    return (terms.view(labels.shape).reshape(len(labels), -1).sum(1) * weights).sum() / items
