"""A maker makes each task once in a process, and lines as they have been since the first."""

import pickle

from benchmarks.accuracy import suites
from benchmarks.accuracy.maker import Maker
from benchmarks.accuracy.plan import Choice, jobs
from tests.accuracy.fake_task import SUITE, FakeTask

FIELDS = [
    "suite", "variant", "method", "budget", "seed", "accuracy", "visits", "full_visits", "saved",
    "n", "epochs", "full_epochs", "accuracies", "metrics", "rows", "wrong_share",
    "wrong_share_of_data", "hardest", "hardest_by_epoch", "seconds", "cpu_seconds",
    "select_seconds", "eval_seconds", "policy", "task", "versions", "machine", "threads",
    "source", "date", "jobs", "command",
]  # fmt: skip


def planned(variant):
    return jobs(SUITE, Choice(methods=["Full", "Random"], budgets=(0.5,), variants=[variant]))


def silent(*told):
    """Hears how far a run is, and forgets it."""


def test_lines_have_the_fields_that_lines_made_before_have():
    """Files hold lines of both, and the report reads them alike."""
    maker = Maker(SUITE, workers=2, command="python -m benchmarks.accuracy --suite fake")
    (wrong, *_), (clean, *_) = planned("wrong"), planned("clean")
    line = maker(wrong, silent)
    assert list(line) == FIELDS
    assert list(maker(clean, silent)) == [name for name in FIELDS if name != "hardest_by_epoch"]
    assert (line["jobs"], line["command"]) == (2, "python -m benchmarks.accuracy --suite fake")
    assert (line["epochs"], line["full_epochs"]) == (wrong.epochs, wrong.full_epochs) == (5, 5)


def test_a_task_is_made_and_warmed_up_once_and_kept_for_the_runs_after(monkeypatch):
    made = []

    def make(path):
        made.append(FakeTask(wrong=0.25 if len(made) else None))
        return lambda data, **options: made[-1]

    monkeypatch.setattr(suites, "_load", make)
    maker, told = Maker(SUITE), []
    for job in (*planned("clean"), *planned("wrong")):
        maker(job, lambda *what: told.append(what[0]))
    assert [len(task.trials) for task in made] == [1 + 4, 1 + 4]  # two methods, two seeds
    assert [len(task.trials[0].sizes) for task in made] == [3, 3]
    assert told == [1, 2, 3, 4, 5] * 8


def test_a_maker_takes_no_task_along_to_another_process():
    maker = Maker(SUITE)
    before = pickle.dumps(maker)
    line = maker(planned("clean")[0], silent)
    assert pickle.dumps(maker) == before
    again = pickle.loads(before)(planned("clean")[0], silent)
    assert (again["accuracy"], again["visits"]) == (line["accuracy"], line["visits"])
