"""What a collate function does to its rows: losses still reach their samples, or it is said."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, Subset, default_collate

from seta.torch import PrunedDataLoader
from tests.combinations import WORKERS
from tests.torch.helpers import Tuples

N = 60


class Texts(Dataset):
    """Rows of different lengths, which begin with their index."""

    def __len__(self):
        return N

    def __getitem__(self, index):
        return torch.tensor([index] * (1 + index * 7 % 11))


class Mappings(Texts):
    def __getitem__(self, index):
        return {"text": super().__getitem__(index)}


def padded(rows):
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def sorted_in_place(rows):
    rows.sort(key=len, reverse=True)
    return padded(rows)


def shuffled_in_place(rows):
    random.Random(len(rows[0])).shuffle(rows)
    return padded(rows)


def by_length(rows, key):
    rows = sorted(rows, key=lambda row: len(row["text"]), reverse=True)
    batch = {"text": padded([row["text"] for row in rows])}
    return batch if key is None else {**batch, key: torch.tensor([row[key] for row in rows])}


def sorted_copy(rows):
    return by_length(rows, "index")


def without_the_key(rows):
    return by_length(rows, None)


def short_ones(rows):
    """Leaves rows out, and gives the index as an array."""
    rows = [row for row in rows if len(row["text"]) < 9]
    return {
        "text": padded([row["text"] for row in rows]),
        "index": np.array([row["index"] for row in rows], np.int32),
    }


def train(dataset, **options):
    """Each loss is its sample's own index; returns the loader after two epochs."""
    loader = PrunedDataLoader(dataset, "Random", epochs=2, batch_size=6, **options)
    for _ in range(2):
        for batch in loader:
            texts = batch["text"] if isinstance(batch, dict) else batch
            loader.update(texts[:, 0].float())
    return loader


def check(loader):
    losses = loader.pruner.losses
    seen = np.flatnonzero(~np.isnan(losses))
    assert len(seen) > N // 2
    np.testing.assert_array_equal(losses[seen], seen)


@pytest.mark.parametrize("num_workers", WORKERS)
@pytest.mark.parametrize("collate_fn", [sorted_in_place, shuffled_in_place])
def test_rows_brought_into_another_order_in_place_are_followed(collate_fn, num_workers):
    check(train(Texts(), collate_fn=collate_fn, num_workers=num_workers))


def test_the_indices_that_come_with_a_batch_follow_its_rows():
    loader = PrunedDataLoader(
        Texts(), "Full", epochs=1, batch_size=6, collate_fn=sorted_in_place, with_indices=True
    )
    for indices, texts in loader:
        assert torch.equal(indices, texts[:, 0])
        loader.update(texts[:, 0].float())
    check(loader)


@pytest.mark.parametrize("num_workers", WORKERS)
@pytest.mark.parametrize("collate_fn", [sorted_copy, short_ones])
def test_an_index_inside_the_sample_survives_anything(collate_fn, num_workers):
    check(train(Mappings(), collate_fn=collate_fn, num_workers=num_workers, index_key="index"))


def test_an_index_inside_the_sample_goes_through_torchs_own_collate():
    class Numbers(Tuples):
        def __getitem__(self, index):
            return {"text": torch.tensor([index])}

    loader = train(Numbers(N), index_key="index")
    check(loader)
    assert set(next(iter(PrunedDataLoader(Numbers(4), "Full", epochs=1, index_key="i")))) == {
        "text",
        "i",
    }


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize(
    "dataset, collate_fn, error, message",
    [
        (Mappings(), without_the_key, ValueError, r"keep the key index_key='index'.*\['text'\]"),
        (Texts(), padded, TypeError, "index_key='index' needs rows that are mappings, got Tensor"),
        (
            Mappings(),
            lambda rows: {"index": torch.rand(len(rows))},
            ValueError,
            r"batch\['index'\] must be one integer for each sample, got float32",
        ),
        (
            Mappings(),
            lambda rows: padded([row["text"] for row in rows]),
            ValueError,
            "keep the key index_key='index'.*Tensor",
        ),
    ],
)
def test_a_batch_without_its_index_is_refused(dataset, collate_fn, error, message, num_workers):
    options = {"collate_fn": collate_fn, "num_workers": num_workers, "index_key": "index"}
    if num_workers:
        options["multiprocessing_context"] = "fork"
    with pytest.raises(error, match=message):
        train(dataset, **options)


def dropped(rows):
    del rows[1]
    return padded(rows)


def replaced(rows):
    rows[1] = rows[1].clone()
    return padded(rows)


def taken_from_the_end(rows):
    return padded([rows.pop() for _ in range(len(rows))])


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("collate_fn", [dropped, replaced, taken_from_the_end])
def test_rows_that_are_no_longer_the_same_are_refused(collate_fn, num_workers):
    message = "collate_fn replaced or dropped rows in its list of 6.*index_key='index'.*indices="
    with pytest.raises(ValueError, match=message):
        train(Texts(), collate_fn=collate_fn, num_workers=num_workers)


def test_one_object_may_be_several_rows():
    """Where rows are the same object, so are their losses."""
    rows = [torch.tensor([float(value)]) for value in range(3)]

    class Shared(Tuples):
        def __getitem__(self, index):
            return rows[index % 3]

    def by_value(found):
        found.sort(key=lambda row: row.item(), reverse=True)
        return torch.cat(found)

    loader = PrunedDataLoader(Shared(N), "Full", epochs=1, batch_size=7, collate_fn=by_value)
    for batch in loader:
        loader.update(batch)
    np.testing.assert_array_equal(loader.pruner.losses, np.arange(N) % 3)


def rows_left(rows):
    """Without the key, nothing tells that a row is missing but the number of losses."""
    return padded(rows[1:])


def test_an_index_of_the_users_own_serves_where_rows_are_left_out():
    loader = PrunedDataLoader(Texts(), "Full", epochs=1, batch_size=6, collate_fn=rows_left)
    for texts in loader:
        with pytest.raises(ValueError, match="got 5 losses for a batch of 6.*index_key="):
            loader.update(texts[:, 0].float())
        loader.update(texts[:, 0].float(), indices=texts[:, 0])
    assert loader.pruner.history[0]["trained"] == N - len(range(0, N, 6))
    check(loader)


def stops(rows):
    raise StopIteration


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_end_of_iteration_inside_a_collate_function_ends_no_epoch(num_workers):
    with pytest.raises(RuntimeError, match="stops raised StopIteration, which would silently"):
        train(Texts(), collate_fn=stops, num_workers=num_workers)


class Stops(Tuples):
    """Rows from an iterator that runs out."""

    def __getitem__(self, index):
        return next(iter([]))


class StopsTogether(Tuples):
    def __getitems__(self, indices):
        return next(iter([]))


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("dataset", [Stops, StopsTogether])
def test_an_end_of_iteration_inside_a_dataset_ends_no_epoch(dataset, num_workers):
    message = (
        rf"{dataset.__name__}\[index\] raised StopIteration, which would silently end the epoch"
    )
    with pytest.raises(RuntimeError, match=message):
        train(dataset(N), collate_fn=default_collate, num_workers=num_workers)


def test_an_index_key_that_rows_have_already_is_refused():
    rows = [{"x": at, "index": -at} for at in range(20)]
    loader = PrunedDataLoader(rows, "Full", epochs=1, batch_size=5, index_key="index")
    with pytest.raises(ValueError, match="index_key='index' must be a key that rows do not have"):
        next(iter(loader))


class SortsIndices(Tuples):
    """Sorts the list of indices, and returns the rows as asked or as read."""

    def __init__(self, n, as_asked):
        super().__init__(n)
        self.as_asked = as_asked

    def __getitems__(self, indices):
        asked = list(indices)
        indices.sort()
        return [torch.tensor([index]) for index in (asked if self.as_asked else indices)]


@pytest.mark.parametrize("num_workers", WORKERS)
@pytest.mark.parametrize("as_asked", [True, False])
def test_a_dataset_that_changes_the_list_of_indices_is_refused(as_asked, num_workers):
    message = r"__getitems__ of SortsIndices changed the list.*sorted\(indices\)"
    with pytest.raises(RuntimeError, match=message):
        train(SortsIndices(N, as_asked), num_workers=num_workers)


@pytest.mark.parametrize("num_workers", WORKERS)
def test_it_is_refused_below_a_subset_too(num_workers):
    halved = Subset(Subset(SortsIndices(3 * N, False), range(2 * N)), np.arange(N)[::-1].tolist())
    with pytest.raises(RuntimeError, match=r"__getitems__ of SortsIndices changed the list"):
        train(halved, num_workers=num_workers)


class ReadsInOrder(Tuples):
    """Reads a sorted copy, and puts the rows back into the order of the indices."""

    def __getitems__(self, indices):
        read = {index: torch.tensor([index]) for index in sorted(indices)}
        return [read[index] for index in indices]


@pytest.mark.parametrize("num_workers", WORKERS)
def test_a_dataset_that_sorts_a_copy_of_the_indices_may(num_workers):
    check(train(ReadsInOrder(N), num_workers=num_workers))


def from_ten_on(rows):
    """Drops rows; all of them in the first batches."""
    rows = [row for row in rows if row["text"][0] >= 10]
    return {
        "text": torch.tensor([[row["text"][0]] for row in rows]),
        "index": torch.tensor([row["index"] for row in rows]),
    }


def test_a_batch_of_which_all_rows_are_dropped_can_be_skipped():
    loader = PrunedDataLoader(
        Mappings(), "Full", epochs=1, batch_size=5, shuffle=False, collate_fn=from_ten_on,
        index_key="index",
    )  # fmt: skip
    for batch in loader:
        if len(batch["text"]):
            loader.update(batch["text"][:, 0].float())
        else:
            with pytest.raises(ValueError, match="got 5 losses for a batch of 0: compute them"):
                loader.update(torch.rand(5))
            loader.skip()
    assert loader.pruner.history[0]["trained"] == N - 10
    assert np.isnan(loader.pruner.losses[:10]).all()
    check(loader)
