"""Starts programs of several processes, as a user's `torchrun` does; they can import `tests`."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def python(*arguments, folder=None, seconds=600, **environment):
    """Runs Python and returns what it printed; all processes end with it, or when time is over."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(paths),
            **environment,
        },
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        pytest.fail(f"not over after {seconds} s:\n{output[-3000:]}")
    assert process.returncode == 0, output[-6000:]
    return output


def torchrun(processes, *arguments, **options):
    """Runs a program, or a module after "-m", in so many processes; see `python`."""
    command = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}")
    return python(*command, *arguments, **options)


def passes_on_two_ranks(module, folder, **options):
    """Runs a module that writes FOLDER/passed-RANK when all of its checks have passed."""
    torchrun(2, "-m", module, folder, **options)
    for rank in (0, 1):
        assert (folder / f"passed-{rank}").read_text() == "all"
