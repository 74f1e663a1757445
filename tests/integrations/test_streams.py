"""Pruned streams: alone, with workers, and in two processes that do not know each other's part."""

import copy
import io
import json
import logging
import pickle
import runpy
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("datasets")
pytest.importorskip("webdataset")

import webdataset
from datasets import Dataset, Features, Image, IterableDataset, Value

import seta
from seta.integrations.streams import KeepSet, PrunedStream
from tests.integrations.one_class import OneClass
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
from tests.torch.helpers import looked_at

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    # webdataset leaves its files to the garbage collector
    pytest.mark.filterwarnings("ignore:unclosed file .*tar:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*tar:pytest.PytestUnraisableExceptionWarning"),
]

HERE = Path(__file__).parent


# Alone.


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("shuffle", [False, True])
def test_an_epoch_is_its_plan_and_losses_belong_to_their_samples(workers, shuffle):
    keep, rows = KeepSet("id", n=N), hugging_face()
    rows = rows.shuffle(seed=0, buffer_size=16) if shuffle else rows
    stream = stream_of(rows.filter(keep, input_columns=["id"]), keep=keep, num_workers=workers)
    for epoch in range(EPOCHS):
        plan = plan_of(stream)
        (batches,) = walk(stream)
        assert sorted(flat(batches)) == sorted(plan)
        assert {len(batch) for batch in batches} == {BATCH}
        losses = stream.pruner.losses[plan]
        assert np.array_equal(losses, np.array(plan, np.float32) / 16 + epoch)
    assert [row["filled"] for row in stream.figures] == [0] * EPOCHS


@pytest.mark.parametrize("workers", [0, 2])
def test_without_a_budget_epochs_grow_and_shrink(workers):
    stream = stream_of(hugging_face(), uneven, budget=None, epochs=4, num_workers=workers)
    for _ in range(4):
        plan, length = plan_of(stream), len(stream)
        (batches,) = walk(stream)
        assert sorted(flat(batches)) == sorted(plan)
        assert len(batches) == length
    assert len({row["kept"] for row in stream.pruner.history}) > 2


def test_a_budget_makes_the_number_of_steps_known():
    stream = stream_of(budget=[0.5, 1.0, 0.25])
    assert stream.total_steps == 6 + 13 + 3
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=stream.total_steps)
    for _ in range(EPOCHS):
        for batch in stream:
            stream.update(batch["value"])
            optimizer.step()
            schedule.step()
    assert schedule.get_last_lr() == [0.0]


def test_without_a_budget_progress_drives_a_schedule():
    stream = stream_of(policy=uneven, budget=None)
    with pytest.raises(RuntimeError, match="give budget=, or drive the schedule by"):
        _ = stream.total_steps
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40)
    driver = seta.ProgressSchedule(schedule, steps=40, loader=stream)
    for _ in range(EPOCHS):
        for batch in stream:
            stream.update(batch["value"])
            optimizer.step()
            driver.step()
    assert driver.get_last_lr() == [0.0]


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_trap_15_a_new_keep_set_reaches_persistent_workers(context):
    keep = KeepSet("id", n=N)
    stream = stream_of(
        hugging_face().filter(keep, input_columns=["id"]),
        uneven,
        keep=keep,
        budget=None,
        num_workers=2,
        persistent_workers=True,
        multiprocessing_context=context,
    )
    plans = []
    for _ in range(EPOCHS):
        plans.append(sorted(plan_of(stream)))
        (batches,) = walk(stream)
        assert sorted(flat(batches)) == plans[-1]
    assert plans[0] != plans[1] != plans[2]


def test_what_persistent_workers_read_ahead_for_an_epoch_that_was_broken_off_is_dropped():
    keep = KeepSet("id", n=N)
    stream = stream_of(
        hugging_face().filter(keep, input_columns=["id"]),
        keep=keep,
        num_workers=2,
        persistent_workers=True,
        prefetch_factor=4,
    )
    for batch in stream:
        stream.update(batch["value"].float())
        break
    stream.set_epoch(1)
    plan = plan_of(stream)
    assert sorted(flat(walk(stream)[0])) == sorted(plan)
    assert stream.pruner.history[0]["trained"] == BATCH


def test_trap_15_a_keep_set_that_would_be_a_stale_copy_is_refused():
    with pytest.raises(RuntimeError, match="KeepSet must not be pickled, since a copy would not"):
        pickle.dumps(KeepSet("id", n=N))


def test_a_pipeline_that_is_copied_asks_the_same_keep_set():
    keep = KeepSet("id", n=N)
    assert copy.deepcopy([keep]) == [keep]


def test_trap_16_only_kept_rows_are_decoded():
    """By a stage after the filter, and by the collate function without one."""
    decoded = []

    def decode(row):
        decoded.append(row["id"])
        return row

    keep = KeepSet("id", n=N)
    stream = stream_of(hugging_face().filter(keep, input_columns=["id"]).map(decode), keep=keep)
    (batches,) = walk(stream)
    assert sorted(decoded) == sorted(flat(batches))
    decoded.clear()
    collate = torch.utils.data.default_collate
    stream = stream_of(collate_fn=lambda rows: collate([decode(row) for row in rows]))
    (batches,) = walk(stream)
    assert decoded == flat(batches)


def test_images_that_datasets_does_not_decode_by_itself_are_decoded_where_they_are_kept(
    monkeypatch,
):
    """Its own decoding runs before any filter, so it has to be turned off."""
    image = io.BytesIO()
    pytest.importorskip("PIL.Image").new("L", (2, 2)).save(image, "png")
    features = Features({"id": Value("int64"), "image": Image()})
    pictures = [{"bytes": image.getvalue(), "path": None}] * N
    rows = Dataset.from_dict({"id": range(N), "image": pictures}, features=features)
    rows, count = rows.to_iterable_dataset(num_shards=2), []
    theirs = Image.decode_example
    monkeypatch.setattr(
        Image,
        "decode_example",
        lambda self, *args, **kw: count.append(1) or theirs(self, *args, **kw),
    )
    keep = KeepSet("id", n=N)

    def decoded_by(source):
        count.clear()
        stream = stream_of(source, keep=keep, collate_fn=lambda rows: [row["id"] for row in rows])
        seen = []
        for ids in stream:
            stream.update(torch.ones(len(ids)))
            seen += ids
        return len(count), len(seen)

    assert decoded_by(rows.filter(keep, input_columns=["id"]))[0] > 0.9 * N

    def decode(row):
        return {"image": Image().decode_example(row["image"])}

    decoded, seen = decoded_by(rows.decode(False).filter(keep, input_columns=["id"]).map(decode))
    assert decoded == seen < 0.7 * N


def test_the_source_is_told_the_epoch():
    source = Rows()
    walk(stream_of(source), 2)
    assert source.epochs == [0, 1]


def test_a_function_is_a_source():
    walk(stream_of(lambda: Rows().__iter__()), EPOCHS)


def test_a_policy_that_looks_at_classes_is_given_them():
    classes = np.arange(N) % 2
    for batches in walk(stream_of(policy=OneClass(), budget=0.3, strata=classes), EPOCHS):
        assert {sample % 2 for sample in flat(batches)} == {1}


def test_the_loop_is_that_of_the_loader():
    stream = stream_of(with_indices=True, always_keep=[3], losses=np.ones(N, np.float32))
    for step, (indices, batch) in enumerate(stream):
        assert torch.equal(indices, batch["id"])
        if step == 0:
            stream.skip()
        elif step == 1:
            stream.update(batch["value"][:4].float(), indices=indices[:4])
            stream.update(batch["value"][4:].float(), indices=indices[4:])
        elif step == 2:
            break
    assert stream.epoch == 0
    assert stream.end_epoch()["trained"] == BATCH
    with pytest.raises(RuntimeError, match="needs an unanswered batch"):
        stream.update(torch.ones(BATCH))
    with pytest.raises(RuntimeError, match="needs an open epoch"):
        stream.update(torch.ones(BATCH), indices=indices)
    stream.set_epoch(2)
    assert 3 in flat(indices.tolist() for indices, batch in looked_at(stream))
    assert stream.progress == 1.0 and len(stream) == 7
    with pytest.raises(RuntimeError, match="all 3 epochs of this run are over"):
        next(iter(stream))


def test_the_global_random_state_is_left_alone():
    before = torch.random.get_rng_state()
    walk(stream_of(hugging_face(), num_workers=2))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_batches_of_several_workers_leave_one_incomplete_one_at_the_end():
    """Four workers have 25 or 26 rows each; the rows that they have left over make batches."""
    stream = stream_of(hugging_face(), "Full", budget=None, num_workers=4)
    (batches,) = walk(stream)
    assert sorted(flat(batches)) == list(range(N))
    assert sorted(map(len, batches)) == [N % BATCH] + [BATCH] * (N // BATCH)


# Ids.


def test_trap_19_ids_that_count_rows_are_refused():
    source = IterableDataset.from_generator(lambda: iter(Rows()))
    by_map = source.map(lambda row, index: {"key": index}, with_indices=True)
    by_column = hugging_face().add_column("key", range(N))
    for rows in (by_map, by_column, by_column.shuffle(seed=0).filter(lambda row: True)):
        with pytest.raises(ValueError, match="column 'key' of source must not come from map"):
            stream_of(rows, keep=KeepSet("key", n=N))


def test_trap_19_ids_that_were_there_before_rows_are_counted_serve():
    rows = hugging_face().map(lambda row, index: {"position": index}, with_indices=True)
    stream = stream_of(rows, budget=None, num_workers=2)
    plan = plan_of(stream)
    assert sorted(flat(walk(stream)[0])) == sorted(plan)


def test_trap_19_an_id_that_comes_twice_is_noticed():
    with pytest.raises(RuntimeError, match="sample 7 came twice from one reading of the stream"):
        walk(stream_of(Rows([7, 8, 7]), "Full", budget=None))
    with pytest.raises(RuntimeError, match="each of several workers reads the whole source"):
        walk(stream_of(Rows(), num_workers=2))


def numbered_alike(shards, rows):
    """A stream whose shards each number their rows from 0 on."""
    return Dataset.from_dict(
        {"id": [*range(rows)] * shards, "value": [*map(float, range(rows))] * shards}
    ).to_iterable_dataset(num_shards=shards)


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("budget", [0.4, None])
@pytest.mark.parametrize("workers", [0, 2])
def test_shards_that_number_their_rows_alike_are_noticed(workers, budget, filtered):
    """Also where the first shard holds all that the epoch wants."""
    keep, source = KeepSet("id", n=40), numbered_alike(4, 40)
    source = source.filter(keep, input_columns=["id"]) if filtered else source
    stream = stream_of(source, keep=keep, budget=budget, num_workers=workers)
    with pytest.raises(RuntimeError, match="came twice from one reading .*shards with equal keys"):
        walk(stream)


def test_a_stream_without_end_is_noticed():
    def rows():
        while True:
            yield from Rows()

    with pytest.raises(RuntimeError, match="came twice from one reading of the stream"):
        walk(stream_of(rows))


def test_the_first_reading_alone_goes_on_when_all_that_is_wanted_has_come():
    read = []

    class Counted(Rows):
        def __iter__(self):
            read.append(0)
            for row in super().__iter__():
                read[-1] += 1
                yield row

    source = Counted(range(N))
    stream = stream_of(source, "Random", budget=0.1)
    plans = []
    for _ in range(EPOCHS):
        plans.append(plan_of(stream))
        walk(stream)
    assert read == [N, *(1 + max(plan) for plan in plans[1:])]
    assert read[1] < N


def test_ids_may_be_strings_or_any_integers():
    for ids in ([f"key{i:03}" for i in range(N)], [10**15 + 7 * i for i in range(N)]):
        keep = KeepSet("key", ids=ids[::-1])
        assert keep.indices_of(ids[:3]).tolist() == [N - 1, N - 2, N - 3]
        stream = stream_of([{"key": key} for key in ids], keep=keep, collate_fn=list)
        plan = plan_of(stream)
        seen = []
        for batch in stream:
            indices = keep.indices_of([row["key"] for row in batch])
            seen += indices.tolist()
            stream.update(torch.from_numpy(indices / 1.0))
        assert sorted(seen) == sorted(plan)
        assert np.array_equal(stream.pruner.losses[plan], np.array(plan, np.float32))


def test_large_unsigned_ids_stay_exact():
    keep = KeepSet("key", ids=np.array([2**63 + 1, 2**63, 5], np.uint64))
    assert [keep.index_of(key) for key in (2**63, 2**63 + 1, 5)] == [1, 0, 2]
    with pytest.raises(KeyError, match="must be one of the 3 ids="):
        keep.index_of(-1)


@pytest.mark.parametrize("identity", [1.9, 2.0, 2.0**53 + 1, b"5", True, np.bool_(True), None])
@pytest.mark.parametrize("known", [{"n": 9}, {"ids": [2**53, 5, 2, 1, 0]}])
def test_an_id_is_never_made_an_integer(identity, known):
    keep = KeepSet("id", **known)
    for look_up in (keep.index_of, keep, lambda one: keep.indices_of([one])):
        with pytest.raises(TypeError, match=r"the 'id' of a row must be .* integer.*, got "):
            look_up(identity)


def test_integers_of_any_type_are_ids():
    keep = KeepSet("id", ids=[2**53, 5])
    for five in (5, np.int8(5), np.uint64(5), np.array(5), torch.tensor(5)):
        assert keep.index_of(five) == 1
    assert keep.indices_of(np.array([5, 2**53])).tolist() == [1, 0]
    assert keep.indices_of(torch.tensor([5, 2**53])).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "needs n=, .* or ids=, .* got none"),
        ({"n": 3, "ids": [1, 2]}, ValueError, "got both"),
        ({"n": 0}, ValueError, "n must be an integer of at least 1, got 0"),
        ({"n": True}, ValueError, "n must be an integer of at least 1, got True"),
        ({"n": 2.5}, ValueError, "n must be an integer of at least 1, got 2.5"),
        ({"ids": ["a", "b", "a"]}, ValueError, "ids must name each sample once, got 'a' twice"),
        ({"ids": np.array([], np.int64)}, ValueError, "got none"),
        ({"ids": [0.5]}, TypeError, "ids must be .* integers or of strings, got float64"),
    ],
)
def test_a_keep_set_needs_unique_ids(arguments, error, message):
    with pytest.raises(error, match=message):
        KeepSet("id", **arguments)


@pytest.mark.parametrize(
    ("row", "keep", "error", "message"),
    [
        ({"id": N}, {"n": N}, KeyError, "'id' of a row must lie in 0..100, got 101"),
        ({"id": "a"}, {"n": N}, TypeError, "must be an integer in 0..100, got 'a'"),
        ({"id": "c"}, {"ids": ["a", "b"]}, KeyError, "must be one of the 2 ids= .* got 'c'"),
        ({"id": 1}, {"ids": ["a", "b"]}, TypeError, "which are strings, got 1"),
        ({"id": "a"}, {"ids": [1, 2]}, TypeError, "which are integers, got 'a'"),
        ({"key": 1}, {"n": N}, TypeError, "a mapping with its id as 'id', got one of .'key'."),
        ((1, 2), {"n": N}, TypeError, "a mapping with its id as 'id', got tuple"),
    ],
)
def test_a_row_without_a_known_id_is_refused(row, keep, error, message):
    stream = stream_of([row], keep=KeepSet("id", **keep), budget=None)
    with pytest.raises(error, match=message):
        next(iter(stream))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"source": iter([])}, TypeError, "an iterator .list_iterator.: pass what made it"),
        ({"source": 3}, TypeError, "source must be iterable, or a function .* got int"),
        ({"shuffle": True}, TypeError, "PrunedStream has no option shuffle: besides its own"),
        ({"keep": "id"}, TypeError, "keep must be a KeepSet.* got str"),
        ({"batch_size": 0}, ValueError, "batch_size must be an integer of at least 1, got 0"),
    ],
)
def test_arguments_are_checked(options, error, message):
    with pytest.raises(error, match=message):
        stream_of(**options)


def test_a_keep_set_serves_one_stream_at_a_time():
    keep = KeepSet("id", n=N)
    stream = stream_of(keep=keep)
    with pytest.raises(ValueError, match="keep must be a KeepSet of this stream alone"):
        stream_of(keep=keep)
    walk(stream)
    del stream
    walk(stream_of(keep=keep))


def test_a_stream_that_was_dropped_frees_its_keep_set_in_a_cycle_too():
    keep = KeepSet("id", n=N)
    stream = stream_of(keep=keep)
    stream.listener = stream
    del stream
    walk(stream_of(keep=keep))


def test_a_stream_that_was_refused_leaves_its_keep_set_free():
    keep = KeepSet("id", n=N)
    with pytest.raises(ValueError, match="epochs") as refused:
        stream_of(keep=keep, epochs=0)
    walk(stream_of(keep=keep))
    assert refused.tb is not None


# Streams that hold other samples than were promised.


def test_samples_that_are_missing_are_stood_in_for_and_told(caplog):
    stream = stream_of(Rows(range(0, N, 2)), budget=0.4)
    with caplog.at_level(logging.WARNING):
        (batches,) = walk(stream)
    assert len(flat(batches)) == len(set(flat(batches))) == 40
    assert "planned samples did not come, and others replaced them" in caplog.text
    assert stream.figures[0]["filled"] > 0 == stream.figures[0]["repeated"]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("policy", ["Full", "Random"])
def test_without_a_budget_too_missing_samples_are_stood_in_for_and_told(policy, workers, caplog):
    source = hugging_face().filter(lambda row: row["id"] % 2 == 0)
    stream = stream_of(source, policy, budget=None, num_workers=workers)
    plan, length = plan_of(stream), len(stream)
    with caplog.at_level(logging.WARNING):
        (batches,) = walk(stream)
    assert [len(batch) for batch in batches] == [BATCH] * length
    assert set(flat(batches)) <= set(range(0, N, 2))
    missing = sum(sample % 2 for sample in plan)
    assert f"epoch 0: {missing} of the {len(plan)} planned samples did not come" in caplog.text
    (figures,) = stream.figures
    assert figures["missing"] == missing
    assert figures["filled"] == len(set(flat(batches)) - set(plan))
    assert figures["repeated"] == length * BATCH - len(set(flat(batches)))


def test_what_is_missing_from_the_rest_of_an_epoch_is_told_after_a_resume(caplog):
    stream = stream_of(Rows(range(0, N, 2)), "Full", budget=None)
    for batch in stream:
        stream.update(batch["value"])
        break
    resumed = stream_of(Rows(range(0, N, 2)), "Full", budget=None)
    resumed.load_state_dict(stream.state_dict())
    with caplog.at_level(logging.WARNING):
        walk(resumed)
    assert resumed.figures[0]["missing"] == N // 2
    assert "planned samples did not come" in caplog.text


@pytest.mark.parametrize("resumed", [False, True])
def test_a_sample_that_fills_a_batch_once_more_is_told(resumed):
    """Of eight samples one does not come, and one of the others takes its place."""

    def made():
        keep = KeepSet("id", n=8)
        rows = Rows([0, 1, 2, 3, 4, 5, 6])
        return PrunedStream(rows, "Full", keep=keep, epochs=1, batch_size=2 if resumed else 8)

    stream = made()
    if resumed:
        for at, batch in enumerate(stream):
            stream.update(batch["value"])
            if at == 1:
                break
        first, stream = stream, made()
        stream.load_state_dict(first.state_dict())
    for batch in stream:
        stream.update(batch["value"])
    (figures,) = stream.figures
    assert (figures["missing"], figures["filled"], figures["repeated"]) == (1, 0, 1)


@pytest.mark.parametrize("budget", [None, 0.6])
def test_of_a_stream_that_holds_all_nothing_is_missing(budget, caplog):
    stream = stream_of(hugging_face().shuffle(seed=0, buffer_size=16), budget=budget)
    with caplog.at_level(logging.WARNING):
        walk(stream, EPOCHS)
    assert [row["missing"] for row in stream.figures] == [0] * EPOCHS
    assert "did not come" not in caplog.text and "once more" not in caplog.text


def test_of_an_epoch_that_is_broken_off_nothing_is_called_missing(caplog):
    stream = stream_of(Rows(), "Full", budget=None)
    for batch in stream:
        stream.update(batch["value"])
        break
    with caplog.at_level(logging.WARNING):
        stream.end_epoch()
    assert not caplog.text


def test_a_stream_that_is_too_small_repeats_samples_and_says_so(caplog):
    stream = stream_of(Rows(range(20)), budget=0.4)
    with caplog.at_level(logging.WARNING):
        (batches,) = walk(stream)
    assert len(flat(batches)) == 40 and set(flat(batches)) == set(range(20))
    assert "epoch 0: 20 of 40 samples were trained once more" in caplog.text


def test_an_empty_stream_is_an_error():
    with pytest.raises(RuntimeError, match="the source gave no samples in epoch 0: check that"):
        walk(stream_of(Rows([])))


# Going on.


def cut(source, at, **options):
    """Trains one epoch and `at` batches of the next; returns the state and these batches."""
    stream = stream_of(source, **options)
    walk(stream)
    head = []
    for batch in stream:
        stream.update(batch["id"].float() / 16 + stream.epoch)
        head.append(batch["id"].tolist())
        if len(head) == at:
            break
    file = io.BytesIO()
    torch.save(stream.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True), head


def test_a_run_goes_on_in_mid_epoch_exactly_where_the_stream_comes_in_the_same_order():
    """HF's own buffer is seeded, and the filter comes after it."""
    for make in (hugging_face, lambda: hugging_face().shuffle(seed=0, buffer_size=16)):
        straight = stream_of(make())
        unbroken = walk(straight, EPOCHS)
        state, head = cut(make(), 3)
        resumed = stream_of(make())
        resumed.load_state_dict(state)
        assert resumed.progress == pytest.approx((1 + 3 / 8) / EPOCHS)
        assert [head + walk(resumed)[0], *walk(resumed)] == unbroken[1:]
        assert np.array_equal(resumed.pruner.losses, straight.pruner.losses, equal_nan=True)
        assert resumed.figures == straight.figures


def test_behind_a_shuffle_buffer_the_rest_of_an_epoch_is_complete_and_a_warning_is_logged(caplog):
    def make(keep):
        return hugging_face().filter(keep, input_columns=["id"]).shuffle(seed=0, buffer_size=16)

    keep = KeepSet("id", n=N)
    state, head = cut(make(keep), 3, keep=keep)
    resumed = stream_of(make(again := KeepSet("id", n=N)), keep=again)
    with caplog.at_level(logging.WARNING):
        resumed.load_state_dict(state)
    assert "a shuffle buffer yields its rows in the same order only if" in caplog.text
    plan = plan_of(resumed)
    (tail,) = walk(resumed)
    assert sorted(flat(head) + flat(tail)) == sorted(plan)
    assert resumed.pruner.history[1]["trained"] == len(plan)


def test_between_epochs_nothing_is_to_be_warned_of(caplog):
    stream = stream_of(hugging_face().shuffle(seed=0))
    walk(stream)
    state = stream.state_dict()
    with caplog.at_level(logging.WARNING):
        stream_of(hugging_face().shuffle(seed=0)).load_state_dict(state)
    assert not caplog.text


def test_batches_not_answered_are_given_out_again():
    stream = stream_of()
    batches = iter(stream)
    first = next(batches)
    stream.update(first["value"].float())
    second = next(batches)
    resumed = stream_of()
    resumed.load_state_dict(stream.state_dict())
    assert torch.equal(next(iter(resumed))["id"], second["id"])


KEYS = [f"key{i:03}" for i in range(N)]


def by_key(ids, **options):
    rows = [{"key": key, "value": float(at)} for at, key in enumerate(KEYS)]
    collate = torch.utils.data.default_collate
    return stream_of(rows, keep=KeepSet("key", ids=ids), collate_fn=collate, **options)


def state_by_key(ids, epochs=1):
    stream = by_key(ids)
    for _ in range(epochs):
        for batch in stream:
            stream.update(batch["value"])
    return stream.state_dict()


def test_a_state_of_ids_in_another_order_is_refused():
    state = state_by_key(KEYS)
    stream = by_key(KEYS[::-1])
    with pytest.raises(ValueError, match=r"saved with ids=.*ids=sorted\(ids\).*changed=..ids..\)"):
        stream.load_state_dict(state)
    assert np.isnan(stream.pruner.losses).all()
    stream.load_state_dict(state, changed=["ids"])
    assert not np.isnan(stream.pruner.losses).all()


def test_a_state_of_the_same_ids_is_taken_whatever_holds_them():
    for ids, others in ((KEYS, np.array(KEYS, "<U40")), (range(9, 9 + N), np.arange(9, 9 + N))):
        own, other = KeepSet("key", ids=ids), KeepSet("key", ids=others)
        stream_of(keep=own).load_state_dict(stream_of(keep=other).state_dict())
    numbers = np.arange(N)
    for kind in (np.int32, np.uint64, ">i8"):
        own, other = KeepSet("key", ids=numbers), KeepSet("key", ids=numbers.astype(kind))
        stream_of(keep=own).load_state_dict(stream_of(keep=other).state_dict())


def test_ids_that_were_added_at_the_end_are_a_change_of_n_alone():
    state = state_by_key(KEYS)
    grown = [*KEYS, "a much longer key"]
    by_key(grown).load_state_dict(state, changed=["n"])
    with pytest.raises(ValueError, match="saved with n=101"):
        by_key(grown).load_state_dict(state)
    with pytest.raises(ValueError, match="saved with ids="):
        by_key(["a much longer key", *KEYS]).load_state_dict(state, changed=["n"])
    with pytest.raises(ValueError, match="saved with ids="):
        by_key(KEYS[:-1]).load_state_dict(state, changed=["n"])
    by_key(KEYS[:-1]).load_state_dict(state, changed=iter(["n", "ids"]))


def test_a_state_of_something_else_is_refused():
    with pytest.raises(ValueError, match="not a state of a PrunedStream: its format must be"):
        stream_of().load_state_dict({"pruner": 1})
    state = stream_of(seed=1).state_dict()
    with pytest.raises(ValueError, match="seed=1"):
        stream_of().load_state_dict(state)
    stream_of().load_state_dict(state, changed=["seed"])


# webdataset.


def write_shards(folder, n, shards=4):
    for shard in range(shards):
        with webdataset.TarWriter(str(folder / f"{shard}.tar")) as tar:
            for i in range(shard, n, shards):
                tar.write({"__key__": f"key{i}", "cls": i})
    return sorted(str(path) for path in folder.glob("*.tar"))


@pytest.mark.parametrize("workers", [0, 2])
def test_webdataset_by_key(workers, tmp_path):
    keep = KeepSet("__key__", ids=[f"key{i}" for i in range(N)])
    rows = webdataset.WebDataset(write_shards(tmp_path, N), shardshuffle=4).shuffle(16)
    stream = stream_of(
        rows.select(keep).decode(), keep=keep, collate_fn=rows_of_tar, num_workers=workers
    )
    for _ in range(EPOCHS):
        plan = plan_of(stream)
        (batches,) = walk(stream)
        assert sorted(flat(batches)) == sorted(plan)


def rows_of_tar(rows):
    ids = torch.tensor([row["cls"] for row in rows])
    assert [row["__key__"] for row in rows] == [f"key{i}" for i in ids.tolist()]
    return {"id": ids, "value": ids}


def test_webdataset_decodes_kept_samples_only_and_its_buffer_is_seen(tmp_path, caplog):
    decoded = []
    keep = KeepSet("__key__", ids=[f"key{i}" for i in range(N)])
    rows = webdataset.WebDataset(write_shards(tmp_path, N), shardshuffle=False)
    rows = rows.select(keep).map(lambda row: decoded.append(row["__key__"]) or row).decode()
    stream = stream_of(rows, keep=keep, collate_fn=rows_of_tar)
    (batches,) = walk(stream)
    assert decoded == [f"key{i}" for i in flat(batches)]
    stream.update(next(iter(stream))["value"].float())
    state = stream.state_dict()
    del stream
    with caplog.at_level(logging.WARNING):
        stream_of(rows, keep=keep).load_state_dict(state)
        assert not caplog.text
        stream_of(rows.shuffle(8), keep=keep).load_state_dict(state)
        assert "shuffle buffer" in caplog.text


# Two processes.


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes saw in each scenario of `stream_parts.py`."""
    folder = tmp_path_factory.mktemp("streams")
    write_shards(folder, 203)
    processes = [
        subprocess.Popen(
            [sys.executable, HERE / "stream_parts.py", str(rank), "2", folder],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        logs = [process.communicate(timeout=600)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], logs
    found = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]
    return {name: [one[name] for one in found] for name in found[0]} | {"folder": folder}


EXACT = ["whole", "whole, free"]
PARTS = ["parts", "workers", "webdataset", "parts, free", "parts, all", "unbroken", "resumed"]
ANY = [*PARTS, "too small", *EXACT]


@pytest.mark.parametrize("name", ANY)
def test_trap_3_ranks_give_equally_many_batches_whatever_their_parts_hold(two, name):
    first, second = two[name]
    for one, other in zip(first["epochs"], second["epochs"], strict=True):
        assert one["batches"] == other["batches"]
        assert one["batches"] + len(one.get("before", [])) // 8 == one["planned"]
    if "total" in first:
        assert sum(one["batches"] for one in first["epochs"]) == first["total"]


@pytest.mark.parametrize("name", ANY)
def test_in_two_processes_batches_are_full_but_the_last_of_an_epoch_that_keeps_all(two, name):
    for report in two[name]:
        for epoch in report["epochs"]:
            *sizes, last = epoch["sizes"]
            assert set(sizes) <= {8}
            assert last == 8 or (last == 203 // 2 % 8 and len(epoch["plan"]) == 203)


@pytest.mark.parametrize("name", ANY)
def test_in_two_processes_losses_belong_to_their_samples(two, name):
    first, second = two[name]
    assert first["wrong"] == 0
    assert first["losses"] == second["losses"]
    assert first["figures"] == second["figures"]


@pytest.mark.parametrize("name", [name for name in ANY if name != "too small"])
def test_in_two_processes_no_sample_is_trained_twice_and_the_plan_is_filled(two, name):
    first, second = two[name]
    for at, (one, other) in enumerate(zip(first["epochs"], second["epochs"], strict=True)):
        taken = chain(*(part.get(k, []) for part in (one, other) for k in ("before", "taken")))
        taken = list(taken)
        assert one["plan"] == other["plan"]
        assert len(taken) == len(set(taken)) == len(one["plan"]) // 2 * 2
        assert len(taken) == first["trained"][at]
        outside = len(set(taken) - set(one["plan"]))
        assert outside == first["figures"][at]["filled"]
        assert first["figures"][at]["repeated"] == 0
        if name in EXACT:
            assert set(taken) == set(one["plan"][: len(taken)])


def test_parts_that_hold_too_little_of_the_plan_fill_up(two):
    assert sum(row["filled"] for row in two["parts"][0]["figures"]) > 0


def test_a_part_that_is_too_small_repeats_samples_instead_of_letting_others_wait(two):
    for report in two["too small"]:
        assert [row["repeated"] > 0 for row in report["figures"]] == [True, True]
        assert "samples were trained once more, since a rank's part" in report["warnings"][0]
    assert two["too small"][0]["readings"] < two["too small"][1]["readings"]


@pytest.mark.parametrize("name", ["missing, parts", "missing, whole", "one is missing"])
def test_ranks_are_told_of_what_is_missing(two, name):
    """Of parts in the first epoch, which is read to its end on each rank."""
    there = range(1, 203) if name == "one is missing" else range(0, 203, 2)
    for report in two[name]:
        for epoch, figures in enumerate(report["figures"]):
            plan = report["epochs"][epoch]["plan"]
            plan = plan if name == "missing, parts" else plan[: len(plan) // 16 * 16]
            missing = set(plan) - set(there)
            if epoch == 0 or name != "missing, parts":
                assert figures["missing"] == len(missing)
                assert not missing or any(
                    f"epoch {epoch}: {len(missing)} of the" in told for told in report["warnings"]
                )


def test_ranks_that_read_the_same_part_are_told(two):
    for message in two["unsplit"]:
        assert "samples were trained on two ranks in epoch 0" in message


@pytest.mark.parametrize("name", ["ids", "split", "batch_size", "n"])
def test_ranks_that_do_not_agree_are_refused_by_name_when_the_stream_is_made(two, name):
    for message in two[f"another {name}"]:
        if name in ("ids", "split"):
            assert (
                f"{name} must be the same on all ranks, got something else on process 1" in message
            )
        else:
            assert "do not agree: process" in message and f" has {name}=" in message


def test_ranks_whose_ids_come_in_another_order_are_told_what_to_do(two):
    for message in two["another ids"]:
        assert "in the same order" in message and "ids=sorted(ids)" in message


def test_several_ranks_have_to_say_what_they_read(two):
    assert "split must be given, since 2 ranks train together" in two["split not said"][0]


def test_two_processes_go_on_in_mid_epoch_exactly(two):
    for straight, resumed in zip(two["unbroken"], two["resumed"], strict=True):
        for one, other in zip(straight["epochs"], resumed["epochs"], strict=True):
            assert one["taken"] == other.get("before", []) + other["taken"]
        assert straight["losses"] == resumed["losses"]


def test_one_process_goes_on_where_two_stopped(two):
    state = torch.load(two["folder"] / "state.pt", weights_only=True)
    stream = PrunedStream(
        Rows(range(203)), "SeTa", keep=KeepSet("id", n=203), epochs=4, budget=0.6, batch_size=8
    )
    stream.load_state_dict(state)
    before = [part["epochs"][1]["before"] for part in two["resumed"]]
    plan = two["resumed"][0]["epochs"][1]["plan"]
    (batches,) = walk(stream)
    taken = flat(before) + flat(batches)
    assert len(taken) == len(set(taken)) == len(plan)
    assert set(flat(batches)) <= set(plan)


def test_the_example_runs(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["stream_digits.py", "--epochs", "2"])
    runpy.run_path(str(HERE.parents[1] / "examples" / "stream_digits.py"), run_name="__main__")
    assert "SeTa: 40% of the sample visits saved" in capsys.readouterr().out


class Epochs(Rows):
    """Rows that say which epoch their source was told of."""

    epoch = -1

    def __iter__(self):
        return ({"id": i, "value": float(i), "epoch": self.epoch} for i in self.ids)

    def set_epoch(self, epoch):
        self.epoch = epoch


@pytest.mark.parametrize("workers", [{}, {"num_workers": 1, "persistent_workers": True}])
def test_a_source_is_told_each_epoch_where_its_rows_are_read(workers):
    stream = stream_of(Epochs(), split=False, **workers)
    for epoch in range(EPOCHS):
        for batch in stream:
            assert set(batch["epoch"].tolist()) == {epoch}
            stream.update(batch["value"].float())
