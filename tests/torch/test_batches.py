"""What the loader gives out is what the user's own loader would."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset, default_collate

from seta.torch import IndexedCollate, IndexedDataset, PrunedDataLoader, indices_of
from tests.combinations import WORKERS, some_of
from tests.torch.helpers import DATASETS, Dicts, Rows, Tuples, looked_at, with_text


def assert_same(ours, theirs):
    """Same types, shapes, dtypes and values, all the way down."""
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert list(ours) == list(theirs)
        ours, theirs = list(ours.values()), list(theirs.values())
    if isinstance(ours, (list, tuple)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    elif isinstance(ours, torch.Tensor):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)
    elif isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    else:
        assert ours == theirs


@some_of("form, num_workers, drop_last", DATASETS, [0, 2], [False, True])
def test_batches_equal_those_of_a_plain_loader(form, num_workers, drop_last):
    dataset, collate_fn = DATASETS[form]
    options = {
        "batch_size": 4,
        "collate_fn": collate_fn,
        "num_workers": num_workers,
        "drop_last": drop_last,
    }
    loader = PrunedDataLoader(dataset(30), "Random", epochs=1, **options)
    plan = loader.pruner.begin_epoch().indices.tolist()
    theirs = list(DataLoader(dataset(30), sampler=plan, **options))
    assert_same(list(looked_at(loader)), theirs)


def test_rows_are_fetched_together_where_the_dataset_can():
    dataset = Rows(20)
    loader = PrunedDataLoader(dataset, "Full", epochs=1, batch_size=8)
    assert sorted(torch.cat(list(looked_at(loader))).tolist()) == list(range(20))
    assert dataset.fetches == 3


def test_subsets_are_pruned_by_their_own_positions():
    dataset = Subset(Dicts(100), range(50, 60))
    loader = PrunedDataLoader(dataset, "Full", epochs=1, with_indices=True)
    assert loader.pruner.n == 10
    for indices, batch in looked_at(loader):
        assert batch["id"].item() == 50 + indices.item()


def test_indices_come_with_their_batch_on_request():
    loader = PrunedDataLoader(Tuples(20), "Full", epochs=1, batch_size=8, with_indices=True)
    for item in loader:
        assert type(item) is tuple
        indices, batch = item
        assert indices.dtype == torch.int64
        assert torch.equal(indices, batch[0])
        indices += 1  # the user's own copy
        loader.update(torch.zeros(len(indices)))
    assert (loader.pruner.losses == 0).all()


def test_nothing_of_the_table_goes_to_the_workers():
    n = 1_000_000
    loader = PrunedDataLoader(range(n), "Full", epochs=1, losses=np.zeros(n), with_indices=True)
    wrapped = loader._indexed_loader()
    assert len(pickle.dumps(wrapped.dataset)) < 500
    assert len(pickle.dumps(wrapped.collate_fn)) < 500


def test_the_wrappers_hand_through_what_they_wrap():
    dataset = IndexedDataset(Tuples(5))
    assert len(dataset) == 5
    index, row = dataset[3]
    assert index == 3
    assert row[0].item() == 3
    fetched = dataset.__getitems__([4, 2])
    assert fetched.indices == [4, 2]
    packed, batch = IndexedCollate(default_collate)(fetched)
    assert indices_of(packed).tolist() == batch[0].tolist() == [4, 2]
    assert indices_of(packed).dtype == np.int64
    with pytest.raises(ValueError, match="read-only"):
        indices_of(packed)[0] = 1


def test_the_users_own_things_can_be_asked_for():
    dataset = Tuples(10)
    loader = PrunedDataLoader(
        dataset,
        "Full",
        epochs=1,
        batch_size=np.int64(3),
        collate_fn=with_text,
        drop_last=True,
        num_workers=2,
    )
    assert loader.dataset is dataset
    assert loader.collate_fn is with_text
    assert (loader.batch_size, loader.num_workers, loader.drop_last) == (3, 2, True)
    assert PrunedDataLoader(dataset, "Full", epochs=1).collate_fn is default_collate


def note_worker(worker):
    """A `worker_init_fn`: notes its worker in the dataset."""
    torch.utils.data.get_worker_info().dataset.n = 1000 + worker


def test_options_reach_the_workers():
    class Length(Tuples):
        def __getitem__(self, index):
            return self.n

    loader = PrunedDataLoader(
        Length(8),
        "Full",
        epochs=1,
        batch_size=4,
        num_workers=2,
        worker_init_fn=note_worker,
        prefetch_factor=1,
        multiprocessing_context="fork",
        timeout=60,
    )
    assert sorted(torch.cat(list(looked_at(loader))).tolist()) == [1000] * 4 + [1001] * 4


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true")
@pytest.mark.parametrize("num_workers", WORKERS)
def test_pinned_batches_keep_their_samples(num_workers):
    loader = PrunedDataLoader(
        Tuples(20),
        "Full",
        epochs=1,
        batch_size=8,
        pin_memory=True,
        with_indices=True,
        num_workers=num_workers,
    )
    for indices, batch in loader:
        assert torch.equal(indices, batch[0])
        loader.update(batch[0].float())
    assert loader.pruner.losses.tolist() == list(range(20))
