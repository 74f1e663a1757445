"""Every batch is full, but the last of an epoch that keeps all samples."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

import seta
from seta.torch import PrunedDataLoader
from tests.examples import examples
from tests.torch.helpers import Tuples, loss_of, samples_of
from tests.torch.processes import run_ranks

POLICIES = ["SeTa", "InfoBatch", "Random", "Static", "Full", "RePB", "OrderDP", "UCB"]


def train(loader):
    """Trains a whole run; returns the samples of each batch, by epoch."""
    epochs = []
    for epoch in range(loader.epochs):
        epochs.append([])
        for batch in loader:
            samples = samples_of(batch)
            epochs[-1].append(samples.tolist())
            loader.update(loss_of(samples % 7, epoch))
    return epochs


def check(loader, epochs, batch_size, ranks=1):
    """The rule, and what follows from it for the lengths that a loader tells beforehand."""
    n, drop_last = loader.pruner.n, loader.drop_last
    for row, batches in zip(loader.pruner.history, epochs, strict=True):
        sizes = [len(batch) for batch in batches]
        everything = row["kept"] == n and not drop_last
        assert sizes, row
        assert all(size == batch_size for size in (sizes[:-1] if everything else sizes)), sizes
        assert row["trained"] == sum(sizes) * ranks
        if not everything:
            assert row["kept"] == row["trained"]
    if loader.pruner.lengths is not None:
        assert loader.total_batches == loader.total_steps == sum(map(len, epochs))


@given(
    n=st.integers(1, 90),
    batch_size=st.integers(1, 40),
    budget=st.none() | st.floats(0.05, 1),
    policy=st.sampled_from(POLICIES),
    drop_last=st.booleans(),
)
@examples(120, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_batch_but_the_last_of_a_full_epoch_differs_in_size(
    n, batch_size, budget, policy, drop_last
):
    try:
        loader = PrunedDataLoader(
            Tuples(n), policy, epochs=4, budget=budget, batch_size=batch_size, drop_last=drop_last
        )
    except ValueError as error:  # an epoch would be empty: said at once
        assert "every epoch needs one" in str(error) or "leave a whole global batch" in str(error)
        return
    epochs = train(loader)
    check(loader, epochs, batch_size)
    if budget is not None:
        visits = sum(row["kept"] for row in loader.pruner.history)
        assert abs(visits - 4 * budget * loader.pruner.sizes.most) <= batch_size


OPTIONS = [
    {"n": n, "batch_size": batch_size, "budget": budget, "policy": policy, "drop_last": drop_last}
    for n, batch_size, (budget, policy), drop_last in itertools.product(
        (101, 64),
        (8, 13),
        ((None, "InfoBatch"), (None, "SeTa"), (0.6, "SeTa"), (1.0, "Full")),
        (False, True),
    )
]


def _every_case(rank):
    found = []
    for case in OPTIONS:
        options = dict(case)
        loader = PrunedDataLoader(Tuples(options.pop("n")), epochs=3, **options)
        epochs = train(loader)
        check(loader, epochs, case["batch_size"], ranks=2)
        found.append(epochs)
    return found


@pytest.mark.processes
def test_the_same_holds_on_two_ranks_which_train_as_many_batches(tmp_path):
    for case, runs in zip(OPTIONS, zip(*run_ranks(2, _every_case, tmp_path), strict=True),
                          strict=True):  # fmt: skip
        lengths = [[[len(batch) for batch in epoch] for epoch in run] for run in runs]
        assert lengths[0] == lengths[1], case
        for one, other in zip(*runs, strict=True):
            trained = np.concatenate([np.concatenate(one), np.concatenate(other)])
            assert len(np.unique(trained)) == len(trained)


def _too_small(rank):
    with pytest.raises(ValueError, match="batch_size=4 on 2 ranks for 7 samples"):
        PrunedDataLoader(Tuples(7), "Full", epochs=1, batch_size=4, drop_last=True)
    loader = PrunedDataLoader(Tuples(7), "Random", epochs=2, batch_size=4)
    return [[len(batch) for batch in epoch] for epoch in train(loader)]


@pytest.mark.processes
def test_a_dataset_smaller_than_a_global_batch_is_one_batch_or_refused(tmp_path):
    assert run_ranks(2, _too_small, tmp_path) == [[[3], [3]]] * 2
    with pytest.raises(ValueError, match="batch_size=4 on 1 rank for 3 samples"):
        PrunedDataLoader(Tuples(3), "Full", epochs=1, batch_size=4, drop_last=True)


@pytest.mark.parametrize("drop_last", [False, True])
def test_a_run_may_be_as_long_as_a_number_of_batches(drop_last):
    loader = PrunedDataLoader(
        Tuples(50), seta.Random(0.5), steps=17, budget=0.5, batch_size=8, drop_last=drop_last
    )
    assert loader.total_batches == loader.total_steps == 17
    epochs = train(loader)
    assert sum(map(len, epochs)) == 17
    assert {len(batch) for epoch in epochs for batch in epoch} == {8}
    assert loader.progress == 1
    with pytest.raises(RuntimeError, match="are over"):
        next(iter(loader))


def test_a_number_of_batches_says_no_number_of_epochs_without_a_budget():
    with pytest.raises(ValueError, match="steps=17 needs a budget.*epochs= in place of steps="):
        PrunedDataLoader(Tuples(50), "SeTa", steps=17)
    with pytest.raises(ValueError, match="either epochs or steps must be given, got epochs=2 and"):
        PrunedDataLoader(Tuples(50), "SeTa", epochs=2, steps=17, budget=0.5)


def test_several_batches_make_an_optimizer_step():
    loader = PrunedDataLoader(
        Tuples(50), "SeTa", epochs=3, budget=0.6, batch_size=4, accumulation=4
    )
    batches = [len(epoch) for epoch in train(loader)]
    assert loader.total_batches == sum(batches)
    assert loader.total_steps == sum(-(-count // 4) for count in batches)
    with pytest.raises(ValueError, match="accumulation must be at least 1, got 0"):
        PrunedDataLoader(Tuples(50), "SeTa", epochs=3, accumulation=0)
