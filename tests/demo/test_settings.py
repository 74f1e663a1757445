import pytest

from seta import policies
from seta.demo.settings import CASES, METHODS, DemoError, DemoSettings, named


def test_methods_are_known_in_any_case_and_taken_once():
    assert named(["SeTa", "ucb", "SETA"], "method", METHODS) == ("SeTa", "UCB")
    assert tuple(policies.REGISTRY) == METHODS
    for case in CASES.values():
        assert named(case.methods, "method", METHODS) == case.methods


def test_the_digits_have_a_case_where_choosing_pays_and_files_are_taken_as_they_are(tmp_path):
    assert DemoSettings(tmp_path).shown == ("plain", "wrong")
    assert DemoSettings(tmp_path, data=tmp_path / "x.npz").shown == ("plain",)
    assert DemoSettings(tmp_path, cases=("unequal",)).shown == ("unequal",)


@pytest.mark.parametrize("name", ["best", "", "SeTa,UCB", "Full at equal cost"])
def test_a_name_that_is_no_methods_is_refused_with_those_that_are(name):
    with pytest.raises(DemoError, match=f"--method {name}: is none of SeTa, Learnable, "):
        named(["SeTa", name], "method", METHODS)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"epochs": 0}, "--epochs must lie between 1 and 10,000, got 0; give --epochs 3 to begin"),
        ({"epochs": 10**30}, "--epochs must lie between 1 and 10,000, got 1000"),
        ({"seeds": -1}, "--seeds must lie between 1 and 1,000, got -1; give --seeds 3 to begin"),
        ({"seeds": 10**9}, "--seeds must lie between 1 and 1,000, got 1000000000"),
        ({"limit": -5}, "--limit must be at least 1, or 0 for all images, got -5"),
        ({"limit": 5, "data": None}, "--test and --limit go with --data FILE"),
        ({"budgets": (0.5, 1.0)}, r"--budget must lie in \(0, 1\), got 1: the share of full"),
        ({"budgets": (0.0,)}, r"--budget must lie in \(0, 1\), got 0:"),
        ({"budgets": (float("nan"),)}, r"--budget must lie in \(0, 1\), got nan:"),
    ],
)
def test_choices_out_of_range_are_refused_with_their_names(choice, message, tmp_path):
    with pytest.raises(DemoError, match=message):
        DemoSettings(**{"out": tmp_path, "data": tmp_path / "x.npz", **choice})
