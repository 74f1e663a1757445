"""Puts the programs of `examples/tasks` where tests import them from, as a script finds them."""

import sys
from pathlib import Path

import pytest
import torch

FOLDER = str(Path(__file__).parents[2] / "examples" / "tasks")

if FOLDER not in sys.path:
    sys.path.insert(0, FOLDER)


@pytest.fixture(autouse=True)
def fonts_for_words(request):
    """Skips what draws words where matplotlib is older than the fonts; for Python 3.10 it is."""
    if "scene_text" in request.node.nodeid or "test_words.py" in request.node.nodeid:
        pytest.importorskip("matplotlib", minversion="3.11")


@pytest.fixture(autouse=True)
def same_weights():
    """First weights are the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
