"""What `test_trl` runs by `torchrun -m tests.integrations.sft_ranks FOLDER`."""

import os
import sys
from pathlib import Path

os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "CI": "1"}

import torch
import torch.distributed as dist

from seta.integrations.trl import PruningArguments
from tests.integrations.sft_cases import PrunedProbe, config, sequences, tokenizer
from tests.integrations.trainer_cases import llama, rows_of, weights_of
from tests.integrations.trainer_ranks import check_seen


def trained(folder, checkpoint=None, **options):
    trainer = PrunedProbe(
        llama(dropout=0.0),
        config(
            folder,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            save_strategy="steps",
            save_steps=2,
            **options,
        ),
        train_dataset=sequences(41),
        processing_class=tokenizer(),
        pruning=PruningArguments(budget=[0.5, 1.0, 0.8]),
    )
    trainer.train(checkpoint)
    return trainer


def main(folder):
    torch.set_num_threads(1)
    for name, options in (("padded", {}), ("free", {"padding_free": True, "max_length": None})):
        trainer = trained(folder / name, **options)
        check_seen(trainer, rtol=1e-4)
        assert [row["trained"] for row in trainer.pruner.history] == trainer.pruner.lengths
        assert trainer.lr_scheduler.get_last_lr()[0] == 0
        for step in (2, 8, 10):
            rest = trained(folder / "rest", str(folder / name / f"checkpoint-{step}"), **options)
            assert torch.equal(weights_of(rest.model), weights_of(trainer.model)), step
            assert rows_of(rest.pruner) == rows_of(trainer.pruner), step
    (folder / f"passed-{dist.get_rank()}").write_text("all")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
