"""`seta.compare` with what frameworks bring: loaders of their own, and several processes."""

import os
import subprocess
import sys

import pytest

import seta
from seta.comparison import lines
from tests.comparison.training import Points, run

BATCH, EPOCHS = 32, 4


class Kept:
    """Keeps what it was called with: `run` makes of it what it likes."""

    def __init__(self, dataset, policy, **arguments):
        self.dataset, self.policy, self.arguments = dataset, policy, arguments


def from_kept(kept, seed):
    assert kept.arguments["seed"] == seed
    return run(seta.PrunedDataLoader(kept.dataset, kept.policy, **kept.arguments), seed)


def compared(run=run, **options):
    given = {"epochs": EPOCHS, "batch_size": BATCH, "methods": ["SeTa"], "seeds": 1}
    return seta.compare(run, Points(500), progress=False, **{**given, **options})


def metrics(found):
    return [(line["method"], line["metrics"], line["visits"]) for line in found.lines]


def test_what_a_loader_of_ones_own_makes_may_be_any_object():
    found, beside = compared(from_kept, loader=Kept), compared()
    assert not found.failures and metrics(found) == metrics(beside)
    assert beside.regime and not found.regime  # nothing to look at the losses of


@pytest.mark.parametrize("name, message", [
    ("on_epoch", "run trained 0 of the 4 epochs"),
    ("budget", "samples, and not the 960 that make costs equal"),
    ("drop_last", "loader= has to hand on epochs, budget, batch_size and drop_last"),
])  # fmt: skip
def test_a_loader_that_does_not_hand_on_what_it_is_given_is_told(name, message):
    def forgets(dataset, policy, **arguments):
        del arguments[name]
        return seta.PrunedDataLoader(dataset, policy, **arguments)

    assert any(message in reason for reason in compared(loader=forgets).failures.values())


def test_a_schedule_can_be_made_for_the_steps_of_every_contender():
    steps = []

    def noting(loader, seed):
        steps.append(loader.total_steps)
        return run(loader, seed)

    assert not compared(noting, budgets=[0.5, 0.75]).failures
    assert steps == [60, 30, 30, 45, 45]


def test_the_lines_of_two_folders_make_one_comparison(tmp_path):
    for seed in (0, 1):
        compared(seeds=[seed], out=tmp_path / str(seed))
    both = [(tmp_path / str(seed) / "runs.jsonl").read_text() for seed in (0, 1)]
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "runs.jsonl").write_text("".join(both))

    def never(loader, seed):
        raise AssertionError("ran")

    found = compared(never, seeds=2, out=tmp_path / "all")
    assert not found.failures and len(found.lines) == 6


SCRIPT = """
import os
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
train_set = torch.utils.data.TensorDataset(x, x.sum(1))


def run(loader, seed):
    net = DistributedDataParallel(torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    for _ in range(loader.epochs):
        for inputs, targets in loader:
            loss = loader.update((net(inputs)[:, 0] - targets) ** 2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    if dist.get_rank() == 1:
        if seed == 1 and "FAILS" in os.environ:
            raise ArithmeticError("of rank 1 alone")
        return None  # it measures nothing
    return ((net(x)[:, 0] - x.sum(1)) ** 2).mean().item()
"""


def under_torchrun(folder, **environment):
    command = "-m torch.distributed.run --standalone --nproc-per-node 2 -m seta compare my.py:run"
    options = "--data train_set --epochs 2 --batch-size 10 --methods SeTa --seeds 2"
    return subprocess.run(
        [sys.executable, *command.split(), *options.split()],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
@pytest.mark.processes
def test_ranks_fail_together_and_go_on_where_they_stopped(tmp_path):
    (tmp_path / "my.py").write_text(SCRIPT)
    found = under_torchrun(tmp_path, FAILS="1")
    assert found.returncode == 1, found.stderr
    assert "Full, seed 1: ArithmeticError: of rank 1 alone" in found.stdout
    assert "Full, seed 1 failed on rank 1, which waits for the others" in found.stderr
    made = lines.read(tmp_path / "seta-compare" / "runs.jsonl")
    assert [line["seed"] for line in made] == [0, 0, 0]
    assert {line["settings"]["ranks"] for line in made} == {2}
    assert [line["visits"] for line in made] == [400, 200, 200]
    found = under_torchrun(tmp_path)
    assert found.returncode == 0, found.stderr
    assert "[4/6] Full, seed 1" in found.stderr and "Runs that failed" not in found.stdout
    assert lines.read(tmp_path / "seta-compare" / "runs.jsonl")[:3] == made
