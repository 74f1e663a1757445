"""Streams whose rows are their own ids, and loops over them that check it.

In a module of their own: workers that are spawned import it.
"""

from itertools import chain

import torch
from datasets import Dataset

import seta
from seta.integrations.streams import KeepSet, PrunedStream

N, BATCH, EPOCHS = 101, 8, 3


class Rows:
    """Rows {"id", "value"} of these samples, read from the beginning each time."""

    def __init__(self, ids=range(N)):
        self.ids, self.readings, self.epochs = list(ids), 0, []

    def __iter__(self):
        self.readings += 1
        return ({"id": i, "value": float(i)} for i in self.ids)

    def set_epoch(self, epoch):
        self.epochs.append(epoch)


def hugging_face(shards=4):
    rows = Dataset.from_dict({"id": range(N), "value": [float(i) for i in range(N)]})
    return rows.to_iterable_dataset(num_shards=shards)


def stream_of(source=None, policy="SeTa", *, keep=None, **options):
    options = {"epochs": EPOCHS, "budget": 0.6, "batch_size": BATCH} | options
    keep = KeepSet("id", n=N) if keep is None else keep
    return PrunedStream(Rows() if source is None else source, policy, keep=keep, **options)


def walk(stream, epochs=1):
    """Trains; returns the samples of each batch, and checks that each has its own data."""
    seen = []
    for _ in range(epochs):
        batches = []
        for batch in stream:
            assert torch.equal(batch["id"].double(), batch["value"].double())
            batches.append(batch["id"].tolist())
            stream.update(batch["id"].float() / 16 + stream.epoch)
        seen.append(batches)
    return seen


def flat(batches):
    return list(chain(*batches))


def plan_of(stream):
    return stream.pruner.begin_epoch().indices.tolist()


def uneven(histogram, epoch, epochs):
    return seta.KeepCurve.constant(histogram, (0.5, 0.9, 0.2, 0.7)[epoch % 4])
