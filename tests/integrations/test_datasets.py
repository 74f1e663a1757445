"""Hugging Face datasets of the map style: rows, formats, and losses that outlive a version."""

import numpy as np
import pytest
import torch

pytest.importorskip("datasets")

from datasets import Array2D, Dataset, DatasetDict, Features, Value

import seta
from seta.integrations.datasets import losses_by_id, losses_for

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
]

N = 60


def rows(n=N):
    return Dataset.from_dict(
        {
            "id": [1000 + 3 * i for i in range(n)],
            "name": [f"row {i}" for i in range(n)],
            "at": list(range(n)),
            "grid": [[[float(i)] * 2] * 2 for i in range(n)],
        },
        features=Features(
            {
                "id": Value("int64"),
                "name": Value("string"),
                "at": Value("int64"),
                "grid": Array2D((2, 2), "float32"),
            }
        ),
    )


def loader_of(dataset, policy="SeTa", **options):
    options = {"epochs": 3, "budget": 0.6, "batch_size": 10} | options
    return seta.PrunedDataLoader(dataset, policy, **options)


def walk(loader, content="at"):
    """Trains an epoch with losses that tell the content; returns the content in order."""
    seen = []
    for batch in loader:
        seen += [int(value) for value in batch[content]]
        loader.update(torch.tensor(seen[-len(batch[content]) :], dtype=torch.float32))
    return seen


@pytest.mark.parametrize("format", [None, "torch", "numpy"])
@pytest.mark.parametrize("workers", [0, 2])
def test_rows_of_every_format_come_with_their_losses(format, workers):
    dataset = rows().with_format(format)
    loader = loader_of(dataset, num_workers=workers, persistent_workers=workers > 0)
    for _ in range(3):
        plan = loader.pruner.begin_epoch().indices.tolist()
        assert walk(loader) == plan
        assert np.array_equal(loader.pruner.losses[plan], np.array(plan, np.float32))
    if format is not None:
        loader = loader_of(dataset)
        batch = next(iter(loader))
        assert batch["grid"].shape == (10, 2, 2)
        assert torch.equal(batch["grid"][:, 0, 0].long(), batch["at"])


def test_dicts_of_columns_reach_the_loop_as_torchs_loader_gives_them():
    batch = next(iter(loader_of(rows(), "Full", budget=None, reorder=np.sort)))
    theirs = next(iter(torch.utils.data.DataLoader(rows(), batch_size=10)))
    assert batch.keys() == theirs.keys()
    assert batch["name"] == theirs["name"]
    assert torch.equal(batch["id"], theirs["id"])


def test_trap_16_rows_are_fetched_a_batch_at_a_time():
    calls = []

    class Counted(Dataset):
        def __getitems__(self, keys):
            calls.append(len(keys))
            return super().__getitems__(keys)

        def __getitem__(self, key):
            assert not isinstance(key, int), "a row fetched alone"
            return super().__getitem__(key)

    plain = rows()
    loader = loader_of(Counted(plain.data, plain.info))
    plan = loader.pruner.begin_epoch().indices.tolist()
    assert walk(loader) == plan
    assert calls == [10] * 3


@pytest.mark.parametrize(
    "change",
    [
        lambda dataset: dataset.select(range(5, 45)),
        lambda dataset: dataset.shuffle(seed=0),
        lambda dataset: dataset.filter(lambda row: row["at"] % 2 == 0),
        lambda dataset: dataset.train_test_split(0.25, seed=0)["train"],
    ],
)
def test_a_loss_belongs_to_the_row_number_of_the_object_that_is_trained_on(change):
    dataset = change(rows())
    loader = loader_of(dataset, "Full", budget=None)
    walk(loader)
    assert np.array_equal(loader.pruner.losses, np.array(dataset["at"][:], np.float32))


@pytest.mark.parametrize("id_column", ["id", "name"])
def test_losses_go_from_one_version_of_the_data_to_another(id_column, tmp_path):
    dataset = rows()
    loader = loader_of(dataset, budget=0.5)
    walk(loader)
    saved = losses_by_id(dataset, loader.pruner.losses, id_column=id_column)
    assert len(saved["ids"]) == len(saved["losses"]) == 30
    seta.save(saved, tmp_path / "losses.seta")
    saved = seta.load(tmp_path / "losses.seta")
    version = rows(N + 10).shuffle(seed=3).filter(lambda row: row["at"] % 3 > 0)
    losses = losses_for(version, saved, id_column=id_column)
    at = np.array(version["at"][:], np.float32)
    known = np.isin(at, walked(loader))
    assert losses.dtype == np.float32 and known.any() and not known.all()
    assert np.array_equal(losses[known], at[known])
    assert np.isnan(losses[~known]).all()
    warm = loader_of(version, losses=losses)
    assert np.array_equal(warm.pruner.losses, losses, equal_nan=True)


def walked(loader):
    return np.flatnonzero(~np.isnan(loader.pruner.losses))


def test_losses_of_a_part_replace_those_of_the_whole():
    dataset = rows()
    saved = losses_by_id(dataset, np.arange(N, dtype=np.float32), id_column="id")
    part = dataset.filter(lambda row: row["at"] < 20).shuffle(seed=1)
    newer = np.array(part["at"][:], np.float32) + 0.5
    newer[part["at"][:].index(7)] = np.nan
    both = losses_by_id(part, newer, id_column="id", onto=saved)
    losses = losses_for(dataset, both, id_column="id")
    expected = np.arange(N) + np.where(np.arange(N) < 20, 0.5, 0)
    expected[7] = 7
    assert np.array_equal(losses, expected.astype(np.float32))


def test_nothing_is_known_before_anything_was_trained():
    saved = losses_by_id(rows(), np.full(N, np.nan, np.float32), id_column="id")
    assert np.isnan(losses_for(rows(), saved, id_column="id")).all()
    assert len(losses_for(rows(0), saved, id_column="id")) == 0


LOSSES = np.zeros(N, np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: losses_by_id(rows(), LOSSES[:5], id_column="id"),
            ValueError,
            "one for each of the 60 rows of dataset, got float32 of shape .5,.: give the dataset",
        ),
        (
            lambda: losses_by_id(rows(), LOSSES.astype(int), id_column="id"),
            ValueError,
            "losses must be floats.* got int64",
        ),
        (
            lambda: losses_by_id(rows(), LOSSES, id_column="key"),
            ValueError,
            "id_column must be one of the columns .'id', .* got 'key': if there is none",
        ),
        (
            lambda: losses_by_id(rows(), LOSSES, id_column="grid"),
            TypeError,
            "the column 'grid' must hold integers or strings",
        ),
        (
            lambda: losses_by_id(rows().map(lambda row: {"id": 4}), LOSSES, id_column="id"),
            ValueError,
            "the column 'id' must name each row once, got 4 60 times",
        ),
        (
            lambda: losses_by_id(DatasetDict(train=rows()), LOSSES, id_column="id"),
            TypeError,
            'got DatasetDict: of a DatasetDict give one split, dataset."train".',
        ),
        (
            lambda: losses_for(rows().to_iterable_dataset(), {}, id_column="id"),
            TypeError,
            "got IterableDataset: .* for a stream, seta.integrations.streams",
        ),
        (
            lambda: losses_for(rows(), {"losses": LOSSES}, id_column="id"),
            ValueError,
            r"must be what losses_by_id\(\) returned, got .'losses'.",
        ),
        (
            lambda: losses_for(
                rows(), losses_by_id(rows(), LOSSES, id_column="name"), id_column="id"
            ),
            TypeError,
            "of the kind of those saved, got int64 for <U6",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_streams_are_refused_by_the_loader():
    with pytest.raises(TypeError, match="dataset must not be iterable-style"):
        loader_of(rows().to_iterable_dataset())
