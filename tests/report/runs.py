"""Runs and data sets for the tests of the page."""

import numpy as np

from seta import Pruner
from tests.virtual_ranks import on_ranks

N, EPOCHS, BATCH = 600, 6, 12


def loss_of(samples, epoch):
    """Losses that fall with the epochs, or rise, of samples that differ in how hard they are."""
    samples = np.asarray(samples).astype(np.int64)
    hardness = 0.05 + (samples * 7919 % 601) / 300
    course = np.where(samples % 11, 0.8, 1.4) ** epoch
    return (hardness * (1 + np.cos(samples + epoch) / 4) * course).astype(np.float32)


def pruner_of(policy="SeTa", ranks=None, n=N, **options):
    size = 1 if ranks is None else ranks.size
    given = {"epochs": EPOCHS, "track": True, "budget": 0.5, "seed": 1, "batch_size": BATCH // size}
    return Pruner(n, policy, ranks=ranks, threads=1, **{**given, **options})


def train(pruner, epochs, loss=loss_of):
    """Trains whole epochs."""
    for _ in range(epochs):
        share = pruner.share().indices
        pruner.record(share, loss(share, pruner.epoch))
        pruner.end_epoch()
    return pruner


def sharded_states(epochs=4):
    """Returns the states of two ranks that hold a part of the samples each, and their tables."""

    def save(ranks):
        pruner = train(pruner_of("SeTa", ranks, sharding="sharded"), epochs)
        return pruner.state_dict(), dict(pruner.table())

    found = on_ranks(2, save)[0]
    return [state for state, _ in found], [table for _, table in found]


HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror='window.hacked=2'>"


class Hostile:
    """Texts, labels and names that would run if a page took them for HTML; one item fails."""

    classes = (HOSTILE, "{{ 7 * 7 }}", "<!-- & \u2028 \ud800 'quoted' \" -->")

    def __init__(self, n=N, fails=()):
        self.n, self.fails = n, set(fails)
        self.labels = [at % 3 for at in range(n)]

    def __len__(self):
        return self.n

    def __getitem__(self, at):
        if at in self.fails:
            raise OSError(f"cannot read {HOSTILE}")
        name = f"{at}{HOSTILE}.txt"
        return {"text": f"{HOSTILE} {at}", "label": self.labels[at], "file_name": name}


class Images:
    """Small images with labels, as torchvision has them."""

    classes = ("round", "square")

    def __init__(self, n=N):
        self.targets = [at % 2 for at in range(n)]

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, at):
        return np.full((3, 8, 8), at % 7 / 7, np.float32), self.targets[at]
