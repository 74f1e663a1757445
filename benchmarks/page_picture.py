"""`python -m benchmarks.page_picture`: the picture of a page in `docs/inspect.md`.

Trains `examples/inspect_digits.py` and photographs parts of its page in Chromium, which must be
installed (`SETA_CHROMIUM` names another one).
"""

from __future__ import annotations

import io
import os
import runpy
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "inspect.png"
_COLUMNS = ("#losses", "#map figure", "#map .cell"), ("#list-suspects",)
_WIDTH, _EDGE = 860, 16


def main() -> None:
    """Writes the picture."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which(os.environ.get("SETA_CHROMIUM", "chromium"))
    if chromium is None:
        sys.exit("there is no Chromium: install one, or give its path in SETA_CHROMIUM")
    options = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        sys.argv = ["inspect_digits.py", "--out", folder]
        runpy.run_path(str(ROOT / "examples" / "inspect_digits.py"), run_name="__main__")
        browser = started.chromium.launch(executable_path=chromium, args=options)
        tab = browser.new_page(viewport={"width": _WIDTH, "height": 900})
        tab.goto((Path(folder) / "report.html").as_uri())
        tab.wait_for_selector("html[data-drawn]", state="attached")
        tab.locator("#chart-map").press("ArrowUp")
        tab.evaluate("document.activeElement.blur()")
        tab.wait_for_selector("#cell-samples .item")
        columns = [
            [Image.open(io.BytesIO(tab.locator(part).screenshot())) for part in parts]
            for parts in _COLUMNS
        ]
        browser.close()
    PICTURE.parent.mkdir(exist_ok=True)
    _together(columns).save(PICTURE, optimize=True)


def _together(columns: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Returns columns of pictures beside each other."""
    heights = [sum(part.height + _EDGE for part in parts) for parts in columns]
    wide = columns[0][0].width + _EDGE
    found = Image.new("RGB", (wide * len(columns) + _EDGE, max(heights) + _EDGE), "white")
    for place, parts in enumerate(columns):
        at = _EDGE
        for part in parts:
            found.paste(part, (_EDGE + place * wide, at))
            at += part.height + _EDGE
    return found.quantize(128)


if __name__ == "__main__":
    main()
