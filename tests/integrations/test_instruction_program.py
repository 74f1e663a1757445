"""The program of `examples/tasks` that needs a framework, in a reduced form."""

from pathlib import Path

import pytest

TASKS = Path(__file__).resolve().parents[2] / "examples" / "tasks"
NAME = "instruction_tuning"


@pytest.fixture
def checks(monkeypatch):
    """The checks of all programs, which import what the programs share."""
    monkeypatch.syspath_prepend(str(TASKS))
    from tests.tasks import checks

    return checks


def test_losses_land_on_the_right_samples(checks, tmp_path, monkeypatch):
    checks.losses_land_on_the_right_samples(NAME, tmp_path, monkeypatch)


def test_samples_are_functions_of_their_index(checks, tmp_path):
    checks.samples_are_functions_of_their_index(NAME, tmp_path)


def test_labels_are_wrong_where_it_is_said(checks, tmp_path, monkeypatch):
    checks.labels_are_wrong_where_it_is_said(NAME, tmp_path, monkeypatch)


def test_the_program_runs_to_its_end(checks, tmp_path, monkeypatch, capsys):
    checks.the_program_runs_to_its_end(NAME, tmp_path, monkeypatch, capsys)


def test_a_folder_of_the_users_own_is_trained_on(checks, tmp_path, monkeypatch, capsys):
    checks.a_folder_of_the_users_own_is_trained_on(NAME, tmp_path, monkeypatch, capsys)
