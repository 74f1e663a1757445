"""Settings of the whole suite."""

import os
import sys

# Before numpy and torch are loaded, and for all processes that tests start: their sums are so small
# that waking a second thread takes longer than the sum. Tests about threads ask for their own.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import pytest
from hypothesis import settings

# A shared machine has no deadlines; what lands is judged on the same examples each time.
CI = bool(os.environ.get("CI"))
settings.register_profile("seta", deadline=None, derandomize=CI, max_examples=50 if CI else 100)
settings.register_profile("quick", settings.get_profile("seta"), max_examples=10)
settings.load_profile("seta")


@pytest.fixture(autouse=True)
def no_jax_in_this_process():
    """Once it is imported no worker may be forked, and every test that does would fail after it."""
    yield
    assert "jax" not in sys.modules, "import jax in a process of its own, as tests/integrations do"


@pytest.fixture(scope="module")
def browser():
    """A Chromium, for tests that are marked `in_a_browser`."""
    from playwright.sync_api import sync_playwright

    from tests.browser import CHROMIUM

    with sync_playwright() as started:
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        options = ["--no-sandbox"] if root else []
        found = started.chromium.launch(executable_path=CHROMIUM, args=options)
        yield found
        found.close()
