"""DDP and FSDP2, and torchrun, which restarts the group when one of its processes is killed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.torch import ranks_script
from tests.torch.processes import run_ranks

pytestmark = pytest.mark.processes

SCRIPT = Path(__file__).with_name("ranks_script.py")


def forked(folder, kind):
    """Two ranks without torchrun, which have loaded torch already."""
    folder.mkdir()
    store = folder / "store"
    store.mkdir()
    run_ranks(2, ranks_script.train, store, folder, kind)


def torchrun(folder, kind, kills):
    folder.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["--max-restarts=3", str(SCRIPT), str(folder), kind, kills]
    # Else torchrun gives a restarted group the addresses that the dead one left in its store.
    own_store = {**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=own_store
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def steps_of(folder, rank):
    """Returns the last of each step: a killed group has done steps that were not saved."""
    lines = (folder / f"steps-{rank}.jsonl").read_text().splitlines()
    return [
        step["what"] for step in {step["step"]: step for step in map(json.loads, lines)}.values()
    ]


def history_of(folder, rank):
    return json.loads((folder / f"history-{rank}.json").read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("torchrun") / "whole"
    forked(folder, "ddp")
    return folder


def test_both_ranks_train_disjoint_equal_batches(whole):
    steps = [steps_of(whole, rank) for rank in range(2)]
    assert len(steps[0]) == len(steps[1])
    assert history_of(whole, 0) == history_of(whole, 1)
    for epoch, row in enumerate(history_of(whole, 0)):
        batches = [[s["rows"] for s in rank if s["epoch"] == epoch] for rank in steps]
        assert [len(b) for b in batches[0]] == [len(b) for b in batches[1]]
        trained = [i for rank in batches for batch in rank for i in batch]
        assert len(set(trained)) == len(trained) == row["trained"] >= row["kept"] - 1


@pytest.mark.slow
def test_a_killed_process_is_restarted_by_torchrun_and_the_run_ends_the_same(whole, tmp_path):
    # In the middle of epoch 0, before anything was saved; at a save; and in a later epoch.
    killed = tmp_path / "killed"
    log = torchrun(killed, "ddp", "0:2,1:9,2:25")
    assert log.count("failed (exitcode: -9) local_rank: 1") == 3, log
    for rank in range(2):
        assert steps_of(killed, rank) == steps_of(whole, rank)
        assert history_of(killed, rank) == history_of(whole, rank)
    a, b = (torch.load(folder / "model.pt", weights_only=True) for folder in (whole, killed))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.skipif(
    not hasattr(torch.cpu.Stream, "record_event"), reason="FSDP2 of PyTorch 2.6 needs a GPU"
)
def test_fsdp2_trains_the_same_batches_to_the_same_losses(whole, tmp_path):
    forked(tmp_path / "fsdp", "fsdp")
    for rank in range(2):
        ours, theirs = steps_of(tmp_path / "fsdp", rank), steps_of(whole, rank)
        assert [s["rows"] for s in ours] == [s["rows"] for s in theirs]
        assert [s["loss"] for s in ours] == pytest.approx([s["loss"] for s in theirs], rel=1e-5)


@pytest.mark.slow
def test_the_example_runs_on_two_processes():
    example = Path(__file__).parents[2] / "examples" / "ddp_digits.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(example), "--epochs", "4"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # The budget is a share of whole global batches: of 1,400 samples 24 are in none.
    assert re.fullmatch(
        r"accuracy 0\.[5-9]\d\d, saved 4\d\.\d% of the sample visits\n", done.stdout
    )
