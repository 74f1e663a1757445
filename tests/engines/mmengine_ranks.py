"""One of two processes of an mmengine run: trains, resumes, and writes what it saw."""

import json
import sys
from pathlib import Path

import tests.engines.vision_operators  # noqa: F401

sys.modules["deepspeed"] = None  # mmengine imports it if it is installed, which takes long

# isort: split
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from mmengine.hooks import Hook  # noqa: E402

from tests.engines.mmengine_cases import Known, data, epochs, runner, value_of  # noqa: E402

folder = Path(sys.argv[1])
dist.init_process_group("gloo")
rank = dist.get_rank()
SAVE = {"checkpoint": {"type": "CheckpointHook", "interval": 1}, "logger": None}


def ranks_runner(name, **options):
    return runner(
        folder,
        name,
        epochs(policy="SeTa"),
        train=data(batch_size=5),
        launcher="pytorch",
        cfg={"model_wrapper_cfg": {"type": "MMDistributedDataParallel", "device_ids": None}},
        **options,
    )


class SaveInMidEpoch(Hook):
    refused = ""

    def after_train_iter(self, runner, batch_idx, **_):
        if batch_idx == 0 and not self.refused:
            try:
                runner.save_checkpoint(str(folder), "middle.pth", by_epoch=False)
            except RuntimeError as error:
                self.refused = str(error)


seen = []
run = ranks_runner("whole", model=Known(seen), default_hooks=SAVE)
run.train()
losses = run.train_loop.pruner.losses
assert all(losses[i] == value_of(torch.tensor(float(i))).item() for batch in seen for i in batch)

again = ranks_runner("again", load_from=str(folder / "epoch_2.pth"), resume=True)
again.train()
assert [row["epoch"] for row in again.train_loop.pruner.history] == [0, 1, 2, 3]

hook = SaveInMidEpoch()
ranks_runner("refused", custom_hooks=[hook]).train()

report = {
    "seen": seen,
    "losses": [None if loss != loss else float(loss) for loss in losses],
    "weight": run.model.module.weight.item(),
    "again": again.model.module.weight.item(),
    "refused": hook.refused,
}
(folder / f"{rank}.json").write_text(json.dumps(report))
dist.destroy_process_group()
