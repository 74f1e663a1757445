"""Histograms of what a policy keeps of the samples, against a count of the columns themselves."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seta
from seta import Binning, KeepCurve, LossHistogram, Pruner
from seta.engine.state.fields import same
from seta.plan import Plan, lengths, read
from seta.plan.model import sharded_exchange
from seta.policies import REGISTRY
from tests.combinations import some_of
from tests.examples import examples
from tests.states import digest_of
from tests.virtual_ranks import on_ranks

N, EPOCHS = 3000, 5


@dataclass(frozen=True)
class Uncounted:
    """Keeps three numbers of each sample, one of which is never seen."""

    keep: float = 0.5
    every: ClassVar[int] = 2
    columns: ClassVar[tuple[str, ...]] = ("visits", "total", "never")

    def fold(self, columns, losses):
        visits, total = (np.nan_to_num(columns[name]) for name in ("visits", "total"))
        return {"visits": visits + 1, "total": total + losses, "never": columns["never"]}

    def score(self, columns):
        return columns["total"] + columns["visits"]  # never a loss itself

    def __call__(self, histogram, epoch, epochs):
        return KeepCurve.constant(histogram, self.keep)


@dataclass(frozen=True)
class Counting(Uncounted):
    """Looks at all of them, and weights by how often samples were trained on average."""

    counted: ClassVar[tuple[str, ...]] = ("visits", "total", "never")

    def __call__(self, histogram, epoch, epochs):
        visits = histogram.columns["visits"]
        assert visits.total == histogram.total
        weight = np.full(histogram.bins, 1 + visits.mean() if visits.seen else 1.0)
        return KeepCurve(np.full(histogram.bins, self.keep), self.keep, weight)


def loss_of(samples, epoch):
    return np.sin(samples + 7.0 * epoch).astype(np.float32)


def pruner_of(policy, ranks=None, **options):
    options = {"sharding": "replicated", "threads": 1, "budget": 0.5, "seed": 3, **options}
    size = 1 if ranks is None else ranks.size
    return Pruner(N, policy, epochs=EPOCHS, ranks=ranks, batch_size=12 // size, **options)


def train(pruner, epochs):
    """Trains whole epochs, or what is left of an open one."""
    for _ in range(epochs):
        share = pruner.share().indices
        pruner.record(share, loss_of(share, pruner.epoch))
        pruner.end_epoch()
    return pruner


def train_part(pruner):
    """Trains a part of an epoch, and returns its state."""
    part = pruner.share().indices[: 120 // pruner.sizes.global_batch * pruner.sizes.batch_size]
    pruner.record(part, loss_of(part, pruner.epoch))
    done = len(part) * (1 if pruner.ranks is None else pruner.ranks.size)
    return pruner.state_dict(done=done, begun=True, gather=False)


def begun(pruner):
    """Begins an epoch, and returns its histogram, and the columns of the samples held here."""
    held = np.arange(N) if pruner.held is None else pruner.held
    columns = pruner.state_dict(gather=False)["table"]["columns"]
    pruner.begin_epoch()
    return pruner.histogram, held, columns


def whole(parts):
    """Returns the columns of all samples, of those of each process."""
    columns = {name: np.full(N, np.inf, np.float32) for name in Uncounted.columns}
    for _, held, part in parts:
        for name, column in columns.items():
            column[held[held < N]] = part[name][held < N]
    assert not any(np.isinf(column).any() for column in columns.values())
    return columns


def assert_counts(histogram, columns):
    """Compares the histograms of columns with a count by the edges of the bins."""
    assert [*histogram.columns] == [*columns]
    for name, column in columns.items():
        found, seen = histogram.columns[name], column[~np.isnan(column)]
        ends = (seen.min(), seen.max()) if len(seen) else (0.0, 0.0)
        assert found.binning == Binning.over(*ends)
        bins = np.searchsorted(found.edges, seen, side="right") - 1
        assert np.array_equal(found.counts, np.bincount(bins, minlength=found.bins))
        assert found.unseen == len(column) - len(seen)
        assert found.by_stratum is None and not found.columns


def assert_right(parts):
    """Checks the histograms that all processes have, against the columns of all."""
    columns = whole(parts)
    for histogram, _, _ in parts:
        assert_counts(histogram, columns)
    return digest(parts[0][0])


def digest(histogram):
    return {name: digest_of([*part.cells]) for name, part in histogram.columns.items()}


@examples(30)
@given(st.lists(st.tuples(st.integers(0, 9), st.floats(-9, 9, width=32)), max_size=30))
def test_columns_are_counted_as_they_are(records):
    pruner = Pruner(10, Counting(keep=1.0), epochs=3)
    pruner.begin_epoch()
    visits, total = np.full(10, np.nan, np.float32), np.full(10, np.nan, np.float32)
    for sample, loss in records:
        pruner.record([sample], np.array([loss], np.float32))
        visits[sample] = np.nan_to_num(visits[sample]) + 1
        total[sample] = np.nan_to_num(total[sample]) + np.float32(loss)
    pruner.record([0], np.array([np.nan], np.float32))  # an epoch needs one answer
    pruner.end_epoch()
    pruner.begin_epoch()
    expected = {"visits": visits, "total": total, "never": np.full(10, np.nan, np.float32)}
    assert_counts(pruner.histogram, expected)


@pytest.mark.parametrize(
    "sharding, options",
    [
        pytest.param("replicated", {}, marks=pytest.mark.slow),
        pytest.param("replicated", {"always_keep": [3, 2999]}, marks=pytest.mark.slow),
        ("sharded", {}),
        pytest.param("sharded", {"always_keep": [3, 2999]}, marks=pytest.mark.slow),
    ],
)
def test_any_number_of_processes_and_threads_counts_alike(sharding, options):
    def run(policy, threads):
        def on_rank(ranks):
            pruner = pruner_of(policy, ranks, sharding=sharding, threads=threads, **options)
            return begun(train(pruner, 3))

        return on_rank

    found = []
    for size, threads in [(1, 1), (2, 1), (3, 1), (3, 2)]:
        parts, group = on_ranks(size, run(Counting(), threads))
        _, without = on_ranks(size, run(Uncounted(), threads))
        assert len(group.calls) == len(without.calls)  # in the same messages
        found.append(assert_right(parts))
    assert all(one == found[0] for one in found)
    alone = begun(train(pruner_of(Counting(), sharding=sharding, **options), 3))
    assert assert_right([alone]) == found[0]
    assert alone[0].columns["visits"].bins > 1 and alone[0].columns["visits"].unseen


def test_whole_tables_and_tables_in_parts_count_alike():
    ways = [
        assert_right([begun(train(pruner_of(Counting(1.0), sharding=way, budget=None), 3))])
        for way in ("replicated", "sharded")
    ]
    assert ways[0] == ways[1]


@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
def test_nothing_is_counted_before_anything_is_known(sharding):
    found = begun(pruner_of(Counting(), sharding=sharding))
    assert_right([found])
    assert [part.unseen for part in found[0].columns.values()] == [N] * 3


def test_columns_are_counted_anew_where_scores_stay():
    pruner = train(pruner_of(Counting()), 3)  # scores are of epoch 2
    histogram, _, columns = begun(pruner)
    assert_counts(histogram, columns)
    assert histogram.columns["visits"].seen > histogram.seen


@some_of(
    "sizes, sharding, open",
    [(1, 3), (3, 2), (1, 1), (2, 2)],
    ["replicated", "sharded"],
    [False, True],
)
def test_a_resumed_run_counts_right_on_any_number_of_processes(sharding, sizes, open, tmp_path):
    def save(ranks):
        pruner = train(pruner_of(Counting(), ranks, sharding=sharding), 2)
        state = train_part(pruner) if open else pruner.state_dict(gather=False)
        seta.save(state, tmp_path / f"{ranks.process}")

    def go_on(ranks):
        pruner = pruner_of(Counting(), ranks, sharding=sharding)
        states = [seta.load(tmp_path / f"{one}") for one in range(sizes[0])]
        pruner.load_state_dict(states[: states[0]["table"]["parts"]])
        return begun(train(pruner, 1) if open else pruner)

    on_ranks(sizes[0], save)
    found = assert_right(on_ranks(sizes[1], go_on)[0])
    if not open:
        assert found == digest(begun(train(pruner_of(Counting(), sharding=sharding), 2))[0])


def test_a_state_does_not_depend_on_what_is_counted():
    states = []
    for policy in (Uncounted(), Counting()):
        state = train(pruner_of(policy, sharding="sharded"), 2).state_dict()
        states.append({key: state["table"][key] for key in ("shared", "columns", "losses")})
    assert same(*states)


@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
def test_columns_of_another_policy_begin_with_the_losses(sharding):
    first = train(pruner_of("Random", sharding=sharding), 1)
    pruner = pruner_of(Counting(), sharding=sharding)
    pruner.load_state_dict(first.state_dict(), changed=["policy"])
    histogram, held, columns = begun(pruner)
    assert_right([(histogram, held, columns)])
    assert histogram.columns["total"].seen == np.count_nonzero(~np.isnan(first.losses)) > 0


@some_of(
    "policy, size, options",
    [Counting(), Uncounted()],
    [1, 2, 3],
    [{}, {"always_keep": [3, 2999]}],
)
def test_a_warm_start_counts_as_the_first_loss(policy, size, options):
    losses = np.where(np.arange(N) % 3, loss_of(np.arange(N), 9), np.nan).astype(np.float32)

    def begin(sharding):
        def on_rank(ranks):
            pruner = pruner_of(policy, ranks, sharding=sharding, losses=losses, **options)
            found = begun(pruner)
            values = np.full(N, np.inf)
            values[found[1][found[1] < N]] = pruner.losses[found[1] < N]
            return found, values

        return on_rank

    alone = on_ranks(1, begin("replicated"))[0][0]
    parts = on_ranks(size, begin("sharded"))[0]
    if isinstance(policy, Counting):
        assert assert_right([part for part, _ in parts]) == digest(alone[0][0])
        assert alone[0][0].columns["total"].seen == N * 2 // 3
    for (histogram, _, _), _ in parts:  # of the scores
        assert histogram.binning == alone[0][0].binning
        assert np.array_equal(histogram.cells, alone[0][0].cells)
    scores = np.min([values for _, values in parts], axis=0)
    assert np.array_equal(scores, alone[1], equal_nan=True)


@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
def test_what_is_not_finite_counts_as_unseen(sharding):
    pruner = pruner_of(Counting(1.0), sharding=sharding, budget=None)
    for _ in range(2):
        share = pruner.share().indices
        huge = np.where(share % 5 == 0, 3e38, 1.0).astype(np.float32)
        with np.errstate(over="ignore"):
            pruner.record(share, huge)
        pruner.end_epoch()
    pruner.begin_epoch()
    total = pruner.histogram.columns["total"]
    assert (total.unseen, total.seen) == (N // 5, N - N // 5)
    assert total.centres[total.counts > 0].tolist() == [2.0]


@pytest.mark.parametrize("policy", ["SeTa", seta.UCB(every=1), Uncounted()])
@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
def test_a_policy_that_does_not_ask_gets_no_columns(policy, sharding):
    pruner = train(pruner_of(policy, sharding=sharding), 1)
    pruner.begin_epoch()
    assert pruner.histogram.columns == {}


def histogram_of(losses, **columns):
    binning = Binning.over(0.0, 8.0)
    counts = {
        name: LossHistogram.from_losses(np.asarray(column, np.float32), binning=binning)
        for name, column in columns.items()
    }
    losses = np.asarray(losses, np.float32)
    return replace(LossHistogram.from_losses(losses, binning=binning), columns=counts)


def test_histograms_of_parts_add_up_column_by_column():
    merged = histogram_of([1], a=[2], b=[3]).merge(histogram_of([5, 6], a=[7, np.nan], b=[3, 3]))
    expected = histogram_of([1, 5, 6], a=[2, 7, np.nan], b=[3, 3, 3])
    assert [*merged.columns] == ["a", "b"]
    for name, part in expected.columns.items():
        assert np.array_equal(merged.columns[name].cells, part.cells)


def test_histograms_of_other_columns_are_not_merged():
    with pytest.raises(ValueError, match=r"different columns do not add up: \['a'\] and \['b'\]"):
        histogram_of([1], a=[2]).merge(histogram_of([1], b=[2]))
    other = histogram_of([1], a=[2])
    other.columns["a"] = LossHistogram.from_losses(np.ones(1, np.float32))
    with pytest.raises(ValueError, match="different bins do not add up"):
        histogram_of([1], a=[2]).merge(other)


@dataclass(frozen=True)
class Planned(Counting):
    """Keeps as large a share of the seen as was seen, and half of the others."""

    def __call__(self, histogram, epoch, epochs):
        visits, total = histogram.columns["visits"], histogram.columns["total"]
        assert visits.total == histogram.total == total.total
        assert histogram.columns["never"].seen == 0
        assert visits.seen == pytest.approx(histogram.seen, abs=histogram.bins)
        assert not visits.seen or visits.bins == 1  # all have as many
        mean = visits.mean() * histogram.mean()
        assert total.mean() == pytest.approx(mean, rel=1e-3, nan_ok=True)
        share = visits.seen / visits.total  # 0, 1/2, 3/4
        weight = np.full(histogram.bins, 2.0) if visits.seen else None
        return KeepCurve(np.full(histogram.bins, share), 0.5, weight)


def test_a_plan_has_the_columns_as_a_first_loss_makes_them():
    shares = lengths.expected_shares(Planned(), 3)
    assert shares == pytest.approx([1 / 2, 1 / 2, 3 / 4 * 3 / 4 + 1 / 4 * 1 / 2], abs=0.002)
    assert lengths.is_weighted(Planned(), 4)


def test_a_planned_exchange_has_a_histogram_for_each_column(monkeypatch):
    one, three = sharded_exchange(4, 99), sharded_exchange(4, 99, columns=2)
    assert three.own - one.own == 2 * (16 + 8 * 100)
    monkeypatch.setitem(REGISTRY, "Planned", Planned)
    given = {"samples": "240000", "epochs": "3", "ranks": "4", "method": "Planned"}
    plan = Plan(read({**given, "sharding": "sharded"}))
    assert plan.exchange == sharded_exchange(4, columns=3)
    assert plan.epochs[0].chosen == 120_000


@pytest.mark.parametrize(
    "columns, counted",
    [(("visits", "total", "never"), ("total", "lowest")), ((), ("total",))],
)
def test_what_is_no_column_cannot_be_counted(columns, counted):
    class Wrong(Uncounted if columns else object):
        def __call__(self, histogram, epoch, epochs):
            return KeepCurve.constant(histogram, 1.0)

    Wrong.counted = counted
    with pytest.raises(ValueError) as error:
        Pruner(3, Wrong(), epochs=3)
    start = f"policy.counted must name some of the columns {columns}, got {counted} of "
    assert str(error.value).startswith(start)
