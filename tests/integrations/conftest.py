"""Marks the tests of frameworks, and gives them time for what is started once for a whole file."""

import pytest


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/integrations/" in item.path.as_posix():
            item.add_marker(pytest.mark.frameworks)
            item.add_marker(pytest.mark.timeout(900))
