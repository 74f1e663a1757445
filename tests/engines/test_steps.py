"""Loops by steps: `steps=`, batches taken ahead as nanoGPT does, a resume at any step."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import seta
from tests.engines.pages import run_page
from tests.engines.steps_script import BATCH, Chunks, N, endless, loader_of, loss_of
from tests.launch import torchrun

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

SCRIPT = Path(__file__).with_name("steps_script.py")


def nano(loader, steps, accumulation, evaluate_every=7):
    """The loop of nanoGPT, whose losses are known; returns the table that they must make."""
    expected = np.full(N, np.nan, np.float32)
    batches = endless(loader)
    inputs, _ = next(batches)
    for step in range(steps):
        if step % evaluate_every == 0:
            for _ in torch.utils.data.DataLoader(Chunks(), 50):
                pass
        for _ in range(accumulation):
            losses = loss_of(inputs[:, 0], step)
            expected[inputs[:, 0].numpy()] = losses.numpy()
            loader.update(losses)
            inputs, _ = next(batches, (None, None))
    assert inputs is None
    return expected


@pytest.mark.parametrize("workers", [0, 2])
def test_every_loss_reaches_the_chunk_that_it_is_of(workers):
    loader = loader_of(num_workers=workers)
    expected = nano(loader, steps=30, accumulation=4)
    np.testing.assert_array_equal(loader.pruner.losses, expected)
    assert sum(row["trained"] for row in loader.pruner.history) == 120 * BATCH
    assert len(loader.pruner.history) == loader.epochs == 10


def test_the_budget_says_how_many_passes_the_steps_make():
    assert [loader_of(steps=160, budget=1.0).epochs, loader_of(steps=96).epochs] == [8, 8]
    more = loader_of(steps=160)
    assert more.epochs == 14
    assert more.pruner.lengths == [60] * 13 + [20]
    assert loader_of(steps=7).epochs == 1  # a text that is never finished


def test_a_loop_that_counts_its_steps_ends_with_the_last_pass():
    loader, step = loader_of(), 0
    while step < 120:
        for inputs, _ in loader:
            loader.update(loss_of(inputs[:, 0], step))
            step += 1
    assert step == loader.total_batches
    assert loader.progress == 1


class Run:
    """A training run with dropout, which saves and goes on before any step."""

    def __init__(self):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Embedding(N, 8), nn.Dropout(0.3), nn.Linear(8, N))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        self.loader = loader_of("InfoBatch")
        self.parts = {"model": self.model, "optimizer": self.optimizer, "loader": self.loader}
        self.step, self.seen = 0, []

    def train(self, until, accumulation=3, save_at=()):
        batches = endless(self.loader)
        inputs, targets = next(batches)
        while self.step < until:
            if self.step in save_at:
                state = {name: part.state_dict() for name, part in self.parts.items()}
                state |= {"random": torch.get_rng_state(), "step": self.step}
                torch.save(state, f"{self.step}.pt")
            for _ in range(accumulation):
                losses = seta.token_losses(self.model(inputs), targets)
                loss = self.loader.update(losses)
                self.seen.append((self.step, inputs[:, 0].tolist()))
                inputs, targets = next(batches, (None, None))
                (loss / accumulation).backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.step += 1

    def load(self, path):
        state = torch.load(path, weights_only=True)
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        torch.set_rng_state(state["random"])
        self.step = state["step"]


def test_a_resume_at_any_step_ends_bit_for_bit_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = Run()
    whole.train(40, save_at=(0, 1, 4, 17, 20, 39))  # 12 batches a pass: step 4 begins one
    for step in (0, 1, 4, 17, 20, 39):
        again = Run()
        again.load(f"{step}.pt")
        again.train(40)
        assert again.seen == [(at, samples) for at, samples in whole.seen if at >= step]
        assert all(map(torch.equal, again.model.parameters(), whole.model.parameters()))
        np.testing.assert_array_equal(again.loader.pruner.losses, whole.loader.pruner.losses)


def test_a_finished_run_is_continued_with_more_steps():
    loader = loader_of()
    nano(loader, 120, 1)
    longer = loader_of(steps=150)
    with pytest.raises(ValueError, match=r'changed=\["epochs"\]'):
        longer.load_state_dict(loader.state_dict())
    longer.load_state_dict(loader.state_dict(), changed=["epochs"])
    np.testing.assert_array_equal(longer.pruner.losses, loader.pruner.losses)
    nano(longer, 30, 1)
    assert sum(row["trained"] for row in longer.pruner.history) == 150 * BATCH


def test_one_batch_more_than_there_are_steps_is_refused():
    loader = loader_of()

    def cycle():
        while True:
            yield from loader

    batches = cycle()
    for step in range(120):
        loader.update(loss_of(next(batches)[0][:, 0], step))
    with pytest.raises(RuntimeError, match="all 10 epochs of this run are over"):
        next(batches)


def take_ahead(loader):
    batches = endless(loader)
    next(batches), next(batches)
    loader.update(torch.ones(BATCH))


def begin_each_step(loader):
    for _ in range(loader.total_batches):
        next(iter(loader))
        loader.update(torch.ones(BATCH))


def repeat_stored_batches(loader):
    for _, _batch in zip(range(loader.total_batches), itertools.cycle(loader), strict=False):
        loader.update(torch.ones(BATCH))


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (take_ahead, "needs exactly one unanswered batch"),
        (begin_each_step, "all 10 epochs of this run are over"),
        (repeat_stored_batches, "needs an unanswered batch"),
        (lambda loader: loader_of(budget=None), "steps=120 needs a budget"),
    ],
)
def test_a_common_mistake_is_named(mistake, says):
    with pytest.raises((RuntimeError, ValueError), match=says):
        mistake(loader_of())


@pytest.mark.processes
def test_two_processes_of_torchrun_train_save_and_go_on(tmp_path):
    torchrun(2, SCRIPT, tmp_path)
    whole, again = (
        torch.load(tmp_path / f"{run}-0.pt", weights_only=True) for run in ("whole", "again")
    )
    other = torch.load(tmp_path / "whole-1.pt", weights_only=True)
    assert len(whole["seen"]) == len(other["seen"]) == 48
    for at in range(0, 48, 6):  # passes of 6 batches on each process
        trained = torch.tensor([whole["seen"][at : at + 6], other["seen"][at : at + 6]])
        assert len(trained.unique()) == trained.numel() == 60
    assert torch.equal(whole["losses"], other["losses"])
    expected = torch.full((N,), torch.nan)
    for batch, (first, second) in enumerate(zip(whole["seen"], other["seen"], strict=True)):
        samples = torch.tensor(first + second)
        expected[samples] = loss_of(samples, batch // 2)
    assert torch.equal(whole["losses"].nan_to_num(-1), expected.nan_to_num(-1))
    assert again["seen"] == whole["seen"][26:]  # from step 13, in mid-pass
    assert torch.equal(again["losses"].nan_to_num(-1), whole["losses"].nan_to_num(-1))
    assert all(torch.equal(again["model"][name], whole["model"][name]) for name in whole["model"])


def test_the_page_runs(tmp_path):
    run_page("steps", tmp_path)
