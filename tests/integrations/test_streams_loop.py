"""Pruned streams as a training loop meets them: looks, slips, errors, retries; and full batches."""

import copy
import logging
import pickle

import numpy as np
import pytest
import torch

pytest.importorskip("datasets")

from torch.utils.data import DataLoader, default_collate, get_worker_info

from seta import Pruner
from seta.integrations.streams import KeepSet
from seta.integrations.streams.ledger import Ledger
from seta.integrations.streams.reader import Reader, as_it_is, batches_of
from seta.torch.dataset import IndexedCollate, indices_of
from tests.integrations.stream_helpers import (
    BATCH,
    EPOCHS,
    N,
    Rows,
    flat,
    hugging_face,
    plan_of,
    stream_of,
    uneven,
    walk,
)
from tests.torch.processes import run_ranks
from tests.virtual_ranks import on_ranks

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
]


def answer(stream, batch):
    stream.update(batch["value"].float())
    return batch["id"].tolist()


# Full batches.


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("budget", [None, 0.6, [0.5, 1.0, 0.3]])
@pytest.mark.parametrize("policy", ["Full", uneven, "InfoBatch"])
def test_every_batch_is_full_but_the_last_of_an_epoch_that_keeps_all(
    policy, budget, drop_last, workers
):
    stream = stream_of(
        hugging_face(), policy, budget=budget, drop_last=drop_last, num_workers=workers
    )
    for _ in range(EPOCHS):
        plan, length = plan_of(stream), len(stream)
        (batches,) = walk(stream)
        *sizes, last = map(len, batches)
        assert sorted(flat(batches)) == sorted(plan)
        assert len(batches) == length and set(sizes) <= {BATCH}
        assert last == (N % BATCH if len(plan) == N else BATCH)
        assert len(plan) < N or not drop_last


def test_a_stream_smaller_than_a_batch_is_one_batch():
    stream = stream_of(Rows(range(5)), "Full", keep=KeepSet("id", n=5), budget=None)
    assert len(stream) == 1
    assert walk(stream) == [[[0, 1, 2, 3, 4]]]
    with pytest.raises(ValueError, match="batch_size must leave a whole global batch"):
        stream_of(Rows(range(5)), keep=KeepSet("id", n=5), drop_last=True)


# An epoch that was not answered, or not as it should be.


@pytest.mark.parametrize("options", [{}, {"num_workers": 2, "persistent_workers": True}])
def test_a_look_at_a_batch_uses_no_epoch_up(options):
    stream, plain = stream_of(hugging_face(), **options), stream_of(hugging_face(), **options)
    seen = []
    for _ in range(EPOCHS):
        first = next(iter(stream))["id"].tolist()
        seen += walk(stream)
        assert seen[-1][0] == first
    assert seen == walk(plain, EPOCHS)
    assert [row["epoch"] for row in stream.pruner.history] == [0, 1, 2]


def test_an_epoch_without_update_is_an_error_that_says_what_to_call():
    stream = stream_of()
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"none of the 7 batches of epoch 0 was answered"):
            for _ in stream:
                pass
    assert stream.pruner.history == []


def test_batches_that_are_not_answered_are_counted_in_a_warning(caplog):
    stream = stream_of(with_indices=True)
    for at, (indices, batch) in enumerate(stream):
        if at % 2:
            stream.update(batch["value"].float(), indices=indices)
    with caplog.at_level(logging.WARNING):
        assert stream.end_epoch()["trained"] == 3 * BATCH
    assert "4 of 7 batches of epoch 0 were given out and neither" in caplog.text


def go_on(stream, **options):
    """Trains the rest of a stream's open epoch elsewhere; returns its batches."""
    resumed = stream_of(**options)
    resumed.load_state_dict(stream.state_dict())
    (batches,) = walk(resumed)
    return batches


def without_the_first_row(rows):
    return default_collate(rows[1:])


def test_a_batch_whose_collate_function_leaves_rows_out_counts_as_done():
    stream = stream_of(collate_fn=without_the_first_row)
    plan, seen = sorted(plan_of(stream)), []
    for at, batch in enumerate(stream):
        kept = batch["id"].tolist()
        assert len(kept) == BATCH - 1
        stream.update(batch["value"].float(), indices=batch["id"])
        seen += kept
        if at == 3:
            break
    rest = go_on(stream)
    assert [len(batch) for batch in rest] == [BATCH] * 3
    assert flat(rest) == plan[4 * BATCH :]
    assert not set(seen) & set(flat(rest))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_index_may_ride_inside_the_row(workers):
    """Through a collate function that sorts and cuts a copy of its rows."""

    def collate(rows):
        return default_collate(sorted(rows, key=lambda row: -row["value"])[1:])

    options = {"num_workers": workers, "index_key": "index", "collate_fn": collate}
    stream = stream_of(hugging_face(), **options)
    assert len(stream) == 7
    (batches,) = walk(stream)
    assert [len(batch) for batch in batches] == [BATCH - 1] * 7
    seen = flat(batches)
    assert np.array_equal(stream.pruner.losses[seen], np.array(seen, np.float32) / 16)
    assert stream.pruner.history[0]["trained"] == len(seen)


def test_a_collate_function_that_reorders_its_rows_is_followed():
    def collate(rows):
        rows.sort(key=lambda row: -row["value"])
        return default_collate(rows)

    stream = stream_of(collate_fn=collate)
    seen = flat(walk(stream)[0])
    assert np.array_equal(stream.pruner.losses[seen], np.array(seen, np.float32) / 16)


def test_a_batch_that_was_skipped_is_done_and_one_that_waits_is_not():
    stream = stream_of(with_indices=True)
    plan = sorted(plan_of(stream))
    for at, (indices, batch) in enumerate(stream):
        if at == 0:
            stream.skip()
        elif at == 2:
            stream.update(batch["value"].float(), indices=indices)
            break
    assert flat(go_on(stream)) == plan[BATCH : 2 * BATCH] + plan[3 * BATCH :]


def test_an_epoch_of_which_batches_were_skipped_alone_has_begun():
    stream = stream_of()
    for _ in stream:
        stream.skip()
        break
    resumed = stream_of()
    resumed.load_state_dict(stream.state_dict())
    assert resumed.progress == pytest.approx(1 / 7 / EPOCHS)
    resumed.set_epoch(1)
    assert [row["epoch"] for row in resumed.pruner.history] == [0]
    assert len(flat(walk(resumed)[0])) == 8 * BATCH


class Slip(Exception):
    pass


def test_an_error_in_the_loop_that_is_gone_on_from_trains_nothing_twice():
    stream = stream_of()
    plan, seen = sorted(plan_of(stream)), []
    for at, batch in enumerate(stream):
        try:
            if at == 1:
                raise Slip
            seen += answer(stream, batch)
        except Slip:
            stream.skip()
        if at == 3:
            break
    assert flat(go_on(stream)) == plan[4 * BATCH :]
    assert seen == plan[:BATCH] + plan[2 * BATCH : 4 * BATCH]


@pytest.mark.parametrize(("where", "workers"), [("source", 0), ("collate_fn", 0), ("source", 2)])
def test_an_error_in_the_stream_that_is_gone_on_from_ends_no_epoch_in_silence(where, workers):
    """As with torch's loader, nothing comes after it; what has come is not trained again."""
    plan = sorted(plan_of(stream_of()))
    bad = plan[35]

    def slip(row):
        if row["id"] == bad:
            raise Slip
        return row

    def collate(rows):
        return default_collate([slip(row) for row in rows])

    broken = {"source": hugging_face().map(slip)} if where == "source" else {"collate_fn": collate}
    stream = stream_of(**({"source": hugging_face()} | broken), num_workers=workers)
    seen = []
    with pytest.raises(RuntimeError, match=r"the pass over epoch 0 ended \d batches early"):
        batches = iter(stream)
        while True:
            try:
                seen += answer(stream, next(batches))
            except Slip:
                continue
    assert stream.epoch == 0 and bad not in seen
    rest = flat(go_on(stream, source=hugging_face()))
    assert sorted(seen + rest) == plan


def test_a_stop_iteration_inside_the_stream_is_an_error_at_once():
    def rows():
        for row in Rows():
            if row["id"] == 20:
                next(iter(()))
            yield row

    def collate(rows):
        return next(iter(()))

    with pytest.raises(RuntimeError, match="StopIteration"):
        walk(stream_of(rows))
    for workers in (0, 2):
        stream = stream_of(hugging_face(), collate_fn=collate, num_workers=workers)
        with pytest.raises(RuntimeError, match="collate raised StopIteration, which would sil"):
            walk(stream)


# Several answers for one batch.


def test_a_batch_that_is_answered_twice_has_the_same_weights_and_counts_once():
    stream = stream_of(hugging_face(), "InfoBatch", budget=None, with_indices=True)
    weights = set()
    for _ in range(EPOCHS):
        for indices, batch in stream:
            assert torch.equal(indices, batch["id"])
            known = stream.weights(indices)
            losses = batch["value"].float()
            first, again = (stream.update(losses / part, indices=indices) for part in (1, 4))
            assert again == first / 4
            assert torch.equal(stream.weights(indices), known)
            weights |= set(known.tolist())
    assert len(weights) > 1
    assert all(row["trained"] == row["kept"] for row in stream.pruner.history)


def test_losses_of_a_batch_that_come_in_parts_count_once():
    stream = stream_of(with_indices=True)
    for indices, batch in stream:
        for half in (slice(0, 3), slice(3, None)):
            stream.update(batch["value"][half].float(), indices=indices[half])
    assert stream.end_epoch()["trained"] == 7 * BATCH


# The arguments of the loader.


class OfWorkers(Rows):
    """Deals its rows out to the workers, and marks them with what the worker was told."""

    mark = -1

    def __iter__(self):
        worker = get_worker_info()
        for row in super().__iter__():
            if row["id"] % worker.num_workers == worker.id:
                yield row | {"mark": self.mark}

    def take(self, mark):
        self.mark = mark


def mark_source(worker):
    get_worker_info().dataset.take(10 + worker)


def test_a_worker_init_fn_finds_the_users_own_source():
    own = {"num_workers": 2, "worker_init_fn": mark_source, "collate_fn": list}
    stream = stream_of(OfWorkers(), **own)
    for rows in stream:
        assert all(row["mark"] == 10 + row["id"] % 2 for row in rows)
        stream.skip()


def test_the_length_of_a_run_may_be_said_in_batches():
    stream = stream_of(epochs=None, steps=20, budget=0.6, accumulation=2)
    assert stream.total_batches == 20 and stream.epochs == 3
    assert [len(batches) for batches in walk(stream, 3)] == [7, 8, 5]
    assert stream.total_steps == 4 + 4 + 3


def test_how_often_samples_were_kept_can_be_counted():
    stream = stream_of(count_kept=True, threads=1)
    plans = [sample for _ in range(EPOCHS) for sample in plan_and_walk(stream)]
    assert np.array_equal(stream.pruner.kept_counts, np.bincount(plans, minlength=N))
    assert stream.pruner.threads == 1


def plan_and_walk(stream):
    plan = plan_of(stream)
    walk(stream)
    return plan


class Seeds(OfWorkers):
    def __iter__(self):
        return (row | {"seed": torch.initial_seed()} for row in super().__iter__())


def seeds_of(**options):
    stream = stream_of(Seeds(), num_workers=1, **options)
    seeds = set()
    for batch in stream:
        seeds |= set(batch["seed"].tolist())
        stream.skip()
    return seeds


def test_workers_draw_from_the_runs_seed_or_from_a_generator_of_the_users():
    assert seeds_of() == seeds_of() != seeds_of(seed=1)
    one, other = (torch.Generator().manual_seed(seed) for seed in (3, 4))
    assert seeds_of(generator=one) != seeds_of(generator=other)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_copy_of_a_stream_is_refused(copied):
    with pytest.raises(TypeError, match="PrunedStream cannot be copied .* KeepSet of its own"):
        copied(stream_of())


# Several processes that train one share.


def train_in_fours(part_of):
    """Trains two epochs in four processes, of which each pair trains one share.

    Args:
        part_of: The samples that a share reads.

    Returns:
        Of each process, what it knows of each epoch.
    """

    def run(ranks):
        keep = KeepSet("id", n=N)
        ledger = Ledger(keep, split=True)
        pruner = Pruner(
            N, "Random", epochs=2, budget=0.6, batch_size=4, ranks=ranks, on_epoch=ledger.close
        )
        ledger.attach(pruner)
        reader = Reader(Rows(part_of(ranks.rank)), keep, 4, IndexedCollate(default_collate))
        loader = DataLoader(reader, batch_size=None, collate_fn=as_it_is)
        known = []
        for epoch in range(2):
            plan = pruner.begin_epoch().indices
            for packed, batch in batches_of(reader, loader, ledger, epoch):
                pruner.record(indices_of(packed), batch["value"].float().numpy())
            row = pruner.end_epoch()
            known.append((set(plan.tolist()), ledger.figures[-1], row["trained"]))
        return known

    return on_ranks(4, run, share=[0, 0, 1, 1])[0]


def test_processes_that_train_one_share_together_count_once():
    results = train_in_fours(lambda share: range(1 + share, N, 2))  # sample 0 is in none
    assert all(result == results[0] for result in results)
    for epoch, (plan, figures, trained) in enumerate(results[0]):
        assert trained == len(plan) == figures["planned"]
        assert figures["repeated"] == 0
        if epoch == 0:  # which is read to its end
            there = [len(plan & set(range(first, N, 2))) for first in (1, 2)]
            assert figures["missing"] == 1 == len(plan & {0})
            assert figures["filled"] == sum(max(0, len(plan) // 2 - count) for count in there)


def test_shares_that_read_the_same_part_are_still_told():
    with pytest.raises(RuntimeError, match="28 samples were trained on two ranks in epoch 0"):
        train_in_fours(lambda share: range(N))


def _saves_where_one_skipped(rank):
    stream = stream_of(split=False, batch_size=5)
    batch = next(iter(stream))
    stream.update(batch["value"].float()) if rank else stream.skip()
    (trained,) = stream.state_dict()["trained"]
    return int(np.unpackbits(trained.numpy()).sum())


def test_ranks_save_together_where_one_has_left_its_first_batch_out(tmp_path):
    assert run_ranks(2, _saves_where_one_skipped, tmp_path) == [10, 10]
