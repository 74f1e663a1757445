"""Settings of the whole suite."""

import os

from hypothesis import settings

# A shared machine has no deadlines; what lands is judged on the same examples each time.
settings.register_profile("seta", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("seta")
