"""Whole trainings: mixed precision, compiled models, and the method doing what it is for."""

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

import seta
from seta.torch import PrunedDataLoader
from tests.combinations import WORKERS
from tests.torch.helpers import looked_at

N, CLASSES = 512, 4
# torch warns of a fault of that version of Python, at every compilation.
on_python_3_13_0 = pytest.mark.filterwarnings("ignore:Guards may run slower:RuntimeWarning")


@pytest.fixture
def data():
    """Classes as noisy clusters: most samples are easy, some are not."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (N,), generator=generator)
    centres = 2 * torch.randn(CLASSES, 8, generator=generator)
    return TensorDataset(centres[labels] + torch.randn(N, 8, generator=generator), labels)


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, CLASSES))


def full_loss(model, data):
    with torch.no_grad():
        return cross_entropy(model(data.tensors[0]), data.tensors[1]).item()


def train(model, data, policy, epochs, **options):
    loader = PrunedDataLoader(data, policy, epochs=epochs, batch_size=32, **options)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(epochs):
        for inputs, labels in loader:
            loss = loader.update(cross_entropy(model(inputs), labels, reduction="none"))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return loader


@pytest.mark.parametrize("policy", ["SeTa", "InfoBatch", "Random"])
def test_training_learns_on_fewer_samples(model, data, policy):
    before = full_loss(model, data)
    loader = train(model, data, policy, 12)
    assert full_loss(model, data) < 0.5 * before
    trained = sum(row["trained"] for row in loader.pruner.history)
    assert trained < 0.85 * 12 * N
    assert loader.pruner.saved == pytest.approx(1 - trained / (12 * N))
    assert np.isfinite(loader.pruner.losses).all()


def test_keeping_everything_is_training_as_ever(model, data):
    loader = train(model, data, seta.Full(), 2)
    theirs = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, CLASSES))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for layer in theirs:
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1)
    plans = seta.Pruner(N, "Full", epochs=2)
    for epoch in range(2):
        plan = torch.from_numpy(plans.begin_epoch(epoch).indices.astype(np.int64))
        for part in plan.split(32):
            loss = cross_entropy(theirs(data.tensors[0][part]), data.tensors[1][part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert loader.pruner.saved == 0
    for one, other in zip(model.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_mixed_precision_with_a_scaler(model, data):
    before = full_loss(model, data)
    loader = PrunedDataLoader(data, "InfoBatch", epochs=8, batch_size=32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
    for _ in range(8):
        for inputs, labels in loader:
            with torch.autocast("cpu", torch.bfloat16):
                losses = cross_entropy(model(inputs), labels, reduction="none")
                loss = loader.update(losses)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    assert full_loss(model, data) < 0.5 * before
    assert [row["nonfinite"] for row in loader.pruner.history] == [0] * 8
    assert loader.pruner.saved > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_models_of_half_precision(model, data, dtype):
    before = full_loss(model, data)
    inputs, labels = data.tensors
    train(model.to(dtype), TensorDataset(inputs.to(dtype), labels), "SeTa", 6)
    assert full_loss(model.float(), data) < 0.5 * before


@pytest.mark.slow
@on_python_3_13_0
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_a_compiled_model(model, data):
    before = full_loss(model, data)
    loader = train(torch.compile(model, backend="aot_eager", dynamic=True), data, "InfoBatch", 4)
    assert full_loss(model, data) < 0.5 * before
    assert np.isfinite(loader.pruner.losses).all()


@on_python_3_13_0
def test_a_compiled_step_that_returns_losses(model, data):
    @torch.compile(backend="aot_eager", dynamic=True)
    def losses_of(inputs, labels):
        return cross_entropy(model(inputs), labels, reduction="none")

    loader = PrunedDataLoader(data, "Full", epochs=1, batch_size=32)
    for inputs, labels in loader:
        loss = loader.update(losses_of(inputs, labels))
        torch.testing.assert_close(loss, cross_entropy(model(inputs), labels))
        loss.backward()


@on_python_3_13_0
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_update_may_be_called_from_a_compiled_step(data, model):
    trained = []
    for compile_step in (lambda step: step, torch.compile(backend="aot_eager", dynamic=True)):
        loader = PrunedDataLoader(
            data, "InfoBatch", epochs=2, batch_size=32, losses=np.linspace(0, 1, N)
        )

        @compile_step
        def step(inputs, labels, loader=loader):
            losses = cross_entropy(model(inputs), labels, reduction="none")
            return loader.update(losses) * 2

        model.zero_grad()
        for inputs, labels in loader:
            step(inputs, labels).backward()
        assert loader.pruner.history[0]["pruned"] > 0
        trained.append((loader.pruner.losses, model[0].weight.grad.clone().numpy()))
    for eager, compiled in zip(*trained, strict=True):
        np.testing.assert_allclose(eager, compiled, rtol=1e-4, atol=1e-6)


def test_gradients_accumulate_over_batches(model, data):
    loader = PrunedDataLoader(data, "Full", epochs=1, batch_size=32)
    for step, (inputs, labels) in enumerate(loader):
        losses = cross_entropy(model(inputs), labels, reduction="none")
        (loader.update(losses) / 4).backward()
        if step == 3:
            break
    gradient = model[0].weight.grad.clone()
    plan = loader.pruner.selection.indices[:128].astype(np.int64)
    model.zero_grad()
    cross_entropy(model(data.tensors[0][plan]), data.tensors[1][plan]).backward()
    torch.testing.assert_close(gradient, model[0].weight.grad)


@pytest.mark.parametrize("num_workers", WORKERS)
def test_global_random_state_is_left_alone(data, num_workers):
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    loader = PrunedDataLoader(
        data, "InfoBatch", epochs=2, batch_size=32, num_workers=num_workers, with_indices=True
    )
    for _ in range(2):
        len(loader)
        for indices, _batch in loader:
            loader.update(torch.arange(len(indices)).float(), indices=indices)
    loader.load_state_dict(loader.state_dict())
    assert random.getstate() == before[0]
    np.testing.assert_equal(np.random.get_state(), before[1])
    assert torch.equal(torch.get_rng_state(), before[2])


def test_global_random_state_changes_nothing(data):
    plans = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        loader = PrunedDataLoader(data, "Random", epochs=2, batch_size=32)
        plans.append(
            [torch.cat([labels for _, labels in looked_at(loader)]).tolist() for _ in range(2)]
        )
    assert plans[0] == plans[1]
