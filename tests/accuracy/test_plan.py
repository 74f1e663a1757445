"""The runs of a suite: which, in what order, and what is refused."""

import pytest

from benchmarks.accuracy.plan import Choice, jobs
from benchmarks.accuracy.suites import SUITES, UNTOUCHED, Suite, Variant


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
        (Choice(methods=["Classes resampled"]), "methods must be of Full, .*; got Classes res"),
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
        seeds = {8, 9, 10, 11, 12} if suite.first_seed == UNTOUCHED else {3, 4, 5, 6, 7}
        assert planned == seeds == set(suite.seeds_of())
    assert {job.seed for job in jobs(SUITES["noise"], Choice(seeds=2))} == {3, 4}
