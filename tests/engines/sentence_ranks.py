"""What `test_sentence_transformers` runs by `torchrun -m tests.engines.sentence_ranks FOLDER`."""

import os
import sys
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "CI": "1"}

import torch
import torch.distributed as dist

from tests.engines.sentence_cases import trainer_of
from tests.integrations.trainer_cases import rows_of, weights_of
from tests.integrations.trainer_ranks import check_seen


def trained(folder, checkpoint=None):
    trainer = trainer_of(
        folder,
        budget=[0.5, 1.0],
        per_device_train_batch_size=3,
        gradient_accumulation_steps=2,
        save_strategy="steps",
        save_steps=2,
    )
    trainer.train(checkpoint)
    return trainer


def main(folder):
    torch.set_num_threads(1)
    trainer = trained(folder / "whole")
    check_seen(trainer, rtol=1e-4, atol=1e-6)
    assert [row["trained"] for row in trainer.pruner.history] == trainer.pruner.lengths
    rest = trained(folder / "rest", str(folder / "whole" / "checkpoint-2"))  # in the second
    assert torch.equal(weights_of(rest.model), weights_of(trainer.model))
    assert rows_of(rest.pruner) == rows_of(trainer.pruner)
    (folder / f"passed-{dist.get_rank()}").write_text("all")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
