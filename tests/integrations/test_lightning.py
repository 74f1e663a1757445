"""`seta.integrations.lightning`: losses, lengths, schedules and resuming under a Trainer."""

# ruff: noqa: E402 (after importorskip)

import copy
import csv
import functools
import json
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

L = pytest.importorskip("lightning.pytorch")

from lightning.fabric import Fabric
from lightning.pytorch.callbacks import (
    EarlyStopping,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelCheckpoint,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.tuner import Tuner
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR
from torch.utils.data import DataLoader, Dataset, get_worker_info

import seta
from seta.integrations.lightning import PruningCallback
from seta.torch.state import with_arrays
from tests.integrations.checks import names_of
from tests.integrations.lightning_cases import (
    BATCH,
    NOISE,
    N,
    Net,
    Sizes,
    data,
    driven,
    fit,
    resume_from_all,
    same_weights,
    trainer_of,
    validation,
)

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SCRIPT = HERE / "lightning_processes.py"
pytestmark = [pytest.mark.filterwarnings(line) for line in NOISE]


def start(*arguments, stdout, cwd=ROOT):
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([os.getenv("PYTHONPATH", ""), str(ROOT)])},
        stdout=stdout,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # what it starts ends with it
    )


def stop(process):
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module", autouse=True)
def two(tmp_path_factory):
    """The checks in two processes, which run beside the tests in this one."""
    folder = tmp_path_factory.mktemp("two")
    with (folder / "printed").open("w") as printed:
        process = start("-W", "error", SCRIPT, folder, stdout=printed)
        yield process, folder
    stop(process)


class Data(L.LightningDataModule):
    """Makes its dataset in `setup`, and finds the callback through the trainer."""

    def __init__(self, rows=None, **options):
        super().__init__()
        self.asked, self.rows, self.options = 0, rows, {"batch_size": BATCH, **options}

    def setup(self, stage):
        self.rows = self.rows or data()

    def train_dataloader(self):
        self.asked += 1
        return PruningCallback.of(self.trainer).loader(self.rows, **self.options)


# The right losses, on the right samples, in epochs of the right lengths.


@pytest.mark.parametrize("loader", [{}, {"num_workers": 2, "persistent_workers": True}])
@pytest.mark.parametrize("manual", [False, True])
def test_trap_1_each_loss_reaches_its_own_sample(loader, manual):
    run = fit(budget=0.6, loader=loader, net=Net(known=True, manual=manual))
    last = np.full(N, -1)
    for epoch in range(4):
        samples = run.samples(epoch)
        assert len(samples) == len(set(samples)) == run.trained[epoch] == run.pruner.lengths[epoch]
        last[samples] = epoch
    seen = last >= 0
    assert (run.pruner.losses[seen] == np.flatnonzero(seen) + last[seen] / 64).all()
    assert np.isnan(run.pruner.losses[~seen]).all()
    assert not multiprocessing.active_children()


def test_training_equals_the_plain_loop_bit_for_bit():
    run = fit("InfoBatch", budget=0.7)
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    loader = seta.PrunedDataLoader(data(), "InfoBatch", epochs=4, budget=0.7, batch_size=BATCH)
    for _ in range(4):
        for batch in loader:
            loss = loader.update(net.losses(batch))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert same_weights(net, run.net)
    assert np.array_equal(loader.pruner.losses, run.pruner.losses, equal_nan=True)


@pytest.mark.parametrize("sizes", [(61, 101, 84), (101, 61, 84)])
@pytest.mark.parametrize("known", [True, False], ids=["budget", "varying"])
@pytest.mark.parametrize("reload", [0, 1])
def test_trap_12_epochs_grow_and_shrink(sizes, known, reload):
    """Neither the limits of the first epoch nor those of the one before hold for an epoch.

    All batches are full, but for the last of an epoch that keeps every sample.
    """
    shares = tuple(size / 101 for size in sizes)
    options = {"max_epochs": 3, "reload_dataloaders_every_n_epochs": reload}
    module = Data()
    run = fit(Sizes(shares), budget=list(shares) if known else None, datamodule=module, **options)
    assert module.asked == (3 if reload else 1)
    if known:
        assert run.trained == [size if size == 101 else size // 10 * 10 for size in sizes]
    assert len(set(run.trained)) == 3
    assert all(trained == 101 or trained % 10 == 0 for trained in run.trained)
    for epoch, trained in enumerate(run.trained):
        samples = run.samples(epoch)
        assert len(samples) == len(set(samples)) == trained
    assert run.net.lengths == [-(-trained // 10) for trained in run.trained]
    assert run.trainer.global_step == sum(run.net.lengths)


def test_trap_6_each_epoch_is_the_trainers_own():
    told = []
    run = fit(pruning=PruningCallback("SeTa", budget=0.5, on_epoch=told.append))
    assert [row["epoch"] for row in told] == [0, 1, 2, 3]
    assert told == run.pruner.history
    assert len({tuple(run.samples(epoch)) for epoch in range(4)}) == 4


@pytest.mark.parametrize("limit", [3, 0.5])
def test_an_epoch_of_a_limited_number_of_batches(limit):
    run = fit(limit_train_batches=limit, net=Net(scheduler=driven))
    whole = [-(-row["kept"] // 10) for row in run.rows]
    assert run.net.lengths == [min(3, n) if limit == 3 else n // 2 for n in whole]
    assert run.trained == [10 * length for length in run.net.lengths]
    assert run.rate == 0


def test_batches_without_an_incomplete_last_one():
    run = fit(loader={"drop_last": True}, net=Net(scheduler=driven))
    assert run.trained == [row["kept"] // 10 * 10 for row in run.rows]
    assert run.rate == 0


def test_validation_by_a_share_of_each_epoch():
    shares = (0.3, 1.0, 0.6)
    run = fit(
        Sizes(shares), budget=list(shares), val=validation(), val_check_interval=0.5, max_epochs=3
    )
    assert run.net.lengths == [3, 11, 6]
    assert len(run.net.validated) == 20 * (1 + 3 + 2 + 2)  # at first to see that it works


def test_early_stopping_ends_an_epoch():
    stopper = EarlyStopping("val_loss", stopping_threshold=9.0, check_finite=False)
    run = fit("SeTa", stopper, budget=0.6, val=validation(), val_check_interval=2)
    assert run.trained == [20]


def test_a_development_run():
    run = fit(budget=0.6, fast_dev_run=2)
    assert run.trained == [20]
    assert run.pruner.epochs == 1


def test_the_figures_of_each_epoch_go_to_the_loggers(tmp_path):
    logger = L.loggers.CSVLogger(tmp_path, name="", version="")
    run = fit(budget=0.65, logger=logger)
    logger.save()
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2, 3]
    assert [int(row["step"]) for row in rows] == [6, 13, 19, 26]
    for row, own in zip(rows, run.rows, strict=True):
        assert float(row["seta/kept"]) == own["kept"]
        assert float(row["seta/kept_share"]) == pytest.approx(own["kept"] / 101)
        assert float(row["seta/saved"]) == pytest.approx(own["saved"])


def test_a_group_of_samples_that_is_always_kept():
    run = fit(budget=0.5, loader={"always_keep": [3, 5], "count_kept": True})
    assert (run.pruner.kept_counts[[3, 5]] == 4).all()


def test_the_weights_of_a_batch_and_the_mean_over_its_terms():
    class Weighted(Net):
        def training_step(self, batch, batch_idx):
            pruning, losses = PruningCallback.of(self.trainer), self.losses(batch)
            weights, counts = pruning.weights(), batch[0] % 3 + 1
            self.seen = max(weights.max().item(), getattr(self, "seen", 0))
            loss = pruning.update(losses, counts=counts)
            assert loss.item() == pytest.approx(
                ((weights * counts * losses).sum() / counts.sum()).item(), rel=1e-5
            )
            return loss

    assert fit("InfoBatch", net=Weighted()).net.seen == 2


def test_losses_of_parts_of_a_batch():
    class Parts(Net):
        def training_step(self, batch, batch_idx):
            indices, (samples, features, labels) = batch
            assert indices.tolist() == samples.tolist()
            pruning = PruningCallback.of(self.trainer)
            losses = self.losses((samples, features, labels))
            half = len(losses) // 2
            first = pruning.update(losses[:half], indices=indices[:half])
            return first + pruning.update(losses[half:], indices=indices[half:])

    run = fit(budget=0.6, net=Parts(), loader={"with_indices": True, "drop_last": True})
    assert run.trained == run.pruner.lengths


def test_a_training_step_that_fetches_its_own_batches():
    class Fetching(Net):
        def training_step(self, dataloader_iter):
            batch, _, _ = next(dataloader_iter)
            return PruningCallback.of(self.trainer).update(self.losses(batch))

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Found `dataloader_iter` argument")
        run = fit(net=Fetching(known=True))
    assert run.trained == [row["kept"] for row in run.rows]


def test_trap_1_a_training_step_that_looks_ahead_is_refused():
    class Ahead(Net):
        def training_step(self, dataloader_iter):
            batch, _, _ = next(dataloader_iter)
            next(dataloader_iter)
            return PruningCallback.of(self.trainer).update(self.losses(batch))

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Found `dataloader_iter` argument")
        with pytest.raises(RuntimeError, match="exactly one unanswered batch, and there are 2"):
            fit(net=Ahead(known=True))


class Faulty(Dataset):
    """The rows of `data()`: some cannot be read, and a worker can be told what to add to an id."""

    def __init__(self, unreadable=()):
        self.rows, self.unreadable, self.added = data(), unreadable, 0

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        if index in self.unreadable:
            raise OSError(f"sample {index}")
        sample, features, label = self.rows[index]
        return sample + self.added, features, label


def add_a_thousand(worker):
    get_worker_info().dataset.added = 1000


def test_a_worker_is_initialised_with_the_users_own_dataset():
    options = {"num_workers": 1, "worker_init_fn": add_a_thousand}
    run = fit(datamodule=Data(Faulty(), **options), max_epochs=1)
    assert min(run.samples(0)) >= 1000


class Partly(Net):
    """Answers each batch but for its first sample, where it has several."""

    def training_step(self, batch, batch_idx):
        self.steps.append(batch[0].tolist())
        part = slice(int(len(batch[0]) > 1), None)
        return PruningCallback.of(self.trainer).update(self.losses(batch)[part], batch[0][part])


class Patient(Net):
    """Takes the next batch where one cannot be loaded."""

    def training_step(self, dataloader_iter):
        try:
            batch, _, _ = next(dataloader_iter)
        except OSError:
            batch, _, _ = next(dataloader_iter)
        self.steps.append(batch[0].tolist())
        return PruningCallback.of(self.trainer).update(self.losses(batch))


@pytest.mark.filterwarnings("ignore:Found `dataloader_iter` argument")
@pytest.mark.parametrize(("kind", "unreadable"), [(Partly, ()), (Patient, (7,))])
def test_a_run_goes_on_after_batches_that_were_answered_in_part_or_failed(
    kind, unreadable, tmp_path
):
    """Each epoch goes to its end, and a resumed one takes up the next batch."""

    def run(*callbacks, **options):
        module = Data(Faulty(unreadable))
        return fit("Full", *callbacks, net=kind(), datamodule=module, max_epochs=2, **options)

    whole = run(ModelCheckpoint(tmp_path, save_top_k=-1, every_n_train_steps=1))
    assert whole.trained == [91] * 2
    for path in sorted(tmp_path.glob("*.ckpt"))[::3]:
        rest = run(ckpt_path=path)
        assert rest.net.steps == whole.net.steps[rest.net.resumed_at :], path.name
        assert rest.rows == whole.rows


# Batches that are left out.


class Choosy(Net):
    """Leaves every third batch out."""

    def __init__(self, by, **options):
        super().__init__(**options)
        self.by = by

    def training_step(self, batch, batch_idx):
        if batch_idx % 3:
            return super().training_step(batch, batch_idx)
        if self.by == "skip":
            PruningCallback.of(self.trainer).skip()
        return None


class Skips(Net):
    """Skips whole epochs in their first batches."""

    def __init__(self, *epochs):
        super().__init__(known=True)
        self.skipped = epochs

    def on_train_batch_start(self, batch, batch_idx):
        return -1 if self.current_epoch in self.skipped and not batch_idx else None


@pytest.mark.parametrize("epochs", [(0,), (1, 2), (3,)])
def test_an_epoch_that_is_skipped_before_its_first_loss_is_left_out(epochs, tmp_path):
    figures = L.loggers.CSVLogger(tmp_path)
    run = fit(budget=0.6, net=Skips(*epochs), logger=figures)
    others = [epoch for epoch in range(4) if epoch not in epochs]
    assert [row["epoch"] for row in run.pruner.history] == others
    assert len({*run.trained}) == 1 and len(run.trained) == len(others)


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
@pytest.mark.parametrize(("by", "manual"), [("none", False), ("skip", False), ("skip", True)])
def test_a_batch_that_is_left_out(by, manual):
    run = fit(budget=0.6, net=Choosy(by, manual=manual), max_epochs=1)
    assert run.trained == [40]
    assert (run.pruner.left_out == 0).sum() == 40


@pytest.mark.parametrize("manual", [False, True])
def test_losses_that_are_kept_from_the_callback(manual):
    class Silent(Net):
        def training_step(self, batch, batch_idx):
            return self.losses(batch).mean()

    message = "did not hand over the losses of batch 0 of epoch 0: return pruning.update"
    with pytest.raises(RuntimeError, match=message):
        fit(net=Silent(manual=manual))


# Learning-rate schedules.


@pytest.mark.parametrize(("manual", "accumulate"), [(False, 1), (False, 4), (True, 1)])
def test_trap_11_a_schedule_for_the_steps_of_the_run(accumulate, manual):
    """Of 6, 7, 6, 7 batches."""
    seen = []

    def linear(optimizer, trainer):
        total = PruningCallback.of(trainer).total_steps
        seen.append(total)
        return LambdaLR(optimizer, lambda step: 1 - step / total)

    net = Net(scheduler=linear, manual=manual)
    run = fit(budget=0.65, net=net, accumulate_grad_batches=accumulate)
    assert seen == [26 if accumulate == 1 else 8] == [run.trainer.global_step]
    assert run.rate == 0


def test_trap_11_steps_where_accumulation_changes():
    def linear(optimizer, trainer):
        total = PruningCallback.of(trainer).total_steps
        return LambdaLR(optimizer, lambda step: 1 - step / total)

    scheduler = GradientAccumulationScheduler({0: 4, 2: 2})
    run = fit("SeTa", scheduler, budget=0.65, net=Net(scheduler=linear))
    assert run.trainer.global_step == 2 + 2 + 3 + 4
    assert run.rate == 0


@pytest.mark.parametrize(("manual", "accumulate"), [(False, 1), (False, 3), (True, 1)])
@pytest.mark.parametrize("sizes", [(1.0, 0.3, 0.6), (0.3, 0.6, 1.0)])
def test_trap_11_a_driven_schedule_follows_the_run(sizes, accumulate, manual):
    net = Net(scheduler=driven, manual=manual)
    run = fit(Sizes(sizes), net=net, max_epochs=3, accumulate_grad_batches=accumulate)
    assert run.rate == 0
    rates = [rate for epoch, _, _, rate in run.net.steps if epoch == 1]
    assert rates[0] == pytest.approx(0.1 * (1 + np.cos(np.pi / 3)) / 2, abs=1e-3)
    assert run.pruning.progress == 1


def test_a_schedule_by_the_epoch_needs_nothing():
    class ByEpoch(Net):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            return [optimizer], [CosineAnnealingLR(optimizer, T_max=4)]

    assert fit(net=ByEpoch()).rate == 0


def test_lightnings_estimate():
    """Under a budget the mean length, rounded up, times the epochs; else that of full training."""
    seen = []

    def constant(optimizer, trainer):
        seen.append(trainer.estimated_stepping_batches)
        return LambdaLR(optimizer, lambda step: 1.0)

    run = fit(budget=0.6, net=Net(scheduler=constant))
    assert seen == [run.trainer.global_step] == [24]  # all epochs have 6 batches
    fit(budget=0.65, net=Net(scheduler=constant))  # 6, 7, 6, 7
    fit(budget=None, net=Net(scheduler=constant))
    assert seen[1:] == [28, 44]


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (0.65, "OneCycleLR is made for 28 steps .* has 26, .*: make it for pruning.total_steps"),
        (None, "OneCycleLR is made for 44 steps .* full training, .*: drive it by pruning"),
    ],
)
def test_trap_11_a_schedule_for_other_steps_is_refused(budget, message):
    def estimated(optimizer, trainer):
        return OneCycleLR(optimizer, 0.1, total_steps=trainer.estimated_stepping_batches)

    with pytest.raises(ValueError, match=message):
        fit(budget=budget, net=Net(scheduler=estimated))


def test_total_steps_without_a_budget():
    def total(optimizer, trainer):
        return PruningCallback.of(trainer).total_steps

    with pytest.raises(RuntimeError, match="known under a budget only, .* pruning.schedule"):
        fit(net=Net(scheduler=total))


# Resuming.


@pytest.mark.parametrize(
    "options",
    [
        {"budget": 0.65, "accumulate_grad_batches": 2, "every": 2},
        {"val": True, "val_check_interval": 0.5, "every": 3},
        {"manual": True, "every": 3},
        {"limit_train_batches": 5, "every": 2},
        {"val": True, "reload_dataloaders_every_n_epochs": 1, "every": 4},
    ],
    ids=["budget", "validation", "manual", "limit", "reload"],
)
@pytest.mark.filterwarnings("ignore:Using ModelCheckpoint with manual optimization")
def test_trap_10_a_run_goes_on_from_each_of_its_checkpoints(options, tmp_path):
    """After each step, the last of an epoch too, at the end of an epoch, and after validation."""
    assert resume_from_all(tmp_path, **options) > 8


def saved_in_mid_epoch(tmp_path, **options):
    saver = ModelCheckpoint(tmp_path, save_top_k=-1, every_n_train_steps=9)
    return fit("SeTa", saver, **options), tmp_path / "epoch=1-step=9.ckpt"


def test_trap_13_the_position_is_in_one_place(tmp_path, recwarn):
    """Lightning takes the training data for stateful, and skips nothing by itself."""
    whole, path = saved_in_mid_epoch(tmp_path, budget=0.6)
    state = torch.load(path, weights_only=False)
    loop = state["loops"]["fit_loop"]
    assert loop["state_dict"]["combined_loader"] == [{}]
    saved = with_arrays(state["callbacks"]["PruningCallback"]["loader"]["pruner"])
    assert saved["open"]["done"] == 30
    rest = fit(budget=0.6, ckpt_path=path)
    assert rest.net.steps == whole.net.steps[9:]
    assert not [one for one in recwarn if "not resumable" in str(one.message)]


def test_a_checkpoint_holds_plain_values_only(tmp_path):
    _, path = saved_in_mid_epoch(tmp_path, budget=0.6)
    state = torch.load(path, weights_only=True)
    saved = with_arrays(state["callbacks"]["PruningCallback"]["loader"]["pruner"])
    assert saved["settings"]["epochs"] == 4


def test_a_longer_run(tmp_path):
    _, path = saved_in_mid_epoch(tmp_path, budget=0.6)
    with pytest.raises(ValueError, match=r"epochs=4, this pruner has epochs=6: .* changed="):
        fit(budget=0.6, max_epochs=6, ckpt_path=path)
    pruning = PruningCallback("SeTa", budget=0.6, changed=["epochs"])
    run = fit(pruning=pruning, max_epochs=6, ckpt_path=path)
    assert [row["epoch"] for row in run.rows] == list(range(6))


def test_a_trainer_goes_on_for_more_epochs():
    run = fit(max_epochs=2)
    rows = run.rows
    run.trainer.fit_loop.max_epochs = 4
    run.trainer.fit(run.net, datamodule=Data())
    assert run.rows[:2] == rows
    assert [row["epoch"] for row in run.rows] == [0, 1, 2, 3]
    assert run.rows[2]["unseen"] < 10


def test_another_trainer_begins_anew():
    run = fit(max_epochs=2)
    again = fit(pruning=run.pruning, max_epochs=2)
    assert again.rows == fit(max_epochs=2).rows


def test_a_checkpoint_without_pruning_is_refused(tmp_path):
    class Plain(Net):
        def training_step(self, batch, batch_idx):
            return self.losses(batch).mean()

    saver = ModelCheckpoint(tmp_path, save_top_k=-1)
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, callbacks=[saver],
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Plain(), DataLoader(data(), batch_size=20))
    (path,) = tmp_path.glob("*.ckpt")
    with pytest.raises(
        ValueError, match="ckpt_path is a checkpoint without a state of PruningCall"
    ):
        fit(ckpt_path=path)


def test_testing_a_checkpoint_leaves_the_pruner_alone(tmp_path):
    run, path = saved_in_mid_epoch(tmp_path, budget=0.6)
    rows = run.rows
    run.trainer.validate(run.net, validation(), ckpt_path=path, verbose=False)
    assert run.rows == rows


def test_a_state_between_two_runs_and_before_any():
    pruning = PruningCallback("SeTa", budget=0.6)
    assert pruning.state_dict() == {"format": "seta-lightning-1", "loader": None}
    pruning.load_state_dict({"format": "seta-lightning-1", "loader": None})
    run = fit(pruning=pruning)
    assert with_arrays(run.pruning.state_dict()["loader"]["pruner"])["open"] is None


# Lightning's own callbacks.


class Holding(Net):
    """Holds the callback itself: the tuner takes it out of the trainer for a while."""

    def __init__(self, pruning, lr=0.1):
        super().__init__()
        self.pruning, self.lr, self.given = pruning, lr, 0

    def training_step(self, batch, batch_idx):
        self.given += 1
        return self.pruning.update(self.losses(batch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


@pytest.mark.parametrize("how", ["callback", "tuner"])
def test_a_search_for_the_learning_rate_leaves_no_trace(how, tmp_path):
    plain = fit(budget=0.6)
    pruning = PruningCallback("SeTa", budget=0.6)
    net = Holding(pruning)
    finder = LearningRateFinder(num_training_steps=15, update_attr=False)
    trainer = trainer_of(
        pruning,
        *([finder] if how == "callback" else []),
        ModelCheckpoint(tmp_path, save_top_k=0),
        default_root_dir=tmp_path,
    )
    train = pruning.loader(data(), batch_size=BATCH)
    if how == "tuner":
        Tuner(trainer).lr_find(net, train, num_training=15, update_attr=False)
        assert net.given == 15
    trainer.fit(net, train)
    assert net.given == 15 + 24
    assert [row["trained"] for row in pruning.pruner.history] == plain.trained
    assert pruning.pruner.history[0]["unseen"] == N


@pytest.mark.parametrize("averaging", [lambda: StochasticWeightAveraging(0.01), WeightAveraging])
def test_averaged_weights(averaging):
    assert len(fit("SeTa", averaging(), budget=0.6).trained) == 4


def test_an_epoch_that_a_callback_adds_is_refused():
    net = Net()
    net.norm = torch.nn.BatchNorm1d(2)
    with pytest.raises(ValueError, match="max_epochs was 4 .* is 5 now: StochasticWeightAveraging"):
        fit("SeTa", StochasticWeightAveraging(0.01), budget=0.6, net=net)


# Refusals, each before training.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_epochs": -1}, "max_epochs must be at least 1, got -1"),
        ({"max_steps": 9}, "max_steps must be left out, got 9"),
        ({"overfit_batches": 2}, "overfit_batches must be 0, got 2"),
        (
            {"val_check_interval": 7, "budget": 0.65},
            "val_check_interval must be at most 6, .* got 7",
        ),
        ({"val_check_interval": 2}, "val_check_interval must be at most 1, .* got 2"),
        (
            {"limit_train_batches": 0.3, "budget": [1.0, 0.9, 0.9, 0.2]},
            "limit_train_batches=0.3 leaves none of the 2 batches",
        ),
        ({"loader": {"sampler": [1]}}, "sampler is not allowed"),
    ],
)
def test_a_run_that_cannot_be_pruned(options, message):
    with pytest.raises(ValueError, match=message):
        fit(val=validation(), **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"budget": 0.6}, TypeError, r"no option budget: give PruningCallback\(budget=...\)"),
        ({"epochs": 9}, TypeError, r"no option epochs: give Trainer\(max_epochs=...\)"),
        ({"steps": 9}, TypeError, r"no option steps: give Trainer\(max_epochs=...\)"),
        (
            {"accumulation": 2},
            TypeError,
            r"no option accumulation: give Trainer\(accumulate_grad_batches=...\)",
        ),
        ({"sharding": "sharded"}, ValueError, 'sharding must be "replicated", got'),
    ],
)
def test_an_option_that_belongs_elsewhere(options, error, message):
    with pytest.raises(error, match=message):
        PruningCallback("SeTa", budget=0.6).loader(data(), **options)


def test_budget_has_to_be_given():
    with pytest.raises(TypeError, match="budget"):
        PruningCallback("SeTa")


def test_validation_that_counts_on_over_the_epochs():
    run = fit(val=validation(), val_check_interval=7, check_val_every_n_epoch=None)
    assert run.trainer.global_step // 7 == (len(run.net.validated) - 20) // 20


def test_trap_12_training_data_of_another_kind_is_refused():
    pruning, other = (PruningCallback("SeTa", budget=0.6) for _ in range(2))
    rows = DataLoader(data(), batch_size=BATCH)
    for train in (rows, [pruning.loader(data())], {"a": pruning.loader(data()), "b": rows}):
        with pytest.raises(TypeError, match="the training data must be pruning.loader"):
            trainer_of(pruning).fit(Net(), train)
    with pytest.raises(RuntimeError, match=r"batches within trainer.fit only, .*\(callbacks="):
        trainer_of(pruning).fit(Net(), other.loader(data(), batch_size=BATCH))
    used = fit(max_epochs=1)
    with pytest.raises(TypeError, match="of this trainer's callback and nothing else, got Pruned"):
        trainer_of(pruning).fit(Net(), used.trainer.train_dataloader)


def test_a_pruned_loader_of_ones_own_is_refused():
    """The Trainer would take the length of its first epoch for all."""
    loader = seta.PrunedDataLoader(data(), "Full", epochs=4, budget=[0.3, 0.6, 1.0, 0.5])
    with pytest.raises(RuntimeError, match=r"give trainer.fit the data as PruningCallback\("):
        trainer_of().fit(Net(), loader)


def test_outside_of_training():
    pruning = PruningCallback("SeTa", budget=0.6)
    train = pruning.loader(data())
    with pytest.raises(RuntimeError, match="update.losses. works within trainer.fit"):
        pruning.update(torch.zeros(3))
    with pytest.raises(RuntimeError, match="there is no pruner before fit"):
        _ = pruning.pruner
    with pytest.raises(RuntimeError, match="total_steps works within trainer.fit"):
        _ = pruning.total_steps
    with pytest.raises(TypeError, match="no length outside of trainer.fit"):
        len(train)
    with pytest.raises(RuntimeError, match="yields batches within trainer.fit"):
        next(iter(train))


def test_one_callback_for_a_trainer():
    pruning = [PruningCallback("SeTa", budget=0.6) for _ in range(2)]
    with pytest.raises(
        RuntimeError, match="more than one stateful callback of type `PruningCallback"
    ):
        trainer_of(*pruning)
    with pytest.raises(ValueError, match="callbacks must have one PruningCallback, got 0"):
        PruningCallback.of(L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False))


def test_the_trainer_and_the_pruner_in_different_epochs():
    run = fit(max_epochs=2)
    run.pruning._trainer = None
    run.trainer.fit_loop.max_epochs = 4
    with pytest.raises(ValueError, match="the trainer is in epoch 2, and PruningCallback in 0"):
        run.trainer.fit(run.net, datamodule=Data())


def test_the_callback_and_the_training_data_travel_together():
    pruning = PruningCallback("SeTa", budget=0.6)
    for twin in (copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))):
        mine, train = twin((pruning, pruning.loader(data(), batch_size=BATCH)))
        trainer_of(mine, max_epochs=1).fit(Net(), train)
        assert len(mine.pruner.history) == 1
    with pytest.raises(RuntimeError, match="no pruner"):
        _ = pruning.pruner


# Fabric, several processes, and the example.


def test_fabric_goes_on_in_mid_epoch(tmp_path):
    fabric = Fabric(accelerator="cpu", devices=1)

    def run(save_at=None):
        torch.manual_seed(0)
        net = torch.nn.Linear(6, 2)
        model, optimizer = fabric.setup(net, torch.optim.SGD(net.parameters(), lr=0.1))
        loader = seta.PrunedDataLoader(data(), "SeTa", epochs=3, budget=0.6, batch_size=BATCH)
        state = {"model": model, "optimizer": optimizer, "loader": loader}
        if save_at is None:
            fabric.load(tmp_path / "fabric.ckpt", state)
        steps = []
        while loader.pruner.next_epoch < 3:
            for samples, features, labels in loader:
                losses = cross_entropy(model(features), labels, reduction="none")
                fabric.backward(loader.update(losses))
                optimizer.step()
                optimizer.zero_grad()
                steps.append(samples.tolist())
                if len(steps) == save_at:
                    fabric.save(tmp_path / "fabric.ckpt", state)
        return steps, net

    steps, net = run(save_at=8)
    rest, same = run()
    assert rest == steps[8:]
    assert same_weights(net, same)
    theirs = fabric.setup_dataloaders(seta.PrunedDataLoader(data(), "SeTa", epochs=3))
    with pytest.raises(RuntimeError, match="with Fabric leave setup_dataloaders out"):
        next(iter(theirs))


def note(folder, row):
    (folder / f"{row['epoch']}-{os.getpid()}").write_text(str(row["trained"]))


def test_processes_that_are_forked(tmp_path):
    """The callback of the process that began stays empty."""
    pruning = PruningCallback("SeTa", budget=0.6, on_epoch=functools.partial(note, tmp_path))
    run = fit(pruning=pruning, max_epochs=2, devices=2, strategy="ddp_fork")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["60"] * 4
    assert run.pruning.state_dict() == {"format": "seta-lightning-1", "loader": None}


@pytest.mark.parametrize("name", names_of(SCRIPT.name))
def test_in_two_processes(name, two):
    process, folder = two
    process.wait(300)
    for rank in range(2):
        file = folder / f"{rank}.json"
        outcome = json.loads(file.read_text()) if file.exists() else {}
        assert outcome.get(name, (folder / "printed").read_text()[-3000:]) is None


def test_another_number_of_processes(two, tmp_path):
    """What two processes began, one goes on with: the rest of the epoch, each sample once."""
    process, folder = two
    process.wait(300)
    for path in sorted((folder / "two").glob("step-*.ckpt"))[::3]:
        state = torch.load(path, weights_only=False)["callbacks"]["PruningCallback"]
        saved = with_arrays(state["loader"]["pruner"])
        epoch = saved["open"]["row"]["epoch"]
        run = fit(net=Net(known=True), ckpt_path=path)
        row = run.rows[epoch]
        left = row["kept"] - saved["open"]["done"]
        samples = run.samples(epoch)
        assert len(samples) == len(set(samples)) == left
        assert row["trained"] == (row["kept"] if left else row["kept"] // 2 * 2)
        for later in range(epoch + 1, 4):
            assert len(set(run.samples(later))) == run.rows[later]["kept"]


def test_the_example(tmp_path):
    script = ROOT / "examples" / "lightning_digits.py"
    with (tmp_path / "printed").open("w") as printed:
        process = start(script, "--epochs", "4", cwd=tmp_path, stdout=printed)
        try:
            assert process.wait(200) == 0, (tmp_path / "printed").read_text()
        finally:
            stop(process)
    text = (tmp_path / "printed").read_text()
    assert float(re.search(r"([\d.]+)% right", text)[1]) > 85


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_reading_the_pruner_in_the_last_epoch_ends_none(tmp_path):
    """A checkpoint that is written after it, before the epoch ends, goes on as any other."""

    class Reads(L.Callback):
        def on_validation_end(self, trainer, pl_module):
            if not trainer.sanity_checking:
                read.append(pruning.pruner.saved)

    read = []
    for epochs, path in ((2, None), (3, tmp_path / "2" / "last.ckpt")):
        pruning = PruningCallback("SeTa", budget=0.5, changed=["epochs"])
        saves = ModelCheckpoint(
            tmp_path / str(epochs), save_last=True, save_on_train_epoch_end=False
        )
        trainer = trainer_of(pruning, Reads(), saves, max_epochs=epochs)
        trainer.fit(Net(), pruning.loader(data(), batch_size=BATCH), validation(), ckpt_path=path)
    assert len(read) == 3
    assert [row["trained"] for row in pruning.pruner.history] == [50, 50, 50]


def test_in_validation_update_records_nothing_and_returns_the_mean():
    class Shared(Net):
        def validation_step(self, batch, batch_idx):
            losses = torch.tensor([99.0, 101.0] * 5)
            means.append(float(pruning.update(losses, indices=batch[0])))

        test_step = validation_step

    means, net = [], Shared()
    pruning = PruningCallback("SeTa", budget=[1.0, 0.5])
    trainer = trainer_of(pruning, max_epochs=2)
    trainer.validate(net, validation(), verbose=False)
    trainer.fit(net, pruning.loader(data(), batch_size=BATCH), validation())
    before = len(means)
    trainer.validate(net, validation(), verbose=False)
    trainer.test(net, validation(), verbose=False)
    assert len(means) == before + 4
    assert set(means) == {100.0}
    assert np.nanmax(pruning.pruner.losses) < 99
    with pytest.raises(RuntimeError, match="works within trainer.fit"):
        pruning.update(torch.ones(3))
