"""All methods at a budget train equally many samples, in full batches, Full among them."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seta.comparison.contenders import (
    AT_BUDGET,
    EQUAL_COST,
    METHODS,
    SMALLER,
    Contender,
    contenders,
)
from seta.engine import Pruner
from seta.engine.steps import Steps
from seta.policies import REGISTRY


def lengths_of(contender, sizes, full):
    """The samples of each epoch of a run."""
    told = contender.length(sizes, full)
    own = replace(sizes, batch_size=contender.batch_size(sizes.batch_size))
    return own.lengths(told["budget"], told["epochs"])


@pytest.mark.parametrize("budget", [0.1, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("full", [7, 30])
@pytest.mark.parametrize(("n", "batch_size"), [(1437, 128), (100, 64), (40, 1)])
def test_smaller_batches_are_as_many_steps_as_full_training_has(budget, full, n, batch_size):
    contender, sizes = Contender(SMALLER, budget), Steps(n, batch_size, drop_last=True)
    smaller, trained = contender.batch_size(batch_size), sum(lengths_of(contender, sizes, full))
    assert smaller == max(1, round(budget * batch_size)) and trained % smaller == 0
    beside = sum(lengths_of(Contender(EQUAL_COST, budget), sizes, full))
    assert 0 <= beside - trained < smaller  # as many samples
    if batch_size > 1:
        steps = full * (sizes.most // batch_size)
        assert trained // smaller == pytest.approx(steps, rel=0.5 / smaller, abs=1 + 1 / budget)


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
    lengths = lengths_of(contender, sizes, full)
    assert lengths[:-1] == [sizes.most] * (len(lengths) - 1)
    assert sum(lengths) <= contender.visits(n, full) and sum(lengths) % batch_size == 0
    assert len(lengths) <= contender.epochs(full)
    assert 0 <= budget * sizes.most * full - sum(lengths) + 1e-6 < batch_size + 0.001
    if sizes.most * budget >= batch_size and budget <= 1:
        assert sum(lengths) == sum(sizes.lengths(budget, full))


@st.composite
def runs(draw):
    """A contender that trains everything, the sizes and epochs of full training, and a seed."""
    n = draw(st.integers(1, 400))
    method = draw(st.sampled_from([EQUAL_COST, SMALLER]))
    budget = draw(st.floats(0.01, 2.0 if method == EQUAL_COST else 1.0))
    sizes = Steps(n, draw(st.integers(1, n)), drop_last=True)
    return Contender(method, budget), sizes, draw(st.integers(1, 12)), draw(st.integers(0, 99))


@settings(deadline=None)
@given(runs())
@example((Contender(EQUAL_COST, 0.5), Steps(1078, 32, drop_last=True), 5, 3))
@example((Contender(EQUAL_COST, 0.3), Steps(1078, 32, drop_last=True), 5, 3))
@example((Contender(SMALLER, 0.3), Steps(1078, 32, drop_last=True), 5, 3))
@example((Contender(EQUAL_COST, 1.5), Steps(100, 64, drop_last=True), 3, 0))
def test_shares_of_epochs_draw_what_a_run_of_as_many_batches_draws(run):
    """Lines were made with `budget=1.0, steps=`: those that follow have to be of the same runs."""
    contender, sizes, full, seed = run
    size = contender.batch_size(sizes.batch_size)
    budget = Fraction(contender.budget).limit_denominator(10**9)
    batches = int(budget * full * (sizes.n // sizes.batch_size)) * sizes.batch_size // size
    told = contender.length(sizes, full)
    if not batches:
        assert told["epochs"] == 0  # which no pruner takes, as it took no 0 batches
        return
    of = {"seed": seed, "batch_size": size, "drop_last": True}
    now = Pruner(sizes.n, contender.policy(), **of, **told)
    before = Pruner(sizes.n, contender.policy(), **of, budget=1.0, steps=batches)
    assert now.epochs == before.epochs and now.lengths == before.lengths
    assert sum(now.lengths) == batches * size
    for epoch in range(now.epochs):
        assert drawn(now, epoch) == drawn(before, epoch)


def drawn(pruner, epoch):
    """What an epoch trains, in order, and its row; the epoch is over then."""
    indices = pruner.begin_epoch(epoch).indices
    pruner.record(indices, np.sin(indices + epoch).astype(np.float32))
    row = {name: value for name, value in pruner.end_epoch().items() if "seconds" not in name}
    return indices.tolist(), row


def test_full_has_a_budget_of_all_and_published_runs_have_none():
    sizes = Steps(100, 8)
    assert Contender("Full", 1.0).length(sizes, 10) == {"budget": 1.0, "epochs": 10}
    published = Contender("InfoBatch as published", None)
    assert published.length(sizes, 10) == {"budget": None, "epochs": 10}
    assert published.policy() == REGISTRY["InfoBatch"]()


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
