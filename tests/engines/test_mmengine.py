"""mmengine: real runs, in which the recorded loss of a sample is a function of its index alone."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import seta
from tests.engines import vision_operators
from tests.engines.pages import run_page
from tests.launch import torchrun

pytest.importorskip("mmengine")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # mmengine imports what is installed, such as deepspeed
    from seta.integrations.mmengine import update
    from tests.engines.mmengine_cases import (
        Counted,
        Known,
        N,
        Rows,
        StopAfter,
        data,
        epochs,
        iterations,
        runner,
        value_of,
    )

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*pkg_resources:UserWarning"),
    pytest.mark.filterwarnings("ignore:Environment variable TORCH_FORCE:UserWarning"),
]


def assert_known(pruner):
    """Each loss in the table is that of its sample."""
    seen = ~np.isnan(pruner.losses)
    assert seen.any()
    expected = value_of(np.arange(N, dtype=np.float32))
    assert (pruner.losses[seen] == expected[seen]).all()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("loop", [epochs, iterations])
def test_losses_reach_their_samples(tmp_path, loop, workers):
    kind = "InfiniteSampler" if loop is iterations else "DefaultSampler"
    run = runner(
        tmp_path, f"{loop.__name__}{workers}", loop(), train=data(workers=workers, sampler=kind)
    )
    run.train()
    pruner = run.train_loop.pruner
    assert [row["trained"] for row in pruner.history] == [30] * 4
    assert run.iter == run.max_iters == 12
    assert_known(pruner)


def test_a_run_by_code_takes_a_dataloader_and_a_policy(tmp_path):
    stock = DataLoader(Rows(), batch_size=10)  # in the order of the dataset
    seen = []
    run = runner(
        tmp_path, "code", epochs(2, policy=seta.Random(0.5)), train=stock, model=Known(seen)
    )
    run.train()
    assert all(batch == sorted(batch) for batch in seen)
    assert_known(run.train_loop.pruner)


def test_weights_reach_the_gradient(tmp_path):
    """The model is bitwise that of a plain loop over a `PrunedDataLoader`."""
    run = runner(tmp_path, "weights", epochs(budget=None))
    run.train()

    loader = seta.PrunedDataLoader(Rows(), "InfoBatch", epochs=4, batch_size=10)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    for _ in range(4):
        for batch in loader:
            x = batch["inputs"][:, 0]
            loss = loader.update(value_of(x) + x * (weight - weight.detach()))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert torch.equal(run.model.weight, weight)
    assert any(row["kept"] < N for row in loader.pruner.history)


def test_validation_is_neither_pruned_nor_recorded(tmp_path):
    run = runner(
        tmp_path,
        "validation",
        epochs(),
        val_dataloader=data(shuffle=False),
        val_cfg={},
        val_evaluator=[Counted()],
    )
    run.train()
    assert run.message_hub.get_scalar("val/val/rows").current() == N
    assert [row["trained"] for row in run.train_loop.pruner.history] == [30] * 4


@pytest.mark.parametrize("loop", [epochs, iterations])
@pytest.mark.parametrize("stop", [1, 3, 5, 6])
def test_a_resumed_run_ends_bitwise_the_same(tmp_path, loop, stop):
    """Also in mid-epoch, and after the last batch of one: epochs have three batches."""
    save = {"checkpoint": {"type": "CheckpointHook", "by_epoch": False, "interval": 1}}
    name = f"{loop.__name__}-{stop}"
    rates = [{"type": "CosineAnnealingLR", "by_epoch": False, "T_max": 12}]
    options = {"default_hooks": {**save, "logger": None}, "param_scheduler": rates}
    whole = runner(tmp_path / "whole", f"{name}-whole", loop(), **options)
    whole.train()
    stopped = runner(tmp_path, f"{name}-stopped", loop(), custom_hooks=[StopAfter(stop)], **options)
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    again = runner(tmp_path, f"{name}-again", loop(), resume=True, **options)
    again.train()
    assert again.iter == 12
    assert torch.equal(again.model.weight, whole.model.weight)
    ours, theirs = again.train_loop.pruner, whole.train_loop.pruner
    assert np.array_equal(ours.losses, theirs.losses, equal_nan=True)
    assert [row["trained"] for row in ours.history] == [30] * 4
    runner(tmp_path, f"{name}-over", loop(), resume=True, **options).train()  # nothing to do


@pytest.mark.parametrize("loop", [epochs, iterations])
def test_a_runner_goes_back_to_a_checkpoint_of_its_own(tmp_path, loop):
    """As in a notebook: Ctrl-C, then `resume` of an earlier checkpoint, in the same runner."""
    save = {"checkpoint": {"type": "CheckpointHook", "by_epoch": False, "interval": 1}}
    options = {"default_hooks": {**save, "logger": None}, "custom_hooks": [StopAfter(10)]}
    run = runner(tmp_path, f"{loop.__name__}-back", loop(), **options)
    with pytest.raises(KeyboardInterrupt):
        run.train()
    run.resume(str(tmp_path / "iter_5.pth"))
    run.hooks[:] = [hook for hook in run.hooks if not isinstance(hook, StopAfter)]
    run.train()
    assert run.iter == 12
    assert [row["trained"] for row in run.train_loop.pruner.history] == [30] * 4
    assert_known(run.train_loop.pruner)


def test_weights_alone_begin_a_new_run(tmp_path):
    save = {"checkpoint": {"type": "CheckpointHook", "interval": 1}, "logger": None}
    runner(tmp_path, "first", epochs(2), default_hooks=save).train()
    new = runner(tmp_path / "new", "second", epochs(3), load_from=str(tmp_path / "epoch_2.pth"))
    new.train()
    assert [row["epoch"] for row in new.train_loop.pruner.history] == [0, 1, 2]
    longer = epochs(3, changed=["epochs"])
    more = runner(tmp_path, "more", longer, load_from=str(tmp_path / "epoch_2.pth"), resume=True)
    more.train()
    assert [row["epoch"] for row in more.train_loop.pruner.history] == [0, 1, 2]


def test_a_checkpoint_without_pruning_is_not_resumed(tmp_path):
    path = tmp_path / "plain.pth"
    save = {"checkpoint": {"type": "CheckpointHook", "interval": 1}, "logger": None}
    runner(tmp_path, "pruned", epochs(1), default_hooks=save).train()
    saved = torch.load(tmp_path / "epoch_1.pth", weights_only=False)
    del saved["seta"]
    torch.save(saved, path)
    run = runner(tmp_path, "plain", epochs(2), load_from=str(path), resume=True)
    with pytest.raises(ValueError, match="no state of a pruned run"):
        run.train()


def test_accumulation_and_averaged_weights(tmp_path):
    run = runner(
        tmp_path,
        "accumulation",
        epochs(),
        custom_hooks=[{"type": "EMAHook"}],
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1}, "accumulative_counts": 2},
    )
    run.train()
    assert_known(run.train_loop.pruner)
    assert [row["trained"] for row in run.train_loop.pruner.history] == [30] * 4


def test_losses_outside_of_a_pruned_loop_are_refused(tmp_path):
    run = runner(tmp_path, "stock", {"by_epoch": True, "max_epochs": 1})
    with pytest.raises(RuntimeError, match='train_cfg=dict\\(type="PrunedTrainLoop"'):
        run.train()


def test_a_model_that_records_no_losses_is_refused(tmp_path):
    class Mean(Known):
        def forward(self, inputs, index, mode):
            return {"loss": inputs.mean() * self.weight}

    with pytest.raises(RuntimeError, match="none of the 3 batches of epoch 0 was answered"):
        runner(tmp_path, "mean", epochs(), model=Mean()).train()


def test_losses_of_a_head_are_recorded_in_parse_losses(tmp_path):
    class Headed(Known):
        def forward(self, inputs, index, mode):
            return {"loss": value_of(inputs[:, 0]) + 0 * self.weight, "part_of_it": inputs}

        def parse_losses(self, losses):
            return super().parse_losses({**losses, "loss": update(losses["loss"])})

    run = runner(tmp_path, "headed", epochs(), model=Headed())
    run.train()
    assert_known(run.train_loop.pruner)


def test_other_samplers_are_refused(tmp_path):
    weighted = DataLoader(
        Rows(), batch_size=10, sampler=torch.utils.data.WeightedRandomSampler([1.0] * N, N)
    )
    with pytest.raises(ValueError, match="WeightedRandomSampler, which takes some"):
        runner(tmp_path, "weighted", epochs(), train=weighted).train()


@pytest.mark.processes
def test_two_processes(tmp_path):
    torchrun(2, "-m", "tests.engines.mmengine_ranks", tmp_path)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first["losses"] == second["losses"]
    assert first["weight"] == second["weight"] == first["again"]
    for mine, other in zip(first["seen"], second["seen"], strict=True):
        assert len(mine) == len(other) == 5
        assert not set(mine) & set(other)
    for epoch in range(4):  # three batches each
        batches = slice(3 * epoch, 3 * epoch + 3)
        seen = [i for rank in (first, second) for batch in rank["seen"][batches] for i in batch]
        assert len(set(seen)) == 30
    trained = [loss for loss in first["losses"] if loss is not None]
    assert len(trained) > 30
    assert "between epochs only" in first["refused"]


def test_the_page(tmp_path):
    run_page("mmengine", tmp_path, before=Path(vision_operators.__file__).read_text())
