"""What a worker sees is the user's own dataset."""

import pytest
import torch
from torch.utils.data import get_worker_info

from seta.torch import PrunedDataLoader
from tests.torch.helpers import Tuples, looked_at


class Augmented(Tuples):
    """Rows (index, what its worker was told, whether the worker sees this dataset)."""

    told = -1

    def tell(self, number):
        self.told = number

    def __getitem__(self, index):
        return index, self.told, get_worker_info().dataset is self


def tell_each(worker):
    """A `worker_init_fn` as people write it."""
    info = get_worker_info()
    assert type(info.dataset) is Augmented
    assert len(info.dataset) == 32
    info.dataset.tell(10 + worker)


@pytest.mark.parametrize(
    "context, persistent",
    [
        ("fork", False),
        ("fork", True),
        pytest.param("spawn", False, marks=[pytest.mark.processes, pytest.mark.slow]),
        pytest.param("spawn", True, marks=[pytest.mark.processes, pytest.mark.slow]),
    ],
)
def test_a_worker_init_function_reaches_the_users_own_dataset(context, persistent):
    dataset = Augmented(32)
    loader = PrunedDataLoader(
        dataset,
        "Full",
        epochs=2,
        batch_size=4,
        num_workers=2,
        worker_init_fn=tell_each,
        persistent_workers=persistent,
        multiprocessing_context=context,
    )
    for _ in range(2):
        rows = list(looked_at(loader))
        assert sorted(torch.cat([row[0] for row in rows]).tolist()) == list(range(32))
        assert set(torch.cat([row[1] for row in rows]).tolist()) == {10, 11}
        assert all(row[2].all() for row in rows)
    assert loader.worker_init_fn is tell_each
    assert dataset.told == -1


def test_without_such_a_function_it_is_the_users_own_dataset_too():
    loader = PrunedDataLoader(Augmented(32), "Full", epochs=1, batch_size=4, num_workers=2)
    assert all(row[2].all() for row in looked_at(loader))


def test_an_error_of_a_worker_init_function_comes_through():
    def refuses(worker):
        raise KeyError("no such worker")

    loader = PrunedDataLoader(
        Tuples(8), "Full", epochs=1, num_workers=1, worker_init_fn=refuses,
        multiprocessing_context="fork",
    )  # fmt: skip
    with pytest.raises(KeyError, match="no such worker"):
        next(iter(loader))
