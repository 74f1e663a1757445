"""A training run that saves after every step, for `test_resume`: FOLDER POLICY BUDGET WORKERS."""

import json
import os
import sys
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

import seta
from seta.engine.rows import CLOCKED


def main(folder, policy, budget, workers, saved=lambda step: None):
    """Trains from the start, or from what it finds in the folder; tells each saved step."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    features = torch.randn(240, 6)
    labels = features[:, 0].gt(0).long()
    labels[::9] = 1 - labels[::9]
    model = torch.nn.Sequential(
        torch.nn.Linear(6, 16), torch.nn.Dropout(0.2), torch.nn.Linear(16, 2)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loader = seta.PrunedDataLoader(
        TensorDataset(torch.arange(240), features, labels),
        policy,
        epochs=8,
        seed=3,
        budget=budget,
        batch_size=32,
        num_workers=workers,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=64)
    driver = seta.ProgressSchedule(schedule, steps=64, loader=loader)
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule, "loader": loader}
    checkpoint, step = folder / "checkpoint.pt", 0
    if checkpoint.exists():
        found = torch.load(checkpoint, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(found[name])
        torch.set_rng_state(found["random"])
        step = found["step"]
    with (folder / "steps.jsonl").open("a") as log:
        while loader.pruner.next_epoch < 8:
            for indices, inputs, targets in loader:
                epoch = loader.epoch
                loss = loader.update(cross_entropy(model(inputs), targets, reduction="none"))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                driver.step()
                rate = driver.get_last_lr()
                what = {"epoch": epoch, "rows": indices.tolist(), "loss": loss.item(), "rate": rate}
                log.write(json.dumps({"step": step, "what": what}) + "\n")
                log.flush()
                step += 1
                states = {name: part.state_dict() for name, part in parts.items()}
                states |= {"random": torch.get_rng_state(), "step": step}
                torch.save(states, folder / "new.pt")
                os.replace(folder / "new.pt", checkpoint)
                saved(step)
    torch.save(model.state_dict(), folder / "model.pt")
    rows = [{k: v for k, v in row.items() if k not in CLOCKED} for row in loader.pruner.history]
    (folder / "history.json").write_text(json.dumps(rows))


if __name__ == "__main__":
    budget = None if sys.argv[3] == "None" else float(sys.argv[3])
    main(Path(sys.argv[1]), sys.argv[2], budget, int(sys.argv[4]))
