"""Ray Train: a Ray on this machine, two workers, one of which is killed; started once for all."""

import json
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ray.train")

import ray.train.torch
import torch
from ray.train import Checkpoint
from torch.utils.data import DataLoader

import seta
from seta.integrations import ray as seta_ray
from tests.torch.helpers import looked_at

N, BATCH, EPOCHS = 96, 4, 4
RUN = Path(__file__).with_name("ray_run.py")
LENGTHS = [56, 88, 48, 96]  # of budget=[0.6, 0.9, 0.5, 1.0], in global batches of 8


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What the workers saw: {"attempt-rank": ...}."""
    folder = tmp_path_factory.mktemp("ray")
    with (folder / "log.txt").open("w") as log:
        done = subprocess.run(
            [sys.executable, RUN, folder], stdout=log, stderr=subprocess.STDOUT, timeout=900
        )
    assert done.returncode == 0, (folder / "log.txt").read_text()[-4000:]
    found = {
        f"{a}-{r}": json.loads((folder / f"{a}-{r}.json").read_text()) for a in "01" for r in "01"
    }
    return found | {
        "result": json.loads((folder / "result.json").read_text()),
        "example": (folder / "example.txt").read_text(),
    }


def epochs_of(workers, epoch):
    """Returns what workers were given in an epoch, step by step, and the plan."""
    seen = [[indices for e, indices, _ in worker["seen"] if e == epoch] for worker in workers]
    plan = next(plan for e, _, plan in workers[0]["seen"] if e == epoch)
    return seen, plan


def test_each_worker_trains_its_own_share_of_each_epoch(run):
    workers = [run["0-0"], run["0-1"]]
    (first, second), plan = epochs_of(workers, 0)
    assert len(first) == len(second) == LENGTHS[0] // (2 * BATCH)
    assert sorted(chain(*first, *second)) == sorted(plan)


def test_a_killed_worker_costs_what_came_after_the_last_checkpoint(run):
    assert not run["0-0"]["restored"] and run["1-0"]["restored"] and run["1-1"]["restored"]
    assert run["0-1"]["seen"][-1][0] == 1, "it was killed in the second epoch"
    assert len({run[name]["pid"] for name in ("0-0", "0-1", "1-0", "1-1")}) == 4
    assert run["result"]["epoch"] == EPOCHS - 1


def test_a_restored_run_trains_the_rest_of_the_open_epoch(run):
    """Three steps of both workers came before the checkpoint in mid-epoch; eight are left of 11."""
    before, plan = epochs_of([run["0-0"], run["0-1"]], 1)
    after, same_plan = epochs_of([run["1-0"], run["1-1"]], 1)
    assert same_plan == plan
    assert [len(part) for part in after] == [8, 8]
    saved = [part[:3] for part in before]
    assert sorted(chain(*saved[0], *saved[1], *after[0], *after[1])) == sorted(plan)


def test_epochs_after_the_restart_are_complete(run):
    workers = [run["1-0"], run["1-1"]]
    for epoch in (2, 3):
        (first, second), plan = epochs_of(workers, epoch)
        assert len(first) == len(second) == LENGTHS[epoch] // (2 * BATCH)
        assert sorted(chain(*first, *second)) == sorted(plan)
    assert [worker["trained"] for worker in workers] == [LENGTHS, LENGTHS]
    assert workers[0]["total_steps"] == sum(LENGTHS) // (2 * BATCH)


def test_losses_belong_to_their_samples_in_all_workers(run):
    losses = run["1-0"]["losses"]
    assert losses == run["1-1"]["losses"]
    for index, loss in enumerate(losses):
        epoch = round(loss - index / 10)
        assert epoch in range(EPOCHS) and abs(loss - index / 10 - epoch) < 1e-4


def test_trap_20_rays_own_prepare_data_loader_is_refused(run):
    """It leaves the plan in place, and looks one batch ahead: the first `update` says so."""
    for worker in ("0-0", "0-1"):
        checks = run[worker]["checks"]
        for name in ("theirs", "theirs, on a PrunedDataLoader"):
            assert "batches are taken ahead of the training step" in checks[name]
            assert "with_indices=True" in checks[name]
        assert checks["trained"] == 0
        assert "a PrunedRayLoader needs no preparation" in checks["ours on a PrunedRayLoader"]


def test_trap_20_a_sampler_that_ray_overwrote_is_noticed(run):
    checks = run["0-0"]["checks"]
    assert checks["type after theirs"] == "DistributedSampler"
    assert (
        "call this in place of ray.train.torch.prepare_data_loader" in checks["ours after theirs"]
    )


def test_trap_20_a_sampler_of_ones_own_is_kept(run):
    checks = [run["0-0"]["checks"], run["0-1"]["checks"]]
    assert checks[0]["type after ours"] == "PrunedSampler"
    assert sorted(checks[0]["rows"] + checks[1]["rows"]) == sorted(checks[0]["plan"])
    assert len(checks[0]["rows"]) == len(checks[1]["rows"])


def test_a_sampler_that_gives_all_workers_everything_is_refused(run):
    assert "make it with share=True" in run["0-0"]["checks"]["ours, not shared"]


def test_trap_1_rays_look_ahead_is_answered_by_indices(run):
    assert [run[worker]["checks"]["named"] for worker in ("0-0", "0-1")] == [N // 2] * 2


def test_ray_data_by_an_id_column(run):
    streams = [run["0-0"]["streams"], run["0-1"]["streams"]]
    for (plan, first), (same, second) in zip(*(one["epochs"] for one in streams), strict=True):
        assert plan == same
        assert len(first) == len(second)
        assert sorted(first + second) == sorted(plan)
    assert [one["wrong"] for one in streams] == [0, 0]


def test_a_split_shard_of_ray_data_is_refused(run):
    assert "DataConfig(datasets_to_split=[])" in run["0-0"]["streams"]["split"]


def test_the_example_runs(run):
    assert "SeTa: 40% of the sample visits saved" in run["example"]


def test_outside_of_a_training_function_the_way_out_is_named():
    with pytest.raises(RuntimeError, match="PrunedRayLoader works in the training function"):
        seta_ray.PrunedRayLoader(range(8), "SeTa", epochs=1, budget=None)
    with pytest.raises(RuntimeError, match="prepare_data_loader works in the training function"):
        seta_ray.prepare_data_loader(DataLoader(range(8)))


def test_a_state_goes_through_a_folder(tmp_path):
    def loader():
        return seta.PrunedDataLoader(range(32), "SeTa", epochs=2, budget=0.5, batch_size=4)

    one, other = loader(), loader()
    assert not seta_ray.restore(other, None)
    for step, batch in enumerate(one):
        one.update(batch.float())
        if step == 1:
            break
    seta_ray.save(one, tmp_path)
    assert seta_ray.restore(other, Checkpoint.from_directory(tmp_path))
    rest = [i for batch in looked_at(other) for i in batch.tolist()]
    assert rest == one.pruner.selection.indices[8:].tolist()


def test_what_is_meant_to_differ_is_said_when_a_run_is_restored(tmp_path):
    one = seta.PrunedDataLoader(range(32), "SeTa", epochs=2, batch_size=4)
    seta_ray.save(one, tmp_path)
    other = seta.PrunedDataLoader(range(32), "InfoBatch", epochs=2, batch_size=4)
    checkpoint = Checkpoint.from_directory(tmp_path)
    with pytest.raises(ValueError, match="policy"):
        seta_ray.restore(other, checkpoint)
    assert seta_ray.restore(other, checkpoint, changed=["policy"])


def test_a_checkpoint_without_a_state_is_refused(tmp_path):
    loader = seta.PrunedDataLoader(range(32), "SeTa", epochs=2)
    with pytest.raises(
        ValueError, match=r"no file seta-loader-0.pt: call .*save\(loader, folder\)"
    ):
        seta_ray.restore(loader, Checkpoint.from_directory(tmp_path))


def test_batches_of_any_shape_move_to_the_device():
    batch = {"x": torch.ones(2), "rest": [torch.ones(1), ("text", 3)]}
    moved = seta_ray._moved(batch, torch.device("meta"))
    assert moved["x"].device.type == moved["rest"][0].device.type == "meta"
    assert moved["rest"][1] == ("text", 3)


class Broken(torch.utils.data.Dataset):
    """Samples that are their own indices; one cannot be read."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        if index == 7:
            raise OSError("disk")
        return float(index)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_batch_that_fails_to_load_costs_that_batch_alone_on_any_device(device, monkeypatch):
    """The device 'meta' stands for a GPU: batches are moved to it."""
    monkeypatch.setattr(seta_ray, "_workers", lambda what: 1)
    monkeypatch.setattr(ray.train.torch, "get_device", lambda: torch.device(device))
    loader = seta_ray.PrunedRayLoader(
        Broken(), "Full", epochs=1, batch_size=10, shuffle=False, with_indices=True
    )
    batches = iter(loader)
    with pytest.raises(OSError, match="disk"):
        next(batches)
    for indices, batch in batches:
        assert batch.device.type == device
        loader.update(indices.float(), indices=indices)
    assert loader.pruner.history[0]["trained"] == 30
    np.testing.assert_array_equal(loader.pruner.losses[10:], np.arange(10, 40))
