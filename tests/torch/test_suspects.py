"""Labels that were made wrong are found, in a training of real images."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

import seta

datasets = pytest.importorskip("sklearn.datasets")
metrics = pytest.importorskip("sklearn.metrics")
WRONG = 0.1


@pytest.mark.parametrize(
    "method, budget",
    [
        ("SeTa", 0.5),
        pytest.param("Full", None, marks=pytest.mark.slow),
        pytest.param("Learnable", 0.5, marks=pytest.mark.slow),
    ],
)
def test_planted_errors_come_first(method, budget):
    digits = datasets.load_digits()
    rng = np.random.default_rng(0)
    n = len(digits.target)
    wrong = rng.random(n) < WRONG
    labels = np.where(wrong, (digits.target + rng.integers(1, 10, n)) % 10, digits.target)
    data = TensorDataset(torch.tensor(digits.data / 16).float(), torch.tensor(labels))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
        optimizer = torch.optim.Adam(net.parameters(), 3e-3)
        loader = seta.PrunedDataLoader(
            data, method, epochs=8, budget=budget, batch_size=32, seed=0, track=True
        )
        for _ in range(8):
            for images, given in loader:
                loss = loader.update(cross_entropy(net(images), given, reduction="none"))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    table = loader.pruner.table()
    score = np.nan_to_num(table["suspicion"], nan=-np.inf)
    assert metrics.average_precision_score(wrong, np.maximum(score, -1e9)) > 0.8
    for classes in (None, labels):
        found = loader.pruner.suspects(int(wrong.sum()), classes=classes)["index"]
        assert wrong[found].mean() > 0.75
