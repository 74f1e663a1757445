import pytest

import seta
from seta import policies
from seta.demo.settings import (
    DEFAULT_METHODS,
    EQUAL_COST,
    METHODS,
    DemoError,
    DemoSettings,
    make_policy,
    parse_methods,
    takes_cost,
    typed_methods,
)


def test_methods_are_read_in_any_spelling_and_put_in_order():
    assert parse_methods("SeTa, full,EQUAL_COST") == ("Full", EQUAL_COST, "SeTa")
    assert parse_methods("seta,full-at-equal-cost,seta") == (EQUAL_COST, "SeTa")
    assert parse_methods("full,equal-cost,random,infobatch,seta") == DEFAULT_METHODS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("full,best", "--methods: 'best' is not one of full, equal-cost, random"),
        (" , ", "--methods must name at least one method, for example full,seta"),
        ("equal-cost,full", "equal-cost takes its cost from SeTa: add seta"),
    ],
)
def test_methods_that_cannot_be_run_are_refused(text, message):
    with pytest.raises(DemoError, match=message):
        parse_methods(text)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"epochs": 0}, "--epochs must lie between 1 and 10,000, got 0; give --epochs 3 to begin"),
        ({"epochs": 10**30}, "--epochs must lie between 1 and 10,000, got 1000"),
        ({"seeds": -1}, "--seeds must lie between 1 and 1,000, got -1; give --seeds 3 to begin"),
        ({"seeds": 10**9}, "--seeds must lie between 1 and 1,000, got 1000000000"),
        ({"limit": -5}, "--limit must be at least 1, or 0 for all images, got -5"),
        ({"limit": 5, "data": None}, "--test and --limit go with --data FILE"),
        ({"prune_ratio": 1.0}, r"--prune-ratio: prune_ratio .*1\.0"),
    ],
)
def test_choices_out_of_range_are_refused_with_their_names(choice, message, tmp_path):
    with pytest.raises(DemoError, match=message):
        DemoSettings(**{"out": tmp_path, "data": tmp_path / "x.npz", **choice})


@pytest.mark.parametrize("method", policies.REGISTRY)
def test_every_method_can_be_asked_for(method):
    assert parse_methods(f"{method},seta") == tuple(sorted({method, "SeTa"}, key=METHODS.index))
    assert type(make_policy(method, 0.1, 0.5)).__name__ == method
    assert method.lower() in typed_methods()


def test_methods_that_are_made_for_a_budget_take_their_cost_from_seta():
    taking = {method for method in METHODS if takes_cost(method)}
    assert {"Random", "Static", "RS2", "UCB"} <= taking
    assert not taking & {"Full", EQUAL_COST, "SeTa", "InfoBatch", "BLS"}


def test_random_is_given_what_seta_trained():
    assert make_policy("Random", 0.1, 0.75) == seta.Random(prune_ratio=0.25)
    assert make_policy("Random", 0.1) == seta.Random()
    assert make_policy("SeTa", 0.2) == seta.SeTa(prune_ratio=0.2)
    assert make_policy(EQUAL_COST, 0.1, 0.4) == seta.Full()
