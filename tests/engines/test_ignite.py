"""ignite: engines that train over a `PrunedDataLoader`, by its trainers, handlers and processes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import seta
from tests.engines.pages import run_page
from tests.launch import torchrun

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.:DeprecationWarning")

N, EPOCHS = 120, 4
INDEX = torch.arange(N)
DATASET = TensorDataset(torch.stack([INDEX / N, INDEX % 7 / 7], 1), INDEX)  # the label is the index


def targets(index):
    return (index % 7 > 2).long()


class Run:
    """A training from its beginning: the same weights and the same plan in each."""

    def __init__(self, policy="InfoBatch", budget=0.5, update=True, accumulation=1, **options):
        from ignite.engine import create_supervised_evaluator, create_supervised_trainer
        from ignite.metrics import Loss

        torch.manual_seed(0)
        self.model = torch.nn.Linear(2, 2)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.1)
        self.loader = seta.PrunedDataLoader(
            DATASET, policy, epochs=EPOCHS, batch_size=10, budget=budget, **options
        )
        self.last = {}  # the latest loss of each sample
        self.trainer = create_supervised_trainer(
            self.model,
            self.optimizer,
            self.loss if update else lambda outputs, index: cross_entropy(outputs, targets(index)),
            gradient_accumulation_steps=accumulation,
        )
        self.evaluator = create_supervised_evaluator(
            self.model,
            metrics={"loss": Loss(lambda out, index: cross_entropy(out, targets(index)))},
        )

    def loss(self, outputs, index):
        losses = cross_entropy(outputs, targets(index), reduction="none")
        self.last |= dict(zip(index.tolist(), losses.tolist(), strict=True))
        return self.loader.update(losses)

    def train(self, **options):
        self.trainer.run(self.loader, **{"max_epochs": EPOCHS, **options})
        return self

    @property
    def trained(self):
        return [row["trained"] for row in self.loader.pruner.history]

    @property
    def parts(self):
        return {
            "trainer": self.trainer,
            "model": self.model,
            "optimizer": self.optimizer,
            "loader": self.loader,
        }


def recorded(loader):
    losses = loader.pruner.losses
    return {int(i): losses[i] for i in np.flatnonzero(~np.isnan(losses))}


def same_end(run, other):
    assert torch.equal(run.model.weight, other.model.weight)
    assert recorded(run.loader) == recorded(other.loader)
    assert run.trained == other.trained == [60] * EPOCHS


@pytest.mark.parametrize("num_workers", [0, 2])
def test_each_loss_is_recorded_for_its_own_sample(num_workers):
    run = Run(num_workers=num_workers).train()
    assert run.trained == [60] * EPOCHS
    assert recorded(run.loader) == pytest.approx(run.last)
    assert run.trainer.state.iteration == run.loader.total_batches == 24


def test_accumulation_takes_the_batches_of_the_plan():
    run = Run(accumulation=2).train()
    assert run.trained == [60] * EPOCHS
    assert recorded(run.loader) == pytest.approx(run.last)


def test_an_evaluator_on_other_data_changes_nothing():
    from ignite.engine import Events

    run = Run()
    plain = DataLoader(DATASET, 50)
    means = []
    run.trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda: means.append(run.evaluator.run(plain).metrics["loss"])
    )
    same_end(run.train(), Run().train())
    assert means[-1] < means[0]


def test_an_evaluator_on_the_pruned_loader_is_refused_and_costs_no_epoch():
    from ignite.engine import Events

    run = Run()
    handler = run.trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda: run.evaluator.run(run.loader)
    )
    with pytest.raises(RuntimeError, match=r"6 batches of epoch 1 was answered.*plain DataLoader"):
        run.train()
    assert run.trained == [60]
    assert recorded(run.loader) == pytest.approx(run.last)
    handler.remove()
    run.trainer.state.max_epochs = None
    run.train(max_epochs=3)
    same_end(run, Run().train())


def test_training_without_update_is_refused():
    run = Run(update=False)
    with pytest.raises(RuntimeError, match="none of the 6 batches of epoch 0 was answered"):
        run.train()


@pytest.mark.parametrize("at", [9, 12])  # in the second epoch, and at its end
def test_a_resumed_run_ends_as_one_that_was_not_interrupted(at, tmp_path):
    from ignite.engine import Events
    from ignite.handlers import Checkpoint, DiskSaver

    run = Run()
    saver = Checkpoint(run.parts, DiskSaver(str(tmp_path)), filename_pattern="saved.pt")
    run.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=at), saver)
    run.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=at), run.trainer.terminate)
    run.train()
    rest = Run()
    Checkpoint.load_objects(rest.parts, torch.load(tmp_path / "saved.pt", weights_only=True))
    rest.train()
    assert rest.trainer.state.iteration == 24
    same_end(rest, Run().train())


def test_an_interrupted_run_goes_on_where_it_was():
    from ignite.engine import Events

    run = Run()
    run.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=9), run.trainer.interrupt)
    run.train()
    assert run.trainer.state.iteration == 9
    same_end(run.train(), Run().train())


def test_an_epoch_that_was_terminated_counts():
    from ignite.engine import Events

    run = Run()
    run.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=9), run.trainer.terminate)
    run.train()
    assert run.train().trained == [60, 30, 60, 60]


@pytest.mark.filterwarnings("ignore:Run completed without loss diverging")
def test_the_learning_rate_finder_gives_the_epochs_back():
    from ignite.handlers import FastaiLRFinder

    def find(run, **more):
        saved = {"model": run.model, "optimizer": run.optimizer, **more}
        with FastaiLRFinder().attach(run.trainer, saved, num_iter=9, end_lr=0.2) as finder:
            finder.run(run.loader)

    run = Run()
    find(run, loader=run.loader)
    assert run.trained == [] and not recorded(run.loader)
    same_end(run.train(), Run().train())
    run = Run()
    find(run)  # without the loader
    with pytest.raises(RuntimeError, match="all 4 epochs of this run are over"):
        run.train()


def test_the_handler_for_distributed_samplers_sets_the_epoch():
    from ignite.engine import Events

    run = Run()
    run.trainer.add_event_handler(
        Events.EPOCH_STARTED, lambda engine: run.loader.sampler.set_epoch(engine.state.epoch - 1)
    )
    same_end(run.train(), Run().train())


@pytest.mark.parametrize("length", [{"max_epochs": 8, "epoch_length": 3}, {"max_iters": 24}])
def test_the_epochs_of_the_engine_may_have_another_length(length):
    run, options = Run(), {"max_epochs": None, **length}
    same_end(run.train(**options), Run().train())


def test_epochs_of_unlike_lengths_take_as_many_iterations_as_there_are_batches():
    run = Run(budget=[1.0, 0.25, 0.5, 0.5])
    run.train(max_epochs=None, max_iters=run.loader.total_batches)
    assert run.trained == [120, 30, 60, 60]


def test_without_a_budget_each_epoch_is_a_run_of_its_own():
    run = Run("SeTa", None)
    for epoch in range(EPOCHS):
        run.loader.set_epoch(epoch)
        run.train(max_epochs=1, epoch_length=len(run.loader))
    kept = [row["kept"] for row in run.loader.pruner.history]
    assert run.trained == kept and len(set(kept)) > 1


def test_an_engine_that_rebuilds_loaders_is_refused():
    from ignite.engine.deterministic import DeterministicEngine

    run = Run()
    engine = DeterministicEngine(lambda engine, batch: None)
    with pytest.raises(TypeError, match="PrunedDataLoader"):
        engine.run(run.loader, max_epochs=1)


@pytest.mark.processes
def test_two_processes_share_each_epoch_and_resume(tmp_path):
    torchrun(2, Path(__file__).parent / "ignite_ranks.py", tmp_path)
    one, two = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    for epoch in range(EPOCHS):
        shares = [set(seen[epoch]) for seen in (one["seen"], two["seen"])]
        assert [len(share) for share in shares] == [30, 30] and not shares[0] & shares[1]
    assert one["trained"] == two["trained"] == [60] * EPOCHS
    latest = {
        index: max(rank["last"].get(index, [0]) for rank in (one, two))[1]
        for index in one["last"] | two["last"]
    }
    assert one["recorded"] == two["recorded"] == pytest.approx(latest)
    for rank in (one, two):
        assert rank["resumed"] == {key: rank[key] for key in ("recorded", "trained", "weight")}


@pytest.mark.processes
def test_the_program_of_the_page_runs(tmp_path):
    run_page("ignite", tmp_path)
