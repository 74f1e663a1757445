"""A state is taken whole and true to itself, or refused, and then nothing has changed."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seta
from seta.engine.state.checked import check
from seta.engine.state.parts import parts_of
from tests.states import EPOCHS, N, digest_of, made, states_of, train, train_part

SAVED = {
    "plain, between": states_of("plain", open=False),
    "plain": states_of("plain"),
    "weights": states_of("weights"),
    "columns": states_of("columns"),
    "strata": states_of("strata"),
    "ranks": states_of("plain", ranks=2),
    "sharded": states_of("sharded"),
    "sharded, between": states_of("sharded", open=False, ranks=2),
    "sharded, ranks": states_of("sharded", ranks=2),
}


QUICK = ("weights", "sharded, between")


def kind_of(name):
    kind = name.split(",")[0]
    return "plain" if kind == "ranks" else kind


def paths_of(value, path=()):
    """Yields the path of each entry of a state."""
    if path:
        yield path
    if isinstance(value, dict):
        for key in value:
            yield from paths_of(value[key], (*path, key))
    elif isinstance(value, list) and value:
        yield from paths_of(value[-1], (*path, len(value) - 1))


def seen_elsewhere(name, path):
    return (name != "plain" and path[0] in ("settings", "run")) or path[:2] == ("open", "row")


PATHS = {
    name: [path for path in paths_of(saved[-1]) if not seen_elsewhere(name, path)]
    for name, saved in SAVED.items()
}


@np.errstate(all="ignore")
def spoiled(value):
    """Returns what may stand in the place of a value."""
    others = [None, True, -1, 0, 7, 2**40, 10**30, 1.5, float("nan"), float("inf"), "x", [], {}]
    others += [[value], np.zeros(3), np.float32(2)]
    if isinstance(value, (int, float)):
        others += [value + 1, value - 1, -value, str(value), np.float64(value)]
    if isinstance(value, list):
        others += [value[:-1], value * 2, value[::-1]]
    if isinstance(value, np.ndarray):
        others += [value[:-1], np.append(value, value[:1]), value[None], value.tolist()]
        others += [value.astype(dtype) for dtype in (np.float64, np.int64, np.uint8, ">u4")]
        others += [np.zeros_like(value), ~value if value.dtype.kind in "iu" else value * np.inf]
        others += [value[::-1], np.roll(value, 1)]
        if value.dtype.kind in "iu":
            others += [value + 1, np.full_like(value, np.iinfo(value.dtype).max)]
            one = value.copy()
            one.flat[-1:] += 1
            others.append(one)
    return others


def replaced(state, path, value):
    """Returns a state with another value at a path; `...`: with none."""
    if isinstance(state, dict):
        rest = {key: one for key, one in state.items() if key != path[0]}
    else:
        rest = [*state]
    if len(path) > 1:
        rest[path[0]] = replaced(state[path[0]], path[1:], value)
    elif value is not ...:
        rest[path[0]] = value
    elif isinstance(rest, list):
        del rest[path[0]]
    return rest


def entry(state, path):
    for key in path:
        state = state[key]
    return state


class Trial:
    """A pruner with a state of its own, which is given others."""

    def __init__(self, name):
        self.name = name
        self.renew()

    def renew(self):
        self.pruner = train(made(kind_of(self.name)), 1)
        train_part(self.pruner, 2)
        self.before = self.now()

    def now(self):
        pruner = self.pruner
        return digest_of([pruner.state_dict(), pruner.losses]), id(pruner.selection)

    def takes(self, spoilt):
        """Whether a state is taken, and the run goes on; else nothing has changed."""
        try:
            self.pruner.load_state_dict(spoilt)
        except ValueError:
            assert self.now() == self.before
            return False
        with np.errstate(all="ignore"):  # a policy's columns may hold any number
            train(self.pruner, min(1, EPOCHS - self.pruner.next_epoch))
        weights = self.pruner.begin_epoch().weights
        assert weights is None or np.isfinite(weights).all()
        made(kind_of(self.name)).load_state_dict(self.pruner.state_dict())
        self.renew()
        return True


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name == "weights" else pytest.mark.slow) for name in SAVED],
)
def test_each_entry_of_a_state_is_checked_before_anything_is_taken(name):
    saved, trial = SAVED[name], Trial(name)
    assert trial.takes(saved)
    taken = []
    for path in PATHS[name]:
        for at, value in enumerate([..., *spoiled(entry(saved[-1], path))]):
            if trial.takes([*saved[:-1], replaced(saved[-1], path, value)]):
                taken.append((path, at))
    # What cannot be known from the rest of a state: figures, and which losses samples had.
    assert not [path for path, at in taken if not at and not isinstance(path[-1], int)]
    assert len(taken) < 12 * len(PATHS[name])


@given(data=st.data())
@pytest.mark.parametrize("name", SAVED)
def test_pairs_of_entries_too(name, data):
    saved = SAVED[name]
    at = data.draw(st.integers(0, len(saved) - 1))
    spoilt = saved[at]
    for _ in range(2):
        path = data.draw(st.sampled_from([*paths_of(spoilt)]))
        value = data.draw(st.sampled_from([..., *spoiled(entry(spoilt, path))]))
        spoilt = replaced(spoilt, path, value)
    Trial(name).takes([*saved[:at], spoilt, *saved[at + 1 :]])


# What a state must not say, one by one; and files that ask for more memory than there is.


def changed(state, path, value):
    return replaced(state, tuple(path.split(".")), value)


@pytest.mark.parametrize(
    "path, value, message",
    [
        ("table.losses", np.zeros(50, np.float32), r"float32 array of shape \(300,\)"),
        ("table.losses", np.zeros(N), r"a float32 array of shape \(300,\), got float64 of"),
        ("table.losses", np.full(N, np.inf, np.float32), "in -3.4.*, got values from inf to inf"),
        ("table.last_trained", np.zeros(50, np.uint16), r"a uint16 array of shape \(300,\)"),
        ("table.last_trained", np.full(N, 4, np.uint16), r"in 0..3, got values from 4 to 4"),
        ("table.log.indices", np.array([N], np.uint32), "in 0..299, got values from 300 to 300"),
        ("table.log.losses", np.zeros(1, np.float32), r"a float32 array of shape \(0,\)"),
        ("run.history", None, "a list, got None"),
        ("run.full", 99_999, "an integer in 2..600, got 99999"),
        ("open.row.epoch", 99, "an integer in 2..4, got 99"),
        ("open.row.kept", 7, "an integer in"),
        ("open.mask", np.full(38, 255, np.uint8), "of the 300 samples there are, got samples bey"),
        ("open.mask", np.zeros(38, np.uint8), r"of \d+ samples, as the row of the epoch says .*0"),
        ("open.weights", None, r"a uint8 array of shape \(1, 38\), got None"),
        ("open.done", 301, r"an integer in 0..\d+, got 301"),
        ("open.begun", False, "True, since samples are done, got False"),
        ("open.seconds", float("nan"), "a finite number in"),
        ("settings.epochs", "5", "an integer in 1.."),
    ],
)
def test_what_is_wrong_is_named_with_what_it_is_and_must_be(path, value, message):
    (state,) = SAVED["weights"]
    pruner = made("weights")
    with pytest.raises(ValueError, match=message) as refused:
        pruner.load_state_dict(changed(state, path, value))
    assert str(refused.value).startswith((path, path.replace("kept", "pruned")))
    assert np.isnan(pruner.losses).all() and pruner.next_epoch == 0


def test_a_curve_that_would_be_huge_is_refused_before_it_is_made():
    (state,) = SAVED["plain"]
    for lengths in ([10**9, 1], [2**62, 2**62], [-1, 10**9], [2**63 - 1]):
        runs = {"values": np.ones(len(lengths)), "lengths": np.array(lengths, np.int64)}
        tracemalloc.start()
        with pytest.raises(ValueError, match=r"open\.curve\.keep\.lengths must be"):
            made("plain").load_state_dict(changed(state, "open.curve.keep", runs))
        assert tracemalloc.get_traced_memory()[1] < 2**20
        tracemalloc.stop()
    with pytest.raises(ValueError, match=r"open\.curve\.strata must be an integer in"):
        made("plain").load_state_dict(changed(state, "open.curve.strata", 10**6))


def test_a_mapped_state_is_checked_block_by_block(tmp_path):
    """Nothing of the size of a column is made."""
    n = 4_000_000
    first = seta.Pruner(n, "InfoBatch", epochs=3, threads=1, losses=np.zeros(n, np.float32))
    first.begin_epoch()
    seta.save(first.state_dict(), tmp_path / "state")
    state = seta.load(tmp_path / "state", mmap=True)
    roots = parts_of(state)
    own = seta.Pruner(n, "InfoBatch", epochs=3)._core.settings.identity()
    tracemalloc.start()
    check(roots, own, set(), columns=())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n  # a byte for each sample


def test_a_hook_that_fails_leaves_the_pruner_as_it_was():
    def refuse(indices):
        raise RuntimeError("no")

    trial = Trial("plain")
    pruner = made("plain", reorder=refuse)
    before = digest_of(pruner.state_dict())
    with pytest.raises(RuntimeError, match="^no$"):
        pruner.load_state_dict(SAVED["plain"])
    assert digest_of(pruner.state_dict()) == before
    assert trial.takes(SAVED["plain"])
