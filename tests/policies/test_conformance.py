"""What every method must hold, over the whole registry and any histogram."""

import dataclasses
import inspect
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import seta
from seta import LossHistogram, Pruner
from seta.policies import REGISTRY, get

EXPECTED = {
    "SeTa", "InfoBatch", "InfoBatchQuantiles", "RePB", "BLS", "OrderDP", "EpsilonGreedy", "UCB",
    "RCAP", "RS2", "Random", "Static", "Full",
}  # fmt: skip
WITHOUT_A_RATIO = {"Full", "BLS", "OrderDP", "InfoBatchQuantiles"}

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
any_losses = pytest.mark.parametrize("losses", LOSSES)


def histogram_of(values):
    return LossHistogram.from_losses(np.asarray(values, np.float32))


def test_the_registry_holds_all_methods():
    assert set(REGISTRY) == EXPECTED
    for name in EXPECTED:
        assert getattr(seta, name) is REGISTRY[name]
        assert get(name.lower()) == REGISTRY[name]()


@every_method
@any_losses
@pytest.mark.parametrize("epochs", [1, 2, 7])
def test_curves_are_valid_on_any_losses(name, losses, epochs):
    histogram, method = histogram_of(LOSSES[losses]), get(name)
    for epoch in range(epochs):
        curve = method(histogram, epoch, epochs)
        curve.validate(histogram)
        assert 0 <= curve.expected(histogram) <= histogram.total


@every_method
@any_losses
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


@pytest.mark.parametrize("name", sorted(set(REGISTRY) - WITHOUT_A_RATIO))
@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5, float("nan")])
def test_ratios_outside_are_refused_not_clamped(name, ratio):
    with pytest.raises(ValueError, match=rf"prune_ratio must lie in \[0, 1\), got {ratio}"):
        REGISTRY[name](prune_ratio=ratio)


@every_method
@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 1e4, width=32), min_size=1, max_size=80), st.integers(1, 9))
def test_selections_of_any_losses_are_sets_of_samples(name, values, epochs):
    losses = np.array(values, np.float32)
    strata = np.arange(len(losses)) % 2
    pruner = Pruner(len(losses), name, epochs=epochs, losses=losses, strata=strata)
    indices = pruner.begin_epoch().indices
    assert 1 <= len(indices) == len(set(indices.tolist())) <= len(losses)
