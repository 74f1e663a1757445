"""FSDP2 on two ranks and on one: the right losses, and checkpoints that hold everything.

`fsdp_cases` runs, in forked processes of a gloo group; this compares.
"""

import numpy as np
import pytest
import torch
from torch.distributed.checkpoint import FileSystemReader

from tests.engines import fsdp_cases as cases
from tests.engines.pages import python_of
from tests.engines.shards import check_epochs, check_table, check_tail, check_trainer
from tests.launch import torchrun
from tests.torch.processes import run_ranks

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(
        not hasattr(torch.cpu.Stream, "record_event"), reason="FSDP2 of PyTorch 2.6 needs a GPU"
    ),
]

SECONDS = 280


def ranks(size, function, folder, *arguments):
    (folder / "store").mkdir(exist_ok=True)
    return run_ranks(size, function, folder / "store", folder, *arguments, timeout=SECONDS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fsdp")


@pytest.fixture(scope="module")
def two(folder):
    """What two ranks saw, by rank and run."""
    return ranks(2, cases.whole, folder)


@pytest.fixture(scope="module")
def one(folder):
    """What one rank saw, with the same global batches."""
    return ranks(1, cases.whole, folder, ("plain",))


def samples_of(run):
    return [(here, indices) for here, indices, _ in run["log"]]


@pytest.mark.parametrize("name", [name for name in cases.RUNS if name != "sharded"])
def test_each_loss_is_recorded_for_its_sample(two, name):
    runs = [rank[name]["whole"] for rank in two]
    check_table(runs)
    check_epochs(runs)
    assert runs[0]["rate"] == 0


@pytest.mark.parametrize("name", list(cases.RUNS))
def test_a_checkpoint_resumes_the_run_in_mid_epoch(two, name):
    for rank in two:
        for tail in rank[name]["tails"]:
            check_tail(rank[name]["whole"], tail)
    weights = [rank[name]["whole"]["weights"] for rank in two]
    np.testing.assert_array_equal(*weights)


def test_two_ranks_train_what_one_does(one, two):
    ours, theirs = [rank["plain"]["whole"] for rank in two], one[0]["plain"]["whole"]
    batches = zip(*(samples_of(run) for run in ours), samples_of(theirs), strict=True)
    for (here, first), (_, second), (there, whole) in batches:
        assert (here, sorted(first + second)) == (there, sorted(whole))
    np.testing.assert_allclose(ours[0]["weights"], theirs["weights"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2])
def test_another_number_of_ranks_resumes(folder, one, two, size):
    whole = {1: two, 2: one}[size]
    found = ranks(size, cases.crossed, folder, 3 - size, ("plain",))
    for number in range(len(cases.SAVED["plain"])):
        tails = [rank["plain"][number] for rank in found]
        run = whole[0]["plain"]["whole"]
        assert 0 < len(tails[0]["log"]) < len(run["log"])
        np.testing.assert_allclose(tails[0]["weights"], run["weights"], rtol=1e-4, atol=1e-5)
        for mine, theirs in zip(tails[0]["rows"], run["rows"], strict=True):
            assert (mine["kept"], mine["trained"]) == (theirs["kept"], theirs["trained"])
        np.testing.assert_allclose(tails[0]["table"], run["table"], rtol=1e-3, atol=1e-5)


def test_one_rank_resumes_from_the_parts_of_sharded_losses(folder, two):
    ((epoch, done),) = cases.SAVED["sharded"]
    (tail,) = ranks(1, cases.crossed, folder, 2, ("sharded",))[0]["sharded"]
    logs = [rank["sharded"]["whole"]["log"] for rank in two]
    before = {i for log in logs for (e, b), ids, _ in log if e == epoch and b <= done for i in ids}
    rest = [i for (e, _), ids, _ in tail["log"] if e == epoch for i in ids]
    assert len(before) == done * cases.BATCH
    assert len(before.union(rest)) == len(before) + len(rest) == tail["rows"][epoch]["trained"]
    assert len(tail["rows"]) == cases.EPOCHS


def test_a_checkpoint_holds_the_loader_once(folder, two):
    metadata = FileSystemReader(folder / "2" / "plain" / "1-2").read_metadata()
    ours = [index.fqn for index in metadata.storage_data if index.fqn.startswith("loader")]
    assert sorted(ours) == ["loader.format", "loader.pruner"]


def test_accelerate_trains_and_resumes(folder):
    pytest.importorskip("accelerate")
    (folder / "accelerate").mkdir()
    found = ranks(2, cases.accelerated, folder / "accelerate")
    runs = [rank["whole"] for rank in found]
    assert {run["kind"] for run in runs} == {"FSDP"}
    check_table(runs)
    check_epochs(runs)
    assert runs[0]["rate"] == 0
    for rank in found:
        for tail in rank["tails"]:
            check_tail(rank["whole"], tail)


def test_trainer_trains_and_resumes(folder):
    pytest.importorskip("transformers")
    (folder / "trainer").mkdir()
    found = ranks(2, cases.trained, folder / "trainer")
    runs = [rank["whole"] for rank in found]
    assert {run["kind"] for run in runs} == {"FSDP"}
    check_trainer(runs)
    for rank in found:
        for step, tail in rank["tails"].items():
            check_tail(rank["whole"], tail)
            assert tail["log"][0][0] == step
    weighted = [rank["weighted"]["weights"] for rank in found]
    np.testing.assert_array_equal(*weighted)
    assert not np.array_equal(weighted[0], runs[0]["weights"])


def test_the_program_of_the_page_runs(tmp_path):
    (tmp_path / "train.py").write_text(python_of("fsdp"))
    assert "the resumed run is the same" in torchrun(2, "train.py", folder=tmp_path)
