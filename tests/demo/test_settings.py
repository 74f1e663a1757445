import pytest

import seta
from seta.demo.settings import (
    DEFAULT_METHODS,
    EQUAL_COST,
    DemoError,
    DemoSettings,
    make_policy,
    parse_methods,
)


def test_methods_are_read_in_any_spelling_and_put_in_order():
    assert parse_methods("SeTa, full,EQUAL_COST") == ("Full", EQUAL_COST, "SeTa")
    assert parse_methods("seta,full-at-equal-cost,seta") == (EQUAL_COST, "SeTa")
    assert parse_methods("full,equal-cost,random,infobatch,seta") == DEFAULT_METHODS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("full,best", "--methods: 'best' is not one of full, full-at-equal-cost, random"),
        (" , ", "--methods must name at least one method, for example full,seta"),
        ("equal-cost,full", "full-at-equal-cost takes its cost from SeTa: add seta"),
    ],
)
def test_methods_that_cannot_be_run_are_refused(text, message):
    with pytest.raises(DemoError, match=message):
        parse_methods(text)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"epochs": 0}, "--epochs must be at least 1, got 0"),
        ({"seeds": 0}, "--seeds must be at least 1, got 0"),
        ({"limit": -5}, "--limit must be at least 1, or 0 for all images, got -5"),
        ({"limit": 5, "data": None}, "--test and --limit go with --data FILE"),
        ({"prune_ratio": 1.0}, r"--prune-ratio: prune_ratio .*1\.0"),
    ],
)
def test_choices_out_of_range_are_refused_with_their_names(choice, message, tmp_path):
    with pytest.raises(DemoError, match=message):
        DemoSettings(**{"out": tmp_path, "data": tmp_path / "x.npz", **choice})


def test_random_is_given_what_seta_trained():
    assert make_policy("Random", 0.1, 0.75) == seta.Random(prune_ratio=0.25)
    assert make_policy("Random", 0.1) == seta.Random()
    assert make_policy("SeTa", 0.2) == seta.SeTa(prune_ratio=0.2)
    assert make_policy(EQUAL_COST, 0.1, 0.4) == seta.Full()
