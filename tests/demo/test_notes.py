from types import SimpleNamespace

import pytest

from seta.demo.notes import sentences
from seta.demo.settings import EQUAL_COST
from seta.report.results import MethodSummary

DATA = SimpleNamespace(test_labels=range(500))


def summary(method, accuracy, spread=0.004, runs=3, saved=0.4, stopped=None):
    return MethodSummary(method, runs, accuracy, spread, 1000, saved, 1.0, stopped)


def told(*summaries):
    return " ".join(sentences(summaries, DATA, 40))


def test_what_the_accuracy_is_and_how_coarse_it_is_always_comes_first():
    text = told(summary("Full", 0.9))
    assert "last epoch, on 500 held-out images (one image is 0.20 points)" in text


def test_the_saving_is_called_an_outcome():
    text = told(summary("SeTa", 0.9, saved=0.412), summary("Random", 0.9))
    assert "SeTa saved 41 % of the samples: an outcome of these losses and these 40 epochs" in text
    assert "Random trained as many samples as SeTa with the same seed." in text


def test_a_small_difference_is_called_chance_and_a_large_one_is_not():
    text = told(summary("SeTa", 0.98), summary("Full", 0.981), summary(EQUAL_COST, 0.95))
    assert "SeTa against Full: -0.10 points, which these seeds cannot tell from chance" in text
    assert f"SeTa against {EQUAL_COST}: +3.00 points, more than chance" in text


def test_the_noise_is_students_interval_of_the_difference():
    # t(4) = 2.776 times 0.4 points times sqrt(2 / 3)
    assert f"(±{2.78 * 0.4 * (2 / 3) ** 0.5:.2f})" in told(
        summary("SeTa", 0.9), summary("Full", 0.9)
    )


@pytest.mark.parametrize("one", ["SeTa", "Full"])
def test_a_single_seed_is_said_to_say_nothing_of_chance(one):
    pair = [summary(m, 0.9, None if m == one else 0.1, 1) for m in ("SeTa", "Full")]
    assert "a single seed does not say how much of that is chance (--seeds 3)" in told(*pair)


def test_a_run_that_was_stopped_is_compared_with_nothing():
    assert "against" not in told(summary("SeTa", 0.5, stopped=(3, 40)), summary("Full", 0.9))
