import pytest
import torch

import seta
from seta.demo.data import load_digits
from seta.demo.net import learning_rate, make_net
from seta.demo.snapshots import KeepCurves
from seta.demo.train import ImageTraining, Recipe, batch_as_is, tensors


def train(policy, *, epochs, seed=0, look=lambda pruner: None, budget=0.5):
    """Trains on the digits; returns the accuracy in percent."""
    data, recipe = load_digits(), Recipe()
    images, held_out = tensors(data, recipe.device)
    loader = seta.PrunedDataLoader(
        images, policy, epochs=epochs, seed=seed, budget=budget, batch_size=recipe.batch_size,
        drop_last=True, collate_fn=batch_as_is, strata=data.train_labels,
    )  # fmt: skip
    found = ImageTraining(data.shape, data.classes, held_out, recipe, look)(loader, seed)
    assert loader.pruner.epoch is None or loader.pruner.epoch == epochs - 1
    return found["accuracy %"]


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


@pytest.mark.parametrize("epochs, budget", [(4, 1.0), (4, 0.5), (3, [1.0, 1.0, 0.25])])
def test_the_learning_rate_ends_with_the_run_whatever_its_length(monkeypatch, epochs, budget):
    asked = []
    monkeypatch.setattr(
        "seta.demo.train.learning_rate", lambda progress, peak: asked.append(progress) or 0.01
    )
    train("Random", epochs=epochs, budget=budget)
    assert asked[0] == 0 and asked[-1] == pytest.approx(1 - 1 / len(asked))
    assert asked == sorted(asked)


def test_the_same_seed_gives_the_same_run():
    first, again = (train("SeTa", epochs=2, seed=3) for _ in range(2))
    assert first == again


def test_the_net_learns_the_digits():
    assert train(seta.SeTa(), epochs=16) > 90


def test_the_selection_can_be_looked_at_when_an_epoch_begins():
    seen = []

    def look(pruner):
        seen.append((pruner.epoch, pruner.histogram.unseen, pruner.kept))

    train("InfoBatch", epochs=2, look=look, budget=1.0)
    assert seen == [(0, 1078, 1024), (1, 1078 % 64, 1024)]


def test_four_epochs_of_the_first_whole_run_of_the_first_method_are_drawn(tmp_path):
    curves = KeepCurves(["Full", "SeTa", "UCB"])
    curves.save(tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
    train("Random", epochs=10, look=curves.look)
    assert not curves._taken
    train("SeTa", epochs=10, look=curves.look)
    titles = [shot.title for shot in curves._taken]
    assert [title.split()[1] for title in titles] == ["2", "5", "6", "10"]
    assert "Epoch 2 of 10\ntrains 512 of 1,078 samples" in titles[0]
    assert curves._title == "What a run of SeTa trains on: 5,120 sample visits in 10 epochs"
    train("SeTa", epochs=12, look=curves.look)
    assert [shot.title for shot in curves._taken] == titles
    curves.save(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_a_run_that_was_not_whole_is_not_drawn(tmp_path):
    class StopError(Exception):
        pass

    curves = KeepCurves(["InfoBatch"])

    def look(pruner):
        curves.look(pruner)
        if pruner.epoch == 3:
            raise StopError

    with pytest.raises(StopError):
        train("InfoBatch", epochs=5, look=look)
    curves.save(tmp_path / "curves.png")
    assert curves._taken and not (tmp_path / "curves.png").exists()
    train("InfoBatch", epochs=5, look=curves.look)
    assert [shot.title.split()[1] for shot in curves._taken] == ["2", "3", "4", "5"]


@pytest.mark.parametrize("method, judged", [("UCB", "score"), ("InfoBatch", "loss")])
def test_scores_are_not_called_losses(method, judged):
    curves = KeepCurves([method])
    train(method, epochs=5, look=curves.look)
    assert {shot.judged for shot in curves._taken} == {judged}
