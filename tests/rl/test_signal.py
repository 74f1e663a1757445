"""The signal of a group of rewards, and rewards in any order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seta
from seta.rl import group_signal, is_flat, rate_of, record_rewards


@pytest.mark.parametrize(
    "rewards, signal",
    [
        ([0, 0, 0, 0], 2.0),
        ([1, 1, 1, 1], 3.0),
        ([0, 1, 1, 1], 0.75),
        ([0.5, 0.5, 0.49, 0.49], 0.5),
        ([0.1, 0.2, 0.3, 0.4], 0.0),  # all wrong, and yet different
        ([0.8, 0.9, 0.8, 0.9], 1.0),
        ([0.3, 0.3, 0.3, 0.3], 2.0),
        ([0.1 + 0.2, 0.3, 0.3, 0.3], 2.0),  # differs in the last bit
        ([0.9, 0.9 + 1e-7, 0.9, 0.9], 3.0),
        ([1e8, 1e8, 1e8, 1e8], 3.0),
        ([0, 1, np.nan, np.nan], 0.5),
        ([1, np.nan, np.nan, np.nan], 3.0),
        ([np.nan, np.nan, np.nan, 0], 2.0),
    ],
)
def test_a_signal_tells_the_success_rate_and_whether_the_rewards_are_alike(rewards, signal):
    found = group_signal([rewards])
    assert found.dtype == np.float32 and found.tolist() == [np.float32(signal)]
    assert is_flat(found)[0] == (signal >= 2)
    assert rate_of(found)[0] == (signal - 2 if signal >= 2 else signal)


def test_a_group_without_rewards_has_no_signal():
    assert np.isnan(group_signal([[np.nan, np.nan]])).all()
    pruner = seta.Pruner(2, seta.rl.ZeroSignal(), epochs=2)
    pruner.begin_epoch()
    pruner.record(np.array([0, 1]), group_signal([[np.nan, np.nan], [1, 0]]))
    row = pruner.end_epoch()
    assert row["trained"] == 2 and row["nonfinite"] == 1
    pruner.begin_epoch()
    assert np.isnan(pruner.losses).tolist() == [True, False]


def test_what_counts_as_right_can_be_said():
    rewards = [[2.0, 1.0, 0.0, -1.0]]
    assert [group_signal(rewards, right=right)[0] for right in (0.5, 2, -1, 3)] == [0.5, 0.25, 1, 0]


def test_rewards_may_be_none_and_far_apart():
    assert group_signal([[None, 1.0], [1e308, -1e308]]).tolist() == [3.0, 0.5]


def test_a_reward_that_is_the_threshold_but_for_rounding_is_right():
    rewards = np.array([[0.7, 0.7, 0.6, 0.0], [0.1 + 0.2, 0.3, 0.29, 0.0]], np.float32)
    assert group_signal(rewards[:1], right=0.7).tolist() == [0.5]
    assert group_signal(rewards[1:], right=0.3).tolist() == [0.5]


@pytest.mark.parametrize("rewards", [[1.0, 0.0], [], [[[1.0]]], np.zeros((3, 0))])
def test_rewards_that_are_no_groups_are_refused(rewards):
    with pytest.raises(ValueError, match=r"rewards must have a row for each prompt, \(B, G\), got"):
        group_signal(rewards)


def test_rewards_and_thresholds_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="rewards must be finite, or NaN .* got infinity"):
        group_signal([[np.inf, 0]])
    strange = ([["1", "0"]], [["good", 1]], [[1, 0], [1]], [[1 + 2j]], {"a": 1}, [[{}, 1]])
    strange += ([["1", None]], [[10**400, 0]])
    for rewards in (*strange, np.array([["2020-01-01"]], "datetime64[D]")):
        with pytest.raises(TypeError, match="rewards must be numbers, None for .* without one"):
            group_signal(rewards)
    for right in (np.inf, np.nan):
        with pytest.raises((TypeError, ValueError), match="right must"):
            group_signal([[1, 0]], right=right)


@given(st.permutations(list(range(20))))
def test_rollouts_in_any_order_are_grouped_by_their_prompts(order):
    prompts = np.repeat([7, 3, 5, 0], 5)[order]
    rewards = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0.0])[order]
    pruner = seta.Pruner(9, "Full", epochs=1)
    pruner.begin_epoch()
    record_rewards(pruner, prompts, rewards)
    expected = np.full(9, np.nan, np.float32)
    expected[[7, 3, 5, 0]] = [0.4, 2, 3, 0.2]
    np.testing.assert_array_equal(pruner.losses, expected)


def test_groups_of_different_sizes_and_none_at_all():
    pruner = seta.Pruner(3, "Full", epochs=1)
    pruner.begin_epoch()
    record_rewards(pruner, [2, 0, 2, 2], [1, 1, 0, np.nan], right=1)
    record_rewards(pruner, [], [])
    np.testing.assert_array_equal(pruner.losses, np.array([3, np.nan, 0.5], np.float32))
    with pytest.raises(ValueError, match=r"entry for each rollout, got shapes \(2,\) and \(3,\)"):
        record_rewards(pruner, [1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="indices must be a one-dimensional array of integers"):
        record_rewards(pruner, [None, 1], [1.0, 0.0])
    with pytest.raises(TypeError, match="rewards must be numbers"):
        record_rewards(pruner, [1, 1], ["good", 1.0])
    with pytest.raises(IndexError, match="must lie in 0..2"):
        record_rewards(pruner, [3], [1.0])
