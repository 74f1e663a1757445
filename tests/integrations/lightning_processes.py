"""Checks in two processes that Lightning starts itself; each rank writes FOLDER/RANK.json."""

import os
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch.distributed import all_gather_object
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

import seta
from seta.integrations.lightning import PruningCallback
from tests.integrations.checks import run_checks
from tests.integrations.lightning_cases import (
    Net,
    Sizes,
    data,
    driven,
    fit,
    quiet,
    resume_from_all,
    same_weights,
    savers,
    trainer_of,
    validation,
)

FOLDER = Path(sys.argv[1])


DDP = {"devices": 2, "strategy": "ddp"}
TIMEOUT = timedelta(seconds=40)


def gathered(value):
    parts = [None, None]
    all_gather_object(parts, value)
    return parts


def check_trap_12_epochs_that_grow_and_shrink():
    """Each rank half of an epoch, in equally many batches; `use_distributed_sampler` is on."""
    for shares in [(60, 100, 80), (100, 60, 80)]:
        for budget in ([share / 100 for share in shares], None):
            policy = Sizes(tuple(share / 100 for share in shares))
            run = fit(policy, budget=budget, max_epochs=3, **DDP, net=Net(known=True))
            both = gathered([run.samples(epoch) for epoch in range(3)])
            for epoch, share in enumerate(shares):
                mine, other = (samples[epoch] for samples in both)
                assert len(mine) == len(other)
                assert len({*mine, *other}) == 2 * len(mine) == run.trained[epoch]
                assert run.trained[epoch] == share or budget is None
            assert run.net.lengths == [-(-trained // 20) for trained in run.trained]
            assert run.trainer.global_step == sum(run.net.lengths)
            last = np.full(101, -1)
            for parts in both:
                for epoch, samples in enumerate(parts):
                    last[samples] = np.maximum(last[samples], epoch)
            losses = run.pruner.losses
            seen = last >= 0
            assert (losses[seen] == np.flatnonzero(seen) + last[seen] / 64).all()
            assert np.isnan(losses[~seen]).all()


def check_the_validation_data_is_dealt_out_by_lightning():
    run = fit(budget=0.6, val=validation(), max_epochs=1, num_sanity_val_steps=0, **DDP)
    mine, other = gathered(run.net.validated)
    assert len(mine) == len(other) == 10
    assert sorted(mine + other) == list(range(20))


def check_trap_10_a_run_goes_on_from_each_of_its_checkpoints():
    folder = FOLDER / "budget"
    assert resume_from_all(folder, budget=0.6, every=2, accumulate_grad_batches=2, **DDP) > 4
    folder = FOLDER / "varying"
    assert resume_from_all(folder, val=True, val_check_interval=0.5, every=3, **DDP) > 7


def check_a_run_with_workers_goes_on_in_mid_epoch():
    options = {"loader": {"num_workers": 1}, "net": Net(scheduler=driven), **DDP}
    saver = ModelCheckpoint(FOLDER / "workers", save_top_k=-1, every_n_train_steps=5)
    whole = fit("InfoBatch", saver, **options)
    path = FOLDER / "workers" / "epoch=0-step=5.ckpt"
    rest = fit("InfoBatch", **{**options, "net": Net(scheduler=driven)}, ckpt_path=path)
    assert rest.net.steps == whole.net.steps[5:]
    assert rest.rows == whole.rows


def check_another_number_of_processes():
    """Leaves checkpoints in mid-epoch, which the test goes on from alone."""
    fit("SeTa", *savers(FOLDER / "two", None), budget=None, net=Net(known=True), **DDP)


def check_trap_11_the_steps_of_a_run():
    """Epochs of 3, 4, 3, 4 batches: Lightning's estimate, the first times four, would be 12."""
    told = {}

    def one_cycle(total):
        def make(optimizer, trainer):
            told["estimated"] = trainer.estimated_stepping_batches
            told["total"] = PruningCallback.of(trainer).total_steps
            return OneCycleLR(optimizer, 0.1, total_steps=told[total])

        return Net(scheduler=make)

    run = fit(budget=0.7, net=one_cycle("total"), **DDP)
    assert run.trainer.global_step == 14
    assert told == {"estimated": 16, "total": 14}
    with pytest.raises(ValueError, match="OneCycleLR is made for 16 steps .* has 14"):
        fit(budget=0.7, net=one_cycle("estimated"), **DDP)


def check_tensor_parallel_processes_train_one_share():
    class Split(Net):
        def configure_model(self):
            plan = {"0": ColwiseParallel(), "1": RowwiseParallel()}
            parallelize_module(self.layers, self.device_mesh["tensor_parallel"], plan)

    _resumes_under(Split, data_parallel_size=1, tensor_parallel_size=2)


def check_fsdp2_processes_train_a_share_each():
    class Sharded(Net):
        def configure_model(self):
            fully_shard(self.layers, mesh=self.device_mesh["data_parallel"])

    _resumes_under(Sharded, data_parallel_size=2, tensor_parallel_size=1)


def _resumes_under(kind, **sizes):
    """Lightning loads such checkpoints late, when it has asked for the data already."""

    def run(*callbacks, **options):
        strategy = ModelParallelStrategy(**sizes, timeout=TIMEOUT)
        options |= {"devices": 2, "strategy": strategy, "budget": 0.6}
        return fit("SeTa", *callbacks, net=kind(scheduler=estimating), **options)

    def estimating(optimizer, trainer):
        assert trainer.estimated_stepping_batches in (12, 24)
        return driven(optimizer, trainer)

    name = kind.__name__.lower()
    saver = ModelCheckpoint(FOLDER / name, save_top_k=-1, every_n_train_steps=4)
    whole = run(saver)
    ranks = 1 if sizes["data_parallel_size"] == 1 else 2
    assert whole.trained == [60] * 4
    mine, other = gathered([whole.samples(epoch) for epoch in range(4)])
    assert (mine == other) == (ranks == 1)
    rest = run(ckpt_path=FOLDER / name / f"epoch={0 if ranks == 1 else 1}-step=4.ckpt")
    assert rest.net.steps == whole.net.steps[4:]
    assert rest.rows == whole.rows


def check_fabric_saves_and_loads_the_loader():
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
    fabric.launch()

    def run(path, save_at=None):
        torch.manual_seed(0)
        net = torch.nn.Linear(6, 2)
        model, optimizer = fabric.setup(net, torch.optim.SGD(net.parameters(), lr=0.1))
        loader = seta.PrunedDataLoader(data(), "SeTa", epochs=3, batch_size=5)
        state = {"model": model, "optimizer": optimizer, "loader": loader}
        if save_at is None:
            fabric.load(path, state)
        steps = []
        while loader.pruner.next_epoch < 3:
            for samples, features, labels in loader:
                losses = torch.nn.functional.cross_entropy(
                    model(features), labels, reduction="none"
                )
                fabric.backward(loader.update(losses))
                optimizer.step()
                optimizer.zero_grad()
                steps.append(samples.tolist())
                if len(steps) == save_at:
                    fabric.save(path, state)
        return steps, net, loader.pruner.losses

    steps, net, losses = run(FOLDER / "fabric.ckpt", save_at=11)
    rest, same, again = run(FOLDER / "fabric.ckpt")
    assert rest == steps[11:]
    assert same_weights(net, same)
    assert np.array_equal(losses, again, equal_nan=True)


def check_trap_12_a_loader_of_the_users_own_is_refused():
    pruning = PruningCallback("SeTa", budget=0.6)
    trainer = trainer_of(pruning, **DDP)
    rows = DataLoader(TensorDataset(*data()[:20]), batch_size=5)
    with pytest.raises(TypeError, match="the training data must be pruning.loader"):
        trainer.fit(Net(), rows)


def check_a_pruned_loader_of_ones_own_is_refused():
    class Making(Net):
        def train_dataloader(self):
            return seta.PrunedDataLoader(data(), "SeTa", epochs=4)

    for net, train in [(Net(), Making().train_dataloader()), (Making(), None)]:
        with pytest.raises(RuntimeError, match=r"give trainer.fit the data as PruningCallback\("):
            trainer_of(**DDP).fit(net, train)


if __name__ == "__main__":
    torch.set_num_threads(1)
    quiet()
    FOLDER.mkdir(exist_ok=True)
    # Starts the other process, and the group, which all later runs have in common.
    fit(budget=0.6, max_epochs=1, devices=2, strategy=DDPStrategy(timeout=TIMEOUT))
    rank = torch.distributed.get_rank()
    run_checks(globals(), FOLDER / f"{rank}.json")
    os._exit(0)  # leave no time for one process to miss the other
