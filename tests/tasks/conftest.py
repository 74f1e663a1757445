"""Puts the programs of `examples/tasks` where tests import them from, as a script finds them."""

import sys
from pathlib import Path

import pytest
import torch

FOLDER = str(Path(__file__).parents[2] / "examples" / "tasks")

if FOLDER not in sys.path:
    sys.path.insert(0, FOLDER)


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/tasks/" in item.path.as_posix():
            # Python 3.12 and later, wherever a process with threads forks
            item.add_marker(pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"))


@pytest.fixture(autouse=True)
def one_thread():
    """The cores are for the workers; first weights are the same each time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    torch.set_num_threads(before)
