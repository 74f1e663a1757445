"""Training runs over loaders of the engines of data, whose sample i has id i and x = (i / N, 1)."""

import io
from itertools import chain

import numpy as np
import torch

import seta
from seta.integrations.streams import KeepSet, PrunedStream

N, BATCH, EPOCHS = 83, 4, 3


def by_index(rows, *, by_shard=False, **options):
    """A run over `RandomAccess`."""
    options = {"epochs": EPOCHS, "budget": 0.6, "batch_size": BATCH} | options
    reorder = rows.by_shard if by_shard else None
    return Run(seta.PrunedDataLoader(rows, "InfoBatch", reorder=reorder, **options))


def as_stream(dataset, **options):
    """A run over a stream of the dataset."""
    options = {"epochs": EPOCHS, "budget": 0.6, "batch_size": BATCH} | options
    return Run(PrunedStream(dataset, "InfoBatch", keep=KeepSet("id", n=N), **options))


def flat(batches):
    return list(chain(*batches))


class Run:
    """A training run of two weights; `recorded` has the losses by what the samples say."""

    def __init__(self, loader):
        self.loader, self.recorded = loader, {}
        self.weight = torch.nn.Parameter(torch.tensor([0.5, 0.1]))
        self.optimizer = torch.optim.SGD([self.weight], lr=0.1, momentum=0.9)

    def train(self, epochs=EPOCHS, stop=None):
        """Returns the samples of each batch; ends after so many epochs, or at `stop`."""
        seen, first = [], self.loader.pruner.next_epoch
        for epoch in range(first, min(first + epochs, self.loader.epochs)):
            for at, batch in enumerate(self.loader, self.loader.position + 1):
                losses = (batch["x"] @ self.weight - batch["id"] % 3).square()
                self.recorded |= dict(zip(batch["id"].tolist(), losses.tolist(), strict=True))
                self.optimizer.zero_grad()
                self.loader.update(losses).backward()
                self.optimizer.step()
                seen.append(batch["id"].tolist())
                if stop == (epoch, at):
                    return seen
        return seen

    def check_epochs(self):
        """Trains the run: each epoch is its plan, in full batches, and losses are the samples'."""
        for _ in range(EPOCHS):
            plan = self.loader.pruner.begin_epoch().indices.tolist()
            seen = self.train(epochs=1)
            assert {len(batch) for batch in seen} == {BATCH}
            assert sorted(flat(seen)) == sorted(plan)
        self.check_losses()
        assert sum(self.loader.pruner.lengths) == self.loader.total_steps * BATCH

    def save(self):
        parts = (self.loader, self.optimizer)
        torch.save([*(part.state_dict() for part in parts), self.weight.data], file := io.BytesIO())
        return file.getvalue()

    def load(self, saved):
        loader, optimizer, weight = torch.load(io.BytesIO(saved), weights_only=True)
        self.loader.load_state_dict(loader)
        self.optimizer.load_state_dict(optimizer)
        self.weight.data.copy_(weight)
        return self

    def check_losses(self):
        """The losses are those of the samples that were trained, and no others."""
        known, losses = sorted(self.recorded), self.loader.pruner.losses
        right = np.array([self.recorded[i] for i in known], np.float32)
        assert np.array_equal(losses[known], right)
        assert np.isnan(np.delete(losses, known)).all()
