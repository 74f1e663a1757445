"""Tiny models, pairs and probes for the tests of TRL's preference trainers."""

import tests.engines.vision_operators  # noqa: F401  isort: skip

import datasets
import torch
from peft import LoraConfig
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch.nn.functional import cross_entropy, logsigmoid
from transformers import LlamaForSequenceClassification
from trl import (
    DPOConfig,
    DPOTrainer,
    KTOConfig,
    KTOTrainer,
    RewardConfig,
    RewardTrainer,
)

from seta.integrations.trl import (
    PrunedDPOMixin,
    PrunedDPOTrainer,
    PrunedKTOMixin,
    PrunedKTOTrainer,
    PrunedRewardMixin,
    PrunedRewardTrainer,
    PruningArguments,
)
from tests.integrations.sft_cases import tokenizer
from tests.integrations.trainer_cases import BARE, llama, llama_config


def words():
    made = tokenizer()
    made.backend_tokenizer.pre_tokenizer = WhitespaceSplit()
    return made


def prompt(index):
    """Two words that are the index."""
    return f"w{index // 8 + 1} w{index % 8 + 20}"


def index_of(ids):
    return (int(ids[0]) - 1) * 8 + int(ids[1]) - 20


def pairs(n=41):
    return datasets.Dataset.from_list(
        [
            {
                "prompt": prompt(i),
                "chosen": " w40" * (i % 3 + 1) + " w41",
                "rejected": " w42" * (i % 2 + 1) + " w43",
            }
            for i in range(n)
        ]
    )


def answers(n=41):
    return datasets.Dataset.from_list(
        [
            {"prompt": prompt(i), "completion": " w40" * (i % 4 + 1), "label": i % 3 > 0}
            for i in range(n)
        ]
    )


def reward_model(dropout=0.0):
    torch.manual_seed(0)
    return LlamaForSequenceClassification(llama_config(dropout, num_labels=1))


def lora():
    return LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"])


# The losses of a batch's samples, the plain way.


@torch.no_grad()
def log_probs(model, inputs, prefix=""):
    """Of the tokens of the answers: (rows, T), and which they are."""
    ids, mask = inputs[f"{prefix}input_ids"], inputs[f"{prefix}completion_mask"][:, 1:]
    logits = model(ids, attention_mask=inputs[f"{prefix}attention_mask"])["logits"][:, :-1]
    terms = -cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return terms.view(mask.shape) * mask, mask


class DPOProbe(DPOTrainer):
    """Notes each pair of each batch, and its loss, computed anew."""

    def plain(self, inputs):
        mine, mask = log_probs(self.model, inputs)
        other = self.ref_model
        if other is None:
            with self.accelerator.unwrap_model(self.model).disable_adapter():
                ratios = mine.sum(1) - log_probs(self.model, inputs)[0].sum(1)
        else:
            ratios = mine.sum(1) - log_probs(other, inputs)[0].sum(1)
        chosen, rejected = ratios.chunk(2)
        found = torch.zeros(len(chosen))
        if "sigmoid" in self.loss_types:
            found = -logsigmoid(self.beta * (chosen - rejected))
        if "sft" in self.loss_types:
            tokens = mask.chunk(2)[0].sum()
            found = found - mine.chunk(2)[0].sum(1) * len(chosen) / tokens
        return found

    def names(self, inputs):
        return inputs["input_ids"].chunk(2)[0]


class KTOProbe(KTOTrainer):
    """As `DPOProbe`, for single answers."""

    def plain(self, inputs):
        ratios = [
            log_probs(self.model, inputs, prefix)[0].sum(1)
            - log_probs(self.ref_model, inputs, prefix)[0].sum(1)
            for prefix in ("", "KL_")
        ]
        divergence = self.accelerator.gather(ratios[1].mean()).mean().clamp(min=0)
        sign = torch.where(inputs["label"], 1.0, -1.0)
        return 1 - torch.sigmoid(self.beta * sign * (ratios[0] - divergence))

    def names(self, inputs):
        return inputs["input_ids"]


class RewardProbe(RewardTrainer):
    """As `DPOProbe`, for a reward model."""

    @torch.no_grad()
    def plain(self, inputs):
        rewards = self.model(inputs["input_ids"], attention_mask=inputs["attention_mask"])
        chosen, rejected = rewards["logits"].view(-1).chunk(2)
        centre = self.args.center_rewards_coefficient or 0.0
        return -logsigmoid(chosen - rejected) + centre * (chosen + rejected) ** 2

    def names(self, inputs):
        return inputs["input_ids"].chunk(2)[0]


class Noted:
    """The part of the probes that notes."""

    seen: list  # of (step, index, loss)

    def train(self, *args, **kwargs):
        self.seen = []
        return super().train(*args, **kwargs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        assert not any(key.startswith("seta") for key in inputs)
        if self.model.training:
            values = self.plain(inputs).tolist()
            for ids, value in zip(self.names(inputs), values, strict=True):
                self.seen.append((self.state.global_step, index_of(ids), value))
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


class PrunedDPOProbe(PrunedDPOMixin, Noted, DPOProbe):
    pass


class PrunedKTOProbe(PrunedKTOMixin, Noted, KTOProbe):
    pass


class PrunedRewardProbe(PrunedRewardMixin, Noted, RewardProbe):
    pass


KINDS = {  # the engine's own trainer, the pruned one, the probe, the configuration
    "dpo": (DPOTrainer, PrunedDPOTrainer, PrunedDPOProbe, DPOConfig, pairs, llama),
    "kto": (KTOTrainer, PrunedKTOTrainer, PrunedKTOProbe, KTOConfig, answers, llama),
    "reward": (
        RewardTrainer,
        PrunedRewardTrainer,
        PrunedRewardProbe,
        RewardConfig,
        pairs,
        reward_model,
    ),
}
STOCK, PRUNED, PROBE = range(3)


def trainer_of(
    folder,
    name,
    which=PROBE,
    policy="SeTa",
    budget=0.6,
    n=31,
    dropout=0.0,
    kind=None,
    own=None,
    more=None,
    **options,
):
    """A trainer; `own` are further arguments of pruning, `more` of the trainer."""
    *kinds, config, rows, made = KINDS[name]
    more = dict(more or {})
    if which != STOCK:
        more["pruning"] = PruningArguments(policy, budget=budget, **own or {})
    if name != "reward" and "peft_config" not in more:
        more["ref_model"] = llama()
    defaults = {"per_device_train_batch_size": 4, "num_train_epochs": 2}
    return (kind or kinds[which])(
        made(dropout),
        args=config(str(folder), **(BARE | defaults | options)),
        train_dataset=rows(n),
        processing_class=words(),
        **more,
    )
