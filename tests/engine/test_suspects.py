"""Suspects: what the score depends on, and who is handed out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seta import Pruner
from seta.engine.suspects import FEW, suspicion
from tests.engine.test_tracked import EPOCHS, N, pruner_of, train
from tests.virtual_ranks import on_ranks


def columns_of(rows, seed=0):
    """Columns as a run leaves them; one sample in five has no loss, one in five a single one."""
    rng = np.random.default_rng(seed)
    visits = rng.choice([0, 1, 2, 5, 9], rows)
    mean, loss = rng.gamma(2.0, 0.5, (2, rows)).astype(np.float32)
    spread = rng.gamma(2.0, 0.2, rows).astype(np.float32)
    mean[visits == 0] = loss[visits == 0] = np.nan
    spread[visits < 2] = np.nan
    return {"visits": visits, "mean": mean, "spread": spread, "loss": loss}


columns = st.builds(columns_of, st.integers(1, 60), st.integers(0, 2**20))
classes_seeds = st.none() | st.integers(0, 2**20)


def classes_of(seed, rows):
    return None if seed is None else np.random.default_rng(seed).integers(-3, 3, rows)


@given(columns, classes_seeds, st.integers(0, 2**20))
def test_the_order_of_the_samples_does_not_matter(found, seed, shuffle):
    rows = len(found["visits"])
    classes, order = classes_of(seed, rows), np.random.default_rng(shuffle).permutation(rows)
    moved = {name: column[order] for name, column in found.items()}
    expected = suspicion(found, classes)[order]
    given = suspicion(moved, None if classes is None else classes[order])
    assert np.array_equal(given, expected, equal_nan=True)


@given(columns, classes_seeds, st.floats(0.01, 100), st.floats(-5, 5))
def test_it_goes_with_the_scale_of_the_losses_and_not_with_their_level(found, seed, scale, level):
    classes = classes_of(seed, len(found["visits"]))
    other = {**found, "spread": found["spread"] * np.float32(scale)}
    for name in ("mean", "loss"):
        other[name] = found[name] * np.float32(scale) + np.float32(level)
    expected = suspicion(found, classes) * scale
    assert suspicion(other, classes) == pytest.approx(expected, rel=1e-3, abs=1e-4, nan_ok=True)


@given(columns, classes_seeds)
def test_what_was_never_seen_has_none_and_all_else_has_one(found, seed):
    result = suspicion(found, classes_of(seed, len(found["visits"])))
    assert result.dtype == np.float32
    assert np.array_equal(np.isnan(result), found["visits"] == 0)


@given(columns, st.integers(1, 20), st.floats(0.1, 10))
def test_at_equal_visits_a_higher_mean_is_more_suspicious(found, visits, more):
    """And a higher latest loss, and a smaller spread."""
    pair = {"visits": [visits, visits], "mean": [1, 1], "spread": [0.5, 0.5], "loss": [1, 1]}
    for name, sign in (("mean", 1), ("loss", 1), ("spread", -1)):
        own = {**pair, name: [pair[name][0], pair[name][0] + more]}
        joined = {key: np.concatenate([found[key], own[key]]) for key in found}
        low, high = suspicion(joined)[-2:]
        assert sign * (high - low) > 0, name


@given(st.integers(20, 60), st.integers(0, 2**20), st.floats(0.1, 10))
def test_a_few_high_losses_are_less_suspicious_than_many(rows, seed, above):
    found = columns_of(rows, seed)
    found["visits"] = np.maximum(found["visits"], 1)
    found |= {name: np.nan_to_num(found[name], nan=1.0) for name in ("mean", "loss")}
    visits, same = np.arange(1, 9), np.full(8, 20 + above)  # far above the median
    own = {"visits": visits, "mean": same, "loss": same, "spread": np.zeros(8)}
    own["spread"][0] = np.nan
    joined = {key: np.concatenate([found[key], own[key]]) for key in found}
    assert (np.diff(suspicion(joined)[-8:]) > 0).all()


def test_the_formula():
    found = {
        "visits": np.array([1, 4, 4, 0]),
        "mean": np.array([1.0, 2.0, 5.0, np.nan], np.float32),
        "spread": np.array([np.nan, 0.4, 0.8, np.nan], np.float32),
        "loss": np.array([1.0, 1.0, 6.0, np.nan], np.float32),
    }
    expected = [-2 / 3, -1 / 6 - 0.1, 16 / 6 - 0.2, np.nan]  # typical: 2
    assert suspicion(found) == pytest.approx(expected, nan_ok=True)


def test_losses_may_be_as_far_apart_as_float32_allows():
    most = np.finfo(np.float32).max
    mean = np.array([-most, -most, most], np.float32)
    found = {"visits": np.full(3, 9), "mean": mean, "loss": mean, "spread": np.zeros(3, np.float32)}
    assert suspicion(found).tolist() == [0, 0, np.inf]


def test_with_classes_samples_are_compared_with_their_own():
    easy, hard = np.full(100, 0.1), np.full(100, 2.0)
    easy[7], hard[9] = 1.5, 2.5
    mean = np.concatenate([easy, hard]).astype(np.float32)
    found = {
        "visits": np.full(200, 5),
        "mean": mean,
        "loss": mean,
        "spread": np.zeros(200, np.float32),
    }
    assert suspicion(found).argmax() == 109
    assert suspicion(found, np.repeat([4, -2], 100)).argmax() == 7


def test_classes_may_be_any_integers():
    found = columns_of(300)
    few = np.random.default_rng(1).integers(0, 7, 300)
    expected = suspicion(found, few)
    wide = (few * 40 - 120).astype(np.int8)  # from -120 to 120
    for names in (few - 3, few * 10**6, few.astype(np.uint8), few * 2**60 - 2**62, wide):
        assert np.array_equal(suspicion(found, names), expected, equal_nan=True)


def test_a_class_of_one_is_not_its_own_norm():
    mean = np.append(np.ones(50), 4).astype(np.float32)
    spread = np.zeros(51, np.float32)
    found = {"visits": np.full(51, 8), "mean": mean, "loss": mean, "spread": spread}
    typical = (4 + FEW) / (1 + FEW)
    result = suspicion(found, np.append(np.zeros(50, int), 1))
    assert result.argmax() == 50
    assert result[50] == pytest.approx(9 / 10 * (4 - typical))


def test_nothing_is_known_before_the_first_loss():
    table = pruner_of("SeTa").table()
    assert np.isnan(table["suspicion"]).all()
    assert pruner_of("SeTa").suspects().rows == 0


@pytest.mark.parametrize("policy", ["SeTa", "UCB", "Learnable", "RS2"])
def test_the_worst_come_first_with_all_their_columns(policy):
    pruner = train(pruner_of(policy), 4)
    table, worst = pruner.table(), pruner.suspects(30)
    assert list(worst) == list(table) and worst.rows == 30
    assert (np.diff(worst["suspicion"]) <= 0).all()
    assert worst["suspicion"].min() >= np.sort(table["suspicion"][table["visits"] > 0])[-30]
    assert np.array_equal(worst["mean"], table["mean"][worst["index"]])
    seen = int((table["visits"] > 0).sum())
    assert pruner.suspects(10 * N).rows == seen < N
    assert pruner.suspects().rows == 100


def test_strata_are_the_classes_where_no_others_are_given():
    strata = np.arange(N) % 3
    pruner = train(pruner_of("RCAP", strata=strata), 4)
    own = pruner.suspects(N)
    assert np.array_equal(own["suspicion"], pruner.suspects(N, classes=strata - 7)["suspicion"])
    together = pruner.suspects(N, classes=np.zeros(N, int))
    assert not np.array_equal(own["suspicion"], together["suspicion"])
    # Without strata, samples are compared with all others.
    plain = train(pruner_of("SeTa"), 4)
    one = plain.suspects(N, classes=np.zeros(N, int))
    assert plain.suspects(N)["suspicion"] == pytest.approx(one["suspicion"])


@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
def test_ranks_hand_out_the_samples_that_they_hold(sharding):
    classes = np.arange(N) % 4

    def run(ranks):
        pruner = train(pruner_of("SeTa", ranks, sharding=sharding), 4)
        return pruner.table(), pruner.suspects(N), pruner.suspects(N, classes=classes)

    results, _ = on_ranks(3, run)
    for table, worst, by_class in results:
        seen = table["visits"] > 0
        assert sorted(worst["index"]) == sorted(by_class["index"]) == sorted(table["index"][seen])
        expected = suspicion(table, classes[table["index"]])
        of = dict(zip(table["index"].tolist(), expected, strict=True))
        assert [of[index] for index in by_class["index"].tolist()] == by_class["suspicion"].tolist()
    first = results[0][1]
    for _, worst, _ in results[1:]:
        same = np.array_equal(first["index"], worst["index"])
        assert same if sharding == "replicated" else not set(first["index"]) & set(worst["index"])


@pytest.mark.parametrize("policy", ["SeTa", "UCB"])
def test_a_resumed_run_has_the_same_suspects(policy):
    whole = train(pruner_of(policy), EPOCHS)
    resumed = pruner_of(policy)
    resumed.load_state_dict(train(pruner_of(policy), 3).state_dict())
    train(resumed, EPOCHS - 3)
    for name, column in whole.suspects(50).items():
        assert np.array_equal(column, resumed.suspects(50)[name], equal_nan=True), name


def test_a_warm_start_is_no_evidence():
    pruner = pruner_of("SeTa", losses=np.ones(N, np.float32))
    assert pruner.suspects().rows == 0


def test_what_cannot_be_answered_is_refused():
    with pytest.raises(RuntimeError, match="make the Pruner or the loader with track=True"):
        Pruner(N, "SeTa", epochs=2).suspects()
    pruner = pruner_of("SeTa")
    with pytest.raises(ValueError, match="n must be at least 1"):
        pruner.suspects(0)
    with pytest.raises(TypeError, match="n must be an integer"):
        pruner.suspects(0.5)
    for classes in (np.zeros(N - 1, int), np.zeros(N), ["cat"] * N):
        with pytest.raises(ValueError, match=r"classes must be integers of shape \(600,\)"):
            pruner.suspects(classes=classes)
