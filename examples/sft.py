"""Fine-tuning by TRL's `SFTTrainer`, without padding, with 60 % of the sample visits.

    python examples/sft.py                           # held-out loss 2.55 in 299 steps
    python examples/sft.py --method Full --budget 1  # 2.12 in 504, on all samples
    torchrun --nproc-per-node 2 examples/sft.py      # on two processes

Under a minute on two cores. Needs `pip install "seta[trl]"` and nothing else: the prompts are lines
of the Python reference that `help()` shows, each to be completed by the line after it, and the
model is a tiny one, from nothing.
"""

import argparse
from itertools import pairwise
from pydoc_data.topics import topics

import datasets
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig

from seta.integrations.trl import PrunedSFTTrainer, PruningArguments

parser = argparse.ArgumentParser()
parser.add_argument("--method", default="SeTa")
parser.add_argument("--budget", type=float, default=0.6)
parser.add_argument("--epochs", type=int, default=8)
parser.add_argument("--folder", default="sft")
options = parser.parse_args()

datasets.disable_progress_bars()
lines = [line.strip() for text in topics.values() for line in text.splitlines()]
lines = [line for line in lines if 20 < len(line) < 80][:600]
pairs = [{"prompt": a, "completion": b} for a, b in pairwise(lines)]
table = datasets.Dataset.from_list(pairs).train_test_split(100, seed=0)

words = ["<pad>", "<end>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
letters = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[]))
letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
letters.decoder = decoders.ByteLevel()
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=letters,
    pad_token="<pad>",
    eos_token="<end>",
    clean_up_tokenization_spaces=False,
)

torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=len(words),
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=256,
    pad_token_id=0,
    eos_token_id=1,
)
trainer = PrunedSFTTrainer(
    LlamaForCausalLM(config),
    SFTConfig(
        options.folder,
        per_device_train_batch_size=8,
        padding_free=True,
        max_length=None,
        num_train_epochs=options.epochs,
        learning_rate=5e-3,
        lr_scheduler_type="cosine",
        warmup_steps=20,
        logging_strategy="epoch",
        save_strategy="no",
        activation_checkpointing=False,
        bf16=False,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to=[],
        disable_tqdm=True,
    ),
    train_dataset=table["train"],
    eval_dataset=table["test"],
    processing_class=tokenizer,
    pruning=PruningArguments(options.method, budget=options.budget),
)
trainer.train()
loss = trainer.evaluate()["eval_loss"]
if trainer.is_world_process_zero():
    print(
        f"held-out loss {loss:.3f} after {trainer.state.global_step} steps: "
        f"{trainer.pruner.saved:.0%} of the sample visits saved"
    )
if torch.distributed.is_initialized():
    torch.distributed.destroy_process_group()
