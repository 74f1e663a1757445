"""What the loader refuses, before any work."""

import re
import subprocess
import sys

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from seta.torch import PrunedDataLoader
from tests.torch.helpers import Tuples, looked_at


@pytest.mark.parametrize("option", [{"sampler": [1, 2]}, {"batch_sampler": [[1, 2]]}])
def test_options_that_choose_samples_are_refused(option):
    ((name, value),) = option.items()
    message = rf"{name} is not allowed, got {name}={re.escape(repr(value))}: .*Leave {name} out"
    with pytest.raises(ValueError, match=message):
        PrunedDataLoader(Tuples(4), "Full", epochs=1, **option)


@pytest.mark.parametrize(
    "option",
    [{"shuffle": True}, {"shuffle": None}, {"sampler": None}, {"batch_sampler": None}],
)
def test_options_that_leave_the_choice_open_change_nothing(option):
    loaders = [PrunedDataLoader(range(9), "Random", epochs=1, **more) for more in ({}, option)]
    one, other = (torch.cat(list(looked_at(loader))).tolist() for loader in loaders)
    assert one == other


def test_without_shuffling_an_epoch_has_the_order_of_the_dataset():
    loader = PrunedDataLoader(range(40), "Random", epochs=1, batch_size=4, shuffle=False)
    seen = torch.cat(list(looked_at(loader))).tolist()
    assert seen == sorted(seen) and len(seen) < 40
    with pytest.raises(ValueError, match="shuffle=False and reorder= both set the order"):
        PrunedDataLoader(range(4), "Full", epochs=1, shuffle=False, reorder=lambda i: i)


def test_a_loader_is_no_dataset():
    message = r"must hold the samples, got a DataLoader, which holds batches: .*from_loader\(loader"
    with pytest.raises(TypeError, match=message):
        PrunedDataLoader(DataLoader(range(4)), "Full", epochs=1)


def test_unknown_options_are_refused():
    message = r"has no option num_worker, wat: .*torch.utils.data.DataLoader in torch \d"
    with pytest.raises(TypeError, match=message):
        PrunedDataLoader(Tuples(4), "Full", epochs=1, num_worker=2, wat=3)


@pytest.mark.parametrize("batch_size", [None, 0, -3, 2.0, "4", True])
def test_batch_sizes_that_are_none_are_refused(batch_size):
    message = rf"batch_size must be an integer of at least 1, got {re.escape(repr(batch_size))}"
    with pytest.raises(ValueError, match=message):
        PrunedDataLoader(Tuples(4), "Full", epochs=1, batch_size=batch_size)


class Stream(IterableDataset):
    def __len__(self):
        return 4

    def __iter__(self):
        return iter(range(4))


class Endless:
    def __getitem__(self, index):
        return index


class Unwilling(Endless):
    def __len__(self):
        raise NotImplementedError


def test_an_iterable_dataset_is_refused():
    message = "dataset must not be iterable-style, got Stream: .*map-style"
    with pytest.raises(TypeError, match=message):
        PrunedDataLoader(Stream(), "Full", epochs=1)


@pytest.mark.parametrize("dataset", [Endless(), Unwilling(), iter([1, 2])])
def test_a_dataset_without_length_is_refused(dataset):
    message = f"dataset must have a length, got {type(dataset).__name__} without: .*map-style"
    with pytest.raises(TypeError, match=message):
        PrunedDataLoader(dataset, "Full", epochs=1)


def test_a_dict_of_splits_is_refused():
    with pytest.raises(TypeError, match="samples by number, got dict of 'train', 'test': give one"):
        PrunedDataLoader({"train": [1, 2], "test": [3]}, "Full", epochs=1)
    assert len(PrunedDataLoader({0: "a", 1: "b"}, "Full", epochs=1)) == 2


def test_an_empty_dataset_is_refused():
    message = "dataset must have at least one sample, got list of length 0"
    with pytest.raises(ValueError, match=message):
        PrunedDataLoader([], "Full", epochs=1)


def test_the_pruners_own_checks_come_through():
    with pytest.raises(ValueError, match="epochs must be at least 1, got 0"):
        PrunedDataLoader(Tuples(4), "Full", epochs=0)
    with pytest.raises(ValueError, match=r"unknown method .Setta.: choose one of SeTa"):
        PrunedDataLoader(Tuples(4), "Setta", epochs=1)


def test_torchs_own_checks_come_through():
    with pytest.raises(ValueError, match="prefetch_factor"):
        PrunedDataLoader(Tuples(4), "Full", epochs=1, prefetch_factor=2)


@pytest.mark.processes
def test_without_torch_the_command_that_installs_it_is_named():
    script = "import sys; sys.modules['torch'] = None; import seta, seta.torch"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert 'pip install "seta[torch]"' in result.stderr.splitlines()[-1]


def test_lists_and_ranges_are_datasets():
    for dataset in ([5, 6, 7], range(5, 8), {0: 5, 1: 6, 2: 7}):
        loader = PrunedDataLoader(dataset, "Full", epochs=1)
        assert sorted(torch.cat(list(looked_at(loader))).tolist()) == [5, 6, 7]
