"""seta under Accelerate, by itself and in two processes: `accelerate_cases` runs, this compares."""

import copy
import inspect
import math
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("accelerate")

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import find_executable_batch_size

import seta
from seta.integrations.accelerate import PrunedAccelerateLoader
from tests.integrations import accelerate_cases as cases
from tests.integrations.told import Told
from tests.launch import python, torchrun

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORLDS = (1, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where one process has run all cases, and then two."""
    folder = tmp_path_factory.mktemp("accelerate")
    python(HERE / "accelerate_cases.py", folder)
    torchrun(2, HERE / "accelerate_cases.py", folder)
    return folder


@pytest.fixture(scope="module")
def results(folder):
    """By the number of processes: what each of them returned, by case."""
    return {
        world: [
            pickle.loads((folder / f"{world}-{process}.pkl").read_bytes())
            for process in range(world)
        ]
        for world in WORLDS
    }


@pytest.fixture
def case(results, request):
    """A case's results, one per process."""

    def of(name, world):
        found = [result[name] for result in results[world]]
        for one in found:
            assert not isinstance(one, str), one
        return found

    return of


@pytest.fixture
def alone():
    """Accelerate as it is in a fresh process, before and after."""

    def reset():
        GradientState._reset_state()
        AcceleratorState._reset_state(reset_partial_state=True)
        PartialState._reset_state()

    reset()
    yield
    reset()


each_world = pytest.mark.parametrize("world", WORLDS)
each_walk = pytest.mark.parametrize("name", list(cases.WALKS))


def walks(case, world, name):
    """Yields each epoch's number, the walk of one process, and the batches of all."""
    found = [one[name] for one in case("walks", world)]
    for epoch in range(4):
        yield epoch, found[0], [one["epochs"][epoch] for one in found]


def interleaved(epochs):
    """Returns the samples of an epoch in the order of its global batches."""
    steps = zip(*(epoch["batches"] for epoch in epochs), strict=True)
    return [sample for step in steps for batch in step for sample in batch]


# Right loss on right sample, every set complete.


@each_world
@each_walk
def test_trap_01_every_loss_reaches_its_sample(case, world, name):
    found = [one[name] for one in case("walks", world)]
    expected = np.full(101, np.nan, np.float32)
    for epoch in range(4):
        for process in range(world):  # later processes last: see trap 4
            for step, batch in enumerate(found[process]["epochs"][epoch]["batches"]):
                expected[batch] = cases.loss_of(np.array(batch), epoch, process, step)
    for one in found:
        np.testing.assert_array_equal(one["losses"], expected)


@each_world
@each_walk
def test_trap_02_processes_share_the_plan_among_them(case, world, name):
    for _, walk, epochs in walks(case, world, name):
        plan, seen = epochs[0]["plan"], interleaved(epochs)
        assert all(epoch["plan"] == plan for epoch in epochs)
        assert seen == [*plan, *plan[: len(seen) - len(plan)]]
        if len(plan) < 101:  # an epoch that keeps all may have a remainder
            assert len(seen) == len(plan) and len(plan) % walk["global_batch"] == 0


@each_world
@each_walk
def test_trap_03_processes_get_equal_batches(case, world, name):
    for _, walk, epochs in walks(case, world, name):
        sizes = [[len(batch) for batch in epoch["batches"]] for epoch in epochs]
        assert all(other == sizes[0] for other in sizes)
        assert {count for epoch in epochs for count in epoch["len"]} == {len(sizes[0])}
        if len(epochs[0]["plan"]) < 101 or (world > 1 and "dispatch" not in name):
            assert set(sizes[0]) == {walk["global_batch"] // world}


@each_world
def test_trap_03_epochs_shrink_and_grow(case, world):
    lengths = [len(epochs[0]["batches"]) for _, _, epochs in walks(case, world, "plain")]
    assert lengths[0] > lengths[1] < lengths[2] > lengths[3]


@pytest.mark.parametrize("name", ["dispatch", "dispatch, split"])
def test_trap_03_what_is_dispatched_is_filled_up_to_be_cut_in_two(case, name):
    for _, _, epochs in walks(case, 2, name):
        plan = epochs[0]["plan"]
        assert len(interleaved(epochs)) == len(plan) + len(plan) % 2


@each_world
@each_walk
def test_trap_04_what_fills_up_is_counted_once(case, world, name):
    full = 0
    visits = 0
    for epoch, _, epochs in walks(case, world, name):
        seen = set(interleaved(epochs))
        visits, full = visits + len(seen), full + (100 if "drop last" in name else 101)
        for one in epochs:
            assert one["row"]["epoch"] == epoch
            assert one["row"]["kept"] == one["row"]["trained"] == len(seen) == len(one["plan"])
            assert one["row"]["saved"] == pytest.approx(1 - visits / full)


def test_a_dataset_smaller_than_a_batch_of_all_processes_is_one_batch(case):
    found = case("small", 2)
    assert [len(batch) for one in found for batch in one["seen"]] == [10, 10]
    assert {sample for one in found for batch in one["seen"] for sample in batch} == set(range(15))
    assert all(one["row"]["trained"] == 15 for one in found)


@each_world
@pytest.mark.parametrize("name", [name for name in cases.WALKS if "budget" in name])
def test_a_budget_is_met_exactly(case, world, name):
    lengths = [one[name]["lengths"] for one in case("walks", world)]
    assert lengths == [lengths[0]] * world
    batches = 0
    for epoch, walk, epochs in walks(case, world, name):
        assert len(interleaved(epochs)) == lengths[0][epoch]
        assert lengths[0][epoch] % walk["global_batch"] == 0
        batches += len(epochs[0]["batches"])
    assert walk["total_batches"] == batches


@each_world
def test_weights_of_one_leave_the_mean_as_it_is(case, world):
    for one in case("walks", world):
        assert all(not any(e["weighted"]) for walk in one.values() for e in walk["epochs"])


@each_world
def test_trap_05_gather_for_metrics_loses_nothing_and_repeats_nothing(case, world):
    for one in case("metrics", world):
        assert all(epoch["seen"] == epoch["kept"] and epoch["equal"] for epoch in one)


@each_world
def test_trap_07_reading_moves_nothing(case, world):
    for one in case("repeated_reads", world):
        assert one["plans"][0] == one["plans"][1] == one["plans"][2]
        assert one["again"]
        assert one["len"] == [3, 2][world - 1]
        assert "all 4 epochs of this run are over" in one["over"]


@each_world
def test_a_break_ends_an_epoch(case, world):
    for one in case("repeated_reads", world):
        taken = [min(epoch + 1, n) for epoch, n in enumerate([11, 6, 9, [3, 2][world - 1]])]
        assert one["epochs"] == [epoch for epoch in range(4) for _ in range(taken[epoch])]


@each_world
def test_trap_14_indices_beyond_float32_stay_exact(case, world):
    seen = [sample for one in case("large_index", world) for sample in one["seen"]]
    assert len(seen) == len(set(seen)) >= 40
    for one in case("large_index", world):
        assert one["recorded"] == [one["odd"]]


@each_world
def test_a_policy_that_looks_at_classes_is_given_them(case, world):
    seen = [sample for one in case("classes", world) for sample in one]
    assert len(seen) == 80 and {sample % 2 for sample in seen} == {1}


def test_trap_21_no_collective_hides_in_the_sampler(case):
    """Dispatching, process 0 alone pulls samples: with a collective there this would hang."""
    for name in ("dispatch", "dispatch, split", "budget, dispatch"):
        for _, walk, epochs in walks(case, 2, name):
            assert walk["losses"]
            assert interleaved(epochs)


@each_world
def test_prepare_leaves_a_loader_as_it_is_and_another_kind_is_refused(case, world):
    found = case("prepared", world)
    for one in found:
        assert one["same"]
        assert "of a PrunedDataLoader were asked for by another loader" in one["refused"]
        assert "accelerator.prepare" in one["refused"]
        assert "have one of their own in seta.integrations" in one["refused"]
    assert sorted(found[0]["plan"]) == sorted(sample for one in found for sample in one["seen"])


# Epochs that count only when they were trained.


@each_world
def test_a_look_at_a_batch_uses_nothing_up_and_waits_for_nobody(case, world):
    found = case("peeked", world)
    looks = found[0]["looks"]
    assert [looks[i : i + 3] for i in (0, 3, 6)] == [[looks[i]] * 3 for i in (0, 3, 6)]
    for one in found:
        assert one["rows"] == found[0]["rows"]
        assert [row["epoch"] for row in one["rows"]] == [0, 1, 2]
        assert all(row["trained"] == row["kept"] for row in one["rows"])


@each_world
def test_a_pass_that_was_never_answered_is_an_error(case, world):
    for one in case("forgotten", world):
        assert f"none of the {4 // world} batches of epoch 0 was answered" in one["error"]
        assert "call loss = loader.update(losses)" in one["error"]


def test_trap_02_a_share_that_is_dealt_out_again_is_refused(case):
    for one in case("sharded_twice", 2):
        assert "other code splits the share among the 2 ranks a second time" in one["error"]


# Learning rates and accumulation.


@each_world
@pytest.mark.parametrize("gas", [1, 4])
@pytest.mark.parametrize("split", [False, True])
def test_trap_11_a_prepared_schedule_ends_where_it_should(case, world, gas, split):
    for one in case("schedules", world):
        run = one[gas, split]
        assert run["moved"] == run["schedule_steps"]
        assert run["schedule_steps"] == run["steps"] * (1 if split else world)
        assert run["rate"] == pytest.approx(0.1 * 0.25)
        assert run["total_steps"] == run["steps"]
        assert run["batches"][0] == run["batches"][1]
        assert run["left"] == [0, 0, 0, 0]  # no gradient leaks into the next epoch


@each_world
def test_trap_11_steps_across_epochs_and_schedules_by_the_batch(case, world):
    for across, apart in case("other_schedule_steps", world):
        assert across[0] == across[1]
        assert apart[0] == apart[1]


@each_world
def test_trap_11_one_cycle_ends_under_accumulation(case, world):
    for one in case("one_cycle", world):
        for rate, last in one.values():
            assert rate == pytest.approx(last)


@each_world
def test_trap_11_varying_lengths_end_by_progress(case, world):
    wanted = [0.05 * (1 + math.cos(math.pi * done / 4)) for done in (1, 2, 3, 4)]
    for one in case("progress_schedules", world):
        for run in one.values():
            assert run["rates"] == pytest.approx(wanted, abs=1e-12)
            assert run["left"] == [0, 0, 0, 0]


# Resume.


@each_world
@pytest.mark.parametrize("name", list(cases.RESUMES))
def test_trap_17_a_resumed_run_is_the_run(case, world, name):
    """Order, losses, learning rates, weights and rows; from five places of three epochs."""
    for one in case("resumes", world):
        whole = one[name]["whole"]
        tails, positions = one[name]["tails"], one[name]["positions"]
        assert {key[1] for key in tails} >= {"end", "last", 1}
        for key, tail in tails.items():
            assert tail["log"] == whole["log"][positions[key] :], key
            assert tail["weights"] == whole["weights"], key
            assert tail["rows"] == whole["rows"], key


def test_trap_17_an_epoch_that_was_filled_up_is_among_what_was_saved(case):
    runs = [one["varying"] for one in case("resumes", 2)]
    log = [entry for run in runs for entry in run["whole"]["log"]]
    assert sum(len(samples) for epoch, samples, *_ in log if epoch == 0) > 101
    assert all((0, 2) in run["tails"] for run in runs)


@each_world
def test_a_run_that_accumulates_resumes_at_a_step(case, world):
    for one in case("resume_accumulating", world):
        assert one["tail"]["log"] == one["whole"]["log"][one["position"] :]
        assert one["tail"]["weights"] == one["whole"]["weights"]


def check_crossed(found):
    world = len(found)
    for name in cases.CROSSED:
        plan = found[0][name]["plan"]
        seen = interleaved([one[name] for one in found])
        assert 0 < len(plan) < 101
        assert seen == [*plan, *seen[len(plan) :]]
        assert (len(seen) - len(plan)) < 10 * world
        for one in found:
            assert one[name]["next"] == found[0][name]["next"]
            assert one[name]["row"]["epoch"] == 1
            assert one[name]["row"]["trained"] == one[name]["row"]["kept"]
            losses = np.array(one[name]["losses"])
            assert (losses[plan] == np.array(plan) + 0.5).all()
            np.testing.assert_array_equal(losses, found[0][name]["losses"])


def test_two_processes_finish_the_epoch_of_one(case):
    check_crossed(case("other_processes", 2))


def test_one_process_finishes_the_epoch_of_two(folder, alone):
    check_crossed([cases.other_processes(folder)])


def test_trap_06_an_epoch_does_not_depend_on_who_reaches_the_sampler(case):
    """Resumed at 2 processes, where Accelerate's own way of skipping resets it, it is the same."""
    for one in case("resumes", 2):
        for run in one.values():
            epochs = [entry[0] for entry in run["tails"][2, 1]["log"]]
            assert epochs == sorted(epochs)
            assert set(epochs) == {2, 3}


# What is refused.

MESSAGES = {
    "trap_06": ("skip", 1, "PrunedAccelerateLoader has no sampler to skip batches of"),
    "trap_06_at_two": ("skip", 2, "after accelerator.load_state() the next pass"),
    "trap_13": ("stateful", 1, "use_stateful_dataloader must be False, got True"),
    "trap_23": ("disordered", 1, "in_order=False gives batches out in any order"),
    "trap_23_at_two": ("disordered", 2, "save or copy between two epochs, or leave in_order out"),
    "split": ("split", 2, "batch_size must be a multiple of the 2 processes with split_batches"),
    "parallel": ("tensor parallel", 2, "parallelism over 2 processes, which share samples"),
    "alone": ("alone", 2, "must have the processes of torch.distributed, got 2 there and 1 in the"),
    "short": ("short", 2, "budget leaves epoch 0 without a batch of 20, got 0.5 of 15 samples"),
}


@pytest.mark.parametrize("name", list(MESSAGES))
def test_refused(case, name):
    key, world, message = MESSAGES[name]
    for one in case("refused", world):
        if "cannot import name 'ParallelismConfig'" in one[key]:
            pytest.skip("this Accelerate knows data parallelism alone")
        assert message in one[key]


def make(accelerator=None, dataset=None, **options):
    made = cases.accelerator_of() if accelerator is None else accelerator
    rows = cases.Numbers(40) if dataset is None else dataset
    return PrunedAccelerateLoader(made, rows, "SeTa", **{"epochs": 2, "batch_size": 10, **options})


def test_an_accelerator_has_to_be_there(alone):
    with pytest.raises(TypeError, match=r"accelerator must be an accelerate.Accelerator, got str"):
        make(accelerator="cpu")


@pytest.mark.parametrize("name", ["sampler", "batch_sampler"])
def test_nothing_else_chooses_samples(alone, name):
    message = f"{name} is not allowed, got {name}=True: PrunedAccelerateLoader chooses the"
    with pytest.raises(ValueError, match=message):
        make(**{name: True})


@pytest.mark.parametrize("name", ["total_batches", "total_steps", "schedule_steps"])
def test_steps_need_a_budget(alone, name):
    with pytest.raises(RuntimeError, match=r"total_\w+ is known under a budget only"):
        getattr(make(), name)


def test_copies_are_refused(alone):
    with pytest.raises(TypeError, match=r"cannot be copied .*pass on its state_dict\(\)"):
        copy.deepcopy(make())


def test_an_answer_without_a_question_is_refused(alone):
    loader = make()
    with pytest.raises(RuntimeError, match="there is none"):
        loader.update(torch.ones(10))
    with pytest.raises(RuntimeError, match="take a batch first"):
        loader.update(torch.ones(2), indices=[1, 2])
    batches = iter(loader)
    next(batches)
    next(batches)
    with pytest.raises(RuntimeError, match="there are 2"):
        loader.update(torch.ones(10))


# In one process it is a PrunedDataLoader.


@pytest.mark.parametrize("budget", [None, 0.6])
def test_alone_it_gives_the_batches_of_a_pruned_data_loader(alone, budget):
    options = {"epochs": 4, "seed": 5, "budget": budget, "batch_size": 10}
    numbers = cases.Numbers(101)
    loader = PrunedAccelerateLoader(cases.accelerator_of(), numbers, "InfoBatch", **options)
    plain = seta.PrunedDataLoader(numbers, "InfoBatch", **options)
    for _ in range(4):
        assert len(loader) == len(plain)
        for (ours, _), (others, _) in zip(loader, plain, strict=True):
            assert ours.tolist() == others.tolist()
            losses = ours.float() % 17
            assert loader.update(losses) == plain.update(losses)
            assert loader.progress == plain.progress
    np.testing.assert_array_equal(loader.pruner.losses, plain.pruner.losses)


def test_its_arguments_are_those_of_a_pruned_data_loader():
    def arguments(kind):
        return {name: one.default for name, one in inspect.signature(kind).parameters.items()}

    ours, plain = arguments(PrunedAccelerateLoader), arguments(seta.PrunedDataLoader)
    assert ours.keys() - plain.keys() == {"accelerator", "changed"}
    assert plain.keys() - ours.keys() == {"accumulation", "process_group", "sharding"}
    assert all(ours[name] == plain[name] for name in ours.keys() & plain.keys())


def test_a_run_can_be_so_many_steps_long(alone):
    loader = make(epochs=None, steps=7, budget=0.5, threads=1, shuffle=False)
    assert loader.total_batches == loader.total_steps == loader.schedule_steps == 7
    for _ in range(loader.epochs):
        for samples, _ in loader:
            assert samples.tolist() == sorted(samples.tolist())
            loader.update(samples.float())
    assert sum(row["trained"] for row in loader.pruner.history) == 70


@pytest.mark.parametrize("dispatch", [False, True])
def test_a_collate_function_that_sorts_is_followed_or_hands_the_index_on(alone, dispatch):
    accelerator = cases.accelerator_of(dispatch_batches=dispatch)
    for in_place in (True, False):
        options = {} if in_place else {"index_key": "index"}
        loader = PrunedAccelerateLoader(
            accelerator, cases.Named(40), "SeTa", epochs=1, batch_size=10, num_workers=1,
            collate_fn=cases.largest_first if in_place else cases.copied_largest_first, **options,
        )  # fmt: skip
        for batch in loader:
            loader.update(batch["sample"].float())
        np.testing.assert_array_equal(loader.pruner.losses, np.arange(40))


# What a worker, a framework and an accelerator are left with.


def test_a_workers_dataset_is_the_users_own(alone):
    """And not what wraps it: a method of it can be called, and its draws can be seeded."""
    loader = make(dataset=cases.Seeded(40), num_workers=2, worker_init_fn=cases.seed_dataset)
    for samples, workers in loader:
        assert set(workers.tolist()) <= {1, 2}
        loader.update(samples.float())


def checkpoint(accelerator, folder):
    accelerator.save_state(str(folder))
    return len(list(folder.glob("custom_checkpoint_*.pkl")))


def test_a_loader_that_was_tried_with_a_larger_batch_is_not_saved(alone, tmp_path):
    accelerator = cases.accelerator_of()

    @find_executable_batch_size(starting_batch_size=16)
    def train(batch_size):
        loader = make(accelerator, batch_size=batch_size)
        for step, (samples, _) in enumerate(loader):
            loader.update(samples.float())
            if batch_size > 8:
                raise RuntimeError("CUDA out of memory.")
            if step == 1:
                break
        assert checkpoint(accelerator, tmp_path) == 1
        return samples

    train()
    other = cases.accelerator_of()  # as in a new process
    loader = make(other, batch_size=8)
    other.load_state(str(tmp_path))
    assert loader.progress == pytest.approx(2 / len(loader) / 2)


def test_folds_on_one_accelerator_do_not_pile_up(alone, tmp_path):
    accelerator = cases.accelerator_of()
    for fold in range(3):
        loader = make(accelerator, seed=fold)
        for samples, _ in loader:
            loader.update(samples.float())
        assert checkpoint(accelerator, tmp_path / str(fold)) == 1
    del loader
    assert checkpoint(accelerator, tmp_path / "none") == 0


def test_workers_end_with_their_loader(alone):
    accelerator = cases.accelerator_of()
    loader = make(accelerator, num_workers=2, persistent_workers=True)
    for samples, _ in loader:
        loader.update(samples.float())
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    del loader
    assert [worker.exitcode for worker in workers] == [0, 0]  # torch kills what does not answer


def test_what_is_meant_to_differ_is_said_beforehand(alone, tmp_path):
    accelerator = cases.accelerator_of()
    loader = make(accelerator)
    for samples, _ in loader:
        loader.update(samples.float())
    losses = loader.pruner.losses.copy()
    accelerator.save_state(str(tmp_path))
    del loader
    loader = make(accelerator, budget=0.5)
    with pytest.raises(ValueError, match="budget"):
        accelerator.load_state(str(tmp_path))
    del loader
    loader = make(accelerator, budget=0.5, changed=["budget"])
    accelerator.load_state(str(tmp_path))
    np.testing.assert_array_equal(loader.pruner.losses, losses)
    assert loader.epoch == 1


def test_another_objects_state_is_refused(alone, tmp_path):
    accelerator = cases.accelerator_of()
    accelerator.register_for_checkpointing(torch.nn.Linear(1, 1))
    accelerator.save_state(str(tmp_path))
    other = cases.accelerator_of()
    loader = make(other)
    with pytest.raises(ValueError, match=r"of another object in .* with \['bias', 'weight'\]"):
        other.load_state(str(tmp_path))
    assert loader.epoch == 0


def test_batches_can_be_skipped_or_answered_by_name(alone):
    loader = make(with_indices=True)
    for step, (indices, (samples, _)) in enumerate(loader):
        assert indices.tolist() == samples.tolist()
        if step == 2:
            skipped = indices
            loader.skip()
        else:
            for part in (slice(0, 4), slice(4, None)):
                loader.update(samples[part].float(), indices=indices[part])
    row = loader.end_epoch()
    assert row["trained"] == row["kept"] - 10
    assert np.isnan(loader.pruner.losses[skipped]).all()


def test_the_example_trains_in_two_processes():
    output = torchrun(2, ROOT / "examples/accelerate_digits.py", "--epochs", "3", "--cpu")
    assert output.count("epoch 2") == 1
    assert "of the sample visits saved" in output


class Rows(Told, cases.Numbers):
    pass


def test_a_dataset_is_told_the_epoch_as_by_a_prepared_loader(alone):
    stock, pruned = Rows(40), Rows(40)
    accelerator = cases.accelerator_of()
    plain = accelerator.prepare(torch.utils.data.DataLoader(stock, batch_size=10, shuffle=True))
    loader = PrunedAccelerateLoader(
        accelerator, pruned, "SeTa", epochs=3, budget=None, batch_size=10
    )
    for _ in range(3):
        for _ in plain:
            pass
        for samples, _ in loader:
            loader.update(samples.float())
    assert list(dict.fromkeys(stock.epochs)) == list(dict.fromkeys(pruned.epochs)) == [0, 1, 2]
