"""What goes wrong in real runs: nothing recorded is lost, nothing is misassigned, figures fit."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset, TensorDataset

import seta
from tests.combinations import some_of
from tests.torch.helpers import looked_at

METHODS = ["SeTa", "InfoBatch", "Random", "Static", "Full"]
N, EPOCHS = 300, 14


class Breaking(Dataset):
    """Rows that are their index; some cannot be read at first."""

    def __init__(self, broken):
        self.broken = torch.tensor(sorted(broken)).share_memory_()  # workers see it heal

    def __len__(self):
        return N

    def __getitem__(self, index):
        if index in self.broken:
            raise OSError(f"row {index} cannot be read")
        return torch.tensor(index)


def figures_add_up(loader):
    history = loader.pruner.history
    for row in history:
        assert row["kept"] + row["pruned"] == row["samples"] == N
        assert row["kept"] >= 1
        assert 0 <= row["trained"] <= row["kept"]
        assert 0 <= row["nonfinite"] <= row["trained"]
    total = sum(row["trained"] for row in history)
    assert loader.pruner.saved == pytest.approx(1 - total / (N * len(history)))


def make(policy, **options):
    features = torch.randn(N, 4, generator=torch.Generator().manual_seed(0))
    dataset = TensorDataset(torch.arange(N), features, features[:, 0].gt(0).long())
    return seta.PrunedDataLoader(dataset, policy, epochs=EPOCHS, batch_size=25, **options)


@pytest.mark.parametrize("budget", [None, 0.5])
@pytest.mark.parametrize("policy", METHODS)
def test_losses_that_are_nan_for_ten_epochs(policy, budget):
    loader, finite = make(policy, budget=budget), {}
    for epoch in range(EPOCHS):
        for indices, inputs, _ in loader:
            losses = inputs[:, 0].abs() + epoch
            if 2 <= epoch < 12:
                losses = losses * float("nan")
            else:
                finite.update(zip(indices.tolist(), losses.tolist(), strict=True))
            loader.update(losses)
        row = loader.pruner.history[epoch]
        assert row["nonfinite"] == (row["trained"] if 2 <= epoch < 12 else 0)
    expected = np.array([finite.get(i, np.nan) for i in range(N)], np.float32)
    assert np.array_equal(loader.pruner.losses, expected, equal_nan=True)
    figures_add_up(loader)


@pytest.mark.parametrize("budget", [None, 0.5])
@pytest.mark.parametrize("policy", METHODS)
def test_losses_that_are_all_infinite(policy, budget):
    loader = make(policy, budget=budget)
    for _ in range(EPOCHS):
        for indices, _, _ in loader:
            loader.update(torch.full((len(indices),), float("inf")))
    assert np.isnan(loader.pruner.losses).all()
    assert all(row["nonfinite"] == row["trained"] for row in loader.pruner.history)
    assert all(row["unseen"] == N for row in loader.pruner.history)
    figures_add_up(loader)


@pytest.mark.parametrize(
    "policy, budget",
    [
        ("SeTa", None),
        ("Static", 0.5),
        *(
            pytest.param(policy, budget, marks=pytest.mark.slow)
            for policy in METHODS
            for budget in (None, 0.5)
            if (policy, budget) not in [("SeTa", None), ("Static", 0.5)]
        ),
    ],
)
def test_a_learning_rate_that_diverges(policy, budget):
    loader = make(policy, budget=budget)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e8)
    for _ in range(EPOCHS):
        for _, inputs, targets in loader:
            loss = loader.update(cross_entropy(model(inputs), targets, reduction="none"))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert sum(row["nonfinite"] for row in loader.pruner.history) > 0
    assert not np.isinf(loader.pruner.losses).any()
    figures_add_up(loader)


@some_of("policy, workers", ["SeTa", "InfoBatch"], [0, 2])
def test_workers_that_fail_and_loops_that_raise(policy, workers):
    dataset = Breaking({40, 77, 240})
    loader = seta.PrunedDataLoader(
        dataset, policy, epochs=EPOCHS, batch_size=25, num_workers=workers
    )
    expected = np.full(N, np.nan, np.float32)
    failures, begun = 0, set()  # epochs of which a batch came
    for epoch in range(EPOCHS):
        if epoch == 8:
            dataset.broken.fill_(-1)
        loader.set_epoch(epoch)
        try:
            for at, indices in enumerate(loader):
                if epoch % 3 == 1 and at == 4:
                    raise ZeroDivisionError("a bug in the loop")
                losses = indices / 7 + epoch
                loader.update(losses)
                expected[indices] = losses
                begun.add(epoch)
        except (OSError, ZeroDivisionError):
            failures += 1
        assert np.array_equal(loader.pruner.losses, expected, equal_nan=True)
    loader.end_epoch()
    assert failures >= 8
    assert len(begun) >= 10
    assert [row["epoch"] for row in loader.pruner.history] == sorted(begun)
    figures_add_up(loader)


def test_a_checkpoint_onto_a_full_disk_leaves_the_run_as_it_is(tmp_path):
    """Linux has a device that is always full."""
    loader = make("SeTa")
    for at, (_, inputs, _) in enumerate(loader):
        loader.update(inputs[:, 0].abs())
        if at == 3:
            break
    before = loader.pruner.losses.copy()
    with pytest.raises((OSError, RuntimeError)):
        # Of a small file alone, PyTorch 2.6 tells no error.
        torch.save({"loader": loader.state_dict(), "model": torch.zeros(1 << 20)}, "/dev/full")
    assert np.array_equal(loader.pruner.losses, before, equal_nan=True)
    torch.save(loader.state_dict(), tmp_path / "run.pt")
    other = make("SeTa")
    other.load_state_dict(torch.load(tmp_path / "run.pt", weights_only=True))
    rest = loader.pruner.selection.indices[100:]
    assert [i for b in looked_at(other) for i in b[0].tolist()] == rest.tolist()
