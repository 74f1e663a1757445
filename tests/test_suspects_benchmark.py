"""The benchmark of suspects, on digits: what it gives to each score is what the run has seen."""

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from benchmarks.accuracy.image_suites import with_wrong
from benchmarks.accuracy.image_trial import ImageTask, Recipe
from benchmarks.accuracy.sst2 import WordNet
from benchmarks.suspects import __main__ as command
from benchmarks.suspects import scores, tasks
from benchmarks.suspects.names import EQUAL, NAMES
from benchmarks.suspects.watch import watch
from seta.comparison import lines
from seta.comparison.contenders import Contender
from seta.demo.data import load_digits
from seta.extras import MissingExtra

pytest.importorskip("sklearn")


def digits(data, wrong, seed):
    found = load_digits()
    images = np.interp(found.train, (found.train.min(), found.train.max()), (0, 255))
    given = with_wrong(found.train_labels, wrong, seed)
    test = images[:100].round().astype(np.uint8), found.train_labels[:100]
    recipe = Recipe(batch_size=32, rate=0.05, shift=0, mirror=False, smoothing=0.0)
    from benchmarks.accuracy.convnets import tiny_net

    train = images.round().astype(np.uint8), given
    return ImageTask("digits", train, test, tiny_net, recipe, true_labels=found.train_labels)


def test_probabilities_are_those_that_the_losses_are_made_of():
    task = digits(None, 0.1, 0)
    found = watch(task, Contender("Full", 1.0), seed=0, epochs=1)
    seen = found.table["visits"] == 1
    assert seen.sum() == found.visits > 1000
    own = found.averaged[np.arange(len(seen)), task.classes]
    assert np.exp(-found.table["loss"][seen]) == pytest.approx(own[seen], abs=2e-3)
    assert np.array_equal(np.isnan(found.averaged[:, 0]), ~seen)
    assert found.last.sum(axis=1) == pytest.approx(np.ones(len(seen)), abs=1e-3)
    assert task.held_out is not task.dataset


def test_a_run_leaves_the_random_state_as_it_was():
    before = torch.random.get_rng_state()
    watch(digits(None, 0.1, 0), Contender("SeTa", 0.5), seed=0, epochs=2)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.filterwarnings("ignore")
def test_every_run_has_one_line_and_is_not_made_twice(tmp_path, monkeypatch):
    pytest.importorskip("cleanlab")
    monkeypatch.setitem(command.KINDS, "digits", tasks.Kind(digits, 3, (0.1,)))
    asked = ["--kinds", "digits", "--out", str(tmp_path), "--seeds", "1"]
    assert CliRunner().invoke(command.app, asked).exit_code == 0
    found = lines.read(tmp_path / "digits.jsonl")
    assert [one["method"] for one in found] == ["Full", "SeTa", "Learnable"]
    for one in found:
        assert set(one["scores"]) == set(NAMES)
        assert one["versions"]["cleanlab"] and "DIR" in one["command"]
        assert one["scores"]["suspicion"]["ap"] > 0.3
    monkeypatch.setattr(command, "make_line", None)  # not called again
    assert CliRunner().invoke(command.app, asked).exit_code == 0
    assert lines.read(tmp_path / "digits.jsonl") == found


@pytest.mark.filterwarnings("ignore")
def test_cleanlab_ranks_what_it_is_given_and_the_unseen_have_no_score():
    pytest.importorskip("cleanlab")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    probabilities = rng.dirichlet(np.ones(3), 200).astype(np.float32)
    probabilities[:5] = np.nan
    for score in scores.cleanlab_scores(labels, probabilities):
        assert np.array_equal(np.isnan(score), np.arange(200) < 5)
    confidence = scores.cleanlab_scores(labels, probabilities)[0]
    own = probabilities[np.arange(200), labels]
    assert confidence[5:] == pytest.approx(-own[5:], abs=1e-6)
    assert EQUAL == "self-confidence, averaged"


def test_figures_are_those_of_the_ranking():
    wrong = np.array([True, False, True, False, False, False])
    best, worst = np.array([3, 1, 2, 0, -1, np.nan]), np.array([np.nan, 3, -1, 2, 1, 0])
    found = scores.figures({"best": best, "worst": worst}, wrong)
    assert found["best"] == {"ap": 1.0, "auroc": 1.0, "precision": 1.0}
    assert found["worst"]["precision"] == 0 and found["worst"]["auroc"] == 0


def test_without_cleanlab_the_command_to_install_it_is_named(monkeypatch):
    monkeypatch.setattr(scores, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="pip install cleanlab"):
        scores.cleanlab_version()


def test_padding_does_not_change_what_the_net_says_of_a_sentence():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = WordNet(50).eval()
    words, lengths = torch.randint(2, 50, (4, 6)), torch.tensor([6, 3, 1, 5])
    words[torch.arange(6) >= lengths[:, None]] = 0
    longer = torch.nn.functional.pad(words, (0, 9))
    assert torch.allclose(net(words, lengths), net(longer, lengths), atol=1e-6)


def test_labels_of_two_classes_are_turned_round():
    labels = np.array([0, 1] * 50)
    given = with_wrong(labels, 0.2, seed=3, classes=2)
    assert (given != labels).sum() == 20 and set(given) == {0, 1}
    assert not np.array_equal(given, with_wrong(labels, 0.2, seed=4, classes=2))
