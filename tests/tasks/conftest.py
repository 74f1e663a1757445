"""Puts the programs of `examples/tasks` where tests import them from, as a script finds them."""

import sys
from pathlib import Path

import pytest
import torch

FOLDER = str(Path(__file__).parents[2] / "examples" / "tasks")

if FOLDER not in sys.path:
    sys.path.insert(0, FOLDER)


@pytest.fixture(autouse=True)
def same_weights():
    """First weights are the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
