"""States that earlier versions saved are read for ever; what is chosen changes only on purpose."""

import json

import pytest

from seta.engine.state.formats import CURRENT
from tests.data.cases import METHODS, draws_of
from tests.data.make import DIGESTS, cases, name_of, paths_of, read

PINNED = json.loads(DIGESTS.read_text())
AGAIN = "if that is meant: python -m tests.data.make digests"
KEPT = [one for one in cases() if one[0] == "pruner"]


@pytest.mark.parametrize("kept", KEPT, ids=[name_of(*one) for one in KEPT])
def test_a_run_goes_on_from_a_state_that_was_saved_earlier(kept):
    states = [read(path) for path in paths_of(*kept)]
    assert kept[2].go_on(states) == PINNED["states"][name_of(*kept)], AGAIN


@pytest.mark.parametrize("method", METHODS)
def test_a_method_chooses_what_it_has_always_chosen(method):
    assert draws_of(method) == PINNED["methods"][method], AGAIN


def test_every_format_has_states_that_are_kept():
    assert all(path.exists() for one in cases() for path in paths_of(*one))
    assert {kind for kind, _, _ in cases()} == set(CURRENT)
