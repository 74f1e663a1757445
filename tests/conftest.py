"""Settings of the whole suite."""

import os
import sys

import pytest
from hypothesis import settings

# A shared machine has no deadlines; what lands is judged on the same examples each time.
settings.register_profile("seta", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("seta")


@pytest.fixture(autouse=True)
def no_jax_in_this_process():
    """Once it is imported no worker may be forked, and every test that does would fail after it."""
    yield
    assert "jax" not in sys.modules, "import jax in a process of its own, as tests/integrations do"
