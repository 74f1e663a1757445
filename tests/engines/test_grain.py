"""Grain, with JAX, in one process and in two; nothing here imports either."""

import socket
from pathlib import Path

import pytest

from tests.engines.pages import run_page
from tests.integrations.checks import names_of, outcomes

HERE = Path(__file__).parent
HERE = Path(__file__).parent
ONE, TWO = HERE / "grain_checks.py", HERE / "grain_process_checks.py"


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def one_process():
    return outcomes(ONE, 1)


@pytest.fixture(scope="module")
def two_processes():
    return outcomes(TWO, 2, free_port())


def agree(outcome):
    __tracebackhide__ = True
    for number, problem in enumerate(outcome):
        assert problem is None, f"process {number}: {problem}"


@pytest.mark.parametrize("name", names_of(ONE))
def test_in_one_process(one_process, name):
    agree(one_process(name))


@pytest.mark.parametrize("name", names_of(TWO))
def test_in_two_processes(two_processes, name):
    agree(two_processes(name))


def test_the_page_runs(engine, tmp_path):
    run_page(engine, tmp_path, JAX_PLATFORMS="cpu")
