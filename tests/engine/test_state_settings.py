"""Whose a state is: what must be the same, what may change, and when."""

import functools
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

import seta
from seta import LossHistogram, Pruner
from seta.engine.state.describe import describe
from seta.engine.table.shared import Shared
from tests.states import BATCH, EPOCHS, N, made, states_of, train, train_part
from tests.virtual_ranks import on_ranks

ROOT = Path(__file__).parents[2]

# Policies as strings.


@dataclass(frozen=True)
class Shaped:
    """A policy that holds all kinds of things."""

    shape: object = np.sqrt
    base: object = None
    table: object = field(default_factory=lambda: np.arange(3.0))

    def __call__(self, histogram, epoch, epochs):
        return seta.KeepCurve.constant(histogram, 0.5)


class Plain:
    """A policy without a description of its own."""

    def __call__(self, histogram, epoch, epochs):
        return seta.KeepCurve.constant(histogram, 0.5)

    def method(self, histogram, epoch, epochs):
        return self(histogram, epoch, epochs)


def half(histogram, epoch, epochs, keep=0.5):
    return seta.KeepCurve.constant(histogram, keep)


POLICIES = {
    "dataclass with a function": lambda: Shaped(half),
    "dataclass with a lambda": lambda: Shaped(lambda x: x),
    "nested": lambda: Shaped(base=seta.BLS(base=seta.InfoBatch())),
    "partial": lambda: functools.partial(half, keep=0.3),
    "partial of a method": lambda: functools.partial(Plain().method),
    "method": lambda: Plain().method,
    "object": Plain,
    "function": lambda: half,
    "lambda": lambda: lambda *args: half(*args),
    "containers": lambda: Shaped([1, {"b": {3, 1}, "a": (np.float32(2), None)}], {half}),
    "builtin": lambda: Shaped(len, max),
    "ufunc": lambda: Shaped(np.log1p, np.random.default_rng(0)),
}


@pytest.mark.processes
def test_a_policy_is_told_alike_in_every_process():
    told = {name: describe(make()) for name, make in POLICIES.items()}
    code = (
        "from tests.engine.test_state_settings import POLICIES, describe\n"
        "for make in POLICIES.values(): print(describe(make()))"
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PYTHONHASHSEED": seed, "PATH": ""},
            check=True,
        )
        other = dict(zip(told, done.stdout.splitlines(), strict=True))
        for name in told:
            plain = told[name].replace("test_state_settings.", "")
            assert plain.split(".")[-1] == other[name].split(".")[-1], name
            assert "0x" not in other[name]


def test_policies_that_differ_are_told_apart():
    policies = [make() for make in POLICIES.values()]
    policies += [Shaped(np.cbrt), Shaped(table=np.arange(4.0)), Shaped(table=np.arange(3))]
    policies += [functools.partial(half, keep=0.4), seta.SeTa(), seta.SeTa(groups=7)]
    policies += [Shaped(base=seta.BLS(base=seta.InfoBatch(0.3)))]
    assert len({*map(describe, policies)}) == len(policies)


def test_what_holds_itself_is_told():
    loop = [1]
    loop.append(loop)
    assert describe(Shaped(loop, None, None)) == "Shaped(shape=list(1, ...), base=None, table=None)"


def test_a_run_with_a_function_in_its_policy_resumes():
    def shaped():
        return Pruner(N, Shaped(lambda x: x), epochs=3)

    state, second = train(shaped(), 1).state_dict(), shaped()
    second.load_state_dict(state)
    assert second.next_epoch == 1
    with pytest.raises(ValueError, match=r"policy='Shaped\(shape=.*<lambda>, .*\.half"):
        Pruner(N, Shaped(half), epochs=3).load_state_dict(state)


# Budgets, and the number of epochs.


@pytest.mark.parametrize(
    "before, after",
    [
        (0.5, 0.5),
        (0.5, [0.5] * 8),
        ([1.0, 0.5, 0.5], [1.0, 0.5, 0.5, 0.2, 0.2, 0.2, 0.2, 0.2]),
        (lambda epoch: 1 / (1 + epoch), lambda epoch: 1 / (1 + epoch)),
    ],
)
def test_a_run_under_a_budget_is_made_longer(before, after):
    first = train(Pruner(N, "SeTa", epochs=3, budget=before), 2)
    longer = Pruner(N, "SeTa", epochs=8, budget=after)
    with pytest.raises(ValueError, match="saved with epochs=3, this pruner has epochs=8"):
        longer.load_state_dict(first.state_dict())
    longer.load_state_dict(first.state_dict(), changed=["epochs"])
    assert len(longer.begin_epoch()) == longer.lengths[2] == first.lengths[2]
    train(longer, 6)
    assert [row["kept"] for row in longer.history] == longer.lengths


@pytest.mark.parametrize(
    "budget", [0.6, None, [0.5, 0.5, 0.6, 0.5], lambda epoch: 0.5 + epoch / 100]
)
def test_another_budget_is_no_longer_run(budget):
    first = train(Pruner(N, "SeTa", epochs=3, budget=0.5), 1)
    longer = Pruner(N, "SeTa", epochs=4, budget=budget)
    with pytest.raises(ValueError, match=r"saved with budget=0\.5, this pruner has budget="):
        longer.load_state_dict(first.state_dict(), changed=["epochs"])
    longer.load_state_dict(first.state_dict(), changed=["epochs", "budget"])
    assert np.isnan(made("plain").losses).all()


def test_a_budget_is_the_same_however_it_is_told():
    first = train(Pruner(N, "SeTa", epochs=3, budget=0.5), 1)
    for budget in ([0.5] * 3, lambda epoch: 0.5, np.float64(0.5)):
        Pruner(N, "SeTa", epochs=3, budget=budget).load_state_dict(first.state_dict())


def test_a_run_may_be_made_shorter_but_not_than_it_is():
    (state,) = states_of("plain")  # in epoch 2
    shorter = made("plain", epochs=3)
    shorter.load_state_dict(state, changed=["epochs"])
    train(shorter, 1)
    assert shorter.next_epoch == 3
    with pytest.raises(ValueError, match="is of epoch 2, which lies beyond the run of epochs=2"):
        made("plain", epochs=2).load_state_dict(state, changed=["epochs"])


def by_sample(pruner):
    """Returns the losses in the order of the samples."""
    losses = np.full(N, np.nan, np.float32)
    there = pruner.held < N
    losses[pruner.held[there]] = pruner.losses[there]
    return losses


# What an open epoch, and a sharded table, do not let change.


def test_the_seed_changes_between_epochs_only():
    (state,) = states_of("plain")
    pruner = made("plain", seed=2)
    with pytest.raises(ValueError, match="middle of epoch 2, in the order that follows from seed"):
        pruner.load_state_dict(state, changed=["seed"])
    (state,) = states_of("plain", open=False)
    pruner.load_state_dict(state, changed=["seed"])
    assert pruner.next_epoch == 2


def test_a_sharded_table_keeps_its_length_and_its_kind():
    (state,) = states_of("sharded", open=False)
    longer = Pruner(N + 5, "InfoBatch", epochs=EPOCHS, seed=1, sharding="sharded")
    with pytest.raises(ValueError, match="sharded table of 300 samples, and its shards depend on"):
        longer.load_state_dict(state, changed=["n", "always_keep"])
    with pytest.raises(ValueError, match=r"changed must name some of n, .*got \['sharding'\]"):
        longer.load_state_dict(state, changed=["sharding"])
    other = made("weights")
    with pytest.raises(ValueError, match=r"saved with sharding='sharded'.*, or begin a new one"):
        other.load_state_dict(state)


@pytest.mark.parametrize(
    "before, after, options",
    [
        ("RCAP", "SeTa", {"strata": np.arange(N) % 5}),
        ("RePB", "Random", {"sharding": "sharded", "always_keep": [3, 7]}),
        (seta.UCB(every=1), "Random", {"sharding": "sharded", "always_keep": [3], "track": True}),
    ],
    ids=["away from classes", "away from differences", "away from scores"],
)
def test_an_epoch_whose_policy_changed_is_saved_and_loaded_again(before, after, options):
    first = train(Pruner(N, before, epochs=EPOCHS, batch_size=BATCH, **options), 2)
    done = train_part(first)
    options.pop("strata", None)
    second, third = (Pruner(N, after, epochs=EPOCHS, batch_size=BATCH, **options) for _ in range(2))
    second.load_state_dict(first.state_dict(**done), changed=["policy", "strata"])
    third.load_state_dict(second.state_dict(**done))
    rest, same = second.share().indices, third.share().indices
    assert np.array_equal(rest, same)
    assert len(rest) == second.kept - 3 * BATCH
    keep = second.table()["keep"]
    assert np.isnan(keep).all() == (before == "RCAP")  # by classes that are no longer known
    assert [len(train(pruner, 2).history) for pruner in (second, third)] == [4, 4]


def test_what_an_epoch_kept_is_counted_once_wherever_it_goes_on():
    def saved(ranks):
        pruner = Pruner(4800, "Random", ranks=ranks, **options)
        share = pruner.share()[:600]
        pruner.record(share, np.ones(len(share), np.float32))
        return pruner.state_dict(done=1200)

    def resumed(ranks):
        pruner = Pruner(4800, "Random", ranks=ranks, **options)
        pruner.load_state_dict(states)
        pruner.load_state_dict(states)  # nothing is added up
        states_then = pruner.state_dict(done=0)
        rest = pruner.share().indices
        pruner.record(rest, np.ones(len(rest), np.float32))
        counts, kept = pruner.kept_counts.copy(), pruner.kept
        pruner.end_epoch()
        assert np.array_equal(pruner.kept_counts, counts) and counts.max() == 1
        return int(counts.sum()), kept, states_then

    options = {"epochs": 3, "count_kept": True, "batch_size": 20, "sharding": "sharded"}
    states = on_ranks(2, saved)[0]
    for ranks in (2, 4, 1):  # each goes on from the state of the one before
        parts = on_ranks(ranks, resumed)[0]
        assert sum(counted for counted, _, _ in parts) == parts[0][1] > 0
        states = [state for _, _, state in parts]


def test_samples_to_keep_always_change_between_epochs_of_a_sharded_table():
    own = [5, 60, 299]
    pruner = made("sharded", always_keep=own)
    states = states_of("sharded", open=False, ranks=2)
    pruner.load_state_dict(states, changed=["always_keep"])
    known = Pruner(N, "Full", epochs=2, losses=by_sample(pruner))
    shared = Shared.from_state(pruner.state_dict()["table"]["shared"])
    binning = shared.histogram.binning
    counts = LossHistogram.from_losses(known.losses[own], binning=binning).counts
    assert np.array_equal(shared.kept_always.counts, counts) and shared.kept_always.total == 3
    assert {5, 60} <= {*pruner.begin_epoch()}
    with pytest.raises(ValueError, match="finish that epoch before always_keep= changes"):
        pruner.load_state_dict(states_of("sharded", ranks=2), changed=["always_keep"])


# Parts.


@pytest.mark.parametrize("kind", ["plain", "sharded"])
def test_parts_are_taken_in_any_order(kind):
    parts = states_of(kind, ranks=3)
    pruners = [made(kind), made(kind)]
    pruners[0].load_state_dict(parts)
    pruners[1].load_state_dict(iter([parts[2], parts[0], parts[1]]))
    rests = [pruner.share().indices.tolist() for pruner in pruners]
    assert rests[0] == rests[1]
    one, other = (train(pruner, 2).losses for pruner in pruners)
    assert np.array_equal(one, other, equal_nan=True)


@pytest.mark.parametrize("kind", ["plain", "sharded"])
@pytest.mark.parametrize("other", [{"epochs": 1}, {"open": False}])
def test_parts_of_different_checkpoints_are_refused(kind, other):
    parts, others = states_of(kind, ranks=2), states_of(kind, ranks=2, **other)
    if kind == "plain" and not other.get("open", True):
        others = [others[0], others[0]]  # one state serves all ranks
    with pytest.raises(ValueError, match="of different epochs|saved in 2 parts"):
        made(kind).load_state_dict([parts[0], others[1]])


@pytest.mark.parametrize("kind", ["plain", "sharded"])
def test_parts_of_different_runs_are_refused(kind):
    def other(ranks):
        pruner = made(kind, ranks)
        for epoch in range(2):
            samples = pruner.share().indices
            pruner.record(samples, np.full(len(samples), 1 + epoch, np.float32))
            pruner.end_epoch()
        return pruner.state_dict(gather=False, **train_part(pruner))

    parts, others = states_of(kind, ranks=2), on_ranks(2, other)[0]
    with pytest.raises(ValueError, match=r"differs from .*not of one checkpoint of one run"):
        made(kind).load_state_dict([parts[0], others[1]])


# Samples.


def test_a_dataset_that_grew_keeps_what_was_known():
    (state,) = states_of("columns", open=False)
    for n in (N - 40, N + 40):
        pruner = Pruner(n, seta.UCB(every=2), epochs=EPOCHS, seed=1, batch_size=BATCH)
        pruner.load_state_dict(state, changed=["n"])
        both = min(n, N)
        assert np.array_equal(pruner.losses[:both], state["table"]["losses"][:both], equal_nan=True)
        train(pruner, 2)
        assert pruner.left_out.max() <= EPOCHS


class Hidden:
    __slots__ = ("__share",)

    def __init__(self, share):
        self.__share = share


class OwnState:
    """Has names that modules and tensors have, too."""

    def __init__(self, share):
        self.share = share

    def state_dict(self):
        return {"seen": 0}

    def detach(self):
        return None


class Raises(OwnState):
    @property
    def __dict__(self):
        raise OSError("not now")


class Tempered(torch.nn.Module):
    def __init__(self, share):
        super().__init__()
        self.temperature = share


def halves(share):
    values = torch.zeros(5000, dtype=torch.bfloat16)
    values[2500] = share
    return values


def conjugate(share):
    return torch.tensor([1 + 1j * share]).conj()


def sparse(share):
    return torch.tensor([[0, share], [1, 0]]).to_sparse()


def nested(share):
    return torch.nested.nested_tensor([torch.ones(2), torch.tensor([share])], layout=torch.jagged)


def seeded_in_torch(share):
    return torch.Generator().manual_seed(int(100 * share))


def seeded_in_numpy(share):
    return np.random.default_rng(int(100 * share))


MAKERS = [Hidden, OwnState, Tempered, halves, conjugate, torch.tensor, np.longdouble]
MAKERS += [sparse, nested, seeded_in_torch, seeded_in_numpy]


@pytest.mark.parametrize("make", MAKERS)
def test_what_a_value_holds_is_described(make):
    values = [make(0.25), make(0.25), make(0.5)]
    one, same, other = (describe(OwnState(value), held=True) for value in values)
    assert one == same != other


def chain(length):
    return OwnState(chain(length - 1)) if length else None


def test_what_cannot_be_looked_into_hides_nothing_beside_it():
    meta, unknown = torch.empty(3, device="meta"), torch.ones(3, 3).to_mkldnn()
    for value in (Raises(0), chain(600), meta, unknown, torch.empty(0)):
        one, same, other = (describe([value, OwnState(share)], held=True) for share in (1, 1, 2))
        assert one == same != other


def test_what_lies_deep_is_described_alike_wherever_it_is_asked_for():
    def asked(frames):
        return asked(frames - 1) if frames else describe(chain(600), held=True)

    assert asked(0) == asked(200)


def hooked(*hooks, **options):
    module = torch.nn.ReLU()
    module.handles = [module.register_forward_hook(hook, **options) for hook in hooks]
    return module


def test_hooks_are_described_in_their_order_without_their_numbers():
    one = describe(hooked(half, print), held=True)
    assert one == describe(hooked(half, print), held=True)
    others = [hooked(print, half), hooked(half), hooked(half, print, with_kwargs=True)]
    others.append(hooked(print, half, prepend=True))
    assert [describe(other, held=True) == one for other in others] == [False, False, False, True]


def test_a_generator_that_has_drawn_is_described_as_a_new_one():
    one, other = torch.Generator().manual_seed(1), np.random.default_rng(1)
    before = describe([one, other], held=True)
    torch.rand(3, generator=one)
    other.random(3)
    assert describe([one, other], held=True) == before


def test_generators_of_numpy_are_told_by_a_seed_that_was_given():
    unseeded, again = np.random.default_rng(), np.random.default_rng()
    assert describe(unseeded, held=True) == describe(again, held=True)
    first, second = np.random.default_rng(1).spawn(2)
    assert describe(first, held=True) != describe(second, held=True)


def test_what_is_shared_is_walked_once():
    def told(share):
        objects = lists = OwnState(share)
        for _ in range(40):
            objects, lists = OwnState((objects, objects)), [lists, lists]
        return describe([objects, lists], held=True)

    assert told(1) == told(1) != told(2)


def test_many_that_hold_each_other_are_told_apart():
    def told(share):
        objects = [OwnState(None) for _ in range(30)]
        for at, one in enumerate(objects):
            one.share = [*objects, at * share]
        return describe(objects[0], held=True)

    assert told(1) == told(1) != told(2)
