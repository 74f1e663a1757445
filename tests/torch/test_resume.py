"""A real training process, killed at any step and resumed, ends with bitwise the same model."""

import contextlib
import importlib
import itertools
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import seta
from tests.torch import train_script
from tests.torch.helpers import looked_at, needs_in_order

SCRIPT = Path(__file__).with_name("train_script.py")


def finish(*run):
    """Makes a run that saves after every step, or the rest of it, in a process of its own."""
    command = [sys.executable, SCRIPT, *map(str, run)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def train_and_tell(steps, *run):
    os.setsid()
    train_script.main(*run, saved=steps.send)


def kill_after(step, *run):
    """Goes on with a run in a process that has loaded torch, and kills it after so many steps."""
    importlib.import_module("torch._dynamo")  # before the fork, as in `processes`
    context = multiprocessing.get_context("fork")
    steps, there = context.Pipe(duplex=False)
    process = context.Process(target=train_and_tell, args=(there, *run))
    process.start()
    there.close()
    while steps.recv() < step:
        pass
    process.kill()
    process.join()
    with contextlib.suppress(ProcessLookupError):  # its workers, which may not notice
        os.killpg(process.pid, signal.SIGKILL)


def steps_of(folder):
    return [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]


def last_of_each(steps):
    """A killed process may have done a step that was not saved: the later one counts."""
    return [step["what"] for step in {step["step"]: step for step in steps}.values()]


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("policy, budget, workers", [("SeTa", 0.5, 2), ("InfoBatch", None, 0)])
def test_a_killed_run_ends_with_the_same_model(tmp_path, policy, budget, workers):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir(), killed.mkdir()
    finish(whole, policy, budget, workers)
    expected = steps_of(whole)
    per_epoch = [sum(s["what"]["epoch"] == e for s in expected) for e in range(8)]
    firsts = [sum(per_epoch[:e]) for e in range(8)]
    chosen = random.Random(f"{policy}{budget}").sample(range(len(expected)), 1)
    # At the start, in the middle and at the end of epochs; the last one anneals.
    kills = sorted({1, firsts[2], firsts[3] - 1, firsts[7] + 1, *chosen})
    for kill in kills:
        kill_after(kill, killed, policy, budget, workers)
    finish(killed, policy, budget, workers)
    assert last_of_each(steps_of(killed)) == last_of_each(expected)
    a, b = (torch.load(folder / "model.pt", weights_only=True) for folder in (whole, killed))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    histories = [json.loads((folder / "history.json").read_text()) for folder in (whole, killed)]
    assert histories[0] == histories[1]


def looking_ahead():
    """A loader behind something that takes batches ahead of the training step."""
    return seta.PrunedDataLoader(
        torch.arange(40), "Random", epochs=3, batch_size=4, with_indices=True
    )


@pytest.mark.parametrize("answered", [[0], [0, 1], [1], [0, 2], [2, 0]])
def test_batches_after_the_last_answered_one_are_given_out_again(answered):
    loader = looking_ahead()
    batches = [indices for (indices, _), _ in zip(loader, range(3), strict=False)]
    for at in answered:
        loader.update(batches[at].float(), indices=batches[at])
    other = looking_ahead()
    other.load_state_dict(loader.state_dict())
    rest = torch.cat([indices for indices, _ in looked_at(other)]).tolist()
    plan = loader.pruner.selection.indices.tolist()
    assert rest == plan[4 * (max(answered) + 1) :]


def test_a_batch_left_out_on_purpose_is_not_given_out_again():
    loader = seta.PrunedDataLoader(torch.arange(40), "Random", epochs=3, batch_size=4)
    walk = iter(loader)
    loader.update(next(walk).float())
    next(walk)
    loader.skip()
    other = seta.PrunedDataLoader(torch.arange(40), "Random", epochs=3, batch_size=4)
    other.load_state_dict(loader.state_dict())
    assert next(iter(other)).tolist() == next(walk).tolist()


@needs_in_order
def test_batches_out_of_order_have_no_position_to_save():
    loader = seta.PrunedDataLoader(
        torch.arange(40), "Full", epochs=1, batch_size=4, num_workers=1, in_order=False
    )
    for batch in loader:
        loader.update(batch.float())
        with pytest.raises(RuntimeError, match=r"in_order=False .* save or copy between"):
            loader.state_dict()
        break


@pytest.mark.parametrize(
    ("batch_size", "left_out"),
    [(4, None), (3, "its 20 samples that are left, 2 do not"), (32, "20 do")],
)
def test_samples_that_other_batches_leave_out_are_told_of(batch_size, left_out, caplog):
    def make(size):
        return seta.PrunedDataLoader(
            torch.arange(40), "Full", epochs=2, batch_size=size, drop_last=True
        )

    loader = make(4)
    for batch in itertools.islice(loader, 5):
        loader.update(batch.float())
    resumed = make(batch_size)
    resumed.load_state_dict(loader.state_dict())
    told = [
        record.message for record in caplog.records if "is resumed with other" in record.message
    ]
    assert len(told) == (left_out is not None) and all(left_out in one for one in told)
