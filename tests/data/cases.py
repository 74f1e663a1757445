"""The states that are kept in files: how each was saved, and how a run goes on from it.

Each function of a state imports what it needs: not all machines have all frameworks.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import seta
from seta.engine.curves.policy import is_stratified
from seta.policies import REGISTRY, get
from tests.states import BATCH, EPOCHS, N, loss_of, made, states_of, train

FOLDER = Path(__file__).parent


class Case(NamedTuple):
    """A state.

    Attributes:
        files: Where its parts are, below the folder of its format.
        save: Returns the parts.
        go_on: Takes the parts, goes on, and returns a digest of what is chosen.
        since: The first number of the format that has it.
    """

    files: list[str]
    save: Callable[[], list[Any]]
    go_on: Callable[[list[Any]], str]
    since: int = 1


def digest_of(selections):
    """Returns a digest of samples in their order, whatever the width of the integers."""
    digest = hashlib.sha256()
    for samples in selections:
        digest.update(np.asarray(samples).astype("<i8").tobytes())
    return digest.hexdigest()[:16]


def chosen_by(pruner):
    """Trains what is left of the open epoch and one more; returns what was chosen of three."""
    chosen = [pruner.share()]
    for _ in range(2):
        train(pruner, 1)
        chosen.append(pruner.share())
    return digest_of(chosen)


def pruner_case(kind, *, open=True, ranks=1, since=1):
    def go_on(states):
        pruner = made(kind)
        pruner.load_state_dict(states)
        return chosen_by(pruner)

    name = kind if open else f"{kind}-between"
    files = [f"{name}.seta"] if ranks == 1 else [f"{name}-{rank}.seta" for rank in range(ranks)]
    return Case(files, lambda: states_of(kind, open=open, ranks=ranks), go_on, since)


PRUNER = [
    pruner_case("plain", open=False),
    pruner_case("plain"),
    pruner_case("weights"),
    pruner_case("columns"),
    pruner_case("strata"),
    pruner_case("budget"),
    pruner_case("sharded", ranks=2),
    pruner_case("tracked", since=2),
]


def answer(loader, batches=None):
    """Trains some batches of a loader over samples that are their own indices, or an epoch."""
    for at, batch in enumerate(loader, 1):
        samples = batch["id"] if isinstance(batch, dict) else batch[0]
        import torch

        loader.update(torch.from_numpy(loss_of(samples.numpy(), loader.epoch)))
        if at == batches:
            return


def chosen_by_loader(loader):
    """As `chosen_by`, of a loader."""
    chosen = [loader.pruner.begin_epoch()]
    for _ in range(2):
        answer(loader)
        chosen.append(loader.pruner.begin_epoch())
    return digest_of(chosen)


def loader_case(file, make):
    def save():
        loader = make()
        answer(loader)
        answer(loader, 3)
        return [loader.state_dict()]

    def go_on(states):
        loader = make()
        loader.load_state_dict(states)
        assert loader.pruner.epoch == 1
        return chosen_by_loader(loader)

    return Case([file], save, go_on)


def loader():
    import torch

    data = torch.utils.data.TensorDataset(torch.arange(N))
    options = {"epochs": EPOCHS, "budget": 0.5, "batch_size": BATCH, "seed": 1}
    return seta.PrunedDataLoader(data, "SeTa", **options)


def stream():
    from seta.integrations.streams import KeepSet, PrunedStream

    rows = [{"id": at} for at in range(N)]
    options = {"epochs": EPOCHS, "budget": 0.5, "batch_size": BATCH, "seed": 1}
    return PrunedStream(rows, "SeTa", keep=KeepSet("id", n=N), **options)


def fitted(saved=None):
    """Fits a module, from a state of the callback; returns states after each step, and samples."""
    import lightning.pytorch as lightning
    import torch

    from seta.integrations.lightning import PruningCallback

    class Net(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer, self.states, self.given = torch.nn.Linear(1, 1), [], []

        def setup(self, stage):  # the trainer's callbacks are set up before
            if saved is not None:
                pruning.load_state_dict(saved)

        def training_step(self, batch, batch_idx):
            self.given.append(batch[0].numpy())
            losses = torch.from_numpy(loss_of(self.given[-1], self.current_epoch))
            loss = pruning.update(losses + 0 * self.layer.weight.sum())
            self.states.append(pruning.state_dict())
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    net, pruning = Net(), PruningCallback("SeTa", budget=0.5, seed=1)
    trainer = lightning.Trainer(
        callbacks=[pruning],
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = torch.utils.data.TensorDataset(torch.arange(N))
    trainer.fit(net, pruning.loader(data, batch_size=BATCH))
    return net


def trainer_run():
    from seta.integrations.transformers.run import Run

    return Run(made("budget"), 1)


def save_trainer():
    run = trainer_run()
    train(run.pruner, 1)
    run.start = run.steps(0)
    for at in range(3):
        block = run.pruner.share()[at * BATCH : (at + 1) * BATCH]
        run.pruner.record(block, loss_of(block, 1))
    return [run.state_dict(run.start + 3)]


def go_on_trainer(states):
    run = trainer_run()
    position = run.load_state_dict(states[0], run.steps(0) + 3, ())
    assert position == (1, 3)
    return chosen_by(run.pruner)


FRAMEWORKS = {
    "loader": loader_case("open.pt", loader),
    "stream": loader_case("open.pt", stream),
    "lightning": Case(
        ["open.pt"],
        lambda: [fitted().states[2]],
        lambda states: digest_of(fitted(states[0]).given),
    ),
    "trainer": Case(["open.bin"], save_trainer, go_on_trainer),
}


def draws_of(name):
    """Returns digests of what a method chooses in its first epochs: free, and under a budget."""
    n, epochs = 2_000, 4
    strata = np.arange(n) % 7 if is_stratified(get(name)) else None
    ways = {"free": {}, "budget": {"budget": 0.5, "batch_size": 16, "always_keep": [1, 1999]}}
    if strata is None:
        ways["sharded"] = {"sharding": "sharded", "batch_size": 16}
    found = {}
    for way, options in ways.items():
        pruner = seta.Pruner(n, name, epochs=epochs, seed=3, strata=strata, **options)
        chosen = []
        for epoch in range(epochs):
            chosen.append(pruner.begin_epoch().indices)
            losses = (chosen[-1].astype(np.int64) * 7919) % 1021 / 64 + epoch / 1024
            pruner.record(chosen[-1], losses.astype(np.float32))
            pruner.end_epoch()
        found[way] = digest_of(chosen)
    return found


METHODS = sorted(REGISTRY)
