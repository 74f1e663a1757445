"""Pruners whose states the tests save, damage and keep: one of each kind of state there is."""

import hashlib
from collections.abc import Mapping

import numpy as np

import seta
from seta import Pruner
from tests.virtual_ranks import on_ranks

N, EPOCHS, BATCH = 300, 5, 20


def loss_of(samples, epoch):
    """A loss that tells sample and epoch, exact in float32; of neighbouring ones, for few bins."""
    place = (samples.astype(np.int64) * 7919) % 61 + 2 * epoch
    return (1 + place / 2**22).astype(np.float32)


OPTIONS = {
    "plain": {"policy": "SeTa"},
    "weights": {"policy": "InfoBatch", "always_keep": [3, 299]},
    "columns": {"policy": seta.UCB(every=2)},
    "strata": {
        "policy": seta.RCAP(),
        "strata": np.arange(N) % 5,
        "count_kept": True,
        "budget": 0.6,
    },
    "budget": {"policy": "SeTa", "always_keep": [3, 7, 299], "budget": 0.5},
    "tracked": {"policy": seta.UCB(every=2), "track": [3, 299]},
    "sharded": {
        "policy": "InfoBatch",
        "sharding": "sharded",
        "always_keep": [3, 299],
        "count_kept": True,
    },
}


def made(kind, ranks=None, **changes):
    options = {"epochs": EPOCHS, "seed": 1, "batch_size": BATCH, **OPTIONS[kind], **changes}
    return Pruner(N, ranks=ranks, threads=1, **options)


def train(pruner, epochs):
    """Trains whole epochs, or what is left of an open one."""
    for _ in range(epochs):
        for block in pruner.share().blocks(BATCH):
            pruner.record(block, loss_of(block, pruner.epoch))
        pruner.end_epoch()
    return pruner


def train_part(pruner, batches=3):
    """Trains the first batches of an epoch, and returns what the state says of them."""
    share = pruner.share()
    for at in range(batches):
        block = share[at * BATCH : (at + 1) * BATCH]
        pruner.record(block, loss_of(block, pruner.epoch))
    return {"done": batches * pruner.sizes.global_batch, "begun": True}


def states_of(kind, *, epochs=2, open=True, ranks=1):
    """Returns the states that each rank saves after some epochs."""

    def save(own):
        pruner = train(made(kind, own), epochs)
        return pruner.state_dict(gather=False, **(train_part(pruner) if open else {}))

    return [save(None)] if ranks == 1 else on_ranks(ranks, save)[0]


def digest_of(value):
    """Returns what tells contents apart, whatever holds them."""
    return hashlib.sha256(repr([*_contents(value)]).encode()).hexdigest()[:16]


def _contents(value):
    if isinstance(value, np.ndarray):
        yield value.dtype.str, value.shape, hashlib.sha256(value.tobytes()).hexdigest()
    elif isinstance(value, Mapping):
        for key in value:
            yield key, *_contents(value[key])
    elif isinstance(value, (list, tuple)):
        yield from (tuple(_contents(one)) for one in value)
    else:
        yield value
