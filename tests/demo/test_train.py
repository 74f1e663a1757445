import pytest
import torch

import seta
from seta.demo.data import load_digits
from seta.demo.net import learning_rate, make_net
from seta.demo.train import Recipe, train


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 64, 40), (2, 3, 5)])
def test_the_net_takes_images_of_any_size(shape):
    assert make_net(shape, 7, seed=0)(torch.zeros(2, *shape)).shape == (2, 7)


def test_runs_of_one_seed_start_from_the_same_weights_and_leave_torchs_randomness_alone():
    state = torch.random.get_rng_state()
    first, again, other = (make_net((1, 8, 8), 10, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first[0].weight, again[0].weight)
    assert not torch.equal(first[0].weight, other[0].weight)


def test_the_learning_rate_rises_for_a_fifth_and_falls_to_nothing():
    rates = [learning_rate(progress / 100, peak=0.5) for progress in range(101)]
    assert max(rates) == rates[20] == pytest.approx(0.5)
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert 0 < rates[0] < 0.01
    assert rates[100] == pytest.approx(0)


def test_an_epoch_that_was_pruned_is_shorter_and_every_trained_sample_counted():
    rows = list(train(load_digits(), seta.SeTa(), Recipe(), epochs=3, seed=0))
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    for row in rows:
        pruning = row["pruning"]
        assert pruning["kept"] + pruning["pruned"] == pruning["samples"] == 1078
        assert pruning["trained"] == pruning["kept"]
    assert rows[-1]["visits"] == sum(row["pruning"]["kept"] for row in rows)
    assert rows[1]["pruning"]["kept"] < 0.95 * 1078
    assert 0 < rows[0]["seconds"] < rows[1]["seconds"]


@pytest.mark.parametrize("policy", ["Full", "SeTa", "InfoBatch"])
def test_every_batch_is_full(policy):
    rows = train(load_digits(), policy, Recipe(), epochs=4, seed=0)
    assert all(row["pruning"]["trained"] % 64 == 0 for row in rows)


def test_fewer_images_than_a_batch_are_one_batch():
    rows = list(train(load_digits(), "SeTa", Recipe(batch_size=2000), epochs=2, seed=0))
    assert [row["pruning"]["trained"] for row in rows] == [1078, 1078]


def test_the_same_seed_gives_the_same_run():
    first, again = (
        [row["accuracy"] for row in train(load_digits(), "SeTa", Recipe(), epochs=2, seed=3)]
        for _ in range(2)
    )
    assert first == again


def test_the_selection_can_be_looked_at_when_an_epoch_begins():
    seen = []
    steps = train(
        load_digits(),
        seta.InfoBatch(),
        Recipe(),
        epochs=2,
        seed=0,
        on_begin=lambda pruner: seen.append((pruner.epoch, pruner.histogram.unseen)),
    )
    list(steps)
    assert seen == [(0, 1078), (1, 1078 % 64)]


def test_the_net_learns_the_digits():
    *_, last = train(load_digits(), seta.SeTa(), Recipe(), epochs=12, seed=0)
    assert last["accuracy"] > 0.9
