"""One of two processes of ignite: trains, and resumes a run from the middle of its second epoch.

`torchrun ... ignite_ranks.py FOLDER` writes what each rank has seen to FOLDER/RANK.json.
"""

import json
import sys
from pathlib import Path

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, DiskSaver
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

import seta

N, EPOCHS = 120, 4


class Run:
    def __init__(self):
        index = torch.arange(N)
        dataset = TensorDataset(torch.stack([index / N, index % 7 / 7], 1), index)
        torch.manual_seed(0)
        self.model = idist.auto_model(torch.nn.Linear(2, 2))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.1)
        self.loader = seta.PrunedDataLoader(
            dataset, "InfoBatch", epochs=EPOCHS, batch_size=5, budget=0.5
        )
        self.seen, self.last = [[] for _ in range(EPOCHS)], {}
        self.trainer = Engine(self.step)
        self.trainer.add_event_handler(Events.COMPLETED, lambda: self.loader.end_epoch())
        self.parts = {
            "trainer": self.trainer,
            "model": self.model,
            "optimizer": self.optimizer,
            "loader": self.loader,
        }

    def step(self, engine, batch):
        inputs, index = batch
        losses = cross_entropy(self.model(inputs), (index % 7 > 2).long(), reduction="none")
        self.seen[engine.state.epoch - 1] += index.tolist()
        named = zip(map(str, index.tolist()), losses.tolist(), strict=True)
        self.last |= {name: [engine.state.iteration, loss] for name, loss in named}
        self.optimizer.zero_grad()
        self.loader.update(losses).backward()
        self.optimizer.step()

    def end(self):
        losses = self.loader.pruner.losses
        return {
            "recorded": {str(i): float(losses[i]) for i in np.flatnonzero(~np.isnan(losses))},
            "trained": [row["trained"] for row in self.loader.pruner.history],
            "weight": self.model.module.weight.tolist(),
        }


def main(local_rank, folder):
    run = Run()
    saver = Checkpoint(
        run.parts, DiskSaver(str(folder), require_empty=False), filename_pattern="saved.pt"
    )
    run.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=9), saver)
    run.trainer.run(run.loader, max_epochs=EPOCHS)
    resumed = Run()
    idist.barrier()
    Checkpoint.load_objects(resumed.parts, torch.load(folder / "saved.pt", weights_only=True))
    resumed.trainer.run(resumed.loader, max_epochs=EPOCHS)
    outcome = {**run.end(), "seen": run.seen, "last": run.last, "resumed": resumed.end()}
    (folder / f"{idist.get_rank()}.json").write_text(json.dumps(outcome))


if __name__ == "__main__":
    with idist.Parallel(backend="gloo") as parallel:
        parallel.run(main, Path(sys.argv[1]))
