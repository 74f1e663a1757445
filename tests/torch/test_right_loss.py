"""The right loss reaches the right sample, however batches are loaded."""

import random

import numpy as np
import pytest
import torch

from seta.torch import PrunedDataLoader
from tests.combinations import WORKERS, some_of
from tests.torch.helpers import DATASETS, Tuples, loss_of, needs_in_order, samples_of

N = 101


def train(loader, epochs, seed, *, breaks=False, skips=False):
    """Trains at random; returns the losses that the table must hold: float32 (N,), NaN = unseen."""
    choice = random.Random(seed)
    expected = np.full(N, np.nan, np.float32)
    for epoch in range(epochs):
        for batch in loader:
            assert loader.epoch == epoch
            if skips and choice.random() < 0.2:
                loader.skip()
                continue
            samples = samples_of(batch)
            losses = loss_of(samples, epoch)
            loader.update(losses)
            expected[samples] = losses
            if breaks and choice.random() < 0.1:
                break
    loader.end_epoch()
    return expected


def check(form="tuples", *, epochs=3, seed=0, breaks=True, skips=True, **options):
    dataset, collate_fn = DATASETS[form]
    loader = PrunedDataLoader(
        dataset(N), "InfoBatch", epochs=epochs, batch_size=8, collate_fn=collate_fn, **options
    )
    expected = train(loader, epochs, seed, breaks=breaks, skips=skips)
    np.testing.assert_array_equal(loader.pruner.losses, expected)
    assert [row["epoch"] for row in loader.pruner.history] == list(range(epochs))
    return loader


@some_of("form, drop_last, seed", DATASETS, [False, True], range(3), together=2)
def test_in_this_process(form, drop_last, seed):
    check(form, epochs=6, seed=seed, drop_last=drop_last)


@some_of("form, drop_last, persistent", DATASETS, [False, True], [False, True])
def test_forked_workers(form, drop_last, persistent):
    check(
        form,
        num_workers=2,
        drop_last=drop_last,
        persistent_workers=persistent,
        multiprocessing_context="fork",
    )


@pytest.mark.processes
@pytest.mark.parametrize("seed", range(3))
def test_breaks_while_workers_run_ahead(seed):
    check(seed=seed, epochs=5, num_workers=2, persistent_workers=True, prefetch_factor=4)


@pytest.mark.slow
@pytest.mark.processes
def test_spawned_workers():
    check(num_workers=1, epochs=2, multiprocessing_context="spawn")


@pytest.mark.slow
@pytest.mark.processes
def test_spawned_persistent_workers():
    check("dicts", num_workers=2, persistent_workers=True, multiprocessing_context="spawn")


@pytest.mark.processes
def test_forkserver():
    check("custom", num_workers=2, persistent_workers=True, multiprocessing_context="forkserver")


@pytest.mark.processes
@needs_in_order
def test_batches_out_of_order():
    check(num_workers=2, in_order=False)


def test_whole_epochs_record_the_whole_selection():
    loader = check(breaks=False, skips=False, epochs=4)
    for row in loader.pruner.history:
        assert row["trained"] == row["kept"]
    assert loader.pruner.saved > 0


def test_drop_last_leaves_the_incomplete_batch_untrained():
    loader = check(breaks=False, skips=False, epochs=4, drop_last=True)
    for row in loader.pruner.history:
        assert row["trained"] == row["kept"] // 8 * 8


@pytest.mark.parametrize("num_workers", WORKERS)
def test_named_samples_may_be_answered_late_and_in_any_order(num_workers):
    loader = PrunedDataLoader(
        Tuples(N), "Random", epochs=2, batch_size=8, with_indices=True, num_workers=num_workers
    )
    expected = np.full(N, np.nan, np.float32)
    choice = random.Random(0)
    for epoch in range(2):
        waiting = []
        for indices, batch in loader:
            assert indices.dtype == torch.int64
            np.testing.assert_array_equal(indices, samples_of(batch))
            waiting.append(indices)
            if len(waiting) > 3:
                indices = waiting.pop(choice.randrange(len(waiting)))
                expected[indices] = loss_of(indices.numpy(), epoch)
                loader.update(loss_of(indices.numpy(), epoch), indices=indices)
        for indices in waiting:
            expected[indices] = loss_of(indices.numpy(), epoch)
            loader.update(loss_of(indices.numpy(), epoch), indices=indices.tolist())
    np.testing.assert_array_equal(loader.pruner.losses, expected)


def test_selections_do_not_depend_on_workers():
    tables = []
    for num_workers in (0, 2):
        loader = check("tuples", num_workers=num_workers, breaks=False, skips=False, seed=1)
        tables.append((loader.pruner.losses, [row["kept"] for row in loader.pruner.history]))
    np.testing.assert_array_equal(tables[0][0], tables[1][0])
    assert tables[0][1] == tables[1][1]
