"""A language model on the Python reference, by `Trainer`, with 60 % of the sample visits.

    python examples/trainer_text.py                           # held-out loss 1.96 in 750 steps
    python examples/trainer_text.py --method Full --budget 1  # 1.90 in 1,260, on all samples
    torchrun --nproc-per-node 2 examples/trainer_text.py      # on two processes

Under a minute on two cores. Needs `pip install "seta[transformers]"` and nothing else: the text is
the one that Python's own `help()` shows. An interrupted run goes on with `--resume`. After each
epoch its figures are in the log.
"""

import argparse
from pydoc_data.topics import topics

import torch
from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments

from seta.integrations.transformers import PrunedTrainer, PruningArguments

parser = argparse.ArgumentParser()
parser.add_argument("--method", default="SeTa")
parser.add_argument("--budget", type=float, default=0.6)
parser.add_argument("--epochs", type=int, default=20)
parser.add_argument("--folder", default="trainer_text")
parser.add_argument("--resume", action="store_true")
options = parser.parse_args()

text = "\n".join(topics.values()).encode("ascii", "replace")
rows = [{"input_ids": list(text[at : at + 64])} for at in range(0, 64 * 1200, 64)]
for row in rows:
    row["labels"] = row["input_ids"]
train, test = rows[:1000], rows[1000:]

torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=128,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=64,
    pad_token_id=0,
)
trainer = PrunedTrainer(
    LlamaForCausalLM(config),
    TrainingArguments(
        options.folder,
        per_device_train_batch_size=16,
        num_train_epochs=options.epochs,
        learning_rate=5e-3,
        lr_scheduler_type="cosine",
        warmup_steps=20,
        logging_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to=[],
        disable_tqdm=True,
    ),
    train_dataset=train,
    eval_dataset=test,
    pruning=PruningArguments(options.method, budget=options.budget),
)
trainer.train(resume_from_checkpoint=options.resume or None)
loss = trainer.evaluate()["eval_loss"]
if trainer.is_world_process_zero():
    print(
        f"held-out loss {loss:.3f} after {trainer.state.global_step} steps: "
        f"{trainer.pruner.saved:.0%} of the sample visits saved"
    )
if torch.distributed.is_initialized():
    torch.distributed.destroy_process_group()
