"""GRPO by TRL's `GRPOTrainer`, with rollouts for half of the prompts in each epoch.

    python examples/grpo.py                      # a digit is echoed with probability 0.48
    python examples/grpo.py --full               # 0.13: all prompts, in half of the epochs
    torchrun --nproc-per-node 2 examples/grpo.py # on two processes

Both make 3,840 rollouts; one run of each says little. Under a minute on two cores. Needs
`pip install "seta[trl]"` and nothing else: the prompts are made here, and the model is a tiny one,
from nothing. A third of the prompts (`echo 3`) asks for a digit, a third is right whatever the
answer is, and a third is always wrong. Only the first third gives a gradient; `ZeroSignal` finds it
by the rewards. In a loop of your own: `examples/grpo_loop.py`.
"""

import argparse
from typing import Any

import datasets
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig

from seta.integrations.trl import PrunedGRPOTrainer, RolloutArguments  # changed: the import
from seta.rl import ZeroSignal

ROLLOUTS = 8

parser = argparse.ArgumentParser()
parser.add_argument("--full", action="store_true", help="all prompts in every epoch")
parser.add_argument("--epochs", type=int, default=16)
parser.add_argument("--folder", default="grpo")
options = parser.parse_args()
pruning = RolloutArguments(ZeroSignal(), budget=0.5)
if options.full:
    pruning, options.epochs = RolloutArguments("Full", budget=1.0), options.epochs // 2

digits = [str(digit) for digit in range(8)]
tasks = ["echo", "any", "none"]
words = {word: at for at, word in enumerate(["<pad>", "<end>", *tasks, *digits])}
letters = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
letters.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=letters, pad_token="<pad>", eos_token="<end>", padding_side="left"
)
prompts = datasets.Dataset.from_list(
    [{"prompt": f"{tasks[at % 3]} {digits[at // 3 % 8]}"} for at in range(60)]
)


def reward(prompts: list[str], completions: list[str], **columns: Any) -> list[float]:
    """Returns 1 for each right answer, else 0."""
    right = {"any": lambda answer, digit: True, "none": lambda answer, digit: False}
    right["echo"] = lambda answer, digit: answer == digit
    asked = [prompt.split() for prompt in prompts]
    return [
        float(right[task](answer.strip(), digit))
        for (task, digit), answer in zip(asked, completions, strict=True)
    ]


torch.manual_seed(0)
model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        pad_token_id=0,
        eos_token_id=1,
    )
)
trainer = PrunedGRPOTrainer(  # changed: the class
    model,
    reward_funcs=reward,
    args=GRPOConfig(
        options.folder,
        num_generations=ROLLOUTS,
        per_device_train_batch_size=4 * ROLLOUTS,
        max_completion_length=1,
        num_train_epochs=options.epochs,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        logging_strategy="no",
        save_strategy="no",
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to=[],
        disable_tqdm=True,
    ),
    train_dataset=prompts,
    processing_class=tokenizer,
    pruning=pruning,  # changed: one argument more
)
trainer.train()
made = sum(row["trained"] for row in trainer.pruner.history)
echo = torch.tensor([[words["echo"], words[digit]] for digit in digits])
with torch.no_grad():
    chances = trainer.model(echo.to(trainer.model.device)).logits[:, -1].softmax(-1).cpu()
learnt = chances[torch.arange(8), echo[:, 1]].mean()
if trainer.is_world_process_zero():
    print(
        f"a digit is echoed with probability {learnt:.2f} after "
        f"{made * ROLLOUTS:,} rollouts: {trainer.pruner.saved:.0%} saved"
    )
if torch.distributed.is_initialized():
    torch.distributed.destroy_process_group()
