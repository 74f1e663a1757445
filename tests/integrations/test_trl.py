"""`seta.integrations.trl`: the losses of `SFTTrainer`, padded, padding-free and packed."""

import os
import subprocess
import sys
from math import ceil
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("trl")

from trl import SFTTrainer

from seta.integrations.trl import PrunedSFTMixin, PrunedSFTTrainer, PruningArguments
from tests.integrations.sft_cases import PrunedProbe, config, sequences, tokenizer
from tests.integrations.trainer_cases import (
    alone,  # noqa: F401
    check_table,
    halves,
    llama,
    rows_of,
    weights_of,
)
from tests.launch import passes_on_two_ranks

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CI": "1"}  # CI: TRL sends no telemetry
FREE = {"padding_free": True, "max_length": None}
PACKED = {"packing": True, "max_length": 24}
WRAPPED = {**PACKED, "packing_strategy": "wrapped"}

pytestmark = [
    pytest.mark.usefixtures("alone"),
    pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`label_smoothing_factor` is deprecated:FutureWarning"),
]


def trainer_of(folder, budget=0.6, policy="SeTa", n=41, kind=PrunedProbe, model=None, **options):
    return kind(
        model or llama(),
        config(folder, **options),
        train_dataset=sequences(n),
        processing_class=tokenizer(),
        pruning=PruningArguments(policy, budget=budget),
    )


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize(
    "options",
    [{}, FREE, PACKED, WRAPPED, {"loss_type": "dft"}, {"label_smoothing_factor": 0.2}],
    ids=["padded", "padding_free", "packed", "wrapped", "dft", "smoothed"],
)
def test_trap_18_each_loss_lands_on_its_row(tmp_path, options, accumulation):
    n = 82 if "packing" in options else 41
    trainer = trainer_of(tmp_path, n=n, gradient_accumulation_steps=accumulation, **options)
    trainer.train()
    check_table(trainer)
    assert [row["trained"] for row in trainer.pruner.history] == trainer.pruner.lengths
    assert trainer.lr_scheduler.get_last_lr()[0] == 0


@pytest.mark.parametrize("options", [{}, FREE], ids=["padded", "padding_free"])
@pytest.mark.parametrize("budget", [[0.5, 1.0, 0.8], [1.0, 0.5, 0.8], None])
def test_trap_9_epochs_of_any_length(tmp_path, options, budget):
    trainer = trainer_of(tmp_path, budget, gradient_accumulation_steps=2, **options)
    trainer.train()
    check_table(trainer)
    steps = [ceil(ceil(row["trained"] / 4) / 2) for row in trainer.pruner.history]
    assert trainer.state.global_step == trainer.state.max_steps == sum(steps)
    assert trainer.lr_scheduler.get_last_lr()[0] == 0


@pytest.mark.parametrize("accumulation", [1, 2, 4])
@pytest.mark.parametrize("options", [{}, FREE, PACKED], ids=["padded", "padding_free", "packed"])
def test_trap_22_with_weights_of_1_training_is_the_stock_one_bit_for_bit(
    tmp_path, options, accumulation
):
    results = []
    for kind, more in (
        (SFTTrainer, {}),
        (PrunedSFTTrainer, {"pruning": PruningArguments("Full", budget=1.0)}),
    ):
        trainer = kind(
            llama(),
            config(
                tmp_path,
                train_sampling_strategy="sequential",
                gradient_accumulation_steps=accumulation,
                **options,
            ),
            train_dataset=sequences(21),
            processing_class=tokenizer(),
            **more,
        )
        trainer.train()
        losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
        results.append((weights_of(trainer.model), losses))
    assert torch.equal(results[0][0], results[1][0]) and results[0][1] == results[1][1]


@pytest.mark.parametrize("options", [{}, FREE], ids=["padded", "padding_free"])
def test_trap_22_a_weight_multiplies_the_sequences_own_term(tmp_path, options):
    compared = []

    class Plain(SFTTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            self.given, self.items = dict(inputs), num_items_in_batch
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    class Checked(PrunedSFTMixin, Plain):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            weights = self.pruner.weights_of(self._seta_batch.indices)
            loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            if weights is None:
                return loss
            given = {key: value for key, value in self.given.items() if key != "labels"}
            logits, labels = model(**given)["logits"], self.given["labels"]
            terms = torch.nn.functional.cross_entropy(
                logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="none"
            ).view(len(labels), -1)
            if "padding_free" in options:
                which = (self.given["position_ids"][0, 1:] == 0).cumsum(0)
                factors = torch.from_numpy(weights)[which]
            else:
                factors = torch.from_numpy(weights)[:, None]
            plain = (terms * factors).sum() / self.items
            some = model.model.layers[0].mlp.up_proj.weight
            gradients = [
                torch.autograd.grad(one, some, retain_graph=True)[0] for one in (loss, plain)
            ]
            torch.testing.assert_close(loss, plain, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-6)
            compared.append(weights.max())
            return loss

    trainer_of(tmp_path, 1.0, halves, kind=Checked, num_train_epochs=2, **options).train()
    assert 3 in compared


def test_trap_10_resumes_exactly_from_every_checkpoint(tmp_path):
    def run(folder, checkpoint=None):
        trainer = trainer_of(
            folder,
            n=31,
            model=llama(dropout=0.3),
            gradient_accumulation_steps=2,
            save_strategy="steps",
            save_steps=1,
            **FREE,
        )
        trainer.train(checkpoint)
        return trainer

    whole = run(tmp_path / "whole")
    for step in range(1, whole.state.global_step + 1):
        rest = run(tmp_path / "rest", str(tmp_path / "whole" / f"checkpoint-{step}"))
        assert [seen[:2] for seen in rest.seen] == [s[:2] for s in whole.seen if s[0] >= step]
        assert torch.equal(weights_of(rest.model), weights_of(whole.model)), step
        assert rows_of(rest.pruner) == rows_of(whole.pruner)


def test_figures_leave_the_metrics_to_trls_own_logs(tmp_path):
    trainer = trainer_of(tmp_path, kind=PrunedSFTTrainer, logging_steps=3)
    trainer.train()
    own = [log for log in trainer.state.log_history if "seta/kept" in log]
    others = [log for log in trainer.state.log_history if "loss" in log]
    assert [log["seta/kept"] for log in own] == trainer.pruner.lengths
    assert all("entropy" not in log for log in own) and all("entropy" in log for log in others)


def test_sample_losses_of_ones_own_come_first(tmp_path):
    trainer = PrunedSFTTrainer(
        llama(),
        config(tmp_path),
        train_dataset=sequences(20),
        processing_class=tokenizer(),
        pruning=PruningArguments(
            budget=1.0, sample_losses=lambda outputs, batch: -outputs.log_probs[:, 0]
        ),
    )
    trainer.train()
    assert np.isfinite(trainer.pruner.losses).all()


def test_trl_is_named_if_it_is_not_installed():
    code = (
        "import seta.extras\n"
        "found = seta.extras.find_spec\n"
        "seta.extras.find_spec = lambda name: None if name == 'trl' else found(name)\n"
        "try: import seta.integrations.trl\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'needs trl, which is not installed: pip install "seta[trl]"' in done.stdout


def test_two_processes(tmp_path):
    """The cases of `sft_ranks.py`, in one run of torchrun."""
    passes_on_two_ranks("tests.integrations.sft_ranks", tmp_path, seconds=900)


def test_the_example_trains(tmp_path):
    command = [sys.executable, ROOT / "examples" / "sft.py", "--epochs", "2"]
    done = subprocess.run(
        command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "saved" in done.stdout
