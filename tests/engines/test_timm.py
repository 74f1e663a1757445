"""timm: its loaders and its loop, over images that are their own indices."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.engines import vision_operators
from tests.engines.pages import run_page
from tests.launch import torchrun

pytest.importorskip("timm")
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", r".*torch\.jit", DeprecationWarning)
    from timm.data import FastCollateMixup, Mixup
    from timm.models import create_model
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2
    from timm.task import ClassificationTask
    from timm.utils import ModelEmaV3

    from tests.engines.timm_cases import N, index_of, loader_of, value_of, write_images

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),  # of timm's ImageDataset
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("timm")
    write_images(made)
    return made


def assert_known(pruner):
    """Each loss in the table is that of its sample."""
    seen = ~np.isnan(pruner.losses)
    assert seen.any()
    expected = value_of(torch.arange(N)).numpy()
    assert (pruner.losses[seen] == expected[seen]).all()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("prefetcher", [True, False])
def test_losses_reach_their_samples(folder, prefetcher, workers):
    loader, pruned = loader_of(folder, prefetcher=prefetcher, num_workers=workers)
    for epoch in range(4):
        loader.sampler.set_epoch(epoch)
        assert len(loader) == 3
        for images, _ in loader:
            pruned.update(value_of(index_of(images)))
    assert [row["trained"] for row in pruned.pruner.history] == [30] * 4
    assert_known(pruned.pruner)


class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3 * 64, 2)
        torch.nn.init.constant_(self.layer.weight, 0.01)
        torch.nn.init.zeros_(self.layer.bias)

    def forward(self, images):
        return self.layer(images.flatten(1))


def train(loader, pruned, *, model, first=0, stop_at=None, epochs=4, accumulation=1, mix=None):
    """The loop of timm's train.py: epochs, updates, accumulation, schedule by updates, EMA."""
    criterion = torch.nn.CrossEntropyLoss(reduction="none", label_smoothing=0.1)
    task = ClassificationTask(model, criterion, device=torch.device("cpu"))
    optimizer = create_optimizer_v2(model, opt="adamw", lr=0.01)
    updates_per_epoch = -(-len(loader) // accumulation)
    schedule, epochs = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=epochs,
        step_on_epochs=False,
        updates_per_epoch=updates_per_epoch,
        warmup_epochs=0,
    )
    ema = ModelEmaV3(model, decay=0.9)
    updates = 0
    for epoch in range(first, epochs):
        loader.sampler.set_epoch(epoch)
        for at, (images, targets) in enumerate(loader):
            if mix is not None:
                images, targets = mix(images, targets)
            loss = pruned.update(task(images, targets)["loss"]) / accumulation
            loss.backward()
            if (at + 1) % accumulation == 0 or at + 1 == len(loader):
                optimizer.step()
                optimizer.zero_grad()
                updates += 1
                ema.update(model, step=updates)
                schedule.step_update(updates)
    return optimizer.param_groups[0]["lr"], ema


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_loop_of_train_py(folder, accumulation):
    loader, pruned = loader_of(folder, policy="InfoBatch")
    model = Tiny()
    rate, ema = train(loader, pruned, model=model, accumulation=accumulation)
    assert rate == pytest.approx(0, abs=1e-5)
    assert [row["trained"] for row in pruned.pruner.history] == [30] * 4

    plain, same = loader_of(folder, policy="InfoBatch", prefetcher=False)
    again = Tiny()
    train(plain, same, model=again, accumulation=accumulation)
    assert np.allclose(pruned.pruner.losses, same.pruner.losses, atol=1e-5, equal_nan=True)
    assert torch.allclose(model.layer.weight, again.layer.weight, atol=1e-5)
    assert not torch.equal(ema.module.layer.weight, model.layer.weight)


@pytest.mark.parametrize("collate", [False, True])
def test_mixup_records_the_losses_of_mixed_images(folder, collate):
    arguments = {"mixup_alpha": 1.0, "num_classes": 2}
    options = {"collate_fn": FastCollateMixup(**arguments)} if collate else {}
    loader, pruned = loader_of(folder, **options)
    assert loader.mixup_enabled == collate
    train(loader, pruned, model=Tiny(), mix=None if collate else Mixup(**arguments))
    assert [row["trained"] for row in pruned.pruner.history] == [30] * 4


def test_a_model_of_timm(folder):
    loader, pruned = loader_of(folder, epochs=1)
    model = create_model("test_resnet", num_classes=2)
    train(loader, pruned, model=model, epochs=1)
    assert np.isfinite(pruned.pruner.losses).sum() == 30


@pytest.mark.parametrize("stop", [1, 3, 4, 8])
def test_a_resumed_run_continues_where_it_was(folder, stop):
    """The batch that was taken ahead when the state was saved comes again."""

    def passed(loader, pruned, left=None):
        seen = []
        for epoch in range(pruned.pruner.next_epoch, 4):
            loader.sampler.set_epoch(epoch)
            for images, _ in loader:
                seen.append(index_of(images).tolist())
                pruned.update(value_of(index_of(images)))
                if len(seen) == left:
                    return seen
        return seen

    whole = passed(*loader_of(folder))
    loader, pruned = loader_of(folder)
    first = passed(loader, pruned, stop)
    again, resumed = loader_of(folder)
    resumed.load_state_dict(pruned.state_dict())
    assert first + passed(again, resumed) == whole
    assert_known(resumed.pruner)


def test_weights_and_skipped_batches(folder):
    loader, pruned = loader_of(folder, policy="InfoBatch", epochs=2)
    skipped = []
    for _ in range(2):
        for at, (images, _) in enumerate(loader):
            index = index_of(images)
            assert torch.equal(pruned.weights(), pruned.weights(index))
            if at != 1:
                pruned.update(value_of(index))
            else:
                pruned.skip()
                skipped += index.tolist()
    assert [row["trained"] for row in pruned.pruner.history] == [20, 20]
    assert_known(pruned.pruner)
    assert skipped


def test_a_batch_without_an_answer_is_an_error(folder):
    loader, pruned = loader_of(folder)
    with pytest.raises(RuntimeError, match="there are 3 batches without an answer in place of 2"):
        for at, (images, _) in enumerate(loader):
            if at:
                pruned.update(value_of(index_of(images)))

    loader, pruned = loader_of(folder)
    with pytest.raises(RuntimeError, match="there are 2 batches without an answer in place of 1"):
        for at, (images, _) in enumerate(loader):
            if at != 1:
                pruned.update(value_of(index_of(images)))


def test_the_wrong_loader_for_a_prefetcher_is_an_error(folder):
    loader, pruned = loader_of(folder)
    with pytest.raises(RuntimeError, match="use_prefetcher=False"):
        for images, _ in loader.loader:  # without the prefetcher
            pruned.update(images.float().mean((1, 2, 3)))

    plain, _ = loader_of(folder, prefetcher=False)
    loader.loader = plain  # a PrunedDataLoader below the prefetcher
    with pytest.raises(RuntimeError, match="with_indices=True"):
        for images, _ in loader:
            plain.update(images.mean((1, 2, 3)))


def test_loaders_that_choose_samples_are_refused(folder):
    with pytest.raises(ValueError, match="batch_sampler of its own"):
        loader_of(folder, input_size_choices=[8, 16])


def test_other_than_one_loss_per_image_is_refused(folder):
    loader, pruned = loader_of(folder)
    images, _ = next(iter(loader))
    with pytest.raises(ValueError, match="already reduced"):
        pruned.update(images.mean())
    with pytest.raises(ValueError, match="indices must have one entry for each loss"):
        pruned.update(images.mean((1, 2, 3)).repeat(2))  # as AugMix has it
    pruned.update(value_of(index_of(images)))  # the batch is still the one that is trained
    assert_known(pruned.pruner)


def test_an_epoch_of_one_batch(folder):
    loader, pruned = loader_of(folder, batch_size=60, budget=1.0, epochs=2)
    for _ in range(2):
        for images, _ in loader:
            pruned.update(value_of(index_of(images)))
    assert [row["trained"] for row in pruned.pruner.history] == [60, 60]
    assert_known(pruned.pruner)


def test_an_epoch_too_many_is_refused_by_name(folder):
    loader, pruned = loader_of(folder, batch_size=60, budget=1.0, epochs=1)
    for images, _ in loader:
        pruned.update(value_of(index_of(images)))
    with pytest.raises(RuntimeError, match="all 1 epochs of this run are over"):
        next(iter(loader))


@pytest.mark.processes
def test_two_processes(folder):
    torchrun(2, "-m", "tests.engines.timm_ranks", folder)
    first, second = (json.loads((folder / f"{rank}.json").read_text()) for rank in range(2))
    assert first["losses"] == second["losses"]
    known = value_of(torch.arange(N)).tolist()
    assert all(loss in (None, value) for loss, value in zip(first["losses"], known, strict=True))
    for epoch in range(3):
        batches = slice(3 * epoch, 3 * epoch + 3)
        seen = [i for rank in (first, second) for batch in rank["seen"][batches] for i in batch]
        assert len(seen) == len(set(seen)) == 30


def test_the_page(tmp_path):
    run_page("timm", tmp_path, before=Path(vision_operators.__file__).read_text())
