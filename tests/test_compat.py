"""The published package's three lines, with plain loaders; a sample's content is its own index."""

import argparse
import copy
import io
import json
import logging
import pickle
import re
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, TensorDataset

from seta import Log, prune
from tests.combinations import some_of
from tests.torch.processes import run_ranks

WORKERS = [
    pytest.param({}, id="main process"),
    pytest.param({"num_workers": 2}, id="2 workers"),
    pytest.param({"num_workers": 2, "persistent_workers": True}, id="2 persistent workers"),
]


class Indices(Dataset):
    """Sample i is (i, i % 3)."""

    classes = ("a", "b", "c")

    def __init__(self, n):
        self.n = n
        self.transform = None

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        if not 0 <= index < self.n:
            raise IndexError(index)
        return torch.tensor(index), index % 3


class Batched(Indices):
    """Fetches a batch at once; one by one is wrong."""

    def __getitem__(self, index):
        raise AssertionError("asked for a single row")

    def __getitems__(self, indices):
        return [(torch.tensor(i), i % 3) for i in indices]


class Sorted(Indices):
    """Sorts the indices in place, and returns the rows as asked."""

    def __getitems__(self, indices):
        rows = [(torch.tensor(i), i % 3) for i in indices]
        indices.sort()
        return rows


def arguments(prune_type="SeTa", epochs=4, **others):
    given = {"prune_ratio": 0.1, "num_group": 5, "window_scale": 0.9, "delta": 0.875, **others}
    return SimpleNamespace(prune_type=prune_type, epochs=epochs, **given)


def made(prune_type="SeTa", n=100, batch_size=8, epochs=4, loader=None, told=None, **others):
    train_data = prune(Indices(n), arguments(prune_type, epochs, batch_size=told, **others))
    options = {"batch_size": batch_size, **(loader or {})}
    return train_data, DataLoader(train_data, sampler=train_data.sampler, **options)


def loss_of(index, epoch=0):
    """Losses of very different size, so that SeTa has groups to tell apart."""
    return (index.double() % 7).exp() + index / 1000 + epoch


def epoch_of(train_data, loader, epoch=0):
    """Trains one epoch; returns the indices in training order."""
    seen = []
    for index, _ in loader:
        train_data.update(loss_of(index, epoch))
        seen += index.tolist()
    return seen


def expected_table(n, epochs):
    """The loss table after these epochs, each a list of indices."""
    table = np.full(n, np.nan, np.float32)
    for epoch, seen in enumerate(epochs):
        table[seen] = loss_of(torch.tensor(seen, dtype=torch.int64), epoch).float().numpy()
    return table


# Right sample, right loss.


@pytest.mark.parametrize(
    "prune_type, drop_last",
    [
        ("SeTa", False),
        ("InfoBatch", True),
        ("Static", False),
        ("none", True),
        *(
            pytest.param(*which, marks=pytest.mark.slow)
            for which in [("SeTa", True), ("InfoBatch", False), ("Static", True), ("none", False)]
        ),
    ],
)
@pytest.mark.parametrize("loader", WORKERS)
def test_every_loss_reaches_its_own_sample(prune_type, loader, drop_last):
    loader = {"drop_last": drop_last, **loader}
    train_data, batches = made(prune_type, n=150, batch_size=16, prune_ratio=0.3, loader=loader)
    epochs = []
    for epoch in range(4):
        epochs.append(epoch_of(train_data, batches, epoch))
        np.testing.assert_array_equal(
            train_data.pruner.losses, expected_table(150, epochs)[: len(train_data)]
        )
    assert len(train_data.pruner.history) == 4
    assert len(epochs[0]) > 0 and len(set(map(tuple, epochs))) == 4


def test_losses_reach_the_table_when_the_epoch_ends_and_not_before():
    train_data, batches = made("none", n=32)
    for index, _ in batches:
        assert np.isnan(train_data.pruner.losses).all()
        train_data.update(loss_of(index))
    np.testing.assert_array_equal(train_data.pruner.losses, expected_table(32, [list(range(32))]))


@pytest.mark.slow
@pytest.mark.processes
def test_spawned_workers_get_the_data_alone():
    loader = {"num_workers": 2, "persistent_workers": True, "multiprocessing_context": "spawn"}
    train_data, batches = made("InfoBatch", n=60, epochs=2, loader=loader)
    epochs = [epoch_of(train_data, batches, epoch) for epoch in range(2)]
    np.testing.assert_array_equal(train_data.pruner.losses, expected_table(60, epochs))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_out_as_from_the_users_own_dataset(workers):
    def collate(rows):
        return {"index": [int(i) for i, _ in rows], "rows": len(rows)}

    for dataset in (Indices(40), Batched(40)):
        train_data = prune(dataset, arguments(prune_ratio=0.2))
        loader = DataLoader(
            train_data, 8, sampler=train_data.sampler, collate_fn=collate, num_workers=workers
        )
        got = list(loader)
        assert [set(batch) for batch in got] == [{"index", "rows"}] * 4
        assert sum(batch["rows"] for batch in got) == 32


def test_a_loader_made_anew_each_epoch_and_a_batch_sampler_work():
    train_data, _ = made(n=64)
    epochs = []
    for epoch in range(4):
        loader = DataLoader(train_data, batch_sampler=BatchSampler(train_data.sampler, 16, False))
        epochs.append(epoch_of(train_data, loader, epoch))
    np.testing.assert_array_equal(train_data.pruner.losses, expected_table(64, epochs))


def test_unbatched_loading_works():
    train_data = prune(Indices(12), arguments("none", epochs=2))
    loader = DataLoader(train_data, batch_size=None, sampler=train_data.sampler, num_workers=1)
    for _ in range(2):
        for index, _ in loader:
            train_data.update(index.double()[None])
    np.testing.assert_array_equal(train_data.pruner.losses, np.arange(12))


def test_one_seed_gives_one_run_and_another_seed_another():
    def run(workers, **others):
        train_data, batches = made("InfoBatch", loader={"num_workers": workers}, **others)
        return [epoch_of(train_data, batches, epoch) for epoch in range(3)]

    assert run(0) == run(2) == run(0, seed=None) == run(0, seed=0)
    assert run(0) != run(0, seed=1)


def test_global_random_state_is_neither_read_nor_set():
    train_data, _ = made()
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = list(train_data.sampler)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    np.random.seed(7)
    assert list(made()[0].sampler) == first


# What update() returns.


def weighted_batches(ratio=0.5):
    """A run of InfoBatch, in its second epoch; yields its batches."""
    train_data, batches = made("InfoBatch", n=64, prune_ratio=ratio, epochs=4)
    epoch_of(train_data, batches)
    mean = loss_of(torch.arange(64)).mean()
    for index, _ in batches:
        weights = torch.where(loss_of(index) < mean, 1 / (1 - ratio), 1.0)
        yield train_data, index, weights


def test_update_returns_the_weighted_mean_with_its_graph():
    weighted = 0
    for train_data, index, weights in weighted_batches():
        values = loss_of(index, 3).requires_grad_()
        before = values.detach().clone()
        result = train_data.update(values)
        torch.testing.assert_close(result, (values * weights).sum() / len(index))
        result.backward()
        torch.testing.assert_close(values.grad, weights.double() / len(index))
        assert torch.equal(values.detach(), before)
        weighted += int((weights > 1).any())
    assert weighted > 2


def test_with_all_weights_one_update_is_the_mean_bit_for_bit():
    for kind in ("SeTa", "Static", "none", "InfoBatch"):
        train_data, batches = made(kind, n=70, batch_size=13)
        for index, _ in batches:
            losses = torch.rand(len(index))
            assert train_data.update(losses).item() == losses.mean().item()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_float_type_is_recorded(dtype):
    for train_data, index, weights in weighted_batches():
        losses = loss_of(index).to(dtype)
        result = train_data.update(losses)
        assert result.dtype == dtype
        torch.testing.assert_close(result, (losses * weights.to(dtype)).mean())
    table = expected_table(64, [range(64)])
    np.testing.assert_allclose(train_data.pruner.losses, table, rtol=torch.finfo(dtype).eps)


def test_losses_per_token_are_averaged_per_sample():
    train_data, batches = made("none", n=8, batch_size=4)
    for index, _ in batches:
        losses = index.double()[:, None] + torch.tensor([0.0, 1.0, 2.0])
        assert train_data.update(losses).item() == losses.mean(1).mean().item()
    np.testing.assert_array_equal(train_data.pruner.losses, np.arange(8) + 1)


def test_changing_the_losses_after_update_changes_nothing():
    train_data, batches = made("none", n=8)
    for index, _ in batches:
        losses = index.float()
        train_data.update(losses)
        losses.zero_()
    np.testing.assert_array_equal(train_data.pruner.losses, np.arange(8))


def test_losses_that_are_not_finite_are_counted_and_not_recorded():
    train_data, batches = made("none", n=8)
    for index, _ in batches:
        train_data.update(torch.where(index == 3, torch.nan, index.float()))
    assert train_data.pruner.history[0]["nonfinite"] == 1
    assert np.isnan(train_data.pruner.losses).nonzero()[0].tolist() == [3]


# Epochs.


def test_the_length_before_training_is_that_of_the_first_epoch():
    for kind, samples in [("SeTa", 70), ("InfoBatch", 100), ("Static", 70), ("none", 100)]:
        train_data, batches = made(kind, n=100, batch_size=8, prune_ratio=0.3)
        assert len(train_data.sampler) == samples
        assert len(batches) == -(-samples // 8)
        assert train_data.get_pruned_count() == 0
        assert len(list(batches)) == -(-samples // 8)
        assert train_data.pruner.epoch == 0


@pytest.mark.parametrize(
    "others", [{}, {"num_group": 1, "window_scale": 1}, {"prune_ratio": 0.5, "delta": 0.5}]
)
def test_no_epoch_of_seta_is_longer_than_the_first(others):
    settings = {"prune_ratio": 0.3, **others}
    train_data, batches = made(n=300, epochs=12, **settings)
    sizes = [len(epoch_of(train_data, batches, epoch)) for epoch in range(12)]
    exact = int((1 - settings["prune_ratio"]) * 300)
    assert sizes[0] == sizes[-1] == exact == max(sizes)
    assert (min(sizes) == exact) == ("num_group" in others)


@some_of(
    "prune_type, n, ratio",
    ["SeTa", "InfoBatch", "Static", "none"],
    [5, 300, 512, 517],
    [0.0, 0.3, 0.5],
)
def test_every_batch_is_full_where_its_size_is_told(prune_type, n, ratio):
    others = {"prune_ratio": ratio, "num_group": 3, "window_scale": 0.7}
    train_data, batches = made(prune_type, n=n, epochs=8, batch_size=16, told=16, **others)
    first, steps = len(batches), []
    for epoch in range(8):
        sizes = []
        for index, _ in batches:
            train_data.update(loss_of(index, epoch))
            sizes.append(len(index))
        steps.append(len(sizes))
        assert all(size == 16 for size in sizes) or sum(sizes) == n
    assert max(steps) == steps[0] == first


def test_an_epoch_that_ends_in_a_smaller_batch_is_warned_of_once(caplog):
    def run(prune_type, n=100, **options):
        caplog.clear()
        train_data, batches = made(prune_type, n=n, epochs=3, **options)
        for epoch in range(3):
            epoch_of(train_data, batches, epoch)
        return [message for message in caplog.messages if "as large a step" in message]

    (message,) = run("SeTa")
    assert message.startswith("epoch 0 ended in a batch of 2, and others have 8: it takes as large")
    assert "set args.batch_size" in message
    assert not run("SeTa", told=8) and not run("SeTa", loader={"drop_last": True})
    assert not run("none")


def test_a_schedule_made_of_the_first_length_never_runs_out():
    train_data, batches = made(n=200, epochs=6, num_group=1, window_scale=1, prune_ratio=0.5)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.1, epochs=6, steps_per_epoch=len(batches)
    )
    for epoch in range(6):
        for index, _ in batches:
            train_data.update(loss_of(index, epoch))
            optimizer.step()
            schedule.step()
    assert schedule.last_epoch == schedule.total_steps


def test_len_and_iter_change_nothing_until_a_batch_is_taken():
    train_data, batches = made(n=50)
    for _ in range(3):
        assert len(batches) == 6 and len(train_data.sampler) == 45
        iter(train_data.sampler), iter(batches)
    assert len(epoch_of(train_data, batches)) == 45
    assert len(batches) == 6  # of the epoch just read, for averages over its batches
    assert train_data.pruner.history[0]["epoch"] == 0


def test_every_sampler_of_a_dataset_reads_the_same_epoch():
    train_data, _ = made(n=50)
    one = iter(train_data.sampler)
    first = next(one)
    assert next(iter(train_data.sampler)) == first
    with pytest.raises(RuntimeError, match="iterated again while epoch 0 was being read"):
        next(one)


def test_a_break_after_an_update_ends_the_epoch():
    train_data, batches = made("none", n=64, epochs=3)
    epochs = []
    for epoch in range(3):
        epochs.append([])
        for step, (index, _) in enumerate(batches):
            train_data.update(loss_of(index, epoch))
            epochs[-1] += index.tolist()
            if step == 2:
                break
    assert [len(seen) for seen in epochs] == [24] * 3
    assert train_data.pruner.epoch == 2  # nothing begins another, so the last one stays open
    np.testing.assert_array_equal(train_data.pruner.losses, expected_table(64, epochs[:2]))


def test_an_epoch_smaller_than_a_batch_to_drop_is_skipped():
    loader = {"drop_last": True}
    train_data, batches = made(
        "InfoBatch", n=64, batch_size=32, epochs=3, loader=loader, prune_ratio=0.99, delta=0.7
    )
    sizes = []
    for _ in range(3):
        sizes.append(0)
        for index, _ in batches:
            train_data.update((index == 7).double())  # all but one are below the mean
            sizes[-1] += len(index)
    assert sizes == [64, 0, 64]


def test_set_epoch_begins_that_epoch_and_is_idempotent():
    train_data, batches = made("none", n=16, epochs=5)
    assert len(batches) == 2
    for epoch in (1, 2, 4):  # a run resumed at epoch 1; epoch 3 left out
        batches.sampler.set_epoch(epoch)
        batches.sampler.set_epoch(epoch)
        epoch_of(train_data, batches, epoch)
    rows = train_data.pruner.history
    assert [row["epoch"] for row in rows if row["trained"]] == [1, 2, 4]
    with pytest.raises(ValueError, match="epoch 3 is over"):
        batches.sampler.set_epoch(3)


def test_a_state_between_two_epochs_goes_on_where_it_was_saved():
    whole, batches = made("InfoBatch", n=80)
    expected = [epoch_of(whole, batches, epoch) for epoch in range(4)]
    first, batches = made("InfoBatch", n=80)
    for epoch in range(2):
        epoch_of(first, batches, epoch)
    state = first.pruner.state_dict()
    resumed, batches = made("InfoBatch", n=80)
    resumed.pruner.load_state_dict(state)
    assert [epoch_of(resumed, batches, epoch) for epoch in (2, 3)] == expected[2:]
    np.testing.assert_array_equal(resumed.pruner.losses, whole.pruner.losses)


@pytest.mark.parametrize("workers", [0, 2])
def test_more_iterations_than_epochs_are_refused(workers):
    train_data, batches = made("none", n=16, epochs=2, loader={"num_workers": workers})
    for epoch in range(2):
        epoch_of(train_data, batches, epoch)
    with pytest.raises(ValueError, match=r"args.epochs=2, so epochs 0 to 1.*epoch 2 was asked for"):
        next(iter(batches))
    with pytest.raises(ValueError, match=r"args.epochs=2"):
        batches.sampler.set_epoch(2)
    assert len(batches) == 2
    assert len(train_data.pruner.history) == 2


def test_each_epoch_is_logged_and_nothing_is_printed(caplog, capsys):
    with caplog.at_level(logging.INFO, "seta"):
        train_data, batches = made("Static", n=40, prune_ratio=0.5)
        epoch_of(train_data, batches)
    assert caplog.messages == ["epoch 0 of 4: 20 of 40 samples"]
    assert capsys.readouterr() == ("", "")


# Counters.


@pytest.mark.parametrize("prune_type", ["SeTa", "InfoBatch", "Static", "none"])
@pytest.mark.parametrize("drop_last", [False, True])
def test_counters_are_the_samples_left_out_of_the_plans(prune_type, drop_last):
    loader = {"drop_last": drop_last}
    train_data, batches = made(prune_type, n=90, prune_ratio=0.4, loader=loader)
    left_out = 0
    for epoch in range(4):
        assert train_data.get_pruned_count() == left_out
        epoch_of(train_data, batches, epoch)
        left_out += 90 - len(batches.sampler)
        assert train_data.get_pruned_count() == left_out
        assert train_data.get_saved_ratio() == left_out / (90 * 4)
    assert (left_out > 0) == (prune_type != "none")


def test_static_takes_the_first_rows_and_counts_the_others():
    train_data, batches = made("Static", n=10, batch_size=3, epochs=3, prune_ratio=0.35)
    assert len(train_data) == 6 == len(batches) * 3
    epochs = [epoch_of(train_data, batches, epoch) for epoch in range(3)]
    assert all(sorted(seen) == list(range(6)) for seen in epochs)
    assert train_data.get_pruned_count() == 12
    assert train_data.get_saved_ratio() == 12 / 30


def test_the_saved_ratio_divides_by_all_epochs_from_the_start():
    train_data, batches = made(n=100, epochs=10, prune_ratio=0.2)
    epoch_of(train_data, batches)
    assert train_data.get_pruned_count() == 20
    assert train_data.get_saved_ratio() == 20 / 1000


# What does not fit.


def refused(train_data, batches, message, again=True):
    """The iteration after the first epoch raises this; its losses are gone; training goes on."""
    with pytest.raises(RuntimeError, match=message):
        next(iter(batches))
    assert np.isnan(train_data.pruner.losses).all()
    if again:
        seen = epoch_of(train_data, batches, 1)
        np.testing.assert_array_equal(
            train_data.pruner.losses, expected_table(len(train_data), [[], seen])
        )


@pytest.mark.parametrize("loader", WORKERS)
@pytest.mark.parametrize("skipped", [0, 3, 7])
def test_a_batch_without_update_is_refused_at_the_next_epoch(loader, skipped):
    train_data, batches = made("none", n=64, loader=loader)
    for step, (index, _) in enumerate(batches):
        if step != skipped:
            train_data.update(loss_of(index))
    message = r"epoch 0: the loader fetched 64 samples, update\(\) got losses of 56.*skip\(\)"
    refused(train_data, batches, message)
    assert train_data.pruner.history[0]["trained"] == 0


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        ({}, "got 4 losses, but the batch has 8 samples"),
        ({"num_workers": 2}, "got 4 losses, the update before it 8: only the last batch of an e"),
    ],
)
def test_a_skipped_batch_is_noticed_at_the_smaller_last_one(loader, message):
    train_data, batches = made("none", n=60, loader=loader)
    with pytest.raises(RuntimeError, match=message):
        for step, (index, _) in enumerate(batches):
            if step:
                train_data.update(loss_of(index))
    assert len(epoch_of(train_data, batches, 1)) == 60
    np.testing.assert_array_equal(
        train_data.pruner.losses, expected_table(60, [[], list(range(60))])
    )


@pytest.mark.parametrize("loader", WORKERS)
def test_a_skipped_batch_is_noticed_under_drop_last(loader):
    train_data, batches = made("none", n=60, loader={"drop_last": True, **loader})
    for step, (index, _) in enumerate(batches):
        if step:
            train_data.update(loss_of(index))
    refused(train_data, batches, r"fetched 60 samples, update\(\) got losses of 48", again=False)


def test_a_loop_without_update_is_refused():
    train_data, batches = made("none", n=64)
    assert len(list(batches)) == 8
    refused(train_data, batches, r"fetched 64 samples, update\(\) got losses of 0")


@pytest.mark.parametrize("loader", WORKERS)
def test_a_look_at_one_batch_uses_no_epoch_up(loader):
    train_data, batches = made("InfoBatch", n=80, epochs=3, loader=loader)
    epochs = []
    for epoch in range(3):
        before = train_data.get_pruned_count()
        looked = next(iter(batches))[0].tolist()
        epochs.append(epoch_of(train_data, batches, epoch))
        assert epochs[-1][:8] == looked
        assert train_data.get_pruned_count() - before == 80 - len(epochs[-1])
    np.testing.assert_array_equal(train_data.pruner.losses, expected_table(80, epochs))
    assert [row["trained"] for row in train_data.pruner.history] == [len(seen) for seen in epochs]


def test_an_epoch_that_was_only_looked_at_is_forgotten_where_another_is_named():
    train_data, batches = made(n=64)
    next(iter(batches))
    batches.sampler.set_epoch(1)
    assert train_data.get_pruned_count() == 0
    epoch_of(train_data, batches, 1)
    assert [row["epoch"] for row in train_data.pruner.history] == [1]


def test_a_look_at_the_only_batch_is_refused_and_says_so():
    train_data, batches = made("none", n=8)
    next(iter(batches))
    refused(train_data, batches, r"fetched 8 samples, update\(\) got losses of 0.*only read")


def test_a_break_before_the_update_is_refused():
    train_data, batches = made("none", n=64)
    for step, (index, _) in enumerate(batches):
        if step == 3:
            break
        train_data.update(loss_of(index))
    refused(train_data, batches, r"fetched 32 samples, update\(\) got losses of 24")


def test_a_break_with_workers_ahead_is_refused():
    train_data, batches = made("none", n=64, loader={"num_workers": 2})
    for index, _ in batches:
        train_data.update(loss_of(index))
        break
    message = r"fetched 40 samples, update\(\) got losses of 8.*`break`\) with workers fetching"
    refused(train_data, batches, message)


def test_a_refusal_surfaces_in_set_epoch_too():
    train_data, batches = made("none", n=64)
    list(batches)
    with pytest.raises(RuntimeError, match="epoch 0: the loader fetched 64 samples"):
        batches.sampler.set_epoch(1)
    batches.sampler.set_epoch(1)
    assert train_data.pruner.epoch == 1


@pytest.mark.parametrize("loader", WORKERS)
def test_losses_of_a_part_of_the_batch_are_refused(loader):
    train_data, batches = made("none", n=64, loader=loader)
    with pytest.raises(RuntimeError, match=r"epoch 0: update\(\) got 7 losses"):
        for index, _ in batches:
            train_data.update(loss_of(index)[1:])
    with pytest.raises(RuntimeError, match=r"epoch 0 is over, discarded: update\(\) got 7 losses"):
        train_data.update(torch.ones(8))
    epoch_of(train_data, batches, 1)
    np.testing.assert_array_equal(
        train_data.pruner.losses, expected_table(64, [[], list(range(64))])
    )


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        ({}, "got 5 losses, but the batch has 8 samples"),
        ({"num_workers": 2}, "got 5 losses, the update before it 8"),
    ],
)
def test_one_short_update_is_refused(loader, message):
    train_data, batches = made("none", n=64, loader=loader)
    with pytest.raises(RuntimeError, match=message):
        for step, (index, _) in enumerate(batches):
            train_data.update(loss_of(index)[:5] if step == 2 else loss_of(index))


def test_a_longer_update_than_the_first_is_refused():
    train_data, batches = made("none", n=64, loader={"num_workers": 2})
    with pytest.raises(RuntimeError, match="got 10 losses, the update before it 8"):
        for step, (index, _) in enumerate(batches):
            train_data.update(torch.ones(10) if step == 1 else loss_of(index))


def test_losses_of_two_views_of_each_sample_are_refused():
    train_data, batches = made("none", n=64)
    with pytest.raises(RuntimeError, match="got 16 losses, but the batch has 8 samples"):
        for index, _ in batches:
            train_data.update(loss_of(torch.cat([index, index])))
    train_data, batches = made("none", n=64, loader={"num_workers": 2})
    with pytest.raises(RuntimeError, match="got 16 losses, which does not divide the 40 samples"):
        for index, _ in batches:
            train_data.update(loss_of(torch.cat([index, index])))


@pytest.mark.parametrize("n", [3, 8, 12])
def test_without_workers_even_a_single_or_last_batch_must_fit(n):
    train_data, batches = made("none", n=n)
    with pytest.raises(RuntimeError, match=r"got 2 losses, but the batch has [38] samples"):
        for index, _ in batches:
            train_data.update(loss_of(index)[:2])
    for step, (index, _) in enumerate(batches):
        if step < len(batches) - 1:
            train_data.update(loss_of(index))
    with pytest.raises(RuntimeError, match=f"fetched {n} samples"):
        next(iter(batches))


@pytest.mark.parametrize("loader", WORKERS)
def test_reading_the_dataset_otherwise_does_not_count_as_a_batch(loader):
    train_data, batches = made("none", n=64, loader=loader)
    epochs = []
    for epoch in range(3):
        epochs.append([])
        for index, _ in batches:
            next(iter(DataLoader(train_data, 8)))
            assert train_data[5][0] == 5
            train_data.update(loss_of(index, epoch))
            epochs[-1] += index.tolist()
    np.testing.assert_array_equal(train_data.pruner.losses, expected_table(64, epochs))


def test_rows_that_the_sampler_has_not_given_out_do_not_count_as_a_batch():
    train_data, batches = made("none", n=64)
    first, _ = next(iter(made("none", n=64)[1]))  # of the same seed
    train_data.__getitems__(first.tolist())
    assert len(epoch_of(train_data, batches)) == 64
    assert not np.isnan(train_data.pruner.losses).any()


@pytest.mark.processes
def test_reading_the_dataset_sample_by_sample_while_workers_train_does_not_count():
    train_data, batches = made("none", n=64, loader={"num_workers": 2})
    epochs = []
    for epoch in range(3):
        epochs.append([])
        for index, _ in batches:
            for row, _ in DataLoader(train_data, batch_size=1):
                assert row.item() < 64
            train_data.update(loss_of(index, epoch))
            epochs[-1] += index.tolist()
    np.testing.assert_array_equal(train_data.pruner.losses, expected_table(64, epochs))


@pytest.mark.parametrize("loader", WORKERS)
def test_a_dataset_that_changes_the_list_of_indices_is_refused(loader):
    train_data = prune(Sorted(64), arguments("none"))
    with pytest.raises(RuntimeError, match="__getitems__ of Sorted changed the list of indices"):
        next(iter(DataLoader(train_data, 8, sampler=train_data.sampler, **loader)))


def test_losses_for_more_samples_than_were_fetched_are_refused():
    train_data = prune(Indices(12), arguments("none"))
    loader = DataLoader(train_data, batch_size=None, sampler=train_data.sampler)
    next(iter(loader))
    with pytest.raises(RuntimeError, match="got 2 losses, but only 1 fetched samples have"):
        train_data.update(torch.ones(2))


def test_a_batch_answered_twice_is_refused():
    train_data, batches = made("none", n=64)
    with pytest.raises(RuntimeError, match="got 8 losses, but every batch given out has been"):
        for index, _ in batches:
            train_data.update(loss_of(index))
            train_data.update(loss_of(index))


def test_more_losses_than_the_plan_has_are_refused():
    train_data, batches = made("none", n=64, loader={"num_workers": 2})
    for index, _ in batches:
        train_data.update(loss_of(index))
    with pytest.raises(RuntimeError, match="got 8 losses, but 0 of the plan's 64 samples are left"):
        train_data.update(torch.ones(8))
    assert len(epoch_of(train_data, batches, 1)) == 64


def test_losses_after_the_epoch_was_closed_are_refused():
    train_data, batches = made("none", n=16)
    epoch_of(train_data, batches)
    assert len(train_data.pruner.history) == 1
    with pytest.raises(RuntimeError, match="epoch 0 is over: all its losses have been given"):
        train_data.update(torch.ones(8))


def test_losses_before_the_first_batch_are_refused():
    train_data, batches = made("none", n=16)
    assert len(batches) == 2
    with pytest.raises(
        RuntimeError, match=r"update\(\) was called before a batch was taken.*sampl"
    ):
        train_data.update(torch.ones(8))


def test_two_iterations_at_once_are_refused():
    train_data, batches = made("none", n=64)
    first = iter(batches)
    train_data.update(loss_of(next(first)[0]))
    next(iter(batches))
    with pytest.raises(RuntimeError, match="iterated again while epoch 0 was being read"):
        next(first)


def test_a_scalar_loss_is_refused_with_the_remedy():
    train_data, batches = made("none", n=16)
    index, _ = next(iter(batches))
    with pytest.raises(ValueError, match=r'scalar.*reduction="none"'):
        train_data.update(loss_of(index).mean())
    with pytest.raises(TypeError, match=r"must be a torch\.Tensor, got ndarray"):
        train_data.update(loss_of(index).numpy())
    train_data.update(loss_of(index))  # nothing was lost


# Several processes.


def _three_lines(rank, prune_type, loader, set_epochs):
    train_data, batches = made(prune_type, n=150, batch_size=16, prune_ratio=0.3, loader=loader)
    epochs = []
    for epoch in range(4):
        if set_epochs:
            train_data.sampler.set_epoch(epoch)
        epochs.append(epoch_of(train_data, batches, epoch))
    rows = [(row["kept"], row["trained"]) for row in train_data.pruner.history]
    return epochs, rows, train_data.pruner.losses.copy(), train_data.get_pruned_count()


@pytest.mark.processes
@some_of(
    "prune_type, options",
    ["SeTa", "InfoBatch", "Static"],
    [({}, False), ({"num_workers": 2, "drop_last": True}, True)],
)
def test_ranks_train_their_shares_by_the_three_lines(prune_type, options, tmp_path):
    loader, set_epochs = options
    results = run_ranks(2, _three_lines, tmp_path, prune_type, loader, set_epochs)
    assert results[0][1] == results[1][1] and results[0][3] == results[1][3]
    epochs = [[*ours, *theirs] for ours, theirs in zip(*(r[0] for r in results), strict=True)]
    known = len(results[0][1])  # with drop_last nothing tells that the last epoch is over
    assert known == 3 if set_epochs else 4
    for epoch, (kept, trained) in enumerate(results[0][1]):
        assert len(set(epochs[epoch])) == len(epochs[epoch]) == trained
        plan = min(kept, int(0.7 * 150)) if prune_type == "SeTa" else kept
        assert plan - trained < (32 if set_epochs else 2)
    for result in results:
        np.testing.assert_array_equal(result[2], expected_table(len(result[2]), epochs[:known]))


def _full_batches(rank, prune_type):
    train_data, batches = made(prune_type, n=150, told=8, num_group=3, prune_ratio=0.3)
    sizes = []
    for epoch in range(4):
        if rank:
            next(iter(batches))  # a look, which the other rank does not wait for
        sizes.append([])
        for index, _ in batches:
            train_data.update(loss_of(index, epoch))
            sizes[-1].append(len(index))
    return sizes, [row["trained"] for row in train_data.pruner.history]


@pytest.mark.processes
@pytest.mark.parametrize("prune_type", ["SeTa", "InfoBatch", "Static"])
def test_on_ranks_every_batch_is_full_where_its_size_is_told(prune_type, tmp_path):
    (ours, trained), (theirs, _) = run_ranks(2, _full_batches, tmp_path, prune_type)
    assert ours == theirs
    full = [sizes for sizes in ours if sum(sizes) < 75]
    assert full and all(set(sizes) == {8} for sizes in full)
    assert trained == [2 * sum(sizes) for sizes in ours]


def _left_open(rank):
    train_data, batches = made(n=100)
    train_data.update(loss_of(next(iter(batches))[0]))
    with pytest.raises(
        RuntimeError, match=r"epoch 0 is not over: call train_data\.sampler\.set_ep"
    ):
        next(iter(batches))
    train_data.sampler.set_epoch(1)
    return epoch_of(train_data, batches, 1), train_data.pruner.history[0]["trained"]


@pytest.mark.processes
def test_an_epoch_left_open_on_ranks_is_ended_by_set_epoch(tmp_path):
    (first, trained), (second, _) = run_ranks(2, _left_open, tmp_path)
    assert trained == 16 and not set(first) & set(second)


def _dealt_out_again(rank):
    """What accelerator.prepare does: each rank gets every second batch of what the sampler says."""
    train_data = prune(Indices(128), arguments("none"))
    batches = BatchSampler(train_data.sampler, 8, drop_last=False)
    own = [batch for at, batch in enumerate(batches) if at % 2 == rank]
    for index in own:
        train_data.update(loss_of(torch.tensor(index)))
    with pytest.raises(RuntimeError, match=r"splits the batches again \(accelerator\.prepare\)"):
        train_data.sampler.set_epoch(1)


@pytest.mark.processes
def test_a_share_that_is_dealt_out_again_is_refused(tmp_path):
    run_ranks(2, _dealt_out_again, tmp_path)


@pytest.mark.processes
def test_three_lines_made_before_the_group_are_refused(tmp_path):
    _, batches = made()

    def late(rank):
        with pytest.raises(RuntimeError, match=r"prune\(\) was made for one process, .* has 2"):
            next(iter(batches))

    run_ranks(2, late, tmp_path)


# Arguments.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prune_type": "Magic"}, "must be one of SeTa, InfoBatch, Static, none, got 'Magic'"),
        ({"prune_type": "Random"}, "got 'Random'.*SeTa with num_group=1, window_scale=1"),
        ({"prune_type": 3}, "args.prune_type must be one of .* got 3"),
        ({"epochs": 0}, "args.epochs must be an integer >= 1, got 0"),
        ({"epochs": 2.5}, "args.epochs must be an integer >= 1, got 2.5"),
        ({"prune_ratio": 1.0}, r"prune_type='SeTa' .*prune_ratio must lie in \[0, 1\), got 1.0"),
        ({"prune_ratio": -0.1}, r"prune_ratio must lie in \[0, 1\), got -0.1"),
        ({"num_group": 0}, r"groups = num_group.*groups must be .*at least 1, got 0"),
        ({"window_scale": 0}, r"window = window_scale.*window must lie in \(0, 1\], got 0"),
        ({"window_scale": 1.5}, r"window must lie in \(0, 1\], got 1.5"),
        ({"num_group": 2, "window_scale": 0.2}, r"round\(groups \* window\) must be at least 1"),
        ({"delta": 1.5}, r"delta must lie in \[0, 1\], got 1.5"),
        ({"prune_type": "InfoBatch", "prune_ratio": 1}, r"'InfoBatch' .*prune_ratio must lie in"),
        ({"prune_type": "Static", "prune_ratio": 1}, r"'Static' .*prune_ratio must lie in"),
        ({"prune_type": "Static", "prune_ratio": 0.95}, "prune_ratio=0.95 leaves none of the 10"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"batch_size": 0}, "args.batch_size must be an integer >= 1, got 0"),
        ({"batch_size": "64"}, "args.batch_size must be an integer >= 1, got '64'"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(changes, message):
    args = SimpleNamespace(**{**vars(arguments()), **changes})
    with pytest.raises(ValueError, match=message):
        prune(Indices(10), args)


def test_a_value_of_the_wrong_type_is_refused_by_name():
    message = r"args of prune_type='SeTa'.*prune_ratio must be a number in .*, got '0.1'"
    with pytest.raises(TypeError, match=message):
        prune(Indices(10), arguments(prune_ratio="0.1"))


@pytest.mark.parametrize("name", ["prune_type", "epochs"])
def test_a_missing_argument_is_named(name):
    args = arguments()
    delattr(args, name)
    with pytest.raises(AttributeError, match=rf"needs args.{name}, and SimpleNamespace has none"):
        prune(Indices(10), args)


def test_what_the_published_classes_have_defaults_for_may_be_missing():
    seta = prune(Indices(10), SimpleNamespace(prune_type="SeTa", epochs=3)).pruner.policy.seta
    assert (seta.prune_ratio, seta.groups, seta.window, seta.delta) == (0.0, 10, 0.5, 0.875)
    other = prune(Indices(10), SimpleNamespace(prune_type="InfoBatch", epochs=3)).pruner.policy
    assert (other.prune_ratio, other.delta) == (0.5, 0.875)
    assert len(prune(Indices(10), SimpleNamespace(prune_type="Static", epochs=3))) == 5


@pytest.mark.parametrize("name", [None, "", "none", "None", "NONE"])
def test_no_method_is_the_baseline_and_needs_epochs_alone(name):
    train_data = prune(Indices(30), SimpleNamespace(prune_type=name, epochs=2))
    loader = DataLoader(train_data, 8, sampler=train_data.sampler)
    epochs = [epoch_of(train_data, loader, epoch) for epoch in range(2)]
    assert [sorted(seen) for seen in epochs] == [list(range(30))] * 2 and epochs[0] != epochs[1]


def test_datasets_that_are_not_map_style_or_empty_are_refused():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(3))

        def __len__(self):
            return 3

    class Endless(Dataset):
        def __getitem__(self, index):
            return index

    for dataset in (Stream(), Endless()):
        with pytest.raises(TypeError, match=f"got {type(dataset).__name__}.*map-style dataset"):
            prune(dataset, arguments())
    with pytest.raises(ValueError, match="dataset must have at least one sample, got an empty Ind"):
        prune(Indices(0), arguments())


def test_an_argparse_namespace_works():
    parser = argparse.ArgumentParser()
    for name, default in vars(arguments()).items():
        parser.add_argument(f"--{name}", default=default, type=type(default))
    assert len(prune(Indices(10), parser.parse_args([])).sampler) == 9


# The dataset that prune() returns.


def test_the_dataset_pickles_small_and_without_the_table():
    train_data, batches = made("InfoBatch", n=100_000, batch_size=10_000)
    epoch_of(train_data, batches)
    buffer = io.BytesIO()
    ForkingPickler(buffer).dump(train_data)
    assert buffer.tell() < 500
    sent = pickle.loads(buffer.getvalue())
    assert len(sent) == 100_000 and sent[7][0] == 7 and sent.classes == ("a", "b", "c")
    for name in ("sampler", "pruner"):
        with pytest.raises(
            RuntimeError, match=f"{name} is not available on a pickled or deep copy"
        ):
            getattr(sent, name)
    with pytest.raises(RuntimeError, match=r"use the object that prune\(\) returned"):
        sent.update(torch.ones(3))


def test_the_dataset_can_be_copied():
    train_data, _ = made("Static", n=10, prune_ratio=0.5)
    for other in (copy.deepcopy(train_data), copy.copy(train_data)):
        assert len(other) == 5 and other[3][0] == 3 and other.n == 10
    with pytest.raises(RuntimeError, match="get_saved_ratio is not available"):
        copy.deepcopy(train_data).get_saved_ratio()


def test_private_and_special_names_are_not_the_users_datasets():
    class Peculiar(Indices):
        _secret = 1

        def __deepcopy__(self, memo):
            return Indices(3)

    train_data = prune(Peculiar(10), arguments())
    copied = copy.deepcopy(train_data)
    assert len(copied) == 10 and copied.dataset.n == 3
    with pytest.raises(AttributeError, match="neither the pruned dataset nor the user's has '_sec"):
        _ = train_data._secret
    train_data._secret = 2
    assert train_data.dataset._secret == 1


def test_attributes_of_the_users_dataset_are_read_and_set():
    dataset = Indices(10)
    train_data = prune(dataset, arguments())
    assert train_data.dataset is dataset and train_data.classes == ("a", "b", "c")
    train_data.transform = "flip"
    assert dataset.transform == "flip" == train_data.transform
    train_data.note = "mine"
    assert train_data.note == "mine" and not hasattr(dataset, "note")
    with pytest.raises(AttributeError, match="neither the pruned dataset nor the user's has 'scor"):
        _ = train_data.scores
    with pytest.raises(AttributeError):
        train_data.sampler = None
    assert isinstance(train_data, Dataset)


def test_torch_is_not_patched():
    from torch.utils.data.dataloader import _BaseDataLoaderIter

    assert _BaseDataLoaderIter.__next__.__module__ == "torch.utils.data.dataloader"


# The JSON helper.


def test_log_writes_one_json_object(tmp_path):
    log = Log(str(tmp_path / "res.json"))
    log.add("hyperparameter", {"epoch": 3, "delta": 0.875})
    log.add("result", {"train_acc": [0.5]})
    log.save()
    log.add("result", {"train_acc": [0.5, 0.75]})
    log.add("prune", {"saved_ratio": 0})
    log.save()
    text = (tmp_path / "res.json").read_text()
    expected = {
        "hyperparameter": {"epoch": 3, "delta": 0.875},
        "result": {"train_acc": [0.5, 0.75]},
        "prune": {"saved_ratio": 0},
    }
    assert text == json.dumps(expected)
    assert log.res == expected
    assert [path.name for path in tmp_path.iterdir()] == ["res.json"]


def test_log_leaves_the_old_file_where_it_cannot_write(tmp_path):
    log = Log(tmp_path / "res.json")
    log.add("a", 1)
    log.save()
    log.add("b", object())
    with pytest.raises(TypeError, match="not JSON serializable"):
        log.save()
    assert json.loads((tmp_path / "res.json").read_text()) == {"a": 1}
    with pytest.raises(FileNotFoundError, match=re.escape("missing")):
        Log(tmp_path / "missing" / "res.json").save()
    assert [path.name for path in tmp_path.iterdir()] == ["res.json"]


# A whole script.


def classification():
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(4, 8, generator=generator) * 2
    labels = torch.arange(400) % 4
    return TensorDataset(centres[labels] + torch.randn(400, 8, generator=generator), labels)


@pytest.mark.parametrize("prune_type", ["SeTa", "InfoBatch", "Static", "none"])
def test_a_script_written_for_the_published_package_runs(prune_type, tmp_path):
    args = argparse.Namespace(
        prune_type=prune_type, num_epoch=8, ratio=0.3, num_group=5, window_scale=0.9, delta=0.875,
        batch_size=32, max_lr=0.1,
    )  # fmt: skip
    trainset = classification()
    data_len = len(trainset)
    args.epochs, args.prune_ratio = args.num_epoch, args.ratio
    trainset = prune(trainset, args)
    trainloader = DataLoader(
        trainset, batch_size=args.batch_size, shuffle=False, num_workers=0, sampler=trainset.sampler
    )
    torch.manual_seed(0)
    net = torch.nn.Linear(8, 4)
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=0.1, reduction="none")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.max_lr, steps_per_epoch=len(trainloader), epochs=args.num_epoch
    )
    train_acc, trained = [], 0
    for _ in range(args.num_epoch):
        net.train()
        train_loss = correct = total = 0
        for inputs, targets in trainloader:
            optimizer.zero_grad()
            outputs = net(inputs)
            loss = trainset.update(criterion(outputs, targets))
            loss.backward()
            optimizer.step()
            schedule.step()
            train_loss += loss.item()
            total += targets.size(0)
            correct += outputs.argmax(1).eq(targets).sum().item()
        trained += total
        train_acc.append(correct / total)
        assert 0 < train_loss / len(trainloader) < 3
    assert trainset.get_pruned_count() == data_len * args.num_epoch - trained
    log = Log(str(tmp_path / "res.json"))
    log.add("result", {"train_acc": train_acc})
    log.add("prune", {"saved_ratio": trainset.get_saved_ratio()})
    log.save()
    saved = json.loads((tmp_path / "res.json").read_text())["prune"]["saved_ratio"]
    assert saved == pytest.approx(1 - trained / (data_len * args.num_epoch))
    assert (saved > 0) == (prune_type != "none")
    features, labels = classification().tensors
    assert (net(features).argmax(1) == labels).float().mean() > 0.9


def test_a_loop_with_a_scaler_and_dropped_tails_runs():
    args = arguments("SeTa", epochs=6, prune_ratio=0.0, num_group=10, window_scale=0.6)
    train_data = prune(classification(), args)
    loader = DataLoader(
        train_data, 64, sampler=train_data.sampler, num_workers=2, drop_last=True, pin_memory=False
    )
    net = torch.nn.Linear(8, 4)
    optimizer = torch.optim.AdamW(net.parameters())
    for epoch in range(args.epochs):
        loader.sampler.set_epoch(epoch)
        for inputs, targets in loader:
            loss = loader.dataset.update(
                functional.cross_entropy(net(inputs), targets, reduction="none")
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    rows = train_data.pruner.history
    assert [row["epoch"] for row in rows] == list(range(6))
    assert all(row["trained"] % 64 == 0 for row in rows) and rows[0]["trained"] == 384


def test_the_script_in_the_docs_runs(tmp_path, monkeypatch):
    page = Path(__file__).resolve().parent.parent / "docs" / "published-interface.md"
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    exec(block, {"__name__": "docs"})
    assert 0 < json.loads((tmp_path / "res.json").read_text())["prune"]["saved"] < 1
