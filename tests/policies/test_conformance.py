"""What every method must hold, over the whole registry and any histogram."""

import dataclasses
import inspect
import pickle
import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import seta
from seta import LossHistogram, Pruner
from seta.engine.curves.policy import FitsBudget
from seta.policies import REGISTRY, get
from tests.combinations import some_of
from tests.examples import examples

WITH_A_RATIO = [name for name, method in REGISTRY.items() if hasattr(method(), "prune_ratio")]
FITTED = [name for name, method in REGISTRY.items() if isinstance(method, FitsBudget)]

LOSSES = {
    "none seen": np.full(50, np.nan),
    "all equal": np.full(50, 1.5),
    "two values": np.repeat([1.0, 2.0], 25),
    "one outlier": np.append(np.full(49, 0.1), 1e6),
    "half unseen": np.where(np.arange(50) % 2, np.nan, np.arange(50.0)),
    "negative": -np.arange(50.0),
    "one sample": np.array([0.7]),
    "gamma": np.random.default_rng(0).gamma(0.3, 1, 5000),
}

every_method = pytest.mark.parametrize("name", REGISTRY)


def histogram_of(values):
    return LossHistogram.from_losses(np.asarray(values, np.float32))


@every_method
def test_a_method_is_known_by_its_name_everywhere(name):
    method = REGISTRY[name]
    assert method.__name__ == name
    assert getattr(seta, name) is getattr(seta.policies, name) is method
    assert name in seta.__all__ and name in seta.policies.__all__ and name in dir(seta)
    assert get(name.lower()) == method()


def test_all_public_names_are_there():
    for name in seta.__all__:
        assert getattr(seta, name) is not None
    for name in seta.policies.__all__:
        assert getattr(seta.policies, name) is not None


@pytest.mark.parametrize("name", FITTED)
@pytest.mark.parametrize("budget", [1.0, 0.7, 0.5, 0.3, 0.01, 1e-12])
def test_a_method_made_for_a_budget_keeps_that_share(name, budget):
    histogram, method = histogram_of(LOSSES["gamma"]), get(name, budget=budget)
    assert type(method) is REGISTRY[name]
    for epoch in (0, 3):
        share = method(histogram, epoch, 8).expected(histogram) / histogram.total
        assert share == pytest.approx(budget, rel=1e-3)


def test_ratios_made_for_a_budget_are_decimals():
    assert get("random", budget=0.7) == seta.Random(prune_ratio=0.3)
    assert get("OrderDP", budget=0.3) == seta.OrderDP()


@pytest.mark.parametrize("name", sorted(set(REGISTRY) - set(FITTED)))
def test_a_method_that_says_nothing_of_budgets_has_its_defaults(name):
    assert get(name, budget=0.4) == get(name) == REGISTRY[name]()


@every_method
@pytest.mark.parametrize("budget", [0, -1, 1.01, 1e300, float("nan"), float("inf")])
def test_budgets_outside_are_refused(name, budget):
    with pytest.raises(
        ValueError, match=rf"budget must lie in \(0, 1\], got {re.escape(str(budget))}"
    ):
        get(name, budget=budget)


@some_of("name, losses, epochs", REGISTRY, LOSSES, [7, 1, 2])
def test_curves_are_valid_on_any_losses(name, losses, epochs):
    histogram, method = histogram_of(LOSSES[losses]), get(name)
    for epoch in range(epochs):
        curve = method(histogram, epoch, epochs)
        curve.validate(histogram)
        assert 0 <= curve.expected(histogram) <= histogram.total


@some_of("name, losses", REGISTRY, LOSSES)
def test_whole_runs_on_any_losses_keep_something_each_epoch(name, losses):
    values = LOSSES[losses].astype(np.float32)
    pruner = Pruner(len(values), name, epochs=5, losses=values, strata=np.arange(len(values)) % 3)
    for _ in range(5):
        selection = pruner.begin_epoch()
        assert len(selection) >= 1
        pruner.record(selection.indices, values[selection.indices])
        row = pruner.end_epoch()
        assert row["kept"] + row["pruned"] == len(values)


@every_method
def test_a_method_is_pure(name):
    histogram, method = histogram_of(LOSSES["gamma"]), get(name)
    one, other = method(histogram, 3, 10), method(histogram, 3, 10)
    assert np.array_equal(one.keep_by_cell, other.keep_by_cell)
    assert np.array_equal(one.weight_by_cell, other.weight_by_cell)


@every_method
def test_a_method_is_a_frozen_value(name):
    method = get(name)
    assert dataclasses.is_dataclass(method)
    assert pickle.loads(pickle.dumps(method)) == method
    assert hash(method) == hash(get(name))
    for field in dataclasses.fields(method):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(method, field.name, 0.5)


@every_method
def test_a_method_tells_its_arguments(name):
    doc = inspect.getdoc(REGISTRY[name])
    for field in dataclasses.fields(REGISTRY[name]):
        assert f"{field.name}:" in doc


@every_method
def test_unbiased_curves_weigh_up_what_they_prune(name):
    histogram, method = histogram_of(LOSSES["gamma"]), get(name)
    for epoch in range(8):
        curve = method(histogram, epoch, 8)
        weight = curve.weight_by_cell
        if curve.unbiased:
            assert np.allclose(curve.keep_by_cell * weight, 1)
        else:
            assert weight is None


FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
EXTREME = st.sampled_from([3.4028235e38, -3.4028235e38, 2e19, -2e19, 1e-45, -1e-45, 0.0])


@pytest.mark.parametrize("name", [name for name in REGISTRY if hasattr(REGISTRY[name], "columns")])
@given(st.lists(FINITE | EXTREME, min_size=1, max_size=30))
def test_columns_and_scores_stay_finite_whatever_the_losses(name, losses):
    method = get(name)
    columns = {column: np.full(1, np.nan, np.float32) for column in method.columns}
    assert np.isnan(method.score(columns)).all()
    for loss in losses:
        columns = method.fold(columns, np.array([loss], np.float32))
        assert all(np.isfinite(column).all() for column in columns.values())
        assert all(column.dtype == np.float32 for column in columns.values())
        assert np.isfinite(method.score(columns)).all()


@pytest.mark.parametrize("name", [name for name in REGISTRY if hasattr(REGISTRY[name], "in_batch")])
@given(st.lists(FINITE | EXTREME, min_size=1, max_size=30))
def test_what_a_batch_makes_of_losses_is_finite(name, losses):
    seen = get(name).in_batch(np.array(losses, np.float32))
    assert seen.shape == (len(losses),)
    assert np.isfinite(seen.astype(np.float32)).all()


def test_one_huge_loss_does_not_make_a_sample_unseen():
    pruner = Pruner(4, seta.UCB(every=1), epochs=4, losses=np.ones(4, np.float32))
    for loss in (2e19, 1.0, 1.0):
        indices = pruner.begin_epoch().indices
        pruner.record(indices, np.full(len(indices), loss, np.float32))
        pruner.end_epoch()
    pruner.begin_epoch()
    assert np.isfinite(pruner.losses).all()


NUMBERS = [
    (name, field.name)
    for name in REGISTRY
    for field in dataclasses.fields(REGISTRY[name])
    if field.name != "base"
]


@pytest.mark.parametrize("name, field", NUMBERS)
def test_settings_are_numbers_of_any_kind(name, field):
    value = getattr(get(name), field)
    value = 2 if value is None else value
    kinds = [np.array(value), torch.tensor(value)]
    if isinstance(value, int):
        kinds += [np.int16(value), np.array(value, np.uint8)]
    else:
        kinds += [Fraction(str(value)), np.float32(value), torch.tensor(value, dtype=torch.float64)]
    for kind in kinds:
        method = REGISTRY[name](**{field: kind})
        assert method == REGISTRY[name](**{field: value})
        assert repr(method) == repr(REGISTRY[name](**{field: value}))


@pytest.mark.parametrize("name, field", NUMBERS)
@pytest.mark.parametrize("value", ["0.5", True, np.True_, [0.5], np.ones(1), 1j, "nan"])
def test_settings_that_are_no_numbers_are_refused(name, field, value):
    with pytest.raises(TypeError, match=rf"{field} must be (a number in|an integer)"):
        REGISTRY[name](**{field: value})


@pytest.mark.parametrize("name, field", NUMBERS)
def test_settings_that_are_not_finite_are_refused(name, field):
    for value in (float("nan"), float("inf")):
        with pytest.raises((TypeError, ValueError), match=rf"{field} must (lie in|be an integer)"):
            REGISTRY[name](**{field: value})


@pytest.mark.parametrize("name", WITH_A_RATIO)
@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5, float("nan")])
def test_ratios_outside_are_refused_not_clamped(name, ratio):
    with pytest.raises(ValueError, match=rf"prune_ratio must lie in \[0, 1\), got {ratio}"):
        REGISTRY[name](prune_ratio=ratio)


@every_method
@examples(20)
@given(st.lists(st.floats(0, 1e4, width=32), min_size=1, max_size=80), st.integers(1, 9))
def test_selections_of_any_losses_are_sets_of_samples(name, values, epochs):
    losses = np.array(values, np.float32)
    strata = np.arange(len(losses)) % 2
    pruner = Pruner(len(losses), name, epochs=epochs, losses=losses, strata=strata)
    indices = pruner.begin_epoch().indices
    assert 1 <= len(indices) == len(set(indices.tolist())) <= len(losses)
