"""Policies that keep a score of each sample, or see losses in their batches."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seta
from seta import KeepCurve, Pruner
from seta.engine.state.fields import same
from seta.rl import SuccessRate, ZeroSignal
from tests.examples import examples
from tests.virtual_ranks import on_ranks

N = 40


@dataclass(frozen=True)
class Recorder:
    """Keeps everything; its score is 100 times the number of losses, plus their sum."""

    every: int = 1
    columns: ClassVar[tuple[str, ...]] = ("visits", "total")

    def fold(self, columns, losses):
        before = {name: np.nan_to_num(column) for name, column in columns.items()}
        return {"visits": before["visits"] + 1, "total": before["total"] + losses}

    def score(self, columns):
        return 100 * columns["visits"] + columns["total"]

    def __call__(self, histogram, epoch, epochs):
        return KeepCurve.constant(histogram, 0.5)


@dataclass(frozen=True)
class Relative:
    """Records each loss relative to the mean of its batch."""

    def in_batch(self, losses):
        return losses - losses.mean()

    def __call__(self, histogram, epoch, epochs):
        return KeepCurve.constant(histogram, 1.0)


def train(pruner, losses_of, epochs, batch=7):
    for _ in range(epochs):
        indices = pruner.begin_epoch().indices
        for part in np.split(indices, range(batch, len(indices), batch)):
            pruner.record(part, losses_of(part))
        pruner.end_epoch()


@examples(25)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 5))
def test_scores_follow_from_all_losses_of_a_sample(epochs, every, seed):
    pruner = Pruner(N, Recorder(every), epochs=7, seed=seed)
    visits, total = np.zeros(N), np.zeros(N)
    expected = np.full(N, np.nan)
    for epoch in range(epochs):
        selection = pruner.begin_epoch()
        if epoch and epoch % every == 0:
            expected = np.where(visits > 0, 100 * visits + total, np.nan)
        assert np.array_equal(pruner.losses, expected.astype(np.float32), equal_nan=True)
        losses = (selection.indices % 8).astype(np.float32)
        pruner.record(selection.indices, losses)
        visits[selection.indices] += 1
        total[selection.indices] += losses
        pruner.end_epoch()


def test_a_sharded_table_refuses_an_epoch_whose_scores_it_cannot_know():
    def made(sharding):
        pruner = Pruner(N, Recorder(every=4), epochs=14, sharding=sharding)
        train(pruner, lambda part: part.astype(np.float32), 3)
        return pruner

    whole, parts = made("replicated"), made("sharded")
    whole.begin_epoch(5)
    assert whole.histogram.unseen < N
    with pytest.raises(ValueError, match=r'leave out that epoch, give every=1, or use .*"repl'):
        parts.begin_epoch(5)
    train(parts, lambda part: part.astype(np.float32), 1)  # epoch 3, at whose end they are updated
    parts.begin_epoch(9)
    assert parts.histogram.unseen < N


def test_a_loss_that_is_not_finite_leaves_the_columns_alone():
    pruner = Pruner(2, Recorder(), epochs=3)
    pruner.begin_epoch()
    pruner.record([0, 1], np.array([np.nan, 2.0], np.float32))
    pruner.end_epoch()
    pruner.begin_epoch()
    assert np.array_equal(pruner.losses, [np.nan, 102], equal_nan=True)


def test_a_warm_start_counts_as_the_first_loss():
    pruner = Pruner(3, Recorder(), epochs=2, losses=np.array([1.0, np.nan, 3.0]))
    pruner.begin_epoch()
    assert pruner.losses[[0, 2]].tolist() == [101, 103]
    pruner.record([0, 1], np.array([5.0, 7.0], np.float32))
    pruner.end_epoch()
    pruner.begin_epoch()
    assert pruner.losses.tolist() == [206, 107, 103]


@pytest.mark.parametrize("policy", [Recorder(), Recorder(3), seta.UCB(every=2), seta.BLS()])
@pytest.mark.parametrize("cut", [(1, 0), (2, 2), (4, 1)])
def test_a_run_with_scores_resumes_exactly(policy, cut, tmp_path):
    def losses_of(indices):
        return np.sin(indices.astype(np.float32)) ** 2

    def make():
        return Pruner(N, policy, epochs=6, seed=3, budget=0.5)

    whole = make()
    train(whole, losses_of, 6)
    first, (epochs, batches) = make(), cut
    train(first, losses_of, epochs)
    indices = first.begin_epoch().indices
    for start in range(0, 7 * batches, 7):
        first.record(indices[start : start + 7], losses_of(indices[start : start + 7]))
    seta.save(first.state_dict(), tmp_path / "state")
    second = make()
    second.load_state_dict(seta.load(tmp_path / "state"))
    rest = second.begin_epoch().indices[7 * batches :]
    for part in np.split(rest, range(7, len(rest), 7)):
        second.record(part, losses_of(part))
    second.end_epoch()
    train(second, losses_of, 6 - epochs - 1)
    saved, expected = second.state_dict()["table"], whole.state_dict()["table"]
    assert same(saved["losses"], expected["losses"]) and same(saved["columns"], expected["columns"])
    assert [row["kept"] for row in second.history] == [row["kept"] for row in whole.history]


@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
@pytest.mark.parametrize(
    "before, after, unlike",
    [
        ("RePB", "InfoBatch", True),
        ("RePB", "UCB", True),
        ("RePB", "BLS", True),
        ("InfoBatch", "RePB", True),
        ("UCB", "RePB", True),
        ("InfoBatch", Relative(), True),
        (Relative(), Relative(), False),
        ("RePB", seta.RePB(0.3), False),
        ("InfoBatch", "UCB", False),
        (ZeroSignal(), "Learnable", True),
        ("SeTa", SuccessRate(), True),
        ("RePB", ZeroSignal(), True),
        (SuccessRate(), ZeroSignal(), False),
    ],
)
def test_losses_differences_and_signals_are_not_mixed(before, after, unlike, sharding, caplog):
    def made(policy):
        return Pruner(N, policy, epochs=8, sharding=sharding, track=True)

    first, second = made(before), made(after)
    train(first, lambda part: 2 + part.astype(np.float32), 2)
    second.load_state_dict(first.state_dict(), changed=["policy"])
    assert np.isnan(second.losses).all() == unlike
    assert ("all samples begin unseen" in caplog.text) == unlike
    assert np.isnan(second.table()["mean"]).all() == unlike
    second.begin_epoch()
    assert (second.histogram.unseen == N) == unlike
    assert second.left_out.min() == 1


def test_differences_in_the_log_of_an_open_epoch_are_refused():
    def save(ranks):
        pruner = Pruner(N, "RePB", epochs=2, ranks=ranks)
        share = pruner.share().indices
        pruner.record(share, share.astype(np.float32))
        return pruner.state_dict()

    state = on_ranks(2, save)[0][0]
    message = "differences to the mean of a batch, that of the run losses, .*: finish it before"
    with pytest.raises(ValueError, match=message):
        Pruner(N, "InfoBatch", epochs=2).load_state_dict(state, changed=["policy"])


@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
def test_columns_of_another_policy_begin_with_the_losses(sharding):
    first = Pruner(N, seta.Random(), epochs=2, sharding=sharding)
    train(first, lambda indices: indices.astype(np.float32), 1)
    second = Pruner(N, Recorder(), epochs=2, sharding=sharding)
    second.load_state_dict(first.state_dict(), changed=["policy"])
    second.begin_epoch()
    seen = ~np.isnan(first.losses)
    assert seen.any()
    assert np.array_equal(second.losses[seen], 100 + first.losses[seen])


@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
@pytest.mark.parametrize("every", [1, 5])
def test_scores_of_another_policy_with_the_same_columns_are_taken_anew(every, sharding):
    options = {"epochs": 40, "sharding": sharding, "always_keep": [3, N - 1]}
    first = Pruner(N, seta.UCB(confidence=100.0, every=1), **options)
    train(first, lambda indices: 1 + indices.astype(np.float32) % 7, 3)
    second = Pruner(N, seta.EpsilonGreedy(every=every), **options)
    second.load_state_dict(first.state_dict(), changed=["policy"])
    second.begin_epoch()
    means = second.state_dict()["table"]["columns"]["mean"]
    assert np.array_equal(second.losses, means, equal_nan=True)
    assert second.histogram.edges[-1] < 8
    second.load_state_dict(second.state_dict())


def test_a_score_beyond_float32_counts_as_unseen():
    @dataclass(frozen=True)
    class Huge(Recorder):
        def score(self, columns):
            return np.full(len(columns["total"]), 1e40)

    pruner = Pruner(N, Huge(), epochs=3)
    train(pruner, lambda indices: indices.astype(np.float32), 1)
    pruner.begin_epoch()
    assert pruner.histogram.unseen == N


@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
@pytest.mark.parametrize("policy", [Recorder(), seta.UCB(every=2)])
def test_several_processes_keep_the_scores_of_one(sharding, policy):
    n = 5000

    def columns_of(ranks):
        pruner = Pruner(
            n,
            policy,
            epochs=4,
            ranks=ranks,
            sharding=sharding,
            budget=0.5,
            batch_size=4 // ranks.size,
            threads=1,
        )
        for epoch in range(4):
            pruner.begin_epoch()
            share = pruner.share().indices
            pruner.record(share, (share % 11 + epoch).astype(np.float32))
            pruner.end_epoch()
        held = np.arange(n) if pruner.held is None else pruner.held
        table = pruner.state_dict()["table"]
        return held, np.stack([table["losses"], *table["columns"].values()])

    def by_sample(parts):
        whole = np.full((1 + len(policy.columns), n), np.inf)
        for held, columns in parts:
            whole[:, held[held < n]] = columns[:, held < n]
        return whole

    alone, together = by_sample(on_ranks(1, columns_of)[0]), by_sample(on_ranks(4, columns_of)[0])
    assert not np.isinf(alone).any()
    assert np.isfinite(alone[1]).mean() > 0.8
    assert np.array_equal(alone, together, equal_nan=True)


@pytest.mark.parametrize("batch", [1, 3, 40])
def test_a_loss_is_recorded_as_its_batch_makes_it(batch):
    pruner = Pruner(N, Relative(), epochs=1)
    indices = pruner.begin_epoch().indices
    expected = np.empty(N)
    for part in np.split(indices, range(batch, N, batch)):
        losses = np.sqrt(part.astype(np.float32))
        expected[part] = losses - losses.mean()
        pruner.record(part, losses)
    assert pruner.losses == pytest.approx(expected, abs=1e-6)


def test_losses_that_are_not_finite_take_no_part_in_their_batch():
    pruner = Pruner(3, Relative(), epochs=1)
    pruner.begin_epoch()
    pruner.record([0, 1, 2], np.array([1.0, np.inf, 3.0]))
    assert np.array_equal(pruner.losses, [-1, np.nan, 1], equal_nan=True)
    assert pruner.end_epoch()["nonfinite"] == 1


@dataclass(frozen=True)
class Broken(Recorder):
    fault: str = ""

    def fold(self, columns, losses):
        folded = super().fold(columns, losses)
        return folded if self.fault != "columns" else {"visits": folded["visits"]}

    def score(self, columns):
        return np.zeros(3) if self.fault == "score" else super().score(columns)


@pytest.mark.parametrize("fault", ["columns", "score"])
def test_columns_that_do_not_fit_are_refused_before_training(fault):
    with pytest.raises(ValueError, match="fold must return its columns"):
        Pruner(3, Broken(fault=fault), epochs=1)


@pytest.mark.parametrize("every", [0, -1, 1.5, 2.0, True])
def test_a_period_that_is_none_is_refused(every):
    message = f"policy.every must be (at least 1|an integer), got {every}"
    with pytest.raises((TypeError, ValueError), match=message):
        Pruner(3, Recorder(every), epochs=1)


def test_a_batch_that_is_answered_by_nonsense_is_refused():
    class Nonsense(Relative):
        def in_batch(self, losses):
            return losses[:-1]

    pruner = Pruner(3, Nonsense(), epochs=1)
    pruner.begin_epoch()
    with pytest.raises(ValueError, match="a number for each of the 3 losses, finite in float32"):
        pruner.record([0, 1, 2], np.ones(3))
    assert np.isnan(pruner.losses).all()
