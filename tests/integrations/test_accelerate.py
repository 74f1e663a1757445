"""seta under Accelerate, by itself and in two processes: `accelerate_cases` runs, this compares."""

import math
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("accelerate")

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState

import seta
from seta.integrations.accelerate import Pruning
from tests.integrations import accelerate_cases as cases

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORLDS = (1, 2)


def run(command, seconds=400):
    """Runs a command of some processes; all of them end when it does, or the time is over."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        pytest.fail(f"not over after {seconds} s:\n{output[-3000:]}")
    assert process.returncode == 0, output[-3000:]
    return output


def torchrun(processes):
    return ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where one process has run all cases, and then two."""
    folder = tmp_path_factory.mktemp("accelerate")
    run([HERE / "accelerate_cases.py", folder])
    run([*torchrun(2), HERE / "accelerate_cases.py", folder])
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
        if "drop last" in name:
            assert seen == plan[: len(plan) - len(plan) % walk["global_batch"]]
        else:
            assert seen == [*plan, *plan[: len(seen) - len(plan)]]


@each_world
@each_walk
def test_trap_03_processes_get_equal_batches(case, world, name):
    for _, _, epochs in walks(case, world, name):
        sizes = [[len(batch) for batch in epoch["batches"]] for epoch in epochs]
        assert all(other == sizes[0] for other in sizes)
        assert {count for epoch in epochs for count in epoch["len"]} == {len(sizes[0])}


@each_world
def test_trap_03_epochs_shrink_and_grow(case, world):
    lengths = [len(epochs[0]["batches"]) for _, _, epochs in walks(case, world, "plain")]
    assert lengths[0] > lengths[1] < lengths[2] > lengths[3]


@each_walk
def test_trap_03_the_last_batch_is_filled_up_to_its_size(case, name):
    for _, walk, epochs in walks(case, 2, name):
        size = walk["global_batch"] // 2
        *before, last = [len(batch) for batch in epochs[0]["batches"]]
        assert all(count == size for count in before)
        if "dispatch" in name and "budget" not in name:
            missing = -len(epochs[0]["plan"]) % 2  # to be cut in two, and no more
            assert len(interleaved(epochs)) == len(epochs[0]["plan"]) + missing
        else:
            assert last == size


@each_world
@each_walk
def test_trap_04_what_is_trained_twice_is_counted_twice(case, world, name):
    full = 0
    visits = 0
    for epoch, _, epochs in walks(case, world, name):
        seen = interleaved(epochs)
        visits, full = visits + len(seen), full + 101
        for one in epochs:
            assert one["row"]["epoch"] == epoch
            assert one["row"]["kept"] == len(one["plan"])
            assert one["row"]["trained"] == len(seen)
            assert one["row"]["saved"] == pytest.approx(1 - visits / full)
        if "budget" in name or "drop last" in name or world == 1:
            assert len(seen) == len(set(seen))


@each_world
@pytest.mark.parametrize("name", [name for name in cases.WALKS if "budget" in name])
def test_a_budget_is_met_exactly(case, world, name):
    lengths = [one[name]["lengths"] for one in case("walks", world)]
    assert lengths == [lengths[0]] * world
    batches = 0
    for epoch, walk, epochs in walks(case, world, name):
        assert len(interleaved(epochs)) == lengths[0][epoch]
        assert world == 1 or lengths[0][epoch] % walk["global_batch"] == 0
        batches += len(epochs[0]["batches"])
    assert walk["total_steps"] == batches


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
        assert one["len"] == math.ceil(35 / (10 * world))
        assert "all 4 epochs of this run are over" in one["over"]


@each_world
def test_a_break_ends_an_epoch(case, world):
    for one in case("repeated_reads", world):
        taken = [min(epoch + 1, n) for epoch, n in enumerate([11, 6, 9, 4 // world])]
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
def test_trap_02_prepare_leaves_alone_what_is_sharded_already(case, world):
    found = case("left_alone", world)
    assert all(one["same"] for one in found)
    for epoch in range(2):
        plan = found[0]["epochs"][epoch][0]
        seen = [sample for one in found for sample in one["epochs"][epoch][1]]
        assert sorted(seen) == sorted(plan[: len(plan) - len(plan) % world])


def test_trap_02_a_share_that_is_dealt_out_again_is_refused(case):
    for one in case("sharded_twice", 2):
        assert "something deals the share out among the 2 ranks again" in one["error"]


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
    """Order, losses, learning rates, weights and rows; from four places of an epoch."""
    for one in case("resumes", world):
        whole = one[name]["whole"]
        tails, positions = one[name]["tails"], one[name]["positions"]
        assert {key[1] for key in tails} >= {"end", "last", 1}
        for key, tail in tails.items():
            assert tail["log"] == whole["log"][positions[key] :], key
            assert tail["weights"] == whole["weights"], key
            assert tail["rows"] == whole["rows"], key


def test_trap_17_padding_is_in_what_was_saved(case):
    """The run above that varies does train samples twice at 2 processes."""
    rows = case("resumes", 2)[0]["varying"]["whole"]["rows"]
    assert any(row["trained"] > row["kept"] for row in rows)


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
            assert one[name]["row"]["trained"] >= one[name]["row"]["kept"]
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
    "trap_03": ("uneven", 2, "even_batches must be True without a budget, got even_batches=False"),
    "trap_06": ("skip", 1, "Pruning has no sampler to skip batches of"),
    "trap_06_at_two": ("skip", 2, "after accelerator.load_state() the next pass"),
    "trap_13": ("stateful", 1, "use_stateful_dataloader must be False, got True"),
    "trap_23": ("disordered", 1, "in_order=False gives batches out in any order"),
    "trap_23_at_two": ("disordered", 2, "save between two epochs, or leave in_order out"),
    "split": ("split", 2, "the batch size (5) needs to be a round multiple"),
    "parallel": ("tensor parallel", 2, "parallelism over 2 processes, which share samples"),
    "alone": ("alone", 2, "must have the processes of torch.distributed, got 2 there and 1 in the"),
    "short": ("short", 2, "got batch_size=10 for 2 processes and 15 samples, of which 20 make one"),
}


@pytest.mark.parametrize("name", list(MESSAGES))
def test_refused(case, name):
    key, world, message = MESSAGES[name]
    for one in case("refused", world):
        if "cannot import name 'ParallelismConfig'" in one[key]:
            pytest.skip("this Accelerate knows data parallelism alone")
        assert message in one[key]


def test_one_process_has_no_uneven_batches(case):
    (one,) = case("refused", 1)
    assert "Pruning object" in one["uneven"]


def make(accelerator=None, **options):
    options = {"epochs": 2, "budget": None, "batch_size": 10, **options}
    made = cases.accelerator_of() if accelerator is None else accelerator
    return Pruning(made, cases.Numbers(40), "SeTa", **options)


def test_a_budget_has_to_be_said(alone):
    with pytest.raises(TypeError, match="budget"):
        Pruning(cases.accelerator_of(), cases.Numbers(40), "SeTa", epochs=2)


def test_an_accelerator_has_to_be_there(alone):
    with pytest.raises(TypeError, match=r"accelerator must be an accelerate.Accelerator, got str"):
        make(accelerator="cpu")


@pytest.mark.parametrize("name", ["sampler", "batch_sampler", "shuffle"])
def test_nothing_else_chooses_samples(alone, name):
    with pytest.raises(ValueError, match=f"{name} is not allowed, got {name}=True"):
        make(**{name: True})


@pytest.mark.parametrize("name", ["total_steps", "schedule_steps"])
def test_steps_need_a_budget(alone, name):
    with pytest.raises(RuntimeError, match=f"{name} is known under a budget only"):
        getattr(make(), name)


def test_another_objects_state_is_refused(alone):
    with pytest.raises(ValueError, match="got \\['step'\\]: register objects"):
        make().load_state_dict({"step": 3})


def test_the_prepared_loader_alone_moves_no_epoch(alone):
    pruning = make()
    next(iter(pruning))
    with pytest.raises(RuntimeError, match=r"epoch 1 was asked for, and the open one is 0"):
        pruning._loader.set_epoch(1)


def test_an_answer_without_a_question_is_refused(alone):
    pruning = make()
    with pytest.raises(RuntimeError, match="there is none"):
        pruning.update(torch.ones(10))
    with pytest.raises(RuntimeError, match="take a batch first"):
        pruning.update(torch.ones(2), indices=[1, 2])
    batches = iter(pruning)
    next(batches)
    next(batches)
    with pytest.raises(RuntimeError, match="there are 2"):
        pruning.update(torch.ones(10))


# In one process it is a PrunedDataLoader.


@pytest.mark.parametrize("budget", [None, 0.6])
def test_alone_it_gives_the_batches_of_a_pruned_data_loader(alone, budget):
    options = {"epochs": 4, "seed": 5, "budget": budget, "batch_size": 10}
    pruning = Pruning(cases.accelerator_of(), cases.Numbers(101), "InfoBatch", **options)
    loader = seta.PrunedDataLoader(cases.Numbers(101), "InfoBatch", **options)
    for _ in range(4):
        assert len(pruning) == len(loader)
        for (ours, _), (others, _) in zip(pruning, loader, strict=True):
            assert ours.tolist() == others.tolist()
            losses = ours.float() % 17
            assert pruning.update(losses) == loader.update(losses)
            assert pruning.progress == loader.progress
    np.testing.assert_array_equal(pruning.pruner.losses, loader.pruner.losses)


def test_batches_can_be_skipped_or_answered_by_name(alone):
    pruning = make(with_indices=True)
    for step, (indices, (samples, _)) in enumerate(pruning):
        assert indices.tolist() == samples.tolist()
        if step == 2:
            skipped = indices
            pruning.skip()
        else:
            for part in (slice(0, 4), slice(4, None)):
                pruning.update(samples[part].float(), indices=indices[part])
    row = pruning.end_epoch()
    assert row["trained"] == row["kept"] - 10
    assert np.isnan(pruning.pruner.losses[skipped]).all()


def test_the_example_trains_in_two_processes():
    output = run([*torchrun(2), ROOT / "examples/accelerate_digits.py", "--epochs", "3", "--cpu"])
    assert output.count("epoch 2") == 1
    assert "of the sample visits saved" in output
