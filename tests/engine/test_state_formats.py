"""The formats of states: their numbers, how an older one becomes the current one, and refusals."""

import numpy as np
import pytest

from seta import Pruner
from seta.engine.state import formats
from tests.states import made, states_of


@pytest.fixture
def third(monkeypatch):
    """Pruners are in their third format; the first had other names, the second no `shift`."""
    monkeypatch.setitem(formats.CURRENT, "pruner", 3)
    monkeypatch.setitem(formats.STEPS, ("pruner", 1), lambda old: {**old, "names": "new"})
    monkeypatch.setitem(
        formats.STEPS, ("pruner", 2), lambda old: {**old, "shift": len(old["names"])}
    )


def test_an_older_state_takes_every_step_from_its_own_format_on(third):
    first = {"format": "seta-pruner-1"}
    assert formats.upgrade(first, "pruner") == {**first, "names": "new", "shift": 3}
    assert first == {"format": "seta-pruner-1"}
    second = {"format": "seta-pruner-2", "names": "x"}
    assert formats.upgrade(second, "pruner") == {**second, "shift": 1}
    assert formats.upgrade({"format": "seta-pruner-3"}, "pruner") == {"format": "seta-pruner-3"}


def test_a_pruner_goes_on_from_a_state_in_an_older_format(monkeypatch):
    (state,) = states_of("plain")
    older = {("runs" if key == "run" else key): value for key, value in state.items()}
    now = formats.CURRENT["pruner"]
    monkeypatch.setitem(formats.CURRENT, "pruner", now + 1)
    monkeypatch.setitem(formats.STEPS, ("pruner", now), lambda old: {**old, "run": old["runs"]})
    pruner = made("plain")
    pruner.load_state_dict(older)
    assert pruner.next_epoch == 2 and pruner.epoch == 2


def test_a_state_of_a_newer_format_is_refused_by_name_and_version():
    message = (
        r"the state has the format seta-pruner-7, and this seta \(.+\) reads up to 2: upgrade seta"
    )
    with pytest.raises(ValueError, match=message):
        made("plain").load_state_dict({"format": "seta-pruner-7"})


@pytest.mark.parametrize(
    "state, found",
    [
        (3, "a int"),
        (None, "a NoneType"),
        (np.zeros(2), "a float64"),
        ("path/to/state", "a str"),
        ({}, "a dict without one, with nothing in it"),
        ({"model": 1, "loader": 2}, "a dict without one, with 'model', 'loader'"),
        ({"format": "seta-loader-1"}, "'seta-loader-1'"),
        ({"format": "seta-pruner-0"}, "'seta-pruner-0'"),
        ({"format": "seta-pruner-1.5"}, "'seta-pruner-1.5'"),
        ({"format": 1}, "1"),
    ],
)
def test_what_is_no_state_is_refused_by_what_it_is(state, found):
    message = f"not a state of a Pruner: its format must be 'seta-pruner-2', got {found}: give"
    with pytest.raises(ValueError) as refused:
        Pruner(10, "SeTa", epochs=2).load_state_dict(state)
    assert str(refused.value).startswith(message)
