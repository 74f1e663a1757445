"""Datasets whose content is their own index, so that every batch tells which samples it holds.

In a module of their own: workers that are spawned import it.
"""

import inspect

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from seta.torch import LossBuffer

needs_in_order = pytest.mark.skipif(
    "in_order" not in inspect.signature(DataLoader).parameters, reason="this torch has no in_order"
)


class Tuples(Dataset):
    """Rows (index, a square of it)."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return torch.tensor(index), torch.full((2, 2), float(index))


class Dicts(Tuples):
    """Rows {"id": index, "name": its digits}."""

    def __getitem__(self, index):
        return {"id": index, "name": str(index)}


class Rows(Tuples):
    """Rows are fetched together, and counted."""

    def __init__(self, n):
        super().__init__(n)
        self.fetches = 0

    def __getitem__(self, index):
        raise AssertionError("__getitems__ is there")

    def __getitems__(self, indices):
        self.fetches += 1
        return [torch.tensor(index) for index in indices]


class Seeds(Tuples):
    """Rows (index, the seed of the worker, a random number drawn there)."""

    def __getitem__(self, index):
        return index, torch.initial_seed(), torch.rand(()).item()


class DeviceBuffer(LossBuffer):
    """Does with losses on the CPU what a `LossBuffer` does with those on any other device."""

    def add(self, indices, losses):
        self._hold(indices, losses.detach())


def with_text(rows):
    """A collate function of the user's own, with a batch of its own type: [samples, text]."""
    return [np.array([int(row[0]) for row in rows]), f"{len(rows)} rows"]


def looked_at(loader):
    """Yields the batches of a pass without training on them."""
    for batch in loader:
        loader.skip()
        yield batch


DATASETS = {"tuples": (Tuples, None), "dicts": (Dicts, None), "custom": (Tuples, with_text)}


def samples_of(batch):
    """Returns the samples of a batch of any of these: int64 (B,), read off its content."""
    if isinstance(batch, dict):
        samples = batch["id"]
        assert batch["name"] == [str(int(sample)) for sample in samples]
    elif isinstance(batch, torch.Tensor):
        samples = batch
    else:
        samples = batch[0]
    return np.asarray(samples, np.int64)


def loss_of(samples, epoch):
    """A loss that tells the sample and the epoch that it was computed in, exact in float32."""
    return torch.from_numpy(samples + epoch / 64).float()
