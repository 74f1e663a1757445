"""Runs under Lightning, small enough to be compared in every detail; for one process or several."""

import dataclasses
import logging
import warnings
from pathlib import Path

import lightning.pytorch as L
import numpy as np
import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from seta.engine.curves.curve import KeepCurve
from seta.engine.rows import CLOCKED
from seta.integrations.lightning import PruningCallback

N, BATCH = 101, 10
# What Lightning 2.6 says with torch 2.13, and its guesses about settings; no fault of the code.
NOISE = [
    r"ignore:.*isinstance\(treespec, LeafSpec\):FutureWarning",
    "ignore::lightning.fabric.utilities.warnings.PossibleUserWarning",
    "ignore:Be aware that when using `ckpt_path`, callbacks used:UserWarning",
]
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def quiet():
    """For a script: the filters that the tests have as marks."""
    warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)", FutureWarning)
    warnings.simplefilter("ignore", PossibleUserWarning)
    warnings.filterwarnings("ignore", "Be aware that when using `ckpt_path`", UserWarning)


def data(n=N):
    """Rows (index, features, label), of which a ninth are labelled wrongly."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(n, 6, generator=generator)
    labels = features[:, 0].gt(0).long()
    labels[::9] = 1 - labels[::9]
    return TensorDataset(torch.arange(n), features, labels)


def validation(rows=20):
    return DataLoader(TensorDataset(*data()[:rows]), batch_size=BATCH)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """A policy of given keep ratios, one for each epoch."""

    shares: tuple

    def __call__(self, histogram, epoch, epochs):
        share = self.shares[epoch]
        return KeepCurve(keep=np.full(len(histogram.counts), share), unseen=share)


class Net(L.LightningModule):
    """Notes every step: epoch, samples, loss, learning rate.

    Args:
        known: Losses tell the sample and the epoch, instead of being those of the model.
        manual: Optimization.
        scheduler: optimizer, callback -> what `configure_optimizers` returns beside the optimizer.
    """

    def __init__(self, known=False, manual=False, scheduler=None):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 2))
        self.known, self.scheduler, self.automatic_optimization = known, scheduler, not manual
        self.steps, self.validated, self.resumed_at, self.lengths = [], [], 0, []

    def losses(self, batch):
        samples, features, labels = batch
        if self.known:
            return samples + self.current_epoch / 64 + 0 * self.layers(features).sum()
        return cross_entropy(self.layers(features), labels, reduction="none")

    def on_train_epoch_start(self):
        self.lengths.append(self.trainer.num_training_batches)

    def training_step(self, batch, batch_idx):
        loss = PruningCallback.of(self.trainer).update(self.losses(batch))
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.steps.append((self.current_epoch, batch[0].tolist(), loss.item(), rate))
        if self.automatic_optimization:
            return loss
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        if self.scheduler is not None:
            self.lr_schedulers().step()

    def validation_step(self, batch, batch_idx):
        self.validated += batch[0].tolist()
        self.log("val_loss", cross_entropy(self.layers(batch[1]), batch[2]), sync_dist=True)

    def on_save_checkpoint(self, checkpoint):
        checkpoint["steps"] = self.resumed_at + len(self.steps)

    def on_load_checkpoint(self, checkpoint):
        self.resumed_at = checkpoint["steps"]

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        if self.scheduler is None:
            return optimizer
        scheduler = self.scheduler(optimizer, self.trainer)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


def driven(optimizer, trainer):
    """A cosine over the whole run, whatever its number of steps."""
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=200)
    return PruningCallback.of(trainer).schedule(cosine, steps=200)


@dataclasses.dataclass
class Fit:
    net: Net
    pruning: PruningCallback
    trainer: L.Trainer

    @property
    def rows(self):
        """The history, without the times."""
        history = self.pruner.history
        return [{key: row[key] for key in row if key not in CLOCKED} for row in history]

    @property
    def pruner(self):
        return self.pruning.pruner

    @property
    def trained(self):
        return [row["trained"] for row in self.pruner.history]

    @property
    def rate(self):
        return self.trainer.optimizers[0].param_groups[0]["lr"]

    def samples(self, epoch):
        """The samples of an epoch on this rank, in training order."""
        return [sample for at, samples, *_ in self.net.steps if at == epoch for sample in samples]


def trainer_of(*callbacks, **options):
    options = {"max_epochs": 4, "accelerator": "cpu", **options}
    return L.Trainer(
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(one, ModelCheckpoint) for one in callbacks),
        **{"logger": False, **options},
    )


def fit(
    policy="SeTa",
    *callbacks,
    budget=None,
    net=None,
    loader=None,
    val=None,
    ckpt_path=None,
    datamodule=None,
    pruning=None,
    **options,
):
    """Trains, by default for four epochs in batches of ten."""
    torch.manual_seed(0)
    pruning = pruning or PruningCallback(policy, budget=budget)
    net = net or Net()
    trainer = trainer_of(pruning, *callbacks, **options)
    train = pruning.loader(data(), **{"batch_size": BATCH, **(loader or {})})
    if datamodule is None:
        trainer.fit(net, train, val, ckpt_path=ckpt_path)
    else:
        trainer.fit(net, datamodule=datamodule, ckpt_path=ckpt_path)
    return Fit(net, pruning, trainer)


def savers(folder, val):
    """Checkpoints after every step, every epoch and every validation."""
    every = {"dirpath": folder, "save_top_k": -1}
    yield ModelCheckpoint(filename="step-{epoch}-{step}", every_n_train_steps=1, **every)
    yield ModelCheckpoint(filename="epoch-{epoch}-{step}", save_on_train_epoch_end=True, **every)
    if val:
        yield ModelCheckpoint(
            filename="val-{epoch}-{step}",
            save_on_train_epoch_end=False,
            monitor="val_loss",
            **every,
        )


def same_weights(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(mine, theirs) for mine, theirs in pairs)


def resume_from_all(folder, manual=False, val=None, every=1, **options):
    """Trains once, then on from every `every`-th of its checkpoints; returns how many were equal.

    Equal are the samples, losses and learning rates of each step, the weights and the rows.
    """

    def run(*callbacks, **more):
        net = Net(manual=manual, scheduler=driven)
        return fit("SeTa", *callbacks, net=net, val=val and validation(), **options, **more)

    whole = run(*savers(folder, val))
    assert whole.rate == 0
    paths = sorted(Path(folder).glob("*.ckpt"))[::every]
    for path in paths:
        rest = run(ckpt_path=path)
        assert rest.net.steps == whole.net.steps[rest.net.resumed_at :], path.name
        assert same_weights(rest.net, whole.net), path.name
        assert rest.rows == whole.rows, path.name
        assert rest.trainer.global_step == whole.trainer.global_step, path.name
    return len(paths)
