"""`seta.integrations.trl.preferences`: losses and resuming of DPO, KTO and reward models; LoRA."""

from pathlib import Path

import pytest
import torch

from tests.engines import vision_operators

pytest.importorskip("trl")
pytest.importorskip("peft")

from peft import get_peft_model_state_dict
from trl import SFTTrainer

from seta.integrations.trl import PrunedSFTTrainer, PruningArguments
from tests.engines.pages import run_page
from tests.engines.preference_cases import (
    KINDS,
    PRUNED,
    STOCK,
    PrunedDPOProbe,
    lora,
    pairs,
    trainer_of,
)
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

LINES = Path(vision_operators.__file__).read_text() + "\n"

pytestmark = [
    pytest.mark.usefixtures("alone"),
    pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing:FutureWarning"),
]

CASES = {
    "dpo": ("dpo", {}),
    "dpo with sft": ("dpo", {"loss_type": ["sigmoid", "sft"]}),
    "dpo, precomputed": ("dpo", {"precompute_ref_log_probs": True}),
    "dpo with lora": ("dpo", {"more": {"peft_config": lora()}}),
    "kto": ("kto", {}),
    "reward": ("reward", {}),
    "reward, centred": ("reward", {"center_rewards_coefficient": 0.1}),
}


def made(folder, case, *args, **options):
    name, own = CASES[case]
    return trainer_of(folder, name, *args, **own, **options)


@pytest.mark.parametrize("case", CASES)
def test_each_loss_lands_on_its_sample(tmp_path, case):
    trainer = made(tmp_path, case, gradient_accumulation_steps=2)
    trainer.train()
    check_table(trainer)
    assert [row["trained"] for row in trainer.pruner.history] == trainer.pruner.lengths
    assert trainer.lr_scheduler.get_last_lr()[0] == 0


def test_workers_and_evaluation_change_nothing(tmp_path):
    def run(**options):
        trainer = trainer_of(tmp_path, "dpo", **options)
        trainer.train()
        check_table(trainer)
        return weights_of(trainer.model), rows_of(trainer.pruner), trainer.seen

    plain = run()
    evaluated = run(
        dataloader_num_workers=2,
        eval_strategy="steps",
        eval_steps=2,
        more={"eval_dataset": pairs(30)},
    )
    assert torch.equal(plain[0], evaluated[0]) and plain[1:] == evaluated[1:]


@pytest.mark.parametrize("case", ["dpo", "dpo, precomputed", "dpo with lora", "kto", "reward"])
def test_with_weights_of_1_training_is_the_stock_one_bit_for_bit(tmp_path, case):
    results = []
    for which in (STOCK, PRUNED):
        trainer = made(
            tmp_path,
            case,
            which,
            "Full",
            1.0,
            gradient_accumulation_steps=2,
            num_train_epochs=1,
            train_sampling_strategy="sequential",
        )
        trainer.train()
        logged = [
            (log["loss"], log["grad_norm"]) for log in trainer.state.log_history if "loss" in log
        ]
        results.append((weights_of(trainer.model), logged))
    assert torch.equal(results[0][0], results[1][0]) and results[0][1] == results[1][1]


ALL = [
    *("sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard"),
    *("apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm"),
]


@pytest.mark.parametrize(
    ("types", "options"), [(ALL, {}), (ALL[:1], {"use_weighting": True, "ld_alpha": 0.5})]
)
def test_all_losses_of_dpo_are_means_of_those_of_the_pairs(tmp_path, types, options):
    """Each of the first batches is checked to add up; so is one with weights."""
    trainer = trainer_of(
        tmp_path,
        "dpo",
        PRUNED,
        halves,
        1.0,
        loss_type=types,
        loss_weights=[1.0 + at / 10 for at in range(len(types))],
        label_smoothing=0.1,
        **options,
    )
    trainer.train()
    assert len(set(trainer.pruner.losses.round(3))) > 20


def test_losses_that_sort_the_pairs_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"loss_type \['aot_unpaired'\] .*sorts the pairs"):
        trainer_of(tmp_path, "dpo", PRUNED, loss_type="aot_unpaired")
    trainer_of(
        tmp_path,
        "dpo",
        PRUNED,
        loss_type="aot",
        own={"sample_losses": lambda outputs, batch: -outputs.log_probs.chunk(2)[0].sum(1)},
    ).train()


def test_a_weight_multiplies_the_pairs_own_term(tmp_path):
    compared = []

    class Checked(PrunedDPOProbe):
        def compute_loss(self, model, inputs, *args, **kwargs):
            weights = self.pruner.weights_of(self._seta_batch.indices)
            loss = super().compute_loss(model, inputs, *args, **kwargs)
            if weights is not None:
                terms = torch.tensor([value for *_, value in self.seen[-len(weights) :]])
                plain = (torch.from_numpy(weights) * terms).mean()
                torch.testing.assert_close(loss.detach(), plain, rtol=1e-4, atol=1e-5)
                compared.append(weights.max())
            return loss

    trainer_of(tmp_path, "dpo", policy=halves, budget=1.0, kind=Checked).train()
    assert 3 in compared


@pytest.mark.parametrize("name", KINDS)
def test_resumes_exactly_within_an_epoch(tmp_path, name):
    def run(folder, checkpoint=None):
        trainer = trainer_of(
            folder,
            name,
            dropout=0.3,
            disable_dropout=False,
            gradient_accumulation_steps=2,
            save_strategy="steps",
            save_steps=1,
        )
        trainer.train(checkpoint)
        return trainer

    whole = run(tmp_path / "whole")
    assert whole.state.global_step == 4
    rest = run(tmp_path / "rest", str(tmp_path / "whole" / "checkpoint-3"))
    assert [seen[:2] for seen in rest.seen] == [s[:2] for s in whole.seen if s[0] >= 3]
    assert torch.equal(weights_of(rest.model), weights_of(whole.model))
    assert rows_of(rest.pruner) == rows_of(whole.pruner)


# SFTTrainer with LoRA.


def adapter_of(trainer):
    return torch.cat([part.flatten() for part in get_peft_model_state_dict(trainer.model).values()])


def sft(folder, kind, *, policy="SeTa", budget=0.6, checkpoint=None, **options):
    more = {} if kind is SFTTrainer else {"pruning": PruningArguments(policy, budget=budget)}
    trainer = kind(
        llama(),
        config(folder, gradient_accumulation_steps=2, **options),
        train_dataset=sequences(31),
        processing_class=tokenizer(),
        peft_config=lora(),
        **more,
    )
    trainer.train(checkpoint)
    return trainer


def test_an_adapter_is_trained_on_the_samples_that_are_kept(tmp_path):
    trainer = sft(tmp_path, PrunedProbe)
    check_table(trainer)
    assert adapter_of(trainer).abs().sum() > 0


def test_an_adapter_with_weights_of_1_is_the_stock_one_bit_for_bit(tmp_path):
    options = {"num_train_epochs": 1, "train_sampling_strategy": "sequential"}
    stock = sft(tmp_path, SFTTrainer, **options)
    full = sft(tmp_path, PrunedSFTTrainer, policy="Full", budget=1.0, **options)
    assert torch.equal(adapter_of(stock), adapter_of(full))


def test_an_adapter_resumes_exactly(tmp_path):
    whole = sft(tmp_path / "whole", PrunedSFTTrainer, save_strategy="steps", save_steps=1)
    rest = sft(
        tmp_path / "rest",
        PrunedSFTTrainer,
        checkpoint=str(tmp_path / "whole" / "checkpoint-3"),
    )
    assert torch.equal(adapter_of(rest), adapter_of(whole))
    assert rows_of(rest.pruner) == rows_of(whole.pruner)


def test_two_processes(tmp_path):
    """The cases of `preference_ranks.py`, in one run of torchrun."""
    passes_on_two_ranks("tests.engines.preference_ranks", tmp_path, seconds=900)


def test_the_page(tmp_path):
    run_page("preferences", tmp_path, LINES, CI="1", HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
