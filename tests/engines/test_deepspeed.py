"""DeepSpeed on one and two processes: `deepspeed_cases` runs, this compares."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from tests.engines import shards
from tests.engines.pages import python_of
from tests.launch import torchrun

pytestmark = pytest.mark.processes

CASES = Path(__file__).with_name("deepspeed_cases.py")
ALONE = ["resume", "plain", "other_processes", "mistakes"]
TOGETHER = [
    "resume",
    "accelerate",
    "accumulation_in_the_config_alone",
    "trainer",
    "schedule_of_the_config_without_a_budget",
]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """By the number of processes: what each of them returned, by case."""
    folder = tmp_path_factory.mktemp("deepspeed")
    torchrun(2, CASES, folder, *TOGETHER, folder=folder, DS_ACCELERATOR="cpu")
    torchrun(1, CASES, folder, *ALONE, folder=folder, DS_ACCELERATOR="cpu")
    return {
        size: [pickle.loads((folder / f"{size}-{rank}.pkl").read_bytes()) for rank in range(size)]
        for size in (1, 2)
    }


@pytest.fixture
def case(results):
    """A case's results, one per process."""

    def of(name, size):
        found = [result[name] for result in results[size]]
        for one in found:
            assert not isinstance(one, Exception), one
        return found

    return of


@pytest.mark.parametrize("stage", ["stage 0", "stage 1", "stage 2", "stage 3", "stage 1, bf16"])
def test_two_processes_record_each_loss_for_its_sample(case, stage):
    runs = [rank[stage]["whole"] for rank in case("resume", 2)]
    shards.check_table(runs)
    shards.check_epochs(runs)
    accumulation = 2 if stage == "stage 1" else 1
    assert runs[0]["steps"] == runs[0]["batches"] // accumulation
    assert runs[0]["rate"] == 0
    np.testing.assert_array_equal(runs[0]["weights"], runs[1]["weights"])


@pytest.mark.parametrize("size", [1, 2])
def test_a_checkpoint_resumes_the_run_in_mid_epoch(case, size):
    for rank in case("resume", size):
        for stage in rank.values():
            assert len(stage["tails"]) == 2
            for tail in stage["tails"].values():
                shards.check_tail(stage["whole"], tail)


@pytest.mark.parametrize("stage", ["stage 0", "stage 1"])
def test_one_process_trains_what_a_plain_loop_does(case, stage):
    (plain,), (run,) = case("plain", 1), case("resume", 1)
    for (_, samples, losses), (others, plainly) in zip(
        run[stage]["whole"]["log"], plain[stage], strict=True
    ):
        assert samples == others
        np.testing.assert_allclose(losses, plainly, rtol=1e-4, atol=1e-6)


def test_one_process_resumes_what_two_began(case):
    (tail,), whole = case("other_processes", 1), case("resume", 2)[0]["stage 0"]["whole"]
    assert len(tail["log"]) == len(whole["log"]) - 9  # from the second batch of the second epoch
    for row, other in zip(tail["rows"], whole["rows"], strict=True):
        found = {name: value for name, value in other.items() if value is not None}
        near = {name: pytest.approx(value, rel=1e-4) for name, value in found.items()}
        assert row == dict.fromkeys(other) | near
    np.testing.assert_allclose(tail["weights"], whole["weights"], rtol=1e-4, atol=1e-5)


def test_mistakes_are_told(case):
    (mistakes,) = case("mistakes", 1)
    assert "must be a torch Dataset" in mistakes["given"]
    assert "needs an unanswered batch" in mistakes["other loader"]
    assert "was answered" in mistakes["forgotten"]


def test_accelerate_trains_and_resumes(case):
    found = case("accelerate", 2)
    runs = [rank["whole"] for rank in found]
    assert {run["kind"] for run in runs} == {"DEEPSPEED"}
    shards.check_table(runs)
    shards.check_epochs(runs)
    assert runs[0]["steps"] == runs[0]["total"] == 16  # epochs of 7 and 8 batches, in pairs
    assert runs[0]["rate"] == 0
    for rank in found:
        for tail in rank["tails"].values():
            shards.check_tail(rank["whole"], tail)


def test_accumulation_must_be_that_of_the_accelerator(case):
    for message in case("accumulation_in_the_config_alone", 2):
        assert "got 1 and 2" in message
        assert "Accelerator(gradient_accumulation_steps=2)" in message


def test_trainer_trains_and_resumes(case):
    found = case("trainer", 2)
    runs = [rank["whole"] for rank in found]
    assert {(run["kind"], run["engine"]) for run in runs} == {("DEEPSPEED", "DeepSpeedEngine")}
    shards.check_trainer(runs)
    for rank in found:
        assert len(rank["tails"]) == 2
        for step, tail in rank["tails"].items():
            shards.check_tail(rank["whole"], tail)
            assert tail["log"][0][0] == step
    weighted = [rank["weighted"]["weights"] for rank in found]
    np.testing.assert_array_equal(*weighted)
    assert not np.array_equal(weighted[0], runs[0]["weights"])


def test_a_schedule_of_deepspeed_needs_a_budget(case):
    for message in case("schedule_of_the_config_without_a_budget", 2):
        assert "'WarmupLR' with budget=None" in message


def test_the_program_of_the_page_runs(tmp_path):
    (tmp_path / "train.py").write_text(python_of("deepspeed"))
    assert "the resumed run is the same" in torchrun(
        2, "train.py", folder=tmp_path, DS_ACCELERATOR="cpu"
    )
