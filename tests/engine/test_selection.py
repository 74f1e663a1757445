"""A selection reads like a sequence, and makes no more than what is read."""

import copy
import pickle

import numpy as np
import pytest

from seta import Pruner, Selection
from seta.engine.draw.selection import Listed


class Counting(Listed):
    """An order that counts the samples that it was asked for."""

    made = 0

    def at(self, positions):
        self.made += len(positions)
        return super().at(positions)


def samples(n=1000):
    return np.random.default_rng(0).permutation(n).astype(np.uint32)


@pytest.mark.parametrize("positions", [None, range(1000), range(3, 997, 7), range(5, 5)])
def test_it_reads_like_the_array_that_it_stands_for(positions):
    whole = samples()
    selection = Selection(4, Listed(whole), positions=positions, threads=2)
    expected = (
        whole if positions is None else whole[positions.start : positions.stop : positions.step]
    )
    assert len(selection) == len(expected) and selection.epoch == 4
    assert list(selection) == expected.tolist()
    assert all(type(sample) is int for sample in selection)
    for part in (slice(None), slice(2, 9), slice(-5, None), slice(None, None, 3), slice(9, 2, -2)):
        assert np.array_equal(selection[part], expected[part])
        assert np.array_equal(selection.part(part).indices, expected[part])
    assert np.array_equal(np.concatenate([*selection.blocks(64), expected[:0]]), expected)
    assert np.array_equal(np.asarray(selection), expected)
    assert np.asarray(selection, dtype=np.int64).dtype == np.int64
    assert np.array_equal(selection.indices, expected)
    assert selection.indices is selection.indices
    if len(expected):
        assert selection[-1] == expected[-1] and type(selection[0]) is int
        assert np.array_equal(selection[[0, -1]], expected[[0, -1]])
        assert np.array_equal(selection[expected > 500], expected[expected > 500])
    with pytest.raises(IndexError):
        selection[len(expected)]
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        selection.blocks(0)


def test_a_part_makes_nothing_before_it():
    order = Counting(samples())
    selection = Selection(0, order)
    assert order.made == 0
    rest = selection.part(slice(900, None))
    assert len(rest) == 100 and order.made == 0
    assert len(rest[10:20]) == 10 and order.made == 10
    assert next(iter(rest)) == samples()[900] and order.made <= 10 + 100


def test_the_whole_is_the_same_for_any_number_of_threads():
    pruner = Pruner(300_000, "SeTa", epochs=3, seed=5, threads=1)
    selection = pruner.begin_epoch()
    other = Pruner(300_000, "SeTa", epochs=3, seed=5, threads=4).begin_epoch()
    assert np.array_equal(selection.indices, other.indices)
    assert np.array_equal(np.concatenate(list(other.blocks(777))), selection.indices)


def test_weights_follow_the_samples():
    losses = np.linspace(0, 1, 1000, dtype=np.float32)
    pruner = Pruner(1000, "InfoBatch", epochs=8, losses=losses, batch_size=10)
    selection = pruner.begin_epoch()
    assert np.array_equal(selection.weights, pruner.weights_of(selection.indices))
    share = pruner.share()
    assert np.array_equal(share.weights, pruner.weights_of(share.indices))
    assert Pruner(10, "SeTa", epochs=8).begin_epoch().weights is None


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_has_the_same_samples(copied):
    selection = Pruner(100, "InfoBatch", epochs=3, seed=2).begin_epoch()
    assert np.array_equal(copied(selection).indices, selection.indices)


def test_it_says_what_it_is():
    selection = Pruner(100, "Full", epochs=3).begin_epoch()
    assert repr(selection) == "<Selection of epoch 0: 100 samples>"
