"""Puts the programs of `examples/tasks` where tests import them from, as a script finds them."""

import sys
from pathlib import Path

FOLDER = str(Path(__file__).parents[2] / "examples" / "tasks")

if FOLDER not in sys.path:
    sys.path.insert(0, FOLDER)
