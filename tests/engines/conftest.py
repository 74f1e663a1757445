"""Marks the tests of engines, and skips those whose engine is not installed."""

import pytest

from tests.engines import known


def engine_of(path):
    return path.stem.removeprefix("test_").replace("_", "-")


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/engines/" in item.path.as_posix():
            item.add_marker(known.mark(engine_of(item.path)))
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(autouse=True)
def engine(request):
    """Its name, by the name of the test file."""
    name = engine_of(request.path)
    known.skip_without(name)
    return name
