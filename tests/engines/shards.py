"""What the tests of engines that shard models share: data, a network, and checks of their runs.

A run is what one rank saw: its "log" of ((epoch, batches), samples, losses), the "table" of losses,
the "rows" of the epochs, the "weights" of the whole model and the last learning "rate".
"""

import numpy as np
import torch
from torch.optim.lr_scheduler import LinearLR
from torch.utils.data import DataLoader, Dataset

from seta.engine.rows import CLOCKED

N, EPOCHS = 101, 4


class Rows(Dataset):
    """Rows (index, inputs, target), both made of the index."""

    def __len__(self):
        return N

    def __getitem__(self, index):
        share = index / N
        return index, torch.tensor([share, 1 - share, share**2, 1.0]), torch.tensor(3 * share)


def network(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))


def losses_of(model, inputs, targets):
    """Returns float32 losses, one per sample; DeepSpeed casts no inputs of a model in bfloat16."""
    outputs = model(inputs.to(next(model.parameters()).dtype))
    return (outputs.squeeze(1).float() - targets).square()


def evaluate(model):
    """Computes the losses of all samples, which no loader is told."""
    with torch.no_grad():
        for _, inputs, targets in DataLoader(Rows(), batch_size=50):
            losses_of(model, inputs, targets)


def rows_of(pruner):
    return [{k: v for k, v in row.items() if k not in CLOCKED} for row in pruner.history]


def accelerate_run(accelerator, loader, weights_of, save=(), load=None):
    """A run under Accelerate, which saves {(epoch, batches): folder}; and the prepared model."""
    model = network(9 if load else 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    schedule = LinearLR(optimizer, 1.0, 0.0, loader.schedule_steps)
    model, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)
    log = []
    if load:
        accelerator.load_state(str(load))
    for epoch in range(loader.pruner.next_epoch, EPOCHS):
        for indices, inputs, targets in loader:
            with accelerator.accumulate(model):
                losses = losses_of(model, inputs, targets)
                accelerator.backward(loader.update(losses))
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            here = (epoch, loader.position)
            log.append((here, indices.tolist(), losses.tolist()))
            if here in save:
                accelerator.save_state(str(save[here]))
    run = {
        "log": log,
        "table": loader.pruner.losses,
        "rows": rows_of(loader.pruner),
        "weights": weights_of(model),
        "rate": schedule.get_last_lr()[0],
        "kind": str(accelerator.distributed_type.value),
    }
    return run, model


def check_table(runs):
    """The table holds the loss that the batch with this very sample had last, on each rank."""
    last = {}
    for batches in zip(*(run["log"] for run in runs), strict=True):
        for _, indices, losses in batches:
            last.update(zip(indices, losses, strict=True))
    for run in runs:
        table = run["table"]
        assert len(last) == int(np.isfinite(table).sum()) > N / 2
        np.testing.assert_array_equal(table[list(last)], np.float32(list(last.values())))


def check_epochs(runs):
    """Each epoch trains as many batches on each rank, and no sample twice."""
    assert all(run["rows"] == runs[0]["rows"] for run in runs)
    for epoch in range(EPOCHS):
        parts = [[i for (e, _), i, _ in run["log"] if e == epoch] for run in runs]
        assert len({len(part) for part in parts}) == 1
        trained = [sample for part in parts for batch in part for sample in batch]
        assert len(set(trained)) == len(trained) == runs[0]["rows"][epoch]["trained"]


def check_tail(run, tail):
    """The resumed run is the rest of the whole one, bit for bit."""
    assert 0 < len(tail["log"]) < len(run["log"])
    assert tail["log"] == run["log"][-len(tail["log"]) :]
    np.testing.assert_array_equal(tail["weights"], run["weights"])
    assert (tail["rows"], tail["rate"]) == (run["rows"], run["rate"])
    if run["table"] is not None:
        np.testing.assert_array_equal(tail["table"], run["table"])


def check_trainer(runs):
    """The table of a `Trainer`'s run holds what its own `compute_loss` saw of each sample last."""
    last = {}
    for seen in zip(*(run["log"] for run in runs), strict=True):
        last.update({index: loss for _, index, loss in seen})
    for run in runs:
        assert len(last) == int(np.isfinite(run["table"]).sum()) > 20
        np.testing.assert_allclose(run["table"][list(last)], list(last.values()), rtol=1e-5)
