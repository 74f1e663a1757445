"""For all tests of the PyTorch layer."""

import pytest


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/torch/" in item.path.as_posix():
            # torch's advice to use fewer workers, on a machine with one core
            item.add_marker(pytest.mark.filterwarnings("ignore:This DataLoader will create"))
