"""An interrupt at any line of the engine, and a signal handler that saves at any line.

Each step of a pruner is done once for every line that it executes, with a `KeyboardInterrupt`
raised there, or with a state taken there. The run is then before the step or after it, by a pruner
that was not disturbed; and it goes on as that one does.
"""

import contextlib
import copy
import sys
from pathlib import Path

import numpy as np
import pytest

import seta
from seta import Pruner
from seta.engine.rows import CLOCKED
from tests.combinations import some_of
from tests.virtual_ranks import on_ranks

ENGINE = str(Path(seta.__file__).parent / "engine")
CLOCKS = {*CLOCKED, "seconds"}


def frozen(value):
    """What a state says, without the times, in a form that can be compared."""
    if isinstance(value, dict):
        return {key: frozen(item) for key, item in value.items() if key not in CLOCKS}
    if isinstance(value, (list, tuple)):
        return [frozen(item) for item in value]
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    return value


def state_of(pruner):
    return frozen(pruner.state_dict())


class Lines:
    """Calls `at_line` at the given executed line of the engine, within a `with` block."""

    def __init__(self, number, at_line):
        self.count, self._number, self._at_line = 0, number, at_line

    def __enter__(self):
        sys.settrace(self._call)
        return self

    def __exit__(self, *_):
        sys.settrace(None)

    def _call(self, frame, event, argument):
        return self._line if frame.f_code.co_filename.startswith(ENGINE) else None

    def _line(self, frame, event, argument):
        if event == "line":
            self.count += 1
            if self.count == self._number:
                sys.settrace(None)
                self._at_line()
                sys.settrace(self._call)
        return self._line


def interrupt():
    raise KeyboardInterrupt


def losses_of(indices, epoch):
    losses = 0.1 + (np.asarray(indices) * 7 + 3 * epoch) % 11
    losses[::5] = np.nan
    return losses.astype(np.float32)


def record(pruner, part):
    indices = pruner.selection[part]
    pruner.record(indices, losses_of(indices, pruner.epoch))


POLICIES = {
    "SeTa": {"policy": "SeTa", "count_kept": True},
    "InfoBatch, budget": {"policy": "InfoBatch", "budget": 0.5, "batch_size": 4},
    "UCB, always_keep": {"policy": seta.UCB(every=1), "always_keep": [3, 5]},
    "BLS": {"policy": "BLS"},
    "reorder": {"policy": "Random", "reorder": np.sort},
    "tracked": {"policy": "SeTa", "track": True},
    "RCAP, strata": {"policy": "RCAP", "strata": np.arange(40) % 3},
    "sharded": {"policy": "SeTa", "sharding": "sharded"},
}

STEPS = {
    "begin_epoch": lambda pruner: pruner.begin_epoch(),
    "record": lambda pruner: record(pruner, slice(0, 8)),
    "record again": lambda pruner: record(pruner, slice(4, 12)),
    "end_epoch": lambda pruner: pruner.end_epoch(),
    "begin_epoch, the next": lambda pruner: pruner.begin_epoch(),
    "forget_epoch": lambda pruner: pruner.forget_epoch(),
    "begin_epoch, once more": lambda pruner: pruner.begin_epoch(),
    "record, the next": lambda pruner: record(pruner, slice(0, 4)),
    "begin_epoch, which ends": lambda pruner: pruner.begin_epoch(2),
    "record, the last": lambda pruner: record(pruner, slice(0, None)),
    "end_epoch, the last": lambda pruner: pruner.end_epoch(),
}


def made(options):
    return Pruner(40, epochs=5, seed=3, threads=1, **options)


def states_between(options):
    """The pruner before each step, and its state after each that can be seen within one."""
    pruner = made(options)
    between = []
    for name, step in STEPS.items():
        before = copy.deepcopy(pruner)
        seen = [state_of(pruner)]
        if name.startswith("begin_epoch") and pruner.epoch is None:  # scores are taken first
            scored = copy.deepcopy(pruner)
            scored._core.table.rescore(pruner.next_epoch - 1, pruner.next_epoch)
            seen.append(state_of(scored))
        if name == "begin_epoch, which ends":  # an epoch ends, and one begins: two steps
            middle = copy.deepcopy(pruner)
            middle.end_epoch()
            seen.append(state_of(middle))
            middle._core.table.rescore(1, 2)
            seen.append(state_of(middle))
        step(pruner)
        between.append((name, step, before, [*seen, state_of(pruner)]))
    return between


def some_lines(step, before):
    """The lines to disturb: all of a short step; of a long one the last ones, and some others."""
    with Lines(0, interrupt) as lines:
        step(copy.deepcopy(before))
    every = max(1, lines.count // 16)
    return [n for n in range(1, lines.count + 1) if n % every == 0 or n > lines.count - 18]


every_policy = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "UCB, always_keep" else pytest.mark.slow)
        for name in POLICIES
    ],
)


@every_policy
def test_an_interrupt_at_any_line_leaves_the_run_before_the_step_or_after_it(name):
    tried = 0
    for step_name, step, before, allowed in states_between(POLICIES[name]):
        for number in some_lines(step, before):
            pruner = copy.deepcopy(before)
            try:
                with Lines(number, interrupt) as lines:
                    step(pruner)
            except KeyboardInterrupt:
                tried += 1
            state = state_of(pruner)
            assert state in allowed, (step_name, lines.count)
            assert len(pruner.history) == len(state["run"]["history"])
            if state != allowed[-1]:
                step(pruner)
                assert state_of(pruner) == allowed[-1], (step_name, lines.count)
    assert tried > 150


@every_policy
def test_a_state_taken_in_a_signal_handler_at_any_line_is_one_between_two_steps(name):
    tried = 0
    for step_name, step, before, allowed in states_between(POLICIES[name]):
        for number in some_lines(step, before):
            pruner = copy.deepcopy(before)
            taken = []
            with Lines(number, lambda: taken.append(state_of(pruner))) as lines:  # noqa: B023
                step(pruner)
            tried += len(taken)
            assert all(state in allowed for state in taken), (step_name, lines.count)
            assert state_of(pruner) == allowed[-1], (step_name, lines.count)
    assert tried > 150


@pytest.mark.parametrize("name", ["SeTa", "UCB, always_keep", "sharded"])
def test_an_interrupted_load_is_whole_or_not_begun_or_said_to_be_torn(name):
    saved = made(POLICIES[name])
    saved.begin_epoch()
    record(saved, slice(0, 8))
    state, after = saved.state_dict(), state_of(saved)
    other = made(POLICIES[name])
    for epoch in range(2):
        other.begin_epoch(epoch)
        record(other, slice(0, 20))
    before, torn = state_of(other), 0
    for number in some_lines(lambda pruner: pruner.load_state_dict(state), other):
        pruner = copy.deepcopy(other)
        with contextlib.suppress(KeyboardInterrupt), Lines(number, interrupt):
            pruner.load_state_dict(state)
        try:
            assert state_of(pruner) in (before, after), number
        except RuntimeError as error:
            assert "load_state_dict() was interrupted while it wrote" in str(error)
            for ask in (pruner.begin_epoch, pruner.end_epoch, lambda: pruner.losses):  # noqa: B023
                with pytest.raises(RuntimeError, match="was interrupted while it wrote"):
                    ask()
            torn += 1
        pruner.load_state_dict(state)
        assert state_of(pruner) == after
    assert torn


@pytest.mark.parametrize("fails", ["reorder", "policy"])
def test_an_epoch_whose_hook_fails_has_not_begun(fails):
    broken = [True]

    def reorder(indices):
        if broken and fails == "reorder":
            raise OSError("no such file")
        return indices

    def policy(histogram, epoch, epochs):
        if broken and fails == "policy":
            raise OSError("no such file")
        return seta.KeepCurve(np.full(histogram.bins, 0.5), 0.5)

    pruner = Pruner(40, policy, epochs=4, reorder=reorder, count_kept=True, threads=1)
    before = state_of(pruner)
    with pytest.raises(OSError):
        pruner.begin_epoch()
    assert pruner.epoch is None and state_of(pruner) == before
    assert not pruner.kept_counts.any()
    broken.clear()
    kept = len(pruner.begin_epoch())
    pruner.record(pruner.selection[:5], np.ones(5, np.float32))
    assert pruner.end_epoch()["kept"] == kept == pruner.kept_counts.sum()


@pytest.mark.parametrize("n", [30, 60])
def test_resizing_is_whole_or_not_begun(n):
    other = made(POLICIES["tracked"])
    other.begin_epoch()
    record(other, slice(0, 20))
    other.end_epoch()
    before, grown = state_of(other), copy.deepcopy(other)
    grown.resize(n)
    after = state_of(grown)
    for number in some_lines(lambda pruner: pruner.resize(n), other):
        pruner = copy.deepcopy(other)
        with contextlib.suppress(KeyboardInterrupt), Lines(number, interrupt):
            pruner.resize(n)
        assert state_of(pruner) in (before, after)


RANKED = {
    "losses": {"policy": "SeTa"},
    "scores": {"policy": seta.UCB(every=1)},
    "tracked": {"policy": "SeTa", "track": True},
    "losses, sharded": {"policy": "SeTa", "sharding": "sharded"},
    "scores, sharded": {"policy": seta.UCB(every=1), "sharding": "sharded"},
}


def tables_of_two_ranks(options, disturbed, at, how):
    """Two epochs of two ranks, of which a step of the second is disturbed; their tables.

    Each rank records losses of samples that it does not hold, too.
    """
    reached = []

    def train(ranks):
        pruner = made({**options, "ranks": ranks})
        for epoch in range(2):
            pruner.begin_epoch(epoch)
            own = np.arange(40)[ranks.rank :: 2]
            last = epoch == 1

            def put(own=own, epoch=epoch):
                pruner.record(own, ((own * 7 + 3 * epoch) % 11 + 1).astype(np.float32))

            for name, step in (("record", put), ("end_epoch", pruner.end_epoch)):
                line = at if last and name == disturbed else 0
                try:
                    with Lines(line, lambda: how(pruner)) as lines:
                        step()
                except KeyboardInterrupt:
                    if pruner.epoch is not None:  # it has not come to its end
                        step()
                if last and name == disturbed:
                    reached.append(lines.count >= line)
        return state_of(pruner)["table"]

    return on_ranks(2, train)[0], all(reached)


def save_alone(pruner):
    pruner.state_dict(gather=False)


@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.slow)])
@some_of(
    "options, between",
    RANKED,
    [("record", save_alone), ("end_epoch", save_alone), ("end_epoch", None)],
)
def test_ranks_keep_each_loss_once_whatever_comes_between(options, between, every):
    options, (disturbed, how) = RANKED[options], between
    how = how or (lambda pruner: interrupt())
    expected, _ = tables_of_two_ranks(options, disturbed, 0, how)
    at, reached = 0, True
    while reached:
        at += every if disturbed == "record" else 7 * every
        tables, reached = tables_of_two_ranks(options, disturbed, at, how)
        assert tables == expected, at
    assert at > 20


def test_a_signal_handler_that_records_loses_nothing_and_one_that_ends_is_told():
    for number in range(1, 200):
        pruner = made({"policy": "Full"})
        pruner.begin_epoch()

        def handler(pruner=pruner):
            pruner.record(np.arange(20, 30), np.full(10, np.nan, np.float32))

        with Lines(number, handler) as lines:
            pruner.record(np.arange(10), np.ones(10, np.float32))
        if lines.count < number:
            break
        assert np.array_equal(pruner.losses[:10], np.ones(10))
        row = pruner.end_epoch()
        assert (row["trained"], row["nonfinite"]) == (20, 10), number
    assert 20 < number < 199

    pruner = made({"policy": "Full"})
    with (
        Lines(60, lambda: pruner.begin_epoch(1)),
        pytest.raises(RuntimeError, match="was changed while a step of it was under way"),
    ):
        pruner.begin_epoch(0)
    assert pruner.epoch == 1


def test_a_shallow_copy_is_refused():
    with pytest.raises(TypeError, match="would share its losses: use copy.deepcopy"):
        copy.copy(made({"policy": "SeTa"}))


def test_a_score_that_fails_once_is_taken_when_it_is_asked_for_again():
    broken = []

    class Scored(seta.UCB):
        def score(self, columns):
            if broken and len(columns["mean"]) > 1:
                raise OSError("not now")
            return super().score(columns)

    pruner = made({"policy": Scored(every=1)})
    pruner.begin_epoch()
    record(pruner, slice(0, 20))
    pruner.end_epoch()
    broken.append(True)
    with pytest.raises(OSError, match="not now"):
        pruner.begin_epoch()
    assert (pruner.epoch, pruner.next_epoch) == (None, 1)
    state_of(pruner)
    broken.clear()
    assert pruner.begin_epoch().epoch == 1
