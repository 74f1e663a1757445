"""A run on several ranks for `test_torchrun`: FOLDER ddp|fsdp KILLS, as `torchrun` starts it.

KILLS: "attempt:step,..." at which rank 1 kills itself; each attempt of torchrun goes on from the
last checkpoint, which rank 0 writes after every third step.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import TensorDataset

import seta
from seta.engine.rows import CLOCKED

try:
    from torch.distributed.fsdp import fully_shard
except ImportError:  # before torch 2.6
    from torch.distributed._composable.fsdp import fully_shard

EPOCHS = 5


def train(rank, folder, kind, kills=(), attempt=0):
    """Trains in the group that there is, from the start, or from the checkpoint that it finds."""
    torch.manual_seed(0)
    features = torch.randn(240, 6)
    labels = features[:, 0].gt(0).long()
    labels[::9] = 1 - labels[::9]
    net = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
    if kind == "fsdp":
        model = fully_shard(net, mesh=init_device_mesh("cpu", (2,)))
    else:
        model = DistributedDataParallel(net)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loader = seta.PrunedDataLoader(
        TensorDataset(torch.arange(240), features, labels),
        "SeTa",
        epochs=EPOCHS,
        seed=3,
        batch_size=10,
        num_workers=1,
    )
    parts = {"model": net, "optimizer": optimizer, "loader": loader}
    checkpoint, step = folder / "checkpoint.pt", 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        step = saved["step"]
    with (folder / f"steps-{rank}.jsonl").open("a") as log:
        while loader.pruner.next_epoch < EPOCHS:
            for indices, inputs, targets in loader:
                epoch = loader.epoch
                loss = loader.update(cross_entropy(model(inputs), targets, reduction="none"))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                what = {"epoch": epoch, "rows": indices.tolist(), "loss": loss.item()}
                log.write(json.dumps({"step": step, "what": what}) + "\n")
                log.flush()
                step += 1
                if rank == 1 and f"{attempt}:{step}" in kills:
                    os.kill(os.getpid(), signal.SIGKILL)
                if kind == "ddp" and step % 3 == 0:
                    states = {name: part.state_dict() for name, part in parts.items()}
                    if rank == 0:
                        torch.save(states | {"step": step}, folder / "new.pt")
                        os.replace(folder / "new.pt", checkpoint)
    rows = [{k: v for k, v in row.items() if k not in CLOCKED} for row in loader.pruner.history]
    (folder / f"history-{rank}.json").write_text(json.dumps(rows))
    if rank == 0 and kind == "ddp":
        torch.save(net.state_dict(), folder / "model.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    kills = sys.argv[3].split(",")
    train(torch.distributed.get_rank(), Path(sys.argv[1]), sys.argv[2], kills, attempt)
    torch.distributed.destroy_process_group()
