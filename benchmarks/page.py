"""`python -m benchmarks.page [SAMPLES]`: what the page of a large run takes; 10 million by default.

Makes the state of a tracked run of five epochs over samples of 1,000 classes, and then, in a fresh
process, its page: CPU time, memory and size. Opens it in Chromium, if that is installed, and takes
the time until all charts are drawn, the least of three.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import child

CLASSES = 1_000
BATCH = 500_000


def main(n: int) -> None:
    """Prints the figures of a run over n samples."""
    with tempfile.TemporaryDirectory() as folder:
        state, path = Path(folder, "run.seta"), Path(folder, "page.html")
        _train(n, state)
        found = child(__spec__.name, {"state": str(state), "page": str(path), "n": n})
        print(
            f"{n:,} samples: {found['cpu']:.1f} s of CPU time, {found['gib']:.2f} GiB at the peak"
        )
        print(f"{path.stat().st_size / 1e6:.2f} MB without a data set")
        opened = _opened(path)
        if opened is not None:
            print(f"drawn {opened:.2f} s after it was opened")


def _train(n: int, path: Path) -> None:
    """Saves the state of a run."""
    import seta

    generator = np.random.default_rng(0)
    hardness = generator.gamma(1.0, 0.5, n).astype(np.float32)
    pruner = seta.Pruner(n, "SeTa", epochs=6, budget=0.6, seed=0, track=True)
    for epoch in range(5):
        for block in pruner.begin_epoch().blocks(BATCH):
            noise = generator.lognormal(0, 0.2, len(block))
            pruner.record(block, (hardness[block] * 0.8**epoch * noise).astype(np.float32))
        pruner.end_epoch()
    seta.save(pruner.state_dict(copy=False), path, sync=False)


def measure(task: dict[str, Any]) -> dict[str, Any]:
    """Makes the page of a state; the part of the child."""
    classes = np.random.default_rng(1).integers(0, CLASSES, task["n"])
    before = time.process_time()
    import seta
    from seta.report import page

    page(seta.load(task["state"]), path=task["page"], classes=classes)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"cpu": time.process_time() - before, "gib": peak}


def _opened(path: Path) -> float | None:
    """Returns the seconds until all charts are drawn; None without Chromium."""
    chromium = shutil.which(os.environ.get("SETA_CHROMIUM", "chromium"))
    if chromium is None:
        return None
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    found = []
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=options)
        for _ in range(3):
            tab = browser.new_page()
            before = time.perf_counter()
            tab.goto(path.as_uri())
            tab.wait_for_selector("html[data-drawn]", state="attached")
            found.append(time.perf_counter() - before)
            tab.close()
        browser.close()
    return min(found)


if __name__ == "__main__":
    asked = sys.argv[1:]
    if asked and asked[0].startswith("{"):
        print(json.dumps(measure(json.loads(asked[0]))))
    else:
        main(int(float(asked[0])) if asked else 10_000_000)
