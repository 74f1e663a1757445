"""All methods at a budget train equally many samples, in full batches, Full among them."""

import pytest

from seta.comparison.contenders import (
    AT_BUDGET,
    EQUAL_COST,
    METHODS,
    SMALLER,
    Contender,
    contenders,
)
from benchmarks.accuracy.plan import Choice, jobs
from benchmarks.accuracy.suites import SUITES, Suite, Variant
from seta.engine.steps import Steps
from seta.policies import REGISTRY


@pytest.mark.parametrize("budget", [0.1, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("full", [7, 30])
@pytest.mark.parametrize(("n", "batch_size"), [(1437, 128), (100, 64), (40, 1)])
def test_smaller_batches_are_as_many_steps_as_full_training_has(budget, full, n, batch_size):
    contender, sizes = Contender(SMALLER, budget), Steps(n, batch_size, drop_last=True)
    smaller, told = contender.batch_size(batch_size), contender.length(sizes, full)
    assert smaller == max(1, round(budget * batch_size)) and told["budget"] == 1.0
    beside = Contender(EQUAL_COST, budget).length(sizes, full)["steps"] * batch_size
    assert 0 <= beside - told["steps"] * smaller < smaller  # as many samples
    if batch_size > 1:
        steps = full * (sizes.most // batch_size)
        assert told["steps"] == pytest.approx(steps, rel=0.5 / smaller, abs=1 + 1 / budget)


@pytest.mark.parametrize("method", AT_BUDGET)
@pytest.mark.parametrize("budget", [0.7, 0.5, 0.3])
def test_every_method_has_a_policy_at_every_budget(method, budget):
    contender = Contender(method, budget)
    assert type(contender.policy()).__name__ == method
    assert contender.length(Steps(100), 40) == {"budget": budget, "epochs": 40}


@pytest.mark.parametrize("budget", [0.1, 0.3, 0.5, 0.7, 0.85, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("full", [7, 12, 40])
@pytest.mark.parametrize(("n", "batch_size"), [(100, 1), (1437, 1), (1437, 128), (100, 64)])
def test_full_at_equal_cost_trains_exactly_the_visits_of_the_budget(budget, full, n, batch_size):
    contender, sizes = Contender(EQUAL_COST, budget), Steps(n, batch_size, drop_last=True)
    told = contender.length(sizes, full)
    lengths = sizes.run_of(told["steps"], told["budget"])
    assert lengths[:-1] == [sizes.most] * (len(lengths) - 1)
    assert sum(lengths) == told["steps"] * batch_size <= contender.visits(n, full)
    assert len(lengths) <= contender.epochs(full)
    assert 0 <= budget * sizes.most * full - sum(lengths) + 1e-6 < batch_size + 0.001
    if sizes.most * budget >= batch_size and budget <= 1:
        assert sum(lengths) == sum(sizes.lengths(budget, full))


def test_full_has_no_budget_and_published_runs_have_none():
    unbound, sizes = {"budget": None, "epochs": 10}, Steps(100, 8)
    assert Contender("Full", 1.0).length(sizes, 10) == unbound
    published = Contender("InfoBatch as published", None)
    assert published.length(sizes, 10) == unbound and published.policy() == REGISTRY["InfoBatch"]()


def test_full_comes_first_and_the_curve_last():
    found = contenders(METHODS, (0.7, 0.3), curve=(0.7, 1.5))
    assert [one.name for one in found[:3]] == [
        "Full",
        "Full at equal cost 0.7",
        "Full, smaller batches 0.7",
    ]
    assert found[-1] == Contender(EQUAL_COST, 1.5)
    assert len(set(found)) == len(found) == 1 + 2 * (2 + len(AT_BUDGET)) + 2 + 1


@pytest.mark.parametrize(
    ("method", "budget", "message"),
    [
        ("Fulll", 1.0, "method must be one of Full, .*; got 'Fulll'"),
        ("SeTa", None, "budget of 'SeTa' is None"),
        ("SeTa as published", 0.5, "budget of 'SeTa as published' is 0.5"),
        ("SeTa", 1.5, "budget of 'SeTa' must lie in (0, 1.0], got 1.5"),
        (EQUAL_COST, 0.0, "must lie in (0, inf], got 0.0"),
    ],
)
def test_what_makes_no_contender_is_refused(method, budget, message):
    pattern = message.replace("(", r"\(").replace("]", r"\]")
    with pytest.raises(ValueError, match=pattern):
        Contender(method, budget)


def test_methods_that_need_classes_are_left_out_where_there_are_none():
    variants = {"text": Variant("m:t", 3, 10, classes=False), "images": Variant("m:i", 3, 10)}
    suite = Suite("mixed", variants, methods=("Full", "RCAP"), seeds=1)
    found = [(job.variant, job.contender.method) for job in jobs(suite, Choice(budgets=(0.5,)))]
    assert found == [("text", "Full"), ("images", "Full"), ("images", "RCAP")]


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
def test_the_runs_of_every_suite_are_distinct_and_in_the_order_of_seeds(suite):
    found = jobs(suite, Choice())
    assert len({job.key for job in found}) == len(found)
    assert [job.seed for job in found] == sorted(job.seed for job in found)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice(methods=["SeTa", "Sata"]), "methods must be of Full, .*; got Sata"),
        (Choice(variants=["other"]), "variants must be of improving, saturated; got other"),
        (Choice(seeds=0), "seeds must be at least 1, got 0"),
        (Choice(epochs=0), "epochs must be at least 1, got 0"),
    ],
)
def test_what_a_suite_does_not_have_is_refused(choice, message):
    with pytest.raises(ValueError, match=message):
        jobs(SUITES["digits"], choice)


def test_our_suites_begin_at_a_seed_that_no_choice_was_made_on():
    for suite in SUITES.values():
        planned = {job.seed for job in jobs(suite, Choice())}
        assert planned == {3, 4, 5, 6, 7} == set(suite.seeds_of())
    assert {job.seed for job in jobs(SUITES["noise"], Choice(seeds=2))} == {3, 4}
