"""A prefetcher of one's own above `PrefetchedLoader`, which imports no timm."""

import numpy as np
import pytest
import torch

from seta.integrations.timm import PrefetchedLoader

N = 100
END = object()


class Breaks(torch.utils.data.Dataset):
    """Samples are their own indices; one of them cannot be read at first."""

    broken = None

    def __len__(self):
        return N

    def __getitem__(self, index):
        if index == self.broken:
            self.broken = None
            raise OSError("broken")
        return torch.tensor(index)


class Ahead:
    """Takes one batch ahead, and lets errors through."""

    def __init__(self, loader):
        self.loader = loader

    def __iter__(self):
        self.batches = iter(self.loader)
        self.held = next(self.batches)
        return self

    def __next__(self):
        if self.held is None:
            raise StopIteration
        batch, self.held = self.held, next(self.batches, None)
        return batch


@pytest.mark.parametrize("at", [15, 45, 95])
def test_a_batch_that_fails_to_load_ends_no_pass(at):
    dataset = Breaks()
    loader = PrefetchedLoader(dataset, "Full", epochs=2, batch_size=10)
    dataset.broken = int(loader.pruner.begin_epoch().indices[at])
    for _ in range(2):
        prefetched, batch = iter(Ahead(loader)), None
        while batch is not END:
            try:
                batch = next(prefetched, END)
            except OSError:
                continue
            if batch is not END:
                loader.update(batch.float())
    assert [row["trained"] for row in loader.pruner.history] == [N - 10, N]
    assert np.array_equal(loader.pruner.losses, np.arange(N, dtype=np.float32))
