"""Keras on torch, in a process of its own: it imports jax, after which no worker may be forked."""

from pathlib import Path

import pytest

from tests.engines.pages import run_page
from tests.integrations.checks import names_of, outcomes

CHECKS = Path(__file__).parent / "keras_checks.py"

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def outcome():
    return outcomes(CHECKS, 1)


@pytest.mark.parametrize("name", names_of(CHECKS))
def test_keras(name, outcome):
    (problem,) = outcome(name)
    assert problem is None, problem


def test_the_program_of_the_page_runs(tmp_path):
    run_page("keras", tmp_path)
