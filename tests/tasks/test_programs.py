"""The programs of `examples/tasks` that need no framework, each in a reduced form."""

import pytest

import seta
from tests.tasks import checks

PROGRAMS = [
    "captioning",
    "composed_retrieval",
    "geo_localization",
    "multi_view_stereo",
    "referring_segmentation",
    "scene_text",
]


def slow_but(*quick):
    """The programs, of which all but some are marked slow."""
    return [
        pytest.param(name, marks=[] if name in quick else pytest.mark.slow) for name in PROGRAMS
    ]


@pytest.mark.parametrize("name", slow_but("scene_text", "geo_localization"))
def test_losses_land_on_the_right_samples(name, tmp_path, monkeypatch):
    checks.losses_land_on_the_right_samples(name, tmp_path, monkeypatch)


def test_a_loss_of_another_sample_would_be_noticed(tmp_path, monkeypatch):
    update = seta.PrunedDataLoader.update
    monkeypatch.setattr(seta.PrunedDataLoader, "update", lambda self, x: update(self, x.roll(1)))
    with pytest.raises(AssertionError):
        checks.losses_land_on_the_right_samples("geo_localization", tmp_path, monkeypatch)


@pytest.mark.parametrize("name", PROGRAMS)
def test_samples_are_functions_of_their_index(name, tmp_path):
    checks.samples_are_functions_of_their_index(name, tmp_path)


@pytest.mark.parametrize("name", PROGRAMS)
def test_labels_are_wrong_where_it_is_said(name, tmp_path, monkeypatch):
    checks.labels_are_wrong_where_it_is_said(name, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", slow_but("captioning"))
def test_the_program_runs_to_its_end(name, tmp_path, monkeypatch, capsys):
    checks.the_program_runs_to_its_end(name, tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("name", slow_but("referring_segmentation"))
def test_a_folder_of_the_users_own_is_trained_on(name, tmp_path, monkeypatch, capsys):
    checks.a_folder_of_the_users_own_is_trained_on(name, tmp_path, monkeypatch, capsys)
