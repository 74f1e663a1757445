"""A real browser for tests; they are skipped where there is no Chromium."""

import os
import shutil

import pytest

CHROMIUM = shutil.which(os.environ.get("SETA_CHROMIUM", "chromium"))
WHY = "there is no Chromium: install one, or give its path in SETA_CHROMIUM"
in_a_browser = [
    pytest.mark.skipif(CHROMIUM is None, reason=WHY),
    pytest.mark.processes,
    pytest.mark.slow,
]
