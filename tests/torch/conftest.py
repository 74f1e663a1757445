"""For all tests of the PyTorch layer."""

import pytest
import torch


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/torch/" in item.path.as_posix():
            # torch's advice to use fewer workers, on a machine with one core
            item.add_marker(pytest.mark.filterwarnings("ignore:This DataLoader will create"))
            # Python 3.12 and later, wherever a process with threads forks
            item.add_marker(pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"))


@pytest.fixture(autouse=True)
def one_thread():
    """The cores are for the workers."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
