"""Difficulty groups against brute force and scikit-learn's k-means."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seta.engine import LossHistogram, difficulty_groups
from tests.examples import examples

RNG = np.random.default_rng(0)
N = 10_000
DISTRIBUTIONS = {
    "gamma": RNG.gamma(0.5, 1.0, N),
    "gamma, late": RNG.gamma(0.05, 1.0, N),
    "log-normal": RNG.lognormal(0.0, 1.5, N),
    "log-normal, wide": RNG.lognormal(-3.0, 4.0, N),
    "bimodal": np.concatenate([RNG.normal(1, 0.2, N // 2), RNG.normal(6, 0.5, N // 2)]),
    "bimodal, tight": np.concatenate([RNG.normal(1, 1e-3, N // 2), RNG.normal(1.01, 1e-3, N // 2)]),
    "heavy-tailed": RNG.pareto(1.1, N),
    "heavier-tailed": RNG.pareto(0.6, N),
    "three scales": np.concatenate([RNG.normal(s, s / 10, N // 3) for s in (1e-4, 1e-1, 1e2)]),
    "packed, with an outlier": np.append(RNG.normal(1, 1e-4, N), 1e4),
    "with negatives": RNG.normal(0, 1, N),
    "constant": np.full(N, 2.5),
    "discrete": RNG.choice([0.1, 0.2, 0.5, 1.0, 3.0, 9.0, 27.0], N),
    "first epoch, 10 classes": RNG.normal(2.303, 0.01, N),
    "first epoch, 50,000 tokens": RNG.normal(10.8, 0.02, N),
    "mostly zero": np.where(RNG.random(N) < 0.9, 0.0, RNG.gamma(1, 1, N)),
}


def objective(losses, bounds):
    """Sum of squares of the raw losses to the means of their groups."""
    losses = losses.astype(np.float64)
    labels = np.searchsorted(bounds[1:-1], losses, side="right")
    return sum(
        ((part - part.mean()) ** 2).sum()
        for part in (losses[labels == j] for j in range(len(bounds) - 1))
        if len(part)
    )


def least(values, groups):
    """The least objective of all, by the best last cut of each number of groups."""
    values = np.sort(values.astype(np.float64))
    values -= values.mean()  # else the sums of squares cancel
    sums, squares = (np.append(0.0, np.cumsum(values**power)) for power in (1, 2))
    begins = np.arange(len(values))
    best = np.append(0.0, squares[1:] - sums[1:] ** 2 / (begins + 1))
    for _ in range(groups - 1):
        fewer = best
        best = np.zeros(len(values) + 1)
        for end in range(1, len(values) + 1):  # the last group is values[begin:end]
            size = end - begins[:end]
            last = squares[end] - squares[:end] - (sums[end] - sums[:end]) ** 2 / size
            best[end] = (fewer[:end] + last).min()
    return max(best[-1], 0.0)


@pytest.mark.parametrize("groups", [2, 5])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_objective_is_the_least_there_is(name, groups):
    losses = DISTRIBUTIONS[name][::12].astype(np.float32)
    found = difficulty_groups(LossHistogram.from_losses(losses), groups)
    slack = 1e-12 * len(losses) * np.abs(losses.astype(np.float64)).max() ** 2
    assert objective(losses, found.bounds) <= 1.0005 * least(losses, groups) + slack


@pytest.mark.statistics
@pytest.mark.parametrize("groups", [2, 5, 10])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_objective_is_that_of_the_best_of_ten_kmeans(name, groups):
    from sklearn.cluster import KMeans  # a second to load

    losses = DISTRIBUTIONS[name].astype(np.float32)
    found = difficulty_groups(LossHistogram.from_losses(losses), groups)
    points = losses.astype(np.float64)[:, None]
    distinct = len(np.unique(losses))
    kmeans = KMeans(min(groups, distinct), n_init=10, random_state=0).fit(points)
    slack = 1e-9 * len(losses) * np.abs(points).max() ** 2 * 1e-3
    assert objective(losses, found.bounds) <= 1.0005 * kmeans.inertia_ + slack


@pytest.mark.parametrize("huge", [1e12, 1e17, 1e20, -1e20, 3e38])
def test_one_huge_loss_takes_one_group_and_leaves_the_others_as_they_are(huge):
    losses = DISTRIBUTIONS["gamma"].astype(np.float32)
    histogram = LossHistogram.from_losses(np.append(losses, np.float32(huge)))
    found = difficulty_groups(histogram, 5)
    assert sorted(found.sizes)[0] == 1
    bounds = found.bounds[:-1] if huge > 0 else found.bounds[1:]
    alone = difficulty_groups(LossHistogram.from_losses(losses), 4)
    assert objective(losses, bounds) <= 1.001 * objective(losses, alone.bounds)


@pytest.mark.parametrize("most", [1e17, 1e30])
def test_centres_are_exact_where_most_losses_are_huge(most):
    """The sums for the cost run from the median, so that a mean taken of them would be coarse."""
    losses = np.array([1, 2, 3, *[most] * 5], np.float32)
    found = difficulty_groups(LossHistogram.from_losses(losses), 2)
    assert found.centres == pytest.approx([2, most], rel=1e-3)


def brute_force(values, groups):
    """The least objective over all ways to cut the sorted distinct values."""
    distinct = np.unique(values)
    groups = min(groups, len(distinct))
    best = np.inf
    for cuts in itertools.combinations(range(1, len(distinct)), groups - 1):
        bounds = np.concatenate([[-np.inf], distinct[list(cuts)], [np.inf]])
        best = min(best, objective(values, bounds))
    return best


@given(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=12),
    st.integers(1, 5),
)
def test_small_sets_get_the_global_optimum(values, groups):
    losses = np.array(values, np.float32)
    histogram = LossHistogram.from_losses(losses)
    found = difficulty_groups(histogram, groups)
    # Within a bin losses cannot be told apart: compare on the bin centres.
    rounded = histogram.centres[histogram.bin_of(losses)]
    slack = 1e-9 * (1 + np.abs(rounded).max() ** 2)
    assert objective(rounded, found.bounds) <= brute_force(rounded, groups) * (1 + 1e-9) + slack


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(1, 40))
def test_groups_partition_the_seen_samples(values, groups):
    losses = np.array([*values, np.nan], np.float32)
    histogram = LossHistogram.from_losses(losses)
    found = difficulty_groups(histogram, groups)
    assert len(found) == min(groups, len(set(values)))
    assert found.sizes.sum() == histogram.seen
    assert np.all(found.sizes > 0)
    assert found.first_bin[0] == 0
    assert found.first_bin[-1] == histogram.bins
    assert np.all(np.diff(found.first_bin) > 0)
    for j, size in enumerate(found.sizes):
        inside = histogram.counts[found.first_bin[j] : found.first_bin[j + 1]]
        assert inside.sum() == size
        assert found.bounds[j] <= found.centres[j] <= found.bounds[j + 1]


@pytest.mark.statistics
@examples(10)
@given(st.integers(0, 2**32), st.sampled_from([2, 4, 7]))
def test_merging_bins_costs_nothing_that_can_be_seen(seed, groups):
    from sklearn.cluster import KMeans

    rng = np.random.default_rng(seed)
    losses = (rng.gamma(rng.uniform(0.1, 3), 1, 3000) * 10 ** rng.uniform(-6, 3)).astype(np.float32)
    found = difficulty_groups(LossHistogram.from_losses(losses), groups)
    kmeans = KMeans(groups, n_init=10, random_state=0)
    inertia = kmeans.fit(losses.astype(np.float64)[:, None]).inertia_
    assert objective(losses, found.bounds) <= 1.0005 * inertia


def test_equal_losses_make_one_group():
    found = difficulty_groups(LossHistogram.from_losses(np.full(10, 3.0, np.float32)), 5)
    assert found.sizes.tolist() == [10]
    assert found.centres.tolist() == [3.0]


def test_nothing_seen_makes_no_groups():
    found = difficulty_groups(LossHistogram.from_losses(np.full(4, np.nan, np.float32)), 5)
    assert len(found) == 0


def test_less_than_one_group_is_refused():
    with pytest.raises(ValueError, match="groups must be at least 1, got 0"):
        difficulty_groups(LossHistogram.from_losses(np.ones(3, np.float32)), 0)
