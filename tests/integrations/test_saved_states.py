"""States that earlier versions saved for loaders and frameworks are read for ever."""

import json

import pytest

from seta.torch.state import with_arrays
from tests.data.cases import FRAMEWORKS, answer, loader, stream, trainer_run
from tests.data.make import DIGESTS, cases, name_of, paths_of, read
from tests.states import digest_of

MAKE = {"loader": loader, "stream": stream, "trainer": trainer_run}
KEPT = [one for one in cases() if one[0] != "pruner"]
NEEDS = {"loader": "torch", "stream": "torch", "lightning": "lightning", "trainer": "transformers"}


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings(r"ignore:.*isinstance\(treespec, LeafSpec\):FutureWarning")
@pytest.mark.parametrize("kept", KEPT, ids=[name_of(*one) for one in KEPT])
def test_a_run_goes_on_from_a_state_that_was_saved_earlier(kept):
    pytest.importorskip(NEEDS[kept[0]])
    states = [read(path) for path in paths_of(*kept)]
    pinned = json.loads(DIGESTS.read_text())["states"]
    again = "if that is meant: python -m tests.data.make digests"
    assert kept[2].go_on(states) == pinned[name_of(*kept)], again


def load(kind, made, state):
    made.load_state_dict(state, *((33, ()) if kind == "trainer" else ()))


@pytest.mark.parametrize("kind", MAKE)
def test_what_is_wrong_in_a_state_leaves_everything_as_it_was(kind):
    pytest.importorskip(NEEDS[kind])
    (state,) = FRAMEWORKS[kind].save()
    made = MAKE[kind]()
    if kind != "trainer":
        answer(made, 2)
    for key in state:
        for value in (..., None, 3, "x", [], {}, {"format": "seta-loader-9"}, ["x"]):
            if (key, value) in (("trained", None), ("figures", []), ("done", 3)):
                continue  # as good as any
            spoilt = {name: one for name, one in state.items() if name != key or value is not ...}
            spoilt |= {} if value is ... else {key: value}
            before = digest_of(with_arrays(made.pruner.state_dict())), made.pruner.selection
            with pytest.raises(ValueError):
                load(kind, made, spoilt)
            after = digest_of(with_arrays(made.pruner.state_dict())), made.pruner.selection
            assert before == after, key
    load(kind, made, state)
    assert made.pruner.epoch == 1


@pytest.mark.parametrize("kind", MAKE)
def test_a_state_of_another_kind_is_told(kind):
    pytest.importorskip(NEEDS[kind])
    made = MAKE[kind]()
    other = "stream" if kind == "loader" else "loader"
    (state,) = FRAMEWORKS[other].save()
    with pytest.raises(ValueError, match=f"must be 'seta-{kind}-1', got 'seta-{other}-1'"):
        load(kind, made, state)
    with pytest.raises(ValueError, match=f"has the format seta-{kind}-2, and this seta .*upgrade"):
        load(kind, made, {**state, "format": f"seta-{kind}-2"})


def test_numbers_that_numpy_does_not_know_are_refused():
    (state,) = FRAMEWORKS["loader"].save()
    (pruner,) = state["pruner"]
    table = pruner["table"]
    for losses in (table["losses"].bfloat16(), table["losses"].clone().requires_grad_(), 3):
        spoilt = {**pruner, "table": {**table, "losses": losses}}
        if getattr(losses, "requires_grad", False):
            loader().load_state_dict({**state, "pruner": spoilt})
            continue
        with pytest.raises(ValueError, match=r"table\.losses must be a float32 array"):
            loader().load_state_dict({**state, "pruner": spoilt})
