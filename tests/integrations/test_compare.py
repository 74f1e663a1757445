"""`seta.compare` with the loaders of frameworks, as `docs/compare.md` says it."""

import logging

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import seta

pytestmark = [
    # What Lightning 2.6 says with torch 2.13, and its guesses about settings.
    pytest.mark.filterwarnings(r"ignore:.*isinstance\(treespec, LeafSpec\):FutureWarning"),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*GPU available but not used"),
]
N, BATCH, EPOCHS = 130, 16, 4


def rows(n, seed):
    features = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(features, features[:, 0].gt(0).long())


def accuracy(net):
    features, labels = rows(50, 1)[:]
    return 100 * (net(features).argmax(1) == labels).float().mean()


def check(run, loader, dataset=None):
    """Compares, and sees that all runs are whole, and that their losses were looked at."""
    data = rows(N, 0) if dataset is None else dataset
    found = seta.compare(
        run, data, epochs=EPOCHS, batch_size=BATCH, methods=["SeTa"], seeds=1, loader=loader,
        strata=[label % 2 for label in range(N)], progress=False,
    )  # fmt: skip
    assert not found.failures, found.failures
    assert [line["visits"] for line in found.lines] == [512, 256, 256]
    assert [len(line["rows"]) for line in found.lines] == [4, 2, 4]
    return found


def test_lightning():
    lightning = pytest.importorskip("lightning.pytorch")
    from seta.integrations.lightning import PruningCallback

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    rates = []

    class Net(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 2)

        def training_step(self, batch, batch_idx):
            losses = cross_entropy(self.layer(batch[0]), batch[1], reduction="none")
            return PruningCallback.of(self.trainer).update(losses)

        def test_step(self, batch, batch_idx):
            self.log("accuracy", accuracy(self.layer))

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.5)
            steps = PruningCallback.of(self.trainer).total_steps
            cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
            return [optimizer], [{"scheduler": cosine, "interval": "step"}]

    def loader(dataset, policy, *, epochs, budget, seed, on_epoch, **options):
        pruning = PruningCallback(policy, budget=budget, seed=seed, on_epoch=on_epoch)
        pruning.epochs, pruning.data = epochs, pruning.loader(dataset, **options)
        return pruning

    def run(pruning, seed):
        net = Net()
        trainer = lightning.Trainer(
            max_epochs=pruning.epochs, callbacks=[pruning], accelerator="cpu", logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(net, pruning.data)
        rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        (figures,) = trainer.test(net, DataLoader(rows(50, 1), batch_size=50), verbose=False)
        return figures["accuracy"]

    assert check(run, loader).regime
    assert rates == pytest.approx([0, 0, 0])


def test_accelerate():
    accelerate = pytest.importorskip("accelerate")
    from accelerate.state import AcceleratorState

    from seta.integrations.accelerate import PrunedAccelerateLoader

    accelerator = accelerate.Accelerator(cpu=True)
    rates = []

    def loader(dataset, policy, **arguments):
        return PrunedAccelerateLoader(accelerator, dataset, policy, **arguments)

    def run(loader, seed):
        net = torch.nn.Linear(4, 2)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, loader.schedule_steps)
        net, optimizer, cosine = accelerator.prepare(net, optimizer, cosine)
        for _ in range(loader.epochs):
            for features, labels in loader:
                loss = loader.update(cross_entropy(net(features), labels, reduction="none"))
                accelerator.backward(loss)
                optimizer.step()
                cosine.step()
                optimizer.zero_grad()
        rates.append(optimizer.param_groups[0]["lr"])
        accelerator.free_memory()
        return accuracy(net)

    assert check(run, loader).regime
    assert rates == pytest.approx([0, 0, 0])
    AcceleratorState._reset_state(reset_partial_state=True)


def test_the_trainer_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    from seta.integrations.transformers import PrunedTrainer, PruningArguments

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 2)

        def forward(self, features, labels):
            logits = self.layer(features)
            return {"loss": cross_entropy(logits, labels), "logits": logits}

    def loader(dataset, policy, **arguments):
        return {"dataset": dataset, "policy": policy, **arguments}

    def run(kept, seed):
        net = Net()
        settings = transformers.TrainingArguments(
            str(tmp_path), num_train_epochs=kept["epochs"], seed=seed, use_cpu=True,
            per_device_train_batch_size=kept["batch_size"], dataloader_drop_last=True,
            dataloader_pin_memory=False, save_strategy="no", logging_strategy="no",
            disable_tqdm=True, report_to=[],
        )  # fmt: skip
        pruning = PruningArguments(kept["policy"], budget=kept["budget"], on_epoch=kept["on_epoch"])
        PrunedTrainer(net, settings, train_dataset=kept["dataset"], pruning=pruning).train()
        return accuracy(net.layer)

    data = [{"features": x, "labels": y} for x, y in zip(*rows(N, 0)[:], strict=True)]
    assert not check(run, loader, data).regime  # nothing to look at the losses of
