"""torchdata's StatefulDataLoader with our sampler resumes exactly in mid-epoch."""

import numpy as np
import pytest
import torch

import seta
from seta.torch import IndexedCollate, IndexedDataset, PrunedSampler, indices_of
from tests.combinations import some_of

stateful = pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata is not here")
# torchdata 0.11 calls what torch 2.13 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")


def make(workers):
    pruner = seta.Pruner(101, "SeTa", epochs=4, seed=5)
    loader = stateful.StatefulDataLoader(
        IndexedDataset(torch.arange(101)),
        batch_size=10,
        sampler=PrunedSampler(pruner),
        collate_fn=IndexedCollate(torch.stack),
        num_workers=workers,
    )
    return pruner, loader


def walk(pruner, loader, epochs, stop_at=None):
    """Trains; returns what it saw, and at a batch of the last epoch the states."""
    seen = []
    for epoch in epochs:
        loader.sampler.set_epoch(epoch)
        for at, (packed, rows) in enumerate(loader):
            indices = indices_of(packed)
            assert rows.tolist() == indices.tolist()
            pruner.record(indices, (indices % 13 + epoch).astype(np.float32))
            seen.append(indices.tolist())
            if stop_at == (epoch, at):
                return seen, pruner.state_dict(), loader.state_dict()
        pruner.end_epoch()
    return seen, None, None


@pytest.mark.processes
@some_of("stop_at, workers", [(0, 0), (1, 3), (2, 5), (3, 2)], [0, 2])
def test_a_run_cut_in_mid_epoch_goes_on_exactly(workers, stop_at):
    whole, _, _ = walk(*make(workers), range(4))
    head, pruner_state, loader_state = walk(*make(workers), range(4), stop_at)
    pruner, loader = make(workers)
    pruner.load_state_dict(pruner_state)
    loader.load_state_dict(loader_state)
    tail, _, _ = walk(pruner, loader, range(stop_at[0], 4))
    assert head + tail == whole
