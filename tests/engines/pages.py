"""Runs the Python of a page in docs/engines as a reader would type it, in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

PAGES = Path(__file__).parent.parent.parent / "docs/engines"


def python_of(name):
    """Returns all Python of a page, one block after another."""
    text = (PAGES / f"{name}.md").read_text()
    return "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))


def run_page(name, folder, before="", **environment):
    """Runs a page in a folder and returns what it printed; `before` is run ahead of it."""
    script = folder / f"{name}_page.py"  # not named as the engine, which it imports
    script.write_text(before + python_of(name))
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
