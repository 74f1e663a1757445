"""When epochs begin and end, and what a pass may still do afterwards."""

import gc
import multiprocessing
import weakref

import numpy as np
import pytest
import torch

import seta
from seta.torch import PrunedDataLoader, PrunedSampler
from tests.combinations import WORKERS
from tests.torch.helpers import DeviceBuffer, Seeds, Tuples, looked_at, loss_of, samples_of


def make(n=20, policy="Random", *, epochs=4, batch_size=4, **options):
    return PrunedDataLoader(Tuples(n), policy, epochs=epochs, batch_size=batch_size, **options)


def answer(loader, batch):
    return loader.update(loss_of(samples_of(batch), loader.epoch))


def walk(loader):
    """Trains one pass; returns its samples in order."""
    seen = []
    for batch in loader:
        seen.extend(samples_of(batch))
        answer(loader, batch)
    return seen


def epochs_of(loader):
    return [row["epoch"] for row in loader.pruner.history]


def test_each_pass_is_an_epoch_and_ends_with_its_last_batch():
    loader = make()
    for epoch in range(4):
        walk(loader)
        assert epochs_of(loader) == list(range(epoch + 1))
        assert loader.pruner.epoch is None


def test_a_pass_follows_the_plan():
    loader = make()
    for _ in range(4):
        plan = loader.pruner.begin_epoch().indices.tolist()
        assert walk(loader) == plan


def test_after_the_run_a_pass_is_refused():
    loader = make(epochs=1)
    walk(loader)
    with pytest.raises(RuntimeError, match=r"all 1 epochs .*epochs=1.*more epochs"):
        next(iter(loader))


def test_a_broken_last_epoch_ends_at_the_next_pass_which_is_refused():
    loader = make(epochs=1)
    answer(loader, next(iter(loader)))
    with pytest.raises(RuntimeError, match="are over"):
        next(iter(loader))
    assert loader.pruner.history[0]["trained"] == 4


def test_a_pass_without_a_batch_taken_begins_no_other_epoch():
    loader = make()
    iter(loader)
    iter(loader)
    assert loader.epoch == 0
    walk(loader)
    assert epochs_of(loader) == [0]


def test_a_break_ends_the_epoch_at_the_next_pass():
    loader = make()
    for batch in loader:
        answer(loader, batch)
        break
    assert loader.pruner.epoch == 0
    iter(loader)
    assert loader.pruner.epoch == 1
    assert loader.pruner.history[0]["trained"] == 4


def test_an_epoch_with_an_unanswered_batch_stays_open(caplog):
    loader = make(with_indices=True)
    for at, (indices, _) in enumerate(loader):
        if at != 1:
            loader.update(indices.float(), indices=indices)
    assert loader.pruner.epoch == 0  # it may be answered yet
    for indices, _ in loader:
        loader.update(indices.float(), indices=indices)
    assert epochs_of(loader) == [0, 1]
    assert "1 of 4 batches of epoch 0 were given out" in caplog.text


def test_end_epoch_returns_the_row_of_a_broken_epoch():
    loader = make()
    answer(loader, next(iter(loader)))
    row = loader.end_epoch()
    assert (row["epoch"], row["trained"]) == (0, 4)
    assert loader.end_epoch() == row


def test_end_epoch_after_a_whole_pass_returns_its_row():
    loader = make()
    walk(loader)
    assert loader.end_epoch() == loader.pruner.history[0]
    assert len(loader.pruner.history) == 1


def test_end_epoch_before_any_epoch_is_refused():
    with pytest.raises(RuntimeError, match="none has begun"):
        make().end_epoch()


def test_set_epoch_names_the_epoch_of_the_next_pass():
    loader = make()
    loader.set_epoch(2)
    loader.set_epoch(2)
    assert loader.epoch == 2
    walk(loader)
    assert epochs_of(loader) == [2]
    loader.set_epoch(3)
    walk(loader)
    assert epochs_of(loader) == [2, 3]


def test_set_epoch_of_the_open_epoch_walks_it_again():
    loader = make()
    batches = iter(loader)
    first = [samples_of(next(batches)).tolist() for _ in range(3)]
    loader.set_epoch(0)
    assert walk(loader)[: 3 * 4] == [s for batch in first for s in batch]


def test_set_epoch_ends_another_open_epoch():
    loader = make()
    answer(loader, next(iter(loader)))
    loader.set_epoch(1)
    assert epochs_of(loader) == [0]
    assert loader.epoch == 1


@pytest.mark.parametrize("epoch, message", [(4, "beyond the run"), (0, "is over")])
def test_set_epoch_refuses_epochs_that_are_none(epoch, message):
    loader = make()
    walk(loader)
    loader.set_epoch(1)
    with pytest.raises(ValueError, match=message):
        loader.set_epoch(epoch)
    assert loader.epoch == 1


def test_set_epoch_on_the_sampler_is_that_of_the_loader():
    loader = make()
    answer(loader, next(iter(loader)))
    loader.sampler.set_epoch(0)
    assert walk(loader) and epochs_of(loader) == [0]
    loader.sampler.set_epoch(2)
    walk(loader)
    assert epochs_of(loader) == [0, 2]


def test_len_and_epoch_change_nothing():
    loader = make(policy="InfoBatch")
    for epoch in range(4):
        assert loader.epoch == epoch
        assert len(loader) == len(loader) == -(-len(loader.sampler) // 4)
        assert loader.epoch == epoch
        kept = len(loader.sampler)
        assert len(walk(loader)) == kept
    assert loader.epoch == 3
    assert len(loader.sampler) == kept
    assert len(loader) == -(-kept // 4)


def test_len_counts_whole_batches_with_drop_last():
    assert len(make(10, "Full", drop_last=True)) == 2
    assert len(make(10, "Full")) == 3


def test_a_dataset_shorter_than_a_dropped_batch_is_refused():
    with pytest.raises(
        ValueError, match="whole global batch with drop_last=True, got batch_size=4"
    ):
        make(3, "Full", drop_last=True)


def test_a_dataset_shorter_than_a_batch_is_one_batch():
    loader = make(3, "Random", epochs=2)
    assert [sorted(walk(loader)), sorted(walk(loader))] == [[0, 1, 2]] * 2


def test_a_newer_pass_makes_the_older_one_fail():
    loader = make()
    older = iter(loader)
    next(older)
    newer = iter(loader)
    with pytest.raises(RuntimeError, match=r"epoch 0 that has ended.*one pass at a time"):
        next(older)
    answer(loader, next(newer))


@pytest.mark.parametrize(
    "end",
    [
        lambda loader: loader.set_epoch(1),
        lambda loader: loader.sampler.set_epoch(1),
        lambda loader: loader.end_epoch(),
        lambda loader: loader.pruner.end_epoch(),
        lambda loader: loader.load_state_dict(loader.state_dict()),
    ],
)
def test_a_pass_whose_epoch_was_ended_fails(end):
    loader = make()
    batches = iter(loader)
    answer(loader, next(batches))
    end(loader)
    with pytest.raises(RuntimeError, match="has ended"):
        next(batches)


def test_a_pass_that_came_to_its_end_stays_there():
    loader = make()
    batches = iter(loader)
    assert iter(batches) is batches
    for batch in batches:
        answer(loader, batch)
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(batches)


def test_a_new_pass_forgets_unanswered_batches():
    loader = make()
    next(iter(loader))
    answer(loader, next(iter(loader)))
    assert loader.pruner.history == []


def test_an_error_in_the_dataset_comes_through_and_the_pass_goes_on():
    class Broken(Tuples):
        def __getitem__(self, index):
            if index == 3:
                raise KeyError("no sample 3")
            return super().__getitem__(index)

    loader = PrunedDataLoader(Broken(8), "Full", epochs=1)
    batches, seen = iter(loader), []
    for _ in range(8):
        try:
            batch = next(batches)
        except KeyError:
            continue
        seen.extend(samples_of(batch))
        answer(loader, batch)
    assert sorted(seen) == [0, 1, 2, 4, 5, 6, 7]


def test_rows_go_to_on_epoch():
    rows = []
    loader = make(on_epoch=rows.append)
    walk(loader)
    walk(loader)
    assert rows == loader.pruner.history


def test_arguments_reach_the_pruner():
    warm = np.linspace(0, 1, 20, dtype=np.float32)
    loader = make(
        policy=seta.Random(0.5),
        always_keep=[3, 7],
        losses=warm,
        reorder=np.sort,
        count_kept=True,
        seed=5,
    )
    np.testing.assert_array_equal(loader.pruner.losses, warm)
    seen = walk(loader)
    assert seen == sorted(seen)
    assert {3, 7} <= set(seen)
    assert loader.pruner.seed == 5
    assert loader.pruner.kept_counts.sum() == len(seen)


def test_state_goes_on_with_the_next_epoch():
    straight, broken = make(policy="SeTa"), make(policy="SeTa")
    for _ in range(2):
        assert walk(straight) == walk(broken)
    resumed = make(policy="SeTa")
    resumed.load_state_dict(broken.state_dict())
    for _ in range(2):
        assert walk(resumed) == walk(straight)
    assert epochs_of(resumed) == [0, 1, 2, 3]


def test_a_loaded_epoch_is_walked_though_it_is_the_one_that_was_open():
    loader = make()
    state = loader.state_dict()
    loader.set_epoch(0)
    opened = loader.state_dict()
    answer(loader, next(iter(loader)))
    loader.load_state_dict(opened)
    assert len(walk(loader)) == len(make().sampler)
    loader.load_state_dict(state)
    walk(loader)
    assert epochs_of(loader) == [0]


@pytest.mark.parametrize("state", [{"losses": 1}, 3])
def test_a_state_of_something_else_is_refused(state):
    with pytest.raises(ValueError, match="not a state of a PrunedDataLoader: its format must be"):
        make().load_state_dict(state)


def test_a_state_of_another_dataset_is_refused():
    with pytest.raises(ValueError, match="n=20"):
        make(21).load_state_dict(make(20).state_dict())


@pytest.mark.processes
@pytest.mark.parametrize("persistent", [False, True])
def test_seeds_of_workers_follow_from_seed_and_epoch(persistent):
    def seeds(seed, epoch, num_workers=2):
        loader = PrunedDataLoader(
            Seeds(16),
            "Full",
            epochs=4,
            seed=seed,
            batch_size=4,
            num_workers=num_workers,
            persistent_workers=persistent,
        )
        loader.set_epoch(epoch)
        return [(worker.tolist(), draws.tolist()) for _, worker, draws in looked_at(loader)]

    torch.manual_seed(1)
    first = seeds(0, 2)
    torch.manual_seed(2)
    assert seeds(0, 2) == first
    assert seeds(0, 1) != first
    assert seeds(1, 2) != first


def test_a_generator_of_the_users_own_is_left_to_the_user():
    generator = torch.Generator().manual_seed(7)
    loader = make(generator=generator)
    iter(loader)
    other = torch.Generator().manual_seed(7)
    torch.empty((), dtype=torch.int64).random_(generator=other)
    assert torch.equal(generator.get_state(), other.get_state())


@pytest.mark.processes
def test_a_loader_and_its_workers_end_with_the_last_reference():
    others = set(multiprocessing.active_children())  # of tests before, still ending
    loader = make(num_workers=2, persistent_workers=True)
    batches = iter(loader)
    next(batches)
    assert len(set(multiprocessing.active_children()) - others) == 2
    gone = weakref.ref(loader)
    gc.collect()
    gc.disable()
    try:
        del loader, batches
        assert gone() is None
        assert not set(multiprocessing.active_children()) - others
    finally:
        gc.enable()


def test_the_sampler_stands_alone_before_a_pruner():
    pruner = seta.Pruner(10, "Random", epochs=2)
    sampler = PrunedSampler(pruner)
    loader = torch.utils.data.DataLoader(range(10), batch_size=4, sampler=sampler)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        plan = pruner.begin_epoch(epoch).indices.tolist()
        assert list(sampler) == list(sampler) == plan
        assert torch.cat(list(loader)).tolist() == plan
        assert len(sampler) == len(plan)
        assert all(type(index) is int for index in sampler)
    assert not hasattr(sampler, "state_dict")


# An epoch of which no batch was answered has not begun.


@pytest.mark.parametrize("num_workers", WORKERS)
def test_looking_at_batches_uses_no_epoch_up(num_workers):
    loader = make(num_workers=num_workers)
    for epoch in range(4):
        first = [samples_of(next(iter(loader))).tolist() for _ in range(2)]
        plan = loader.pruner.begin_epoch().indices.tolist()
        assert first == [plan[:4], plan[:4]]
        assert walk(loader) == plan
        assert epochs_of(loader) == list(range(epoch + 1))


def test_an_epoch_that_was_looked_at_is_forgotten_by_the_next_that_is_named():
    loader = make(count_kept=True)
    for epoch in range(3):
        loader.set_epoch(epoch)
        next(iter(loader))
    walk(loader)
    assert epochs_of(loader) == [2]
    kept = loader.pruner.history[0]["kept"]
    assert loader.pruner.kept_counts.sum() == kept
    assert loader.end_epoch()["epoch"] == 2


def test_a_state_saved_after_a_look_begins_the_epoch():
    loader, other = make(), make()
    walk(loader)
    next(iter(loader))
    other.load_state_dict(loader.state_dict())
    plan = loader.pruner.selection.indices.tolist()
    next(iter(other))
    assert walk(other) == walk(loader) == plan


def test_an_epoch_ended_by_others_is_not_ended_once_more():
    loader = make()
    answer(loader, next(iter(loader)))
    loader.pruner.begin_epoch(1)
    with pytest.raises(RuntimeError, match="there is none"):
        loader.update(torch.ones(4))
    assert walk(loader) and epochs_of(loader) == [0, 1]


def test_an_epoch_that_is_refused_changes_nothing():
    loader = make()
    batches = iter(loader)
    batch = next(batches)
    for epoch in (4, -1):
        with pytest.raises(ValueError, match="epoch"):
            loader.set_epoch(epoch)
    answer(loader, batch)
    for batch in batches:
        answer(loader, batch)
    assert loader.pruner.history[0]["trained"] == loader.pruner.history[0]["kept"]


FORGOTTEN = (
    r"none of the 4 batches of epoch 0 was answered.*loader.update\(losses\).*loader.skip\(\)"
)


def test_a_pass_of_which_no_batch_is_answered_is_an_error_and_can_be_walked_again():
    loader = make()
    with pytest.raises(RuntimeError, match=FORGOTTEN):
        for _ in loader:
            pass
    assert len(walk(loader)) == 16
    assert epochs_of(loader) == [0]


@pytest.mark.parametrize(
    "go_on", [iter, lambda loader: loader.set_epoch(1), lambda loader: loader.end_epoch()]
)
def test_where_answers_may_come_late_the_error_comes_with_the_next_epoch(go_on):
    loader = make(with_indices=True)
    batches = list(loader)
    with pytest.raises(RuntimeError, match=FORGOTTEN):
        go_on(loader)
    batches = list(loader)
    for indices, _ in batches:
        loader.update(indices.float(), indices=indices)
    loader.end_epoch()
    assert loader.pruner.history[0]["trained"] == 16


def by_count(loader):
    """Takes all batches of an epoch, without asking for its end, as Keras and ignite do."""
    batches = iter(loader)
    return [next(batches) for _ in range(len(loader))]


@pytest.mark.parametrize("num_workers", WORKERS)
def test_batches_taken_by_count_are_missed_too_and_cost_no_epoch(num_workers):
    loader = make(num_workers=num_workers)
    for epoch in range(4):
        by_count(loader)
        with pytest.raises(RuntimeError, match=f"none of the 4 batches of epoch {epoch} was ans"):
            iter(loader)
        walk(loader)
    assert epochs_of(loader) == [0, 1, 2, 3]


def test_the_one_batch_of_a_small_dataset_may_be_looked_at():
    loader = make(n=4)
    for _ in range(2):
        by_count(loader)
    assert len(walk(loader)) == 4


def test_an_iterator_after_the_run_may_be_made_but_not_used():
    loader = make(epochs=1)
    walk(loader)
    over = iter(loader)
    with pytest.raises(RuntimeError, match="are over"):
        next(over)


def test_skipped_batches_are_answered():
    loader = make()
    for _ in range(2):
        assert len(list(looked_at(loader))) == 4
    assert [row["trained"] for row in loader.pruner.history] == [0, 0]


def test_taking_exactly_as_many_batches_as_there_are_ends_the_last_epoch():
    rows = []
    loader = make(epochs=2, on_epoch=rows.append)
    for _ in range(2):
        batches = iter(loader)
        for _ in range(len(loader)):
            answer(loader, next(batches))
    assert epochs_of(loader) == [0, 1] == [row["epoch"] for row in rows]
    with pytest.raises(StopIteration):
        next(batches)


def test_an_engine_that_fixes_the_batches_of_an_epoch_is_told_what_it_needs():
    def ignite(loader, epochs):
        """Draws `epoch_length` batches for each epoch, and a new iterator where one ends."""
        epoch_length, batches = len(loader), iter(loader)
        for _ in range(epochs * epoch_length):
            try:
                batch = next(batches)
            except StopIteration:
                batches = iter(loader)
                batch = next(batches)
            answer(loader, batch)

    with pytest.raises(RuntimeError, match=r"all 4 epochs .*epoch_length.*give budget="):
        ignite(make(policy="InfoBatch", n=40, losses=np.arange(40.0) ** 2, seed=3), 40)
    loader = make(n=40, budget=0.5)
    ignite(loader, 4)
    assert epochs_of(loader) == [0, 1, 2, 3]


def test_the_sampler_alone_ends_an_epoch_with_the_losses_that_wait():
    pruner = seta.Pruner(10, "Full", epochs=2)
    sampler, buffer = PrunedSampler(pruner), DeviceBuffer(pruner)
    sampler.set_epoch(0)
    buffer.add(np.arange(6), torch.arange(6.0))
    sampler.set_epoch(1)
    assert pruner.history[0]["trained"] == 6
    assert pruner.losses[:6].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_last_batch_that_was_left_out_without_a_word_keeps_no_epoch_open(caplog):
    loader = make(epochs=2)
    for _ in range(2):
        for at, batch in enumerate(loader):
            if at < len(loader) - 1:
                answer(loader, batch)
    assert epochs_of(loader) == [0, 1]
    assert "1 of 4 batches of epoch 1 were given out and neither answered" in caplog.text


def test_a_run_whose_last_epoch_was_forgotten_says_so_where_it_is_looked_at():
    loader = make(epochs=1, with_indices=True)
    list(loader)
    with pytest.raises(RuntimeError, match="none of the 4 batches of epoch 0 was answered"):
        _ = loader.pruner


def test_a_look_at_the_pruner_between_two_updates_ends_nothing():
    loader = make(epochs=1, with_indices=True)
    for indices, _ in loader:
        for part in (indices[:2], indices[2:], indices):
            loader.update(part.float(), indices=part)
            assert loader.pruner.epoch == 0
    assert loader.pruner.history[0]["trained"] == loader.pruner.history[0]["kept"]


def test_a_loader_says_in_a_line_what_it_is():
    assert repr(make()).startswith("PrunedDataLoader(batches of ")
    assert "Pruner(" in repr(make()) and "to come" in repr(make())


def test_a_pass_left_with_a_batch_in_hand_is_warned_of_once(caplog):
    loader = make(policy="Full")
    for _ in range(3):
        for batch, _ in zip(loader, range(2), strict=False):  # takes a third
            answer(loader, batch)
    loader.end_epoch()
    (record,) = caplog.records
    assert "the pass over epoch 0 was left after 3 batches, the last of which" in record.message
    assert [row["trained"] for row in loader.pruner.history] == [8, 8, 8]


@pytest.mark.parametrize("left", ["by a break", "before any was answered"])
def test_a_pass_left_with_no_batch_in_hand_is_not_warned_of(left, caplog):
    loader = make(policy="Full")
    for batch in loader:
        if left == "by a break":
            answer(loader, batch)
        break
    walk(loader)
    assert not caplog.records


def test_a_dataset_that_grew_is_refused_until_the_pruner_knows():
    rows = [Tuples(12)[index] for index in range(8)]
    loader = PrunedDataLoader(rows, "Full", epochs=2, batch_size=4)
    assert len(walk(loader)) == 8
    rows.extend(Tuples(12)[index] for index in range(8, 12))
    with pytest.raises(RuntimeError, match=r"dataset has 12 samples, and had 8 before: .*resize"):
        iter(loader)
    loader.pruner.resize(12)
    assert sorted(walk(loader)) == list(range(12))


def test_an_engine_that_takes_the_first_length_for_all_is_warned_of_once(caplog):
    loader = make(budget=[0.6, 1.0, 1.0, 1.0])
    for _ in range(4):
        for _, batch in zip(range(3), loader, strict=False):  # the length of the first epoch
            answer(loader, batch)
    loader.end_epoch()
    (record,) = [one for one in caplog.records if "as many as the first pass" in one.message]
    assert "the pass over epoch 1 was left after 3 batches" in record.message


@pytest.mark.parametrize("taken", [2, 3, 5])
def test_no_length_is_taken_for_a_cut_where_the_loop_has_its_own(caplog, taken):
    loader = make(budget=[1.0, 0.6, 1.0, 0.6])
    for _ in range(4):
        for _, batch in zip(range(taken), loader, strict=False):
            answer(loader, batch)
    loader.end_epoch()
    assert not [one for one in caplog.records if "as many as the first pass" in one.message]


def test_a_log_of_the_pruner_ends_no_epoch_before_its_last_losses():
    """One batch is taken ahead, and the pruner read between a batch and its losses."""
    loader = make(epochs=2, with_indices=True, budget=0.6)
    for _ in range(2):
        batches = iter(loader)
        held = next(batches)
        while held is not None:
            (indices, batch), held = held, next(batches, None)
            assert 0 <= loader.pruner.saved <= 1
            loader.update(loss_of(samples_of(batch), loader.epoch), indices=indices)
    assert [row["trained"] for row in loader.pruner.history] == [12, 12]


def test_a_log_of_the_pruner_between_parts_of_a_batch_ends_no_epoch():
    loader = make(epochs=2, budget=0.6)
    for epoch in range(2):
        for batch in loader:
            samples = samples_of(batch)
            for part in (samples[:2], samples[2:]):
                loader.update(loss_of(part, epoch), indices=part)
                assert 0 <= loader.pruner.saved <= 1
    assert [row["trained"] for row in loader.pruner.history] == [12, 12]


def test_a_look_at_the_pruner_leaves_the_position_in_the_last_batch_as_it_is():
    """It ends the last epoch; by its position, a loop takes the last optimizer step."""
    loader = make(epochs=2, budget=0.6)
    positions = []
    for _ in range(2):
        for batch in loader:
            answer(loader, batch)
            assert 0 <= loader.pruner.saved <= 1
            positions.append((loader.position, len(loader)))
    assert positions == [(1, 3), (2, 3), (3, 3)] * 2
    assert loader.position == 0
    loader.load_state_dict(make(epochs=2, budget=0.6).state_dict())
    assert loader.position == 0


@pytest.mark.parametrize("with_indices", [False, True])
def test_a_pass_of_which_all_batches_fail_to_load_says_so(with_indices):
    class Bad(Tuples):
        def __getitem__(self, index):
            raise OSError("disk")

    loader = PrunedDataLoader(Bad(20), "Full", epochs=2, batch_size=10, with_indices=with_indices)
    batches = iter(loader)
    for _ in range(2):
        with pytest.raises(OSError, match="disk"):
            next(batches)
    with pytest.raises(RuntimeError, match="all 2 batches of epoch 0 failed to load, .* say why"):
        next(batches)
