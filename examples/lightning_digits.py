"""A small net on scikit-learn's digits under Lightning, on 60 % of the sample visits.

    pip install "seta[lightning]" scikit-learn
    python examples/lightning_digits.py                           # 98 % right in 900 steps
    python examples/lightning_digits.py --method Full --budget 1  # the same in 1,500
    python examples/lightning_digits.py --processes 2             # shared by two processes
    python examples/lightning_digits.py --folder run              # stop it, and start it again

Each takes some ten seconds on two CPU cores, most of them for imports. The number of steps is known
before the first, so that the learning rate reaches its end with the last of them. A run that was
stopped ends with the net of one that was not.
"""

import argparse
import logging
from pathlib import Path

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

from seta.integrations.lightning import PrunedBatches, PruningCallback

TRAIN = 1400  # of 1,797


class Digits(L.LightningDataModule):
    """Images (64,) with their labels, in random order: to train on, and to validate on."""

    def setup(self, stage: str) -> None:
        """Loads them."""
        data = load_digits()
        order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
        images = torch.tensor(data.data, dtype=torch.float32)[order] / 16
        labels = torch.tensor(data.target)[order]
        self.train = TensorDataset(images[:TRAIN], labels[:TRAIN])
        self.rest = TensorDataset(images[TRAIN:], labels[TRAIN:])

    def train_dataloader(self) -> PrunedBatches:
        """Returns what the callback prunes."""
        return PruningCallback.of(self.trainer).loader(self.train, batch_size=28)

    def val_dataloader(self) -> DataLoader:
        """Returns an ordinary loader; of several processes Lightning gives each its part."""
        return DataLoader(self.rest, batch_size=100)


class Net(L.LightningModule):
    """One hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Returns the loss of a batch."""
        images, labels = batch
        losses = cross_entropy(self.layers(images), labels, reduction="none")
        return PruningCallback.of(self.trainer).update(losses)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Logs the share of images told right."""
        images, labels = batch
        right = (self.layers(images).argmax(1) == labels).float().mean()
        self.log("right", right, sync_dist=True)

    def configure_optimizers(self) -> dict:
        """Returns plain SGD, its learning rate going up and then down to nothing."""
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        steps = PruningCallback.of(self.trainer).total_steps
        schedule = OneCycleLR(optimizer, max_lr=0.2, total_steps=steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def main() -> None:
    """Trains, and says how it went."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--method", default="SeTa")
    parser.add_argument("--budget", type=float, default=0.6)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    torch.set_num_threads(1)  # it is a small net
    torch.manual_seed(0)
    pruning = PruningCallback(arguments.method, budget=arguments.budget)
    callbacks: list[L.Callback] = [pruning]
    if arguments.folder:
        callbacks.append(ModelCheckpoint(arguments.folder, save_last=True, every_n_train_steps=50))
    trainer = L.Trainer(
        max_epochs=arguments.epochs,
        callbacks=callbacks,
        accelerator="cpu",
        devices=arguments.processes,
        strategy="ddp" if arguments.processes > 1 else "auto",
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=bool(arguments.folder),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    last = arguments.folder / "last.ckpt" if arguments.folder else None
    trainer.fit(Net(), datamodule=Digits(), ckpt_path=last if last and last.exists() else None)
    if trainer.is_global_zero:
        right, steps = trainer.callback_metrics["right"], trainer.global_step
        print(f"{right:.1%} right after {steps} steps; {pruning.pruner.saved:.0%} saved")


if __name__ == "__main__":
    main()
