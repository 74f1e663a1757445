"""The tests of a file share what is slow to start: pytest-xdist runs them in one process."""

import pytest


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/integrations/" in item.path.as_posix():
            name = "ray" if item.path.stem.endswith("ray") else item.path.stem  # one Ray at a time
            item.add_marker(pytest.mark.xdist_group(name))
            item.add_marker(pytest.mark.frameworks)
            item.add_marker(pytest.mark.timeout(900))  # the first one waits for all that is started
