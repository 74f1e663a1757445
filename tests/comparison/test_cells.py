"""Lines in any order become the same cells, whose figures are numpy's."""

import random

import numpy as np
import pytest
from scipy.stats import ttest_rel

from seta.comparison.cells import Cells, cells_of
from seta.comparison.contenders import EQUAL_COST, FULL, SMALLER

FULL_VISITS = 1000
ORDER = [
    (FULL, 1.0),
    (EQUAL_COST, 0.7),
    ("SeTa", 0.7),
    ("Random", 0.7),
    ("my own", 0.7),
    ("other", 0.7),
    (EQUAL_COST, 0.3),
    ("SeTa", 0.3),
    ("Random", 0.3),
    ("InfoBatch as published", None),
]


def line(method, budget, seed, metrics, *, visits=None, seconds=1.0):
    trained = FULL_VISITS * (0.6 if budget is None else budget) if visits is None else visits
    return {
        "method": method,
        "budget": budget,
        "seed": seed,
        "metrics": metrics,
        "visits": round(trained),
        "full_visits": FULL_VISITS,
        "seconds": seconds,
    }


def made(contenders=ORDER, seeds=4, generator=0):
    """Lines of random figures: accuracy, which depends on the budget, and loss."""
    draw = np.random.default_rng(generator).normal
    return [
        line(method, budget, seed, {"accuracy": 70 + draw(), "loss": 1 + 0.1 * draw()})
        for method, budget in contenders
        for seed in range(seeds)
    ]


def shuffled(lines, seed):
    return random.Random(seed).sample(lines, len(lines))


def figures(lines, method, budget, measure="accuracy"):
    """The figures of a contender in the order of the seeds."""
    own = [one for one in lines if (one["method"], one["budget"]) == (method, budget)]
    return np.array([one["metrics"][measure] for one in sorted(own, key=lambda one: one["seed"])])


# Order


@pytest.mark.parametrize("seed", range(5))
def test_cells_come_in_one_order_whatever_that_of_the_lines(seed):
    lines = made()
    found = cells_of(shuffled(lines, seed))
    assert list(found.cells) == ORDER
    assert [list(cell.lines) for cell in found.cells.values()] == [[0, 1, 2, 3]] * len(ORDER)
    assert found == cells_of(lines)
    for (method, budget), cell in found.cells.items():
        assert (cell.method, cell.budget) == (method, budget)


def test_contenders_are_listed_in_their_order_and_references_by_their_length():
    found = cells_of(shuffled([*made(), *made([(EQUAL_COST, 1.5)])], 1))
    assert [cell.name for cell in found.contenders] == [
        *("SeTa 0.7", "Random 0.7", "my own 0.7", "other 0.7"),
        *("SeTa 0.3", "Random 0.3", "InfoBatch as published"),
    ]
    assert [(cell.method, cell.budget) for cell in found.curve] == [
        *((EQUAL_COST, 0.3), (EQUAL_COST, 0.7), (FULL, 1.0), (EQUAL_COST, 1.5)),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_measures_are_in_the_order_of_fulls_first_seed_and_those_of_others_follow(seed):
    lines = [
        line("SeTa", 0.5, 0, {"late": 1.0, "loss": 1.0}),
        line(FULL, 1.0, 1, {"loss": 1.0, "accuracy": 1.0, "late": 2.0}),
        line(FULL, 1.0, 0, {"accuracy": 1.0, "loss": 1.0}),
        line("SeTa", 0.5, 1, {"odd": 1.0}),
    ]
    assert list(cells_of(shuffled(lines, seed)).measures) == ["accuracy", "loss", "late", "odd"]


def test_measures_that_are_asked_for_are_those_alone_in_their_order():
    assert list(cells_of(made(), measures=("loss", "accuracy")).measures) == ["loss", "accuracy"]
    assert list(cells_of(made(), measures=["loss"]).measures) == ["loss"]


def test_no_lines_are_no_cells():
    found = cells_of([])
    assert found == Cells({}, [])
    assert (found.full, found.equal_cost(0.7), found.curve, found.contenders) == (
        None,
        None,
        [],
        [],
    )


# Figures


@pytest.mark.parametrize("seed", range(3))
def test_means_and_spreads_are_numpys(seed):
    lines = made(generator=seed)
    found = cells_of(shuffled(lines, seed))
    for at, cell in found.cells.items():
        for measure in ("accuracy", "loss"):
            own = figures(lines, *at, measure)
            assert list(cell.values(measure).values()) == list(own)
            mean, spread = cell.mean_and_spread(measure)
            assert (mean, spread) == pytest.approx((own.mean(), own.std(ddof=1)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_differences_are_scipys_paired_ones(seed, confidence):
    lines = made(generator=seed)
    found = cells_of(shuffled(lines, seed), confidence=confidence)
    for at, cell in found.cells.items():
        for measure in (None, "accuracy", "loss"):
            own = figures(lines, *at, measure or "accuracy")
            beside = {
                "full": (found.to_full(cell, measure), (FULL, 1.0)),
                "equal": (found.to_equal_cost(cell, measure), (EQUAL_COST, cell.budget)),
            }
            for way, reference in beside.values():
                if way is None:
                    continue
                others = figures(lines, *reference, measure or "accuracy")
                expected = ttest_rel(own, others).confidence_interval(confidence)
                assert (way.low, way.high) == pytest.approx(tuple(expected))
                assert way.mean == pytest.approx((own - others).mean())
                assert way.seeds == 4


def test_full_is_held_against_nothing_and_references_not_against_equal_cost():
    found = cells_of(made())
    with_full = [cell.name for cell in found.cells.values() if found.to_full(cell)]
    with_equal_cost = [cell.name for cell in found.cells.values() if found.to_equal_cost(cell)]
    assert len(with_full) == len(ORDER) - 1 and FULL not in with_full
    assert with_equal_cost == [
        *("SeTa 0.7", "Random 0.7", "my own 0.7", "other 0.7"),
        *("SeTa 0.3", "Random 0.3"),  # as published, there is no equal cost
    ]


def test_each_budget_has_its_own_reference():
    lines = [
        line(EQUAL_COST, 0.7, 0, {"accuracy": 70.0}),
        line(EQUAL_COST, 0.3, 0, {"accuracy": 30.0}),
        line("SeTa", 0.7, 0, {"accuracy": 71.0}),
        line("SeTa", 0.3, 0, {"accuracy": 33.0}),
    ]
    found = cells_of(lines)
    assert [found.to_equal_cost(cell).mean for cell in found.contenders] == [1.0, 3.0]


def test_budgets_that_are_no_binary_fractions_find_their_reference_again():
    """As JSON writes them down, and as a person computes them."""
    lines = [line(EQUAL_COST, 0.7, 0, {"a": 1.0}), line("SeTa", 7 / 10, 0, {"a": 2.0})]
    found = cells_of(lines)
    (cell,) = found.contenders
    assert found.to_equal_cost(cell).mean == 1.0
    assert cell.name == "SeTa 0.7"
    assert cells_of([line(FULL, 1, 0, {"a": 1.0})]).full.budget == 1.0


def test_cost_visits_and_time_of_a_run():
    lines = [
        line("SeTa", 0.7, seed, {"a": 1.0}, visits=visits, seconds=seconds)
        for seed, visits, seconds in ((0, 700, 5.0), (1, 680, 1.0), (2, 690, 2.0))
    ]
    (cell,) = cells_of(lines).contenders
    assert cell.visits == 690
    assert cell.cost == pytest.approx(0.69)
    assert cell.seconds == 2.0  # the median: one run that was held up does not count


def test_names_say_the_budget_where_there_is_a_choice():
    asked = [(FULL, 1.0), ("SeTa", 0.7), ("SeTa", 1 / 3), ("InfoBatch as published", None)]
    found = cells_of(line(*at, 0, {"a": 1.0}) for at in asked)
    assert [cell.name for cell in found.cells.values()] == [
        *("Full", "SeTa 0.7", "SeTa 0.3333", "InfoBatch as published"),
    ]
    assert [cell.reference for cell in found.cells.values()] == [True, False, False, False]
    assert not cells_of([line(SMALLER, 0.5, 0, {"a": 1.0})]).contenders[0].reference


# What is missing


def test_seeds_that_one_side_does_not_have_take_no_part():
    lines = made([(FULL, 1.0), (EQUAL_COST, 0.7), ("SeTa", 0.7)], seeds=5)
    gone = {(FULL, 4), (EQUAL_COST, 0), ("SeTa", 2)}
    left = [one for one in lines if (one["method"], one["seed"]) not in gone]
    found = cells_of(shuffled(left, 0))
    (cell,) = found.contenders
    own, full = figures(lines, "SeTa", 0.7), figures(lines, FULL, 1.0)
    way = found.to_full(cell)
    assert (way.seeds, way.mean) == (3, pytest.approx((own - full)[[0, 1, 3]].mean()))
    way = found.to_equal_cost(cell)
    equal = figures(lines, EQUAL_COST, 0.7)
    assert (way.seeds, way.mean) == (3, pytest.approx((own - equal)[[1, 3, 4]].mean()))
    assert cell.mean_and_spread("accuracy")[0] == pytest.approx(own[[0, 1, 3, 4]].mean())


def test_without_references_there_are_no_differences():
    found = cells_of(made([("SeTa", 0.7), (EQUAL_COST, 0.3)]))
    assert found.full is None and found.equal_cost(0.7) is None
    (cell,) = found.contenders
    assert found.to_full(cell) is None and found.to_equal_cost(cell) is None
    assert found.better(found.to_full(cell)) == 0


def test_references_without_a_seed_in_common_are_as_none():
    lines = [line(FULL, 1.0, 0, {"a": 1.0}), line("SeTa", 0.7, 1, {"a": 1.0})]
    found = cells_of(lines)
    assert found.to_full(found.contenders[0]) is None


def test_figures_that_some_lines_do_not_have_are_left_out_by_seed():
    lines = [
        line(FULL, 1.0, 0, {"accuracy": 70.0, "loss": 1.0}),
        line(FULL, 1.0, 1, {"accuracy": 72.0, "loss": None}),
        line(FULL, 1.0, 2, {"accuracy": 74.0}),
        line("SeTa", 0.7, 0, {"accuracy": None, "loss": 1.5}),
        line("SeTa", 0.7, 1, {"accuracy": 73.0, "loss": 2.0}),
        line("SeTa", 0.7, 2, {"loss": 2.5}),
    ]
    found = cells_of(shuffled(lines, 0))
    (cell,) = found.contenders
    assert cell.values("accuracy") == {1: 73.0}
    assert found.full.values("loss") == {0: 1.0}
    assert found.to_full(cell).mean == 1.0
    assert (found.to_full(cell, "loss").mean, found.to_full(cell, "loss").seeds) == (0.5, 1)
    assert found.full.mean_and_spread("accuracy") == (72.0, 2.0)
    assert cell.values("odd") == {} and cell.mean_and_spread("odd") is None
    assert found.to_full(cell, "odd") is None


def test_a_figure_of_zero_is_a_figure():
    found = cells_of([line("SeTa", 0.7, seed, {"a": 0.0}) for seed in range(2)])
    assert found.contenders[0].mean_and_spread("a") == (0.0, 0.0)


def test_one_seed_gives_means_without_spread_interval_or_verdict():
    found = cells_of(made([(FULL, 1.0), (EQUAL_COST, 0.7), ("SeTa", 0.7)], seeds=1))
    (cell,) = found.contenders
    assert cell.mean_and_spread("accuracy")[1] is None
    for way in (found.to_full(cell), found.to_equal_cost(cell)):
        assert way.seeds == 1 and way.half is None
        assert found.better(way) == 0


# Better and worse


def beside(figure, lower=()):
    """Cells of one method that is higher than its references by 1, in figures of three seeds."""
    lines = [line(EQUAL_COST, 0.7, seed, {figure: 1.0 + 0.01 * seed**2}) for seed in range(3)]
    lines += [line("SeTa", 0.7, seed, {figure: 2.0 + 0.01 * seed, "other": 1}) for seed in range(3)]
    return cells_of(lines, lower=lower)


def test_higher_is_better_unless_it_is_said_that_lower_is():
    for lower, expected in (((), 1), (["loss"], -1), (["other"], 1)):
        found = beside("loss", lower)
        way = found.to_equal_cost(found.contenders[0])
        assert way.sign == 1
        assert found.better(way) == found.better(way, "loss") == expected


def test_which_way_is_better_is_that_of_the_measure_that_is_asked_for():
    lines = made([(EQUAL_COST, 0.7), ("SeTa", 0.7)])
    for one in lines:
        if one["method"] == "SeTa":
            one["metrics"] = {"accuracy": 90 + one["seed"], "loss": 5 + one["seed"] / 100}
    found = cells_of(lines, measures=("accuracy", "loss"), lower={"loss"})
    (cell,) = found.contenders
    signs = [found.better(found.to_equal_cost(cell, name), name) for name in ("accuracy", "loss")]
    assert signs == [1, -1]
    assert found.better(found.to_equal_cost(cell)) == 1


def test_the_confidence_decides_what_is_clear():
    lines = [line(EQUAL_COST, 0.7, seed, {"a": 0.0}) for seed in range(3)]
    lines += [line("SeTa", 0.7, seed, {"a": figure}) for seed, figure in enumerate((1, 2, 3))]
    for confidence, expected in ((0.9, 1), (0.95, 0)):  # t(2) is 2.92 and 4.30, mean / error 3.46
        found = cells_of(lines, confidence=confidence)
        assert found.better(found.to_equal_cost(found.contenders[0])) == expected
