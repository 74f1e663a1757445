"""For scripts that run many checks in one process: each is a function `check_...` of no argument.

`run_checks` runs them all and writes what became of them; `outcomes` starts such a script and reads
it; `names_of` lists the checks without importing the script, for `pytest.mark.parametrize`.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def names_of(script):
    return re.findall(r"^def check_(\w+)\(", (HERE / script).read_text(), re.MULTILINE)


def run_checks(module, target):
    """In the script: runs the checks in their order, and writes {name: traceback or None}."""
    outcome = {}
    for name, check in list(module.items()):
        if name.startswith("check_"):
            try:
                check()
            except Exception:
                outcome[name.removeprefix("check_")] = traceback.format_exc()
            else:
                outcome[name.removeprefix("check_")] = None
            Path(target).write_text(json.dumps(outcome))


def python(*arguments, cwd=None, **environment):
    """Starts a Python process in which warnings are errors."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
    )


def outcomes(script, processes, *arguments, timeout=300, **environment):
    """Runs a script in some processes, which get the file to write, their number, and the rest."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{process}.json" for process in range(processes)]
        started = [
            python(HERE / script, file, number, *arguments, **environment)
            for number, file in enumerate(files)
        ]
        try:
            printed = [process.communicate(timeout=timeout)[0] for process in started]
        finally:
            for process in started:
                process.kill()
                process.wait()
                process.stdout.close()
        found = [json.loads(file.read_text()) if file.exists() else {} for file in files]
    lost = "did not get to this check; the process ended with\n"
    return lambda name: [
        part.get(name, lost + text[-3000:]) for part, text in zip(found, printed, strict=True)
    ]
