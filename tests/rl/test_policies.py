"""ZeroSignal and SuccessRate against their rules, computed by hand."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

import seta
from seta.rl import SuccessRate, ZeroSignal, group_signal, is_flat, rate_of
from seta.rl.success_rate import RATES, SIZES, posterior_of, within_of
from tests.virtual_ranks import on_ranks

N, ROLLOUTS = 600, 8
TRUE = np.concatenate([np.ones(200), np.zeros(200), np.linspace(0.3, 0.7, 200)])
SIGNALS = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0]), min_size=1, max_size=12)


def signals_of(indices, epoch, rollouts=ROLLOUTS):
    """Of groups of rollouts, each a function of its prompt and the epoch alone."""
    draws = [np.random.default_rng([int(i), epoch]).random(rollouts) < TRUE[i] for i in indices]
    return group_signal(np.array(draws, float))


def run(pruner, epochs):
    for _ in range(epochs):
        share = pruner.share().indices
        pruner.record(share, signals_of(share, pruner.epoch))
        pruner.end_epoch()
    return pruner


def folded(policy, signals):
    columns = {name: np.full(1, np.nan, np.float32) for name in policy.columns}
    for signal in signals:
        columns = policy.fold(columns, np.array([signal], np.float32))
    return columns


# ZeroSignal.


@given(SIGNALS)
def test_flat_groups_in_a_row_are_counted_by_side(signals):
    columns = folded(ZeroSignal(), signals)
    last, row = signals[-1], 0
    for signal in reversed(signals):
        if signal != last or signal < 2:
            break
        row += 1
    assert columns["row"][0] == (row if last == 3 else -row)
    counts = [columns[name][0] for name in ("groups", "easy", "hard")]
    assert counts == [len(signals), signals.count(3.0), signals.count(2.0)]


def histogram_of(policy, prompts, notes=None):
    """Of prompts, each a list of signals."""
    columns = [folded(policy, signals) for signals in prompts]
    table = {name: np.concatenate([row[name] for row in columns]) for name in policy.columns}
    one = seta.LossHistogram.from_losses(policy.score(table).astype(np.float32))
    counted = {
        name: seta.LossHistogram.from_losses(table[name]) for name in getattr(policy, "counted", ())
    }
    return seta.LossHistogram(one.binning, one.counts, one.unseen, None, counted, notes or {})


def test_the_keep_probability_is_a_power_of_p_and_a_hundredth_at_least():
    prompts = [[0.5], *([3.0] * z for z in range(1, 9)), *([2.0] * z for z in range(1, 9))]
    policy = ZeroSignal(start=0.4)
    histogram = histogram_of(policy, prompts)
    curve = policy(histogram, 1, 9)
    rows = np.array([0, *range(1, 9), *range(-1, -9, -1)], np.float32)
    keep = curve.keep[histogram.bin_of(rows)]
    expected = np.maximum(0.4 ** np.abs(rows), 0.01)
    np.testing.assert_allclose(keep, expected, rtol=1e-6)
    assert curve.unseen == 1 and curve.weight is None


def test_a_row_of_hundreds_is_kept_once_in_a_hundred():
    prompts = [[3.0] * 300, [2.0] * 300, [0.5]]
    curve = ZeroSignal()(histogram_of(ZeroSignal(), prompts), 1, 9)
    assert sorted(set(curve.keep.tolist()))[0] == 0.01 and curve.keep.max() == 1


@pytest.mark.parametrize("easy, hard", [(0, 0), (1, 2), (2, 1), (1, 1), (2, 2), (12, 0), (0, 12)])
def test_p_is_steered_towards_the_target_of_its_side(easy, hard):
    """Of 12 groups one may be all right, and two all wrong: a twelfth and a sixth."""
    policy, spread = ZeroSignal(), 12 - easy - hard
    prompts = [[3.0]] * easy + [[2.0]] * hard + [[0.5]] * spread
    notes = {"groups": 5.0, "easy": 0.0, "hard": 0.0, "p_easy": 0.6, "p_hard": 0.3}
    more = [[0.5]] * 5  # of epochs before
    found = policy.steered(histogram_of(policy, prompts + more, notes))
    assert found["p_easy"] == pytest.approx(0.59 if easy >= 1 else 0.61)
    assert found["p_hard"] == pytest.approx(0.29 if hard >= 2 else 0.31)
    assert [found[name] for name in ("groups", "easy", "hard")] == [17, easy, hard]


def test_p_stays_as_it_began_in_the_second_epoch_and_within_its_bounds():
    policy = ZeroSignal(step=0.2)
    assert policy.steered(seta.LossHistogram.from_losses(np.full(3, np.nan, np.float32))) == {
        **{"groups": 0, "easy": 0, "hard": 0, "prompts": 3},
        **{"p_easy": 0.5, "p_hard": 0.5},
    }
    notes = policy.steered(histogram_of(policy, [[3.0]] * 4))
    assert (notes["p_easy"], notes["p_hard"]) == (0.5, 0.5)
    for groups in range(2, 6):
        notes = policy.steered(histogram_of(policy, [[3.0] * groups] * 4, notes))
    assert (notes["p_easy"], notes["p_hard"]) == (0.05, 0.95)


def test_a_run_steers_by_the_groups_of_each_epoch():
    pruner = run(seta.Pruner(N, ZeroSignal(), epochs=8, seed=1), 8)
    p, before = {"easy": 0.5, "hard": 0.5}, []
    for epoch, row in enumerate(pruner.history):
        if epoch >= 2:
            for side, share in (("easy", 1 / 12), ("hard", 1 / 6)):
                made = before[-1][side] / before[-1]["groups"]
                p[side] += -0.01 if made >= share else 0.01
        assert row["notes"]["p_easy"] == pytest.approx(p["easy"])
        assert row["notes"]["p_hard"] == pytest.approx(p["hard"])
        after = pruner.history[epoch + 1]["notes"] if epoch < 7 else None
        if after:
            before.append({name: after[name] - row["notes"][name] for name in after})
            assert before[-1]["groups"] == row["trained"]


# SuccessRate.


def test_a_posterior_forgets():
    columns = folded(SuccessRate(memory=0.5), [0.25, 3.0, 0.5])
    right = wrong = 1.0
    for rate in (0.25, 1.0, 0.5):
        right, wrong = 0.5 * right + 0.5 + 8 * rate, 0.5 * wrong + 0.5 + 8 * (1 - rate)
    assert (columns["right"][0], columns["wrong"][0]) == (np.float32(right), np.float32(wrong))


def test_probabilities_are_those_of_the_beta_distribution():
    for a, b in [(1, 1), (1.5, 8), (3, 3), (40, 5), (9, 1), (300, 280)]:
        within = within_of(np.array([a / (a + b)]), np.array([a + b]))[0]
        distances = np.linspace(0, 0.5, len(within))
        exact = beta.cdf(0.5 + distances, a, b) - beta.cdf(0.5 - distances, a, b)
        np.testing.assert_allclose(within, exact, atol=0.02)


def test_a_score_is_a_bin_of_its_own():
    policy = SuccessRate()
    rng = np.random.default_rng(0)
    size = np.exp(rng.uniform(np.log(2), np.log(2000), 5000))
    mean = rng.uniform(0.001, 0.999, 5000)
    columns = {"right": (mean * size).astype(np.float32)}
    columns["wrong"] = (size - mean * size).astype(np.float32)
    scores = np.append(policy.score(columns), [1.0, 2.0 - 2.0**-17]).astype(np.float32)
    histogram = seta.LossHistogram.from_losses(scores)
    assert histogram.bins == RATES * SIZES
    found = posterior_of(histogram.centres[histogram.bin_of(scores)])
    np.testing.assert_allclose(found[0][:-2], mean, atol=1 / RATES)
    np.testing.assert_allclose(found[1][:-2], size, rtol=0.07)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_is_kept_and_rates_near_one_half_come_first(share):
    policy = SuccessRate(1 - share)
    prompts = [[0.5]] * 40 + [[0.25]] * 40 + [[0.0]] * 40 + [[3.0, 3.0]] * 40 + [[1.0]] * 40
    histogram = histogram_of(policy, prompts)
    curve = policy(histogram, 1, 9)
    assert curve.expected(histogram) == pytest.approx(200 * share, rel=1e-6)
    half, quarter, none, twice, all_ = (
        curve.keep[histogram.bin_of(policy.score(folded(policy, row)).astype(np.float32))[0]]
        for row in ([0.5], [0.25], [0.0], [3.0, 3.0], [1.0])
    )
    assert half > quarter > none > twice and none == pytest.approx(all_, abs=0.02)


def test_before_the_first_group_all_prompts_are_alike():
    histogram = seta.LossHistogram.from_losses(np.full(100, np.nan, np.float32))
    assert SuccessRate(0.7)(histogram, 0, 5).unseen == pytest.approx(0.3)


# Both.

POLICIES = [ZeroSignal(), SuccessRate(0.6, rollouts=ROLLOUTS)]


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@pytest.mark.parametrize("budget", [0.2, 0.5, 1.0])
def test_budgets_are_exact_and_flat_groups_become_rare(policy, budget):
    pruner = run(seta.Pruner(N, policy, epochs=10, budget=budget, batch_size=20), 10)
    assert [row["trained"] for row in pruner.history] == [N * budget] * 10
    if budget == 0.2:  # of all prompts two thirds are flat
        last = np.flatnonzero(pruner.left_out == 0)
        assert is_flat(signals_of(last, 9)).mean() < 0.5


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@pytest.mark.parametrize("over", [0, 1, 4])
def test_killed_and_resumed_it_is_the_same(policy, over):
    whole = run(seta.Pruner(N, policy, epochs=7, budget=0.5, batch_size=20), over)
    share = whole.share().indices
    whole.record(share[:100], signals_of(share[:100], over))
    other = seta.Pruner(N, policy, epochs=7, budget=0.5, batch_size=20)
    other.load_state_dict(pickle.loads(pickle.dumps(whole.state_dict(done=100))))
    whole.record(share[100:], signals_of(share[100:], over))
    whole.end_epoch()
    run(other, 1)
    for pruner in (whole, other):
        run(pruner, 6 - over)
    np.testing.assert_array_equal(whole.losses, other.losses)
    assert [row.get("notes") for row in whole.history] == [
        row.get("notes") for row in other.history
    ]


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
def test_ranks_steer_and_choose_alike(policy, sharding):
    def parts(ranks):
        pruner = seta.Pruner(
            N, policy, epochs=5, budget=0.5, batch_size=10, ranks=ranks, sharding=sharding
        )
        run(pruner, 5)
        return [row.get("notes") for row in pruner.history], [
            row["trained"] for row in pruner.history
        ]

    (first, second), _ = on_ranks(2, parts)
    assert first == second and first[1] == [300] * 5
    if isinstance(policy, ZeroSignal):
        assert first[0][-1]["groups"] == 1200


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@settings(deadline=None)
@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=30)
)
def test_columns_and_scores_stay_finite_whatever_is_recorded(policy, values):
    columns = folded(policy, values)
    assert all(np.isfinite(column).all() for column in columns.values())
    assert all(column.dtype == np.float32 for column in columns.values())
    assert np.isfinite(policy.score(columns)).all()
    assert rate_of(np.array(values, np.float32)).min() >= 0
    assert rate_of(np.array(values, np.float32)).max() <= 1


def test_arguments_are_checked():
    for name in ("target", "easy", "step", "start"):
        with pytest.raises(ValueError, match=rf"{name} must lie in \[0, 1\], got 1.5"):
            ZeroSignal(**{name: 1.5})
    with pytest.raises(ValueError, match=r"memory must lie in \[0, 1\], got -0.1"):
        SuccessRate(memory=-0.1)
    with pytest.raises(ValueError, match=r"prune_ratio must lie in \[0, 1\), got 1"):
        SuccessRate(1)
    with pytest.raises(ValueError, match="rollouts must be at least 1, got 0"):
        SuccessRate(rollouts=0)
    assert SuccessRate.at_budget(0.7) == SuccessRate(0.3)


@pytest.mark.parametrize("policy", [ZeroSignal(), SuccessRate()])
def test_signals_are_not_suspect(policy):
    pruner = run(seta.Pruner(N, policy, epochs=4, budget=0.5, track=True), 3)
    assert "suspicion" not in pruner.table()
    with pytest.raises(RuntimeError, match=r"gets signals of rewards: seta.rl.rate_of\(table"):
        pruner.suspects()


def test_groups_without_rewards_are_told_of_in_their_own_words(caplog):
    pruner = seta.Pruner(N, ZeroSignal(), epochs=2)
    prompts = pruner.begin_epoch().indices
    pruner.record(prompts, group_signal(np.full((N, ROLLOUTS), np.nan)))
    pruner.end_epoch()
    (told,) = caplog.messages
    assert told.startswith(f"epoch 0: {N} of {N} groups had no rewards.")
    assert told.endswith("look at the reward function") and "loss" not in told
