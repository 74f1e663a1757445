"""Rivals do what they are named for, at the visits of every method."""

import numpy as np
import pytest

import seta
from benchmarks.accuracy.plan import Choice, jobs
from benchmarks.accuracy.report.studies import CONTROLS
from benchmarks.accuracy.rivals import CUT, QUOTAS, RESAMPLED, RIVALS, Resampled, rival
from benchmarks.accuracy.run import make_line
from benchmarks.accuracy.suites import SUITES, Suite, Variant
from tests.accuracy.fake_task import FakeTask

N, EPOCHS = 1200, 12


def visits_of(policy, losses, epochs=range(EPOCHS), **options):
    """Returns how often each sample was trained in some epochs, its loss the same each time."""
    pruner = seta.Pruner(len(losses), policy, epochs=EPOCHS, budget=0.5, **options)
    visits = np.zeros(len(losses), int)
    for epoch in range(EPOCHS):
        indices = pruner.begin_epoch().indices
        visits[indices] += epoch in epochs
        pruner.record(indices, losses[indices])
        pruner.end_epoch()
    assert sum(row["kept"] for row in pruner.history) == len(losses) * EPOCHS // 2
    return visits


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_the_hardest_are_cut_from_a_third_of_the_run_on_and_the_others_take_turns(share):
    losses = np.random.default_rng(0).permutation(N).astype(np.float32)
    hard = losses >= (1 - share) * N
    policy = rival(CUT, 0.5, {"wrong": share}).policy()
    early = visits_of(policy, losses, range(4))
    assert 1.8 < early[hard].mean() < 2.2
    late = visits_of(policy, losses, range(4, EPOCHS))
    assert late[hard].mean() < 0.1  # those in one bin with the last easy ones
    easy = late[~hard]
    assert easy.mean() == pytest.approx(8 * 0.5 / (1 - share), rel=0.02)
    by_chance = np.sqrt(8 * 0.5 / (1 - share) * (1 - 0.5 / (1 - share)))
    assert easy.std() < 0.6 * by_chance


def test_without_wrong_labels_nothing_is_cut():
    losses = np.random.default_rng(0).permutation(N).astype(np.float32)
    cut = visits_of(rival(CUT, 0.5, {"wrong": 0.0}).policy(), losses)
    np.testing.assert_array_equal(cut, visits_of(seta.RS2(0.5), losses))


def test_quotas_are_equal_and_a_small_class_is_trained_in_every_epoch():
    classes = np.repeat([0, 1, 2], [900, 250, 50])
    policy = rival(QUOTAS, 0.5, {}).policy()
    visits = visits_of(policy, np.ones(N, np.float32), strata=classes)
    by_class = [visits[classes == one].sum() / EPOCHS for one in range(3)]
    np.testing.assert_allclose(by_class, [300, 250, 50], rtol=0.02)
    assert np.ptp(visits[classes == 2]) == 0


def test_resampled_classes_are_drawn_equally_often_and_rows_stay_together():
    task = FakeTask(n=200)
    task.classes = (np.arange(200) % 20 == 0).astype(int)
    task.dataset.points[:, 0] = task.dataset.points.new_tensor(range(200))
    task.dataset.labels[:] = task.dataset.labels.new_tensor(task.classes)
    drawn = Resampled(task, 0)
    points, labels = drawn.__getitems__(list(range(200)) * 50)
    assert labels.float().mean() == pytest.approx(0.5, abs=0.02)
    at = points[:, 0].long().numpy()
    np.testing.assert_array_equal(task.classes[at], labels.numpy())
    counts = np.bincount(at, minlength=200)
    assert counts.min() > 0 and counts[task.classes == 1].min() > counts[task.classes == 0].max()


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_trains_the_visits_of_a_method(name):
    task = FakeTask()
    line = make_line(
        task, rival(name, 0.5, {"wrong": 0.2}), suite="s", variant="", seed=0, full_epochs=4
    )
    assert line["visits"] == 4 * 64 / 2 and line["method"] == name
    assert task.wrong is None or (line["wrong_share"] is None) == (name == RESAMPLED)


def test_rivals_run_where_a_suite_names_them_at_every_budget_and_can_be_asked_for():
    suite = Suite("s", {"": Variant("m:t", 3, 10, {"wrong": 0.1})}, ("Full", "RS2"), rivals=(CUT,))
    found = {(job.contender.method, job.contender.budget) for job in jobs(suite, Choice())}
    assert found == {("Full", 1.0), ("RS2", 0.5), ("RS2", 0.3), (CUT, 0.5), (CUT, 0.3)}
    asked = jobs(suite, Choice(methods=[CUT], budgets=[0.5], seeds=1))
    assert [job.contender.name for job in asked] == [f"{CUT} 0.5"]
    assert asked[0].contender.policy() == RIVALS[CUT](0.5, {"wrong": 0.1})


def test_rivals_are_no_methods():
    assert set(CONTROLS) > set(RIVALS)
    assert {CUT} == set(SUITES["noise-long"].rivals) == set(SUITES["noise-text"].rivals)
