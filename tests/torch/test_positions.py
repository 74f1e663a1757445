"""Where a run goes on, whatever went wrong before: no batch is trained twice, none is left out."""

import copy
import io
import pickle
import time
from itertools import islice

import numpy as np
import pytest
import torch
from torch import multiprocessing

import seta
from seta import Pruner
from seta.engine.state.formats import name_of
from seta.torch import PrunedDataLoader
from tests.combinations import WORKERS, some_of
from tests.torch.helpers import Tuples, loss_of, needs_in_order, samples_of
from tests.virtual_ranks import on_ranks

N, BATCH = 80, 8


class Failing(Tuples):
    """A sample that cannot be read."""

    def __getitem__(self, index):
        if index == 33:
            raise KeyError("no sample 33")
        return super().__getitem__(index)


def fails_on_33(rows):
    if any(int(row[0]) == 33 for row in rows):
        raise KeyError("no sample 33")
    return torch.stack([row[0] for row in rows])


def drops_the_first(rows):
    return torch.stack([row[0] for row in rows[1:]])


def make(dataset=Tuples, **options):
    return PrunedDataLoader(dataset(N), "InfoBatch", epochs=3, batch_size=BATCH, **options)


def walk(loader, take=None, body=None):
    """Trains (some batches of) a pass, whatever is raised; returns the samples it was given."""
    batches, seen, number = iter(loader), [], 0
    while number != take:
        number += 1
        try:
            batch = next(batches)
        except StopIteration:
            break
        except KeyError:
            continue
        samples = samples_of(batch)
        seen.append(samples.tolist())
        try:
            if body is not None:
                body(samples)
            loader.update(loss_of(samples, loader.epoch), indices=samples)
        except ZeroDivisionError:
            continue
    return seen


def goes_on(loader, **options):
    other = make(**options)
    file = io.BytesIO()
    torch.save(loader.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    return other


def a_bug(samples):
    if 33 in samples:
        raise ZeroDivisionError


CASES = {
    "an error in the body": ({}, a_bug),
    "an error in the dataset": ({"dataset": Failing}, None),
    "an error in the collate function": ({"collate_fn": fails_on_33}, None),
    "a row that the collate function drops": ({"collate_fn": drops_the_first}, None),
}


@some_of("case, num_workers", CASES, [0, 2])
def test_what_was_given_out_is_not_given_out_again(case, num_workers):
    options, body = CASES[case]
    options = {**options, "num_workers": num_workers}
    whole = make(**options)
    expected = walk(whole, body=body)
    whole.end_epoch()
    bad = make().pruner.begin_epoch().indices.tolist().index(33) // BATCH
    # A batch that has just come up and is not answered yet is given out again.
    takes = [bad + 2] if num_workers else sorted({1, 4, 7, 9, bad + 2} - {bad + 1})
    for take in takes:
        cut = make(**options)
        before = walk(cut, take, body)
        resumed = goes_on(cut, **options)
        assert before + walk(resumed, body=body) == expected, take
        resumed.end_epoch()
        assert resumed.pruner.history[0]["trained"] == whole.pruner.history[0]["trained"]
        np.testing.assert_array_equal(resumed.pruner.losses, whole.pruner.losses)


# Copies.


def copies(loader):
    return copy.deepcopy(loader), pickle.loads(pickle.dumps(loader))


@pytest.mark.parametrize("num_workers", WORKERS)
def test_a_copy_goes_on_where_the_loader_is(num_workers):
    loader = make(num_workers=num_workers, persistent_workers=num_workers > 0)
    for fresh in copies(loader):
        assert walk(fresh) == walk(make())
    walk(loader)
    for _ in range(2):  # in the middle of a pass
        batches = iter(loader)
        given = [next(batches) for _ in range(3)]
        loader.update(torch.ones(BATCH), indices=samples_of(given[0]))
        loader.update(torch.ones(BATCH), indices=samples_of(given[1]))
        others = copies(loader)
        left = islice(batches, len(loader) - 3)  # and not to its end
        rest = [samples_of(batch).tolist() for batch in (given[2], *left)]
        for other in others:
            assert other.epoch == loader.epoch
            assert other.progress == pytest.approx((1 + 2 / len(loader)) / 3)
            assert walk(other) == rest
            assert [row["epoch"] for row in other.pruner.history] == [0, 1]
        assert loader.pruner.epoch == 1  # nothing of it happened here
        loader.set_epoch(1)


def test_a_copy_of_a_loaded_state_has_what_is_left():
    loader = make()
    walk(loader, 4)
    resumed = goes_on(loader)
    others = copies(resumed)
    rest = walk(resumed)
    assert len(rest) == len(make()) - 4
    for other in others:
        assert walk(other) == rest
        assert other.pruner.history[0]["trained"] == N


def test_a_copy_after_skipped_batches_leaves_them_out():
    loader = make()
    batches = iter(loader)
    for _ in range(3):
        next(batches)
        loader.skip()
    rest = [samples_of(batch).tolist() for batch in islice(batches, len(loader) - 3)]
    for other in copies(loader):
        assert walk(other) == rest
        assert other.pruner.history[0]["trained"] == N - 3 * BATCH


def test_a_shallow_copy_would_share_its_epochs():
    with pytest.raises(TypeError, match=r"shallow copy of a PrunedDataLoader .*copy\.deepcopy"):
        copy.copy(make())


def _train_there(loader, answers):
    torch.set_num_threads(1)
    answers.put(walk(loader))


@pytest.mark.processes
def test_a_spawned_process_goes_on_with_a_loader():
    loader = make()
    walk(loader, 4)
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=_train_there, args=(loader, answers))
    process.start()
    there = answers.get(timeout=60)
    process.join(60)
    assert there == walk(goes_on(loader))


def test_the_sampler_of_a_copy_is_the_copys_own():
    loader = make()
    for other in copies(loader):
        other.sampler.set_epoch(2)
        assert (other.epoch, loader.epoch) == (2, 0)
        assert other.sampler.pruner is other.pruner is not loader.pruner
        assert seta.PrunedDataLoader is type(other)


class Slow(Tuples):
    """Takes its time over one sample, once."""

    def __getitem__(self, index):
        if index == 5 and not self.waited.value:
            self.waited.value = 1
            time.sleep(2.5)
        return super().__getitem__(index)


def test_a_timeout_that_is_gone_on_from_costs_no_batch():
    dataset = Slow(N)
    dataset.waited = multiprocessing.Value("i", 0)
    loader = seta.PrunedDataLoader(
        dataset, "Full", epochs=1, batch_size=BATCH, num_workers=1, timeout=1, shuffle=False
    )
    batches, seen = iter(loader), []
    while len(seen) < 3:
        try:
            batch = next(batches)
        except RuntimeError as error:
            assert "timed out" in str(error)
            continue
        seen.append(samples_of(batch).tolist())
        loader.update(torch.ones(BATCH))
    assert seen == [list(range(at * BATCH, (at + 1) * BATCH)) for at in range(3)]
    assert loader.position == 3


@needs_in_order
def test_batches_out_of_order_are_not_copied_in_mid_epoch():
    loader = seta.PrunedDataLoader(
        Tuples(N), "Full", epochs=2, batch_size=BATCH, num_workers=1, in_order=False
    )
    copy.deepcopy(loader)
    batches = iter(loader)
    loader.update(torch.ones(len(samples_of(next(batches)))))
    with pytest.raises(RuntimeError, match=r"in_order=False .* save or copy between two epochs"):
        copy.deepcopy(loader)


class Interrupted(Tuples):
    """Is interrupted at one sample, once."""

    stopped = False

    def __getitem__(self, index):
        if index == 5 and not self.stopped:
            self.stopped = True
            raise KeyboardInterrupt
        return super().__getitem__(index)


def test_a_batch_that_was_interrupted_counts_as_given_out():
    loader = seta.PrunedDataLoader(
        Interrupted(N), "Full", epochs=1, batch_size=BATCH, shuffle=False
    )
    batches = iter(loader)
    with pytest.raises(KeyboardInterrupt):
        next(batches)
    assert samples_of(next(batches)).tolist() == list(range(BATCH, 2 * BATCH))
    loader.update(torch.ones(BATCH))
    assert loader.position == 2


def test_the_rest_of_a_resumed_epoch_may_fail_to_load():
    """A row that cannot be read, in the last batch, which the loop goes on from."""
    last = make().pruner.begin_epoch()[-1]

    class Bad(Tuples):
        def __getitem__(self, index):
            if index == last:
                raise KeyError(index)
            return super().__getitem__(index)

    cut = make(Bad)
    walk(cut, len(cut) - 1)
    resumed = goes_on(cut, dataset=Bad)
    assert walk(resumed) == []
    assert resumed.end_epoch()["trained"] == 72 and resumed.epoch == 1


def test_a_sharded_epoch_goes_on_at_its_place_on_fewer_ranks():
    options = {"epochs": 3, "budget": 0.6, "sharding": "sharded"}

    def half(ranks):
        pruner = Pruner(4000, "SeTa", batch_size=25, ranks=ranks, **options)
        share = pruner.share()[: 40 * 25].astype(np.int64)
        pruner.record(share, np.ones(len(share), np.float32))
        return pruner.state_dict(done=40 * 50)

    states = [{"format": name_of("loader"), "pruner": part} for part in on_ranks(2, half)[0]]
    loader = PrunedDataLoader(torch.arange(4000), "SeTa", batch_size=50, **options)
    loader.load_state_dict(states)
    assert (len(loader), loader.position, loader.progress) == (48, 40, pytest.approx(40 / 48 / 3))
    for at, batch in enumerate(loader, loader.position + 1):
        loader.update(batch.float())
        assert loader.position in (at, 0)  # 0: the epoch is over
    assert at == 48 and loader.pruner.history[0]["trained"] == 2400
