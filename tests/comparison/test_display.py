"""What a person sees: bars on a terminal, whole lines elsewhere."""

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from seta.comparison import display as module
from seta.comparison.display import display, result
from seta.comparison.runner import Orders, make_here
from tests.comparison.fake_runs import Job

JOBS = [Job(seed, visits=1000, epochs=4) for seed in range(4)]
CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
ROW = re.compile(r"(?P<name>.*?) +[━╸╺]+ +(?P<state>.*?) +[\d:]+ elapsed, (?P<left>\S+) left")


class Clock:
    """Stands still until it is moved."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Screen:
    """A terminal, or a file, that keeps what is written to it."""

    def __init__(self, clock, **options):
        self._file = io.StringIO()
        self.console = Console(file=self._file, width=160, get_time=clock, **options)

    @property
    def text(self):
        return CODES.sub("", self._file.getvalue().replace("\r", "\n"))

    @property
    def lines(self):
        return self.text.splitlines()

    @property
    def last(self):
        """What the bars show at the end, by the name before the bar."""
        return {row["name"]: row["state"] for row in self._rows()}

    @property
    def time_left(self):
        """By the name before the bar."""
        return {row["name"]: row["left"] for row in self._rows()}

    @property
    def frame(self):
        """The bars as they stand at the end."""
        return CODES.sub("", self._file.getvalue().rpartition("\x1b[2K")[2])

    def _rows(self):
        return [re.fullmatch(ROW, row.rstrip()) for row in self.frame.splitlines()]


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock))
    return clock


@pytest.fixture
def terminal(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    return Screen(clock, force_terminal=True)


@pytest.fixture
def log(clock):
    return Screen(clock, force_terminal=False)


def line(job, visits=None, metrics=None, seconds=12.34):
    trained = job.visits if visits is None else visits
    return {
        "seed": job.seed,
        "metrics": {"accuracy": 0.81237, "loss": 3.0} if metrics is None else metrics,
        "visits": trained,
        "saved": 1 - trained / 2000,
        "seconds": seconds,
    }


# A line in words


def test_a_result_is_the_first_figure_visits_and_time():
    told = result(line(Job(0, visits=1234), metrics={"accuracy": 0.81237, "loss": 3.0}))
    assert told == "accuracy 0.8124, 1,234 visits (38.3 % saved), 12.3 s"


@pytest.mark.parametrize(
    ("metrics", "told"),
    [({"loss": None}, "loss unknown, 500"), ({}, "500"), ({"n": 12}, "n 12, 500")],
)
def test_a_figure_that_is_not_known_does_not_end_the_comparison(metrics, told):
    assert result(line(Job(0, visits=500), metrics=metrics)).startswith(f"{told} visits (75.0 %")


# Elsewhere than on a terminal


def test_elsewhere_each_run_that_ends_is_a_line_with_the_time_left(log, clock):
    with display(log.console, JOBS, already=2) as watcher:
        for job in JOBS[:2]:
            watcher.started(0, job)
            clock.now += 60.0
            watcher.finished(0, job, line(job))
    told = "accuracy 0.8124, 1,000 visits (50.0 % saved), 12.3 s"
    assert log.lines == [
        f"[3/6] train, seed 0: {told}; 0:01:00 elapsed, 0:03:00 left",
        f"[4/6] train, seed 1: {told}; 0:02:00 elapsed, 0:02:00 left",
    ]


def test_elsewhere_there_are_at_most_two_lines_a_minute_in_between(log, clock):
    with display(log.console, JOBS, already=0) as watcher:
        for second in range(1, 121):
            clock.now += 1.0
            watcher.epoch(0, JOBS[0], second // 40, second, 0.5 if second > 60 else None)
    assert log.lines == [
        "[0/4] train, seed 0: epoch 0 of 4; 0:00:30 elapsed, 1:06:10 left",
        "[0/4] train, seed 0: epoch 1 of 4; 0:01:00 elapsed, 1:05:40 left",
        "[0/4] train, seed 0: epoch 2 of 4, 0.5; 0:01:30 elapsed, 1:05:10 left",
        "[0/4] train, seed 0: epoch 3 of 4, 0.5; 0:02:00 elapsed, 1:04:40 left",
    ]


def test_elsewhere_the_time_in_between_counts_from_the_last_line(log, clock):
    with display(log.console, JOBS, already=0) as watcher:
        clock.now += 29.0
        watcher.epoch(0, JOBS[0], 1, 250, None)
        watcher.finished(0, JOBS[0], line(JOBS[0]))
        clock.now += 29.0
        watcher.epoch(0, JOBS[1], 1, 250, None)
        assert len(log.lines) == 1
        clock.now += 1.0
        watcher.epoch(0, JOBS[1], 2, 500, None)
    assert len(log.lines) == 2


def test_elsewhere_long_lines_are_not_broken(clock):
    narrow = Screen(clock, force_terminal=False)
    narrow.console.width = 20
    with display(narrow.console, JOBS, already=0) as watcher:
        watcher.finished(0, JOBS[0], line(JOBS[0]))
    assert len(narrow.lines) == 1


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(clock, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    dumb = Screen(clock, force_terminal=True)
    with display(dumb.console, JOBS, already=0) as watcher:
        watcher.finished(0, JOBS[0], line(JOBS[0]))
    assert len(dumb.lines) == 1 and dumb.lines[0].startswith("[1/4] train, seed 0: accuracy")


# Time left


def times_left(log, clock, tell):
    with display(log.console, JOBS, already=0) as watcher:
        tell(watcher)
        clock.now += 600.0  # so that a line is due
        watcher.epoch(1, JOBS[3], 1, 0, None)
    return log.lines[-1].rpartition(" elapsed, ")[2]


def test_nothing_is_known_of_the_time_before_any_visit(log, clock):
    assert times_left(log, clock, lambda watcher: None) == "time left unknown"


def test_the_time_left_is_that_of_the_visits_left_at_the_speed_so_far(log, clock):
    def tell(watcher):
        watcher.epoch(0, JOBS[0], 2, 500, None)
        watcher.epoch(1, JOBS[3], 2, 300, None)  # of which the end takes 300 back

    assert times_left(log, clock, tell) == "1:10:00 left"  # 500 of 4,000 took 10 minutes


def test_a_run_that_ended_early_counts_what_was_planned(log, clock):
    def tell(watcher):
        watcher.epoch(0, JOBS[0], 2, 500, None)
        watcher.finished(0, JOBS[0], line(JOBS[0], visits=600))

    assert times_left(log, clock, tell) == "0:30:00 left"


def test_runs_left_out_take_no_time(log, clock):
    def tell(watcher):
        watcher.finished(0, JOBS[0], line(JOBS[0]))
        watcher.left_out(JOBS[1])
        watcher.left_out(JOBS[2])

    assert times_left(log, clock, tell) == "0:10:00 left"
    assert log.lines[-1].startswith("[1/2] ")


def test_runs_that_failed_at_once_tell_nothing_of_the_speed(log, clock):
    def tell(watcher):
        watcher.finished(0, JOBS[0], line(JOBS[0]))
        watcher.epoch(0, JOBS[1], 1, 900, None)
        watcher.failed(0, JOBS[1], "ValueError: no")

    assert times_left(log, clock, tell) == "0:20:00 left"  # for 2,000, when 1,000 took 10
    assert log.lines[-1].startswith("[2/4] ")


def test_nothing_is_left_at_the_end(log, clock):
    with display(log.console, JOBS[:1], already=0) as watcher:
        clock.now += 100.0
        watcher.finished(0, JOBS[0], line(JOBS[0], visits=10))
    assert log.lines[0].endswith("; 0:01:40 elapsed, 0:00:00 left")


# Failures, on both


REASON = """Traceback (most recent call last):
  File "train.py", line 3, in train
ValueError: labels must lie in [0, 10), got 10
"""


@pytest.mark.parametrize("where", ["log", "terminal"])
@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (REASON, "ValueError: labels must lie in [0, 10), got 10"),
        ("its process died with exit code -9", "its process died with exit code -9"),
        (" \n", "no reason given"),
    ],
)
def test_a_failure_is_told_with_what_was_raised(where, reason, told, request):
    screen = request.getfixturevalue(where)
    with display(screen.console, JOBS, already=0) as watcher:
        watcher.started(0, JOBS[0])
        watcher.failed(0, JOBS[0], reason)
    assert f"train, seed 0: FAILED, {told}\n" in screen.text
    assert screen.text.count("train.py") == (reason is REASON)


@pytest.mark.parametrize("where", ["log", "terminal"])
@pytest.mark.parametrize("name", ["top [red] ones", "[/]", "[bold]", "a [0.7]"])
def test_names_with_brackets_are_shown_as_they_are(where, name, request):
    screen = request.getfixturevalue(where)
    jobs = [Job(0, do=name, epochs=2), Job(1, do=name, epochs=2)]
    with display(screen.console, jobs, already=0) as watcher:
        for job in jobs:
            watcher.started(0, job)
            watcher.epoch(0, job, 1, 10, 0.5)
            if job.seed == 0:
                watcher.finished(0, job, line(job))
    assert f"{name}, seed 0: accuracy" in screen.text
    if where == "terminal":
        assert f"{name}, seed 1" in screen.last


# On a terminal


def test_on_a_terminal_there_is_a_bar_over_all_and_one_per_worker(terminal):
    with display(terminal.console, JOBS, already=3) as watcher:
        watcher.started(0, JOBS[0])
        watcher.started(1, JOBS[1])
        watcher.epoch(0, JOBS[0], 1, 250, None)
        watcher.epoch(1, JOBS[1], 3, 750, 0.8123)
    assert terminal.last == {
        "all runs": "25% 3/7 runs",
        "train, seed 0": "25% epoch 1/4",
        "train, seed 1": "75% epoch 3/4, 0.8123",
    }


def test_the_last_figure_stays_while_the_epochs_go_on_and_not_for_the_next_run(terminal):
    with display(terminal.console, JOBS, already=0) as watcher:
        watcher.started(0, JOBS[0])
        watcher.epoch(0, JOBS[0], 1, 250, 0.25)
        watcher.epoch(0, JOBS[0], 2, 500, None)
        watcher.started(1, JOBS[1])
        watcher.epoch(1, JOBS[1], 1, 250, 0.25)
        watcher.finished(1, JOBS[1], line(JOBS[1]))
        watcher.started(1, JOBS[2])
        watcher.epoch(1, JOBS[2], 1, 250, None)
    assert terminal.last == {
        "all runs": "44% 1/4 runs",
        "train, seed 0": "50% epoch 2/4, 0.25",
        "train, seed 2": "25% epoch 1/4",
    }


def test_a_run_that_ends_leaves_its_bar_and_is_told_above_the_bars(terminal):
    with display(terminal.console, JOBS, already=0) as watcher:
        for job in JOBS[:3]:
            watcher.started(0, job)
            watcher.epoch(0, job, 4, job.visits, None)
            watcher.finished(0, job, line(job))
    assert terminal.last == {"all runs": "75% 3/4 runs"}
    for job in JOBS[:3]:
        told = f"{job.name}: accuracy 0.8124, 1,000 visits (50.0 % saved), 12.3 s"
        assert terminal.lines.count(told) == 1


def test_what_is_left_out_last_is_shown_at_once(terminal):
    with display(terminal.console, JOBS[:2], already=0) as watcher:
        watcher.finished(0, JOBS[0], line(JOBS[0]))
        watcher.left_out(JOBS[1])
    assert terminal.last == {"all runs": "100% 1/1 runs"}


@pytest.mark.parametrize("where", ["log", "terminal"])
def test_runs_left_out_are_not_counted_any_more(where, request):
    screen = request.getfixturevalue(where)
    with display(screen.console, JOBS, already=1) as watcher:
        watcher.left_out(JOBS[0])
        watcher.left_out(JOBS[1])
        watcher.started(0, JOBS[2])
        watcher.finished(0, JOBS[2], line(JOBS[2]))
    if where == "terminal":
        assert screen.last == {"all runs": "50% 2/3 runs"}
    else:
        assert screen.lines[0].startswith("[2/3] ") and len(screen.lines) == 1


def test_all_bars_are_full_at_the_end_though_runs_failed_or_ended_early(terminal):
    with display(terminal.console, JOBS, already=0) as watcher:
        watcher.finished(0, JOBS[0], line(JOBS[0], visits=600))
        watcher.failed(0, JOBS[1], REASON)
        watcher.left_out(JOBS[2])
        watcher.finished(0, JOBS[3], line(JOBS[3]))
    assert terminal.last == {"all runs": "100% 3/3 runs"}


def test_on_a_terminal_the_time_left_follows_from_the_visits(terminal, clock):
    with display(terminal.console, JOBS, already=0) as watcher:
        watcher.started(0, JOBS[0])
        for epoch in (1, 2):
            clock.now += 10.0
            watcher.epoch(0, JOBS[0], epoch, 250 * epoch, None)
    assert terminal.time_left["all runs"] == "0:02:20"  # for 3,500 visits, 25 a second
    assert terminal.time_left["train, seed 0"] == "0:00:20"


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_narrow_terminal_gets_words_in_place_of_bars_and_no_figure_is_cut(terminal, clock, width):
    terminal.console.width = width
    job = Job(3, do="Full at equal cost 0.5", visits=1000, epochs=10)
    with display(terminal.console, [job], already=0) as watcher:
        watcher.started(0, job)
        clock.now += 10.0
        watcher.epoch(0, job, 1, 100, 0.81234)
        clock.now += 10.0
        watcher.epoch(0, job, 2, 200, None)
    last = terminal.frame.splitlines()
    assert max(map(len, last)) <= width and "…" not in terminal.frame and "━" not in terminal.frame
    shown = " ".join(terminal.frame.split())
    assert shown.startswith("all runs 20%, 0/1 runs, 0:00:20 elapsed, 0:01:20 left")
    assert "Full at equal cost 0.5, seed 3 20%, epoch 2/10, 0.8123, 0:00:20 elapsed" in shown


def test_the_output_of_a_notebook_gets_lines(terminal, monkeypatch):
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    with display(terminal.console, JOBS, already=0) as watcher:
        watcher.finished(0, JOBS[0], line(JOBS[0]))
    assert len(terminal.lines) == 1 and terminal.lines[0].startswith("[1/4] train, seed 0: acc")


@pytest.mark.parametrize("where", ["log", "terminal"])
def test_the_runner_tells_the_display_all_that_it_needs(where, request):
    """From end to end, with a run that fails and one that is left out."""
    screen, lines = request.getfixturevalue(where), []
    jobs = [Job(0), Job(1, "fail"), Job(2), Job(3)]

    def making(job, tell):
        if job.do == "fail":
            raise ValueError("no such seed")
        tell(1, 10, None)
        tell(2, 20, 0.5)
        return line(job)

    with display(screen.console, jobs, already=1) as watcher:
        orders = Orders(making, lines.append, watcher, lambda job: job.seed != 2)
        failures = make_here(jobs, orders)
    assert [job.seed for job, _ in failures] == [1]
    assert [one["seed"] for one in lines] == [0, 3]
    for told in ("train, seed 0: accuracy", "fail, seed 1: FAILED, ValueError: no such seed"):
        assert told in screen.text
    if where == "terminal":
        assert screen.last == {"all runs": "100% 4/4 runs"}
    else:
        assert screen.lines[-1].startswith("[4/4] train, seed 3: accuracy")


def test_a_traceback_is_shown_once(log):
    with display(log.console, JOBS, already=0) as watcher:
        for worker, job in enumerate(JOBS[:2]):
            watcher.started(worker, job)
            watcher.failed(worker, job, REASON)
    assert log.text.count("train.py") == 1 and log.text.count("FAILED, ValueError") == 2
