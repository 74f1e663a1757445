"""Epochs are whole global batches, whatever the sizes, ranks, budget and method."""

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from seta import KeepCurve, Pruner, batches
from seta.engine.curves.policy import get, is_stratified
from seta.engine.draw.partition import Partition, shards_of
from seta.engine.steps import Steps
from seta.policies import REGISTRY
from tests.virtual_ranks import on_ranks

EPOCHS = 4


def loss_of(samples, epoch):
    """One of few losses, so that groups are quick to find."""
    return (samples * 7919 % 97 / 64 + epoch / 8).astype(np.float32)


def run(n, policy, **options):
    """Returns a function of ranks that trains a run: for each epoch its row, batches and samples.

    None in place of the batches where the epoch is refused.
    """
    if is_stratified(get(policy)):
        options["strata"] = np.arange(n) % 3

    def train(ranks):
        pruner = Pruner(n, policy, epochs=EPOCHS, threads=1, ranks=ranks, **options)
        found = []
        for epoch in range(EPOCHS):
            pruner.begin_epoch()
            kept, each = pruner.kept, pruner.share_size(pruner.kept)
            if not each:
                with pytest.raises(RuntimeError, match=f"epoch {epoch} keeps too few samples for"):
                    pruner.share()
                return [*found, (kept, each, None, None)]
            parts = [indices for indices, _ in batches(pruner)]
            for part in parts:
                pruner.record(part, loss_of(part, epoch))
            row = pruner.end_epoch()
            assert row["kept"] == kept
            found.append((kept, each, parts, row["trained"]))
        return found

    return train


def share_of(n, kept, sizes, sharding):
    """Returns how many samples each rank trains, by hand."""
    if sharding == "replicated":
        return sizes.whole(kept // sizes.ranks, kept)
    partition = Partition(n, shards_of(n))
    counts = partition.counts(kept)
    owned = [partition.owned(rank, sizes.ranks) for rank in range(sizes.ranks)]
    return sizes.whole(min(int(counts[s.start : s.stop].sum()) for s in owned), kept)


@given(
    n=st.integers(1, 1500),
    batch=st.integers(1, 70),
    ranks=st.integers(1, 7),
    budget=st.none() | st.floats(0.05, 1),
    policy=st.sampled_from(list(REGISTRY)),
    drop_last=st.booleans(),
    sharding=st.sampled_from(["replicated", "sharded"]),
    always=st.integers(0, 3),
)
@example(9, 1, 2, 0.25, "SeTa", False, "sharded", 0)
def test_every_batch_is_full_but_the_last_of_an_epoch_that_keeps_all(
    n, batch, ranks, budget, policy, drop_last, sharding, always
):
    sizes = Steps(n, batch, ranks, drop_last)
    assume(n >= ranks and sizes.most and always <= n)
    assume(sharding == "replicated" or not is_stratified(get(policy)))
    options = {"batch_size": batch, "drop_last": drop_last, "sharding": sharding, "budget": budget}
    if budget is not None:
        try:
            lengths = sizes.lengths(budget, EPOCHS)
        except ValueError:
            return  # an epoch would be left without a batch
        assume(always <= min(lengths))
    train = run(n, policy, **options, always_keep=np.arange(always))
    if budget is not None and not all(share_of(n, length, sizes, sharding) for length in lengths):
        with pytest.raises(ValueError, match="budget leaves a rank without a batch"):
            on_ranks(ranks, train)
        return
    results, _ = on_ranks(ranks, train)

    for epoch, found in enumerate(zip(*results, strict=True)):
        kept, each, parts, trained = found[0]
        whole = kept == n and not drop_last
        assert kept == sizes.most if whole else kept % sizes.global_batch == 0 < kept <= n
        assert budget is None or kept == lengths[epoch]
        assert {(other[0], other[1], other[3]) for other in found} == {(kept, each, trained)}
        assert each == share_of(n, kept, sizes, sharding)
        if parts is None:
            assert sharding == "sharded"  # of ranks that own unequally many shards
            return
        assert {len(other[2]) for other in found} == {-(-each // batch)}
        for other in found:
            assert {len(part) for part in (other[2][:-1] if whole else other[2])} <= {batch}
            assert sum(map(len, other[2])) == each
        samples = np.concatenate([part for other in found for part in other[2]])
        assert len(np.unique(samples)) == len(samples) == trained == each * ranks
        if sharding == "replicated":
            assert len(parts) == sizes.batches(kept) and kept - trained < ranks
            if kept == trained:
                assert set(range(always)) <= set(samples.tolist())
    if budget is not None:
        kept = sum(row[0] for row in results[0])
        assert abs(kept - budget * EPOCHS * sizes.most) < sizes.global_batch


@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
@pytest.mark.parametrize("batch", [2, 64])
def test_without_a_budget_the_expected_count_is_rounded_and_drawn_exactly(batch, sharding):
    options = {"epochs": 2, "batch_size": batch, "sharding": sharding}
    losses = np.linspace(0, 1, 1000)
    for seed in range(5):
        pruner = Pruner(1000, "InfoBatch", losses=losses, seed=seed, **options)
        selection = pruner.begin_epoch()
        assert len(selection) == {2: 750, 64: 768}[batch]  # 500 are certain, and 250 expected
        hard = selection.indices[selection.indices >= 500]
        assert len(hard) == 500 or sharding == "sharded"
        row = pruner.end_epoch()
        assert row["fit_factor"] == pytest.approx({2: 1, 64: 268 / 250}[batch], rel=1e-2)


def test_with_a_batch_of_one_the_coins_alone_decide():
    counts = set()
    for seed in range(5):
        pruner = Pruner(1000, "Random", epochs=1, seed=seed)
        counts.add(len(pruner.begin_epoch()))
        assert pruner.end_epoch()["fit_factor"] is None
    assert len(counts) > 1


@pytest.mark.parametrize("batch", [17, 1000])
@pytest.mark.parametrize("policy", ["SeTa", "Random", "Full"])
def test_a_dataset_smaller_than_a_batch_is_one_batch(policy, batch):
    pruner = Pruner(16, policy, epochs=3, batch_size=batch)
    for _ in range(3):
        (indices, _), *more = batches(pruner)
        assert sorted(indices.tolist()) == list(range(16)) and not more
        pruner.record(indices, loss_of(indices, 0))
        pruner.end_epoch()


@pytest.mark.parametrize("size, batch", [(1, 17), (2, 9), (4, 5)])
def test_a_dataset_smaller_than_a_global_batch_cannot_drop_it(size, batch):
    def make(ranks):
        ranks = ranks if size > 1 else None
        with pytest.raises(ValueError) as error:
            Pruner(16, "Full", epochs=1, batch_size=batch, drop_last=True, ranks=ranks)
        return str(error.value)

    where = "1 rank" if size == 1 else f"{size} ranks"
    for message in on_ranks(size, make)[0]:
        assert message == (
            "batch_size must leave a whole global batch with drop_last=True, got "
            f"batch_size={batch} on {where} for 16 samples: choose a smaller one, or "
            "drop_last=False"
        )


def test_more_always_kept_samples_than_an_epoch_has_are_refused():
    options = {"epochs": 1, "batch_size": 4, "drop_last": True}
    with pytest.raises(ValueError, match="always_keep has 10 samples, more than the 8 of an epoch"):
        Pruner(10, "Full", always_keep=range(10), **options)
    pruner = Pruner(10, "Full", always_keep=range(8), **options)
    assert sorted(pruner.begin_epoch().indices.tolist()) == list(range(8))


def test_always_kept_samples_round_the_count_up():
    """9 are kept always and the curve wants no other: 3 batches of 4, not 2."""
    none = Pruner(
        40, lambda h, e, n: KeepCurve.constant(h, 0.0), epochs=1, batch_size=4, always_keep=range(9)
    )
    chosen = none.begin_epoch().indices.tolist()
    assert len(chosen) == 12 and set(range(9)) <= set(chosen)


def test_the_remainder_that_is_dropped_is_another_in_each_epoch():
    pruner = Pruner(103, "Full", epochs=6, batch_size=10, drop_last=True)
    dropped = []
    for _ in range(6):
        selection = pruner.begin_epoch()
        assert len(selection) == 100
        dropped += set(range(103)) - set(selection.indices.tolist())
        pruner.end_epoch()
    assert len(set(dropped)) > 12


# A run of so many steps.


def test_steps_in_place_of_epochs_end_the_run_where_they_end():
    pruner = Pruner(100, "Random", steps=25, budget=0.6, batch_size=10)
    assert (pruner.epochs, pruner.lengths) == (5, [60, 60, 60, 60, 10])
    made = 0
    while pruner.next_epoch < pruner.epochs:
        for indices, _ in batches(pruner):
            pruner.record(indices, loss_of(indices, 0))
            made += 1
        pruner.end_epoch()
    assert made == 25


def test_steps_are_those_of_each_rank():
    def make(ranks):
        pruner = Pruner(100, "Random", steps=7, budget=0.6, batch_size=10, ranks=ranks)
        found = []
        while pruner.next_epoch < pruner.epochs:
            parts = list(batches(pruner))
            for indices, _ in parts:
                pruner.record(indices, loss_of(indices, 0))
            pruner.end_epoch()
            found.append(len(parts))
        return found

    assert on_ranks(2, make)[0] == [[3, 3, 1]] * 2


def test_steps_may_have_a_share_for_each_epoch_and_more_than_needed():
    options = {"steps": 15, "batch_size": 10}
    expected = [100, 50]
    for budget in ([1.0, 0.5], [1.0, 0.5, 0.3, 0.2], lambda epoch: [1.0, 0.5][epoch]):
        pruner = Pruner(100, "Random", budget=budget, **options)
        assert pruner.lengths == expected
    state = Pruner(100, "Random", budget=[1.0, 0.5], **options).state_dict()
    pruner.load_state_dict(state)  # the same budget, told in another way


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "either epochs or steps must be given, got epochs=None and steps=None: the length"),
        ({"epochs": 2, "steps": 9, "budget": 1}, "got epochs=2 and steps=9"),
        ({"steps": 9}, "steps=9 needs a budget, since without one the number of epochs is not"),
        (
            {"steps": 0, "budget": 1},
            "steps must be at least 1, got 0: the batches of the whole run",
        ),
        (
            {"steps": 99, "budget": [1.0, 0.5]},
            "budget must last for steps=99, got 2 shares of 15 batches: give more shares, or one",
        ),
    ],
)
def test_steps_that_make_no_run_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Pruner(100, "Full", batch_size=10, **options)


def test_a_dataset_that_grows_keeps_the_steps_of_the_run():
    pruner = Pruner(100, "Full", steps=25, budget=1, batch_size=10)
    assert pruner.lengths == [100, 100, 50]
    pruner.begin_epoch()
    pruner.end_epoch()
    pruner.resize(105)
    assert pruner.lengths == [100, 105, 40]  # 10 batches, 11, and the 4 that are left
    with pytest.raises(ValueError, match="n=500 makes the steps of this run 2 epochs, and it was"):
        pruner.resize(500)
    assert pruner.n == 105 and pruner.lengths == [100, 105, 40]


def test_a_dataset_may_grow_when_the_steps_are_over():
    pruner = Pruner(100, "Full", steps=10, budget=1, batch_size=10)
    pruner.begin_epoch()
    pruner.end_epoch()
    pruner.resize(500)
    assert pruner.lengths == [100] and pruner.n == 500
