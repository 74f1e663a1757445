"""Runs cost no more than themselves, whatever happens to them, and leave no process behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from seta.comparison import runner
from seta.comparison.runner import Orders, make_apart, make_here
from tests.comparison.fake_runs import Job, Make, Unloadable, gone, make, wait_for

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120
pytestmark = [pytest.mark.processes, pytest.mark.timeout(SECONDS)]

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="looks for processes in /proc"
)


@pytest.fixture(autouse=True)
def ends():
    """No test leaves a worker."""
    yield
    assert multiprocessing.active_children() == []


class Log:
    """A watcher and writer that keeps all that it is told, in order."""

    def __init__(self, wanted=lambda job: True):
        self.told, self.lines, self.reasons = [], [], {}
        self._wanted = wanted

    def orders(self, making=make):
        return Orders(making, self.write, self, self.wanted)

    def wanted(self, job):
        return self._wanted(job)

    def write(self, line):
        self.told.append(("write", line["seed"]))
        self.lines.append(line)

    def started(self, worker, job):
        self.told.append(("started", job.seed, worker))

    def epoch(self, worker, job, done, visits, figure):
        self.told.append(("epoch", job.seed, worker, done, visits, figure))

    def finished(self, worker, job, line):
        assert line is self.lines[-1]
        self.told.append(("finished", job.seed, worker))

    def failed(self, worker, job, reason):
        self.reasons[job.seed] = reason
        self.told.append(("failed", job.seed, worker))

    def left_out(self, job):
        self.told.append(("left out", job.seed))

    @property
    def written(self):
        return [line["seed"] for line in self.lines]

    def of(self, seed):
        """What was told of a run, without the worker."""
        return [(what[0], *what[3:]) for what in self.told if what[1] == seed]


def here(jobs, log, making=make):
    return make_here(jobs, log.orders(making))


def apart(jobs, log, making=make, workers=2, threads=None):
    return make_apart(jobs, log.orders(making), workers=workers, threads=threads)


BOTH = pytest.mark.parametrize("run", [here, apart])
TRAINED = [
    ("started",),
    ("epoch", 1, 10, None),
    ("epoch", 2, 20, 0.5),
    ("write",),
    ("finished",),
]


# Runs that go well


@BOTH
def test_runs_are_told_from_start_to_line(run):
    log = Log()
    assert run([Job(seed) for seed in range(5)], log) == []
    assert sorted(log.written) == list(range(5))
    for seed in range(5):
        assert log.of(seed) == TRAINED


@BOTH
def test_no_runs_are_no_work(run):
    log = Log()
    assert run([], log, making=lambda job, tell: None) == []
    assert log.told == []


def test_here_runs_are_made_in_order_in_this_process():
    log = Log()
    here([Job(seed) for seed in (2, 0, 1)], log)
    assert log.written == [2, 0, 1]
    assert {line["process"] for line in log.lines} == {os.getpid()}


def test_apart_runs_are_made_in_other_processes_which_stay_and_are_taken_up_in_order():
    log = Log()
    apart([Job(seed) for seed in (3, 0, 1, 2, 4)], log, workers=2)
    processes = {line["process"] for line in log.lines}
    assert len(processes) <= 2 and os.getpid() not in processes
    assert [what[1] for what in log.told if what[0] == "started"] == [3, 0, 1, 2, 4]
    assert {what[2] for what in log.told if what[0] == "started"} == {0, 1}


def test_there_are_no_more_workers_than_runs():
    log = Log()
    apart([Job(0)], log, workers=50)
    assert log.told[0] == ("started", 0, 0) and log.written == [0]


@pytest.mark.parametrize("workers", [0, -1])
def test_without_workers_no_run_could_be_made(workers):
    with pytest.raises(ValueError, match=f"workers must be at least 1, got {workers}"):
        apart([Job(0)], Log(), workers=workers)


def test_lines_are_written_as_runs_end_not_as_they_began(tmp_path):
    go, log = tmp_path / "go", Log()

    def write(line):
        log.write(line)
        if line["seed"] == 2:
            go.touch()  # only now the first run can end

    jobs = [Job(0, "wait", go), Job(1), Job(2), Job(3)]
    assert make_apart(jobs, Orders(make, write, log), workers=2) == []
    assert log.written[:2] == [1, 2] and sorted(log.written) == [0, 1, 2, 3]


# Runs that are not wanted any more


@BOTH
def test_runs_that_nobody_wants_are_left_out_and_told(run):
    log = Log(wanted=lambda job: job.seed % 2 == 0)
    assert run([Job(seed) for seed in range(5)], log) == []
    assert sorted(log.written) == [0, 2, 4]
    assert [what for what in log.told if what[1] in (1, 3)] == [("left out", 1), ("left out", 3)]


@pytest.mark.parametrize("run", [here, lambda jobs, log: apart(jobs, log, workers=1)])
def test_what_is_wanted_is_asked_before_each_run_when_all_before_it_are_written(run):
    asked, log = [], Log()

    def wanted(job):
        asked.append((job.seed, len(log.lines)))
        return len(log.lines) < 2

    log._wanted = wanted
    assert run([Job(seed) for seed in range(4)], log) == []
    assert asked == [(0, 0), (1, 1), (2, 2), (3, 2)]
    assert log.written == [0, 1]
    assert log.told[-2:] == [("left out", 2), ("left out", 3)]


def test_a_run_that_is_waited_for_decides_on_those_after_it(tmp_path):
    """While one worker is at a run the other goes through all that are wanted."""
    go, log = tmp_path / "go", Log()
    log._wanted = lambda job: 1 not in log.written
    log.left_out = lambda job: (Log.left_out(log, job), go.touch())
    jobs = [Job(0, "wait", go), Job(1), Job(2), Job(3)]
    assert apart(jobs, log) == []
    assert log.written == [1, 0]
    assert [what for what in log.told if what[0] == "left out"] == [
        ("left out", 2),
        ("left out", 3),
    ]


# Runs that fail


@BOTH
@pytest.mark.parametrize(
    ("do", "text"),
    [
        ("fail", "ValueError: no seed 1 here"),
        ("fail_like_a_pipe", "EOFError: the data set is cut off"),
        ("no_such", "KeyError: 'no_such'"),
    ],
)
def test_an_exception_costs_its_run_and_is_reported_with_its_text(run, do, text):
    log = Log()
    jobs = [Job(0), Job(1, do), Job(2), Job(3)]
    ((job, reason),) = run(jobs, log)
    assert job is jobs[1] and log.reasons == {1: reason}
    assert reason.startswith("Traceback") and reason.strip().endswith(text)
    assert "fake_runs.py" in reason
    assert sorted(log.written) == [0, 2, 3]
    assert log.of(1)[0] == ("started",) and log.of(1)[-1] == ("failed",)


def test_a_worker_whose_run_failed_makes_the_next():
    log = Log()
    apart([Job(0), Job(1, "fail"), Job(2)], log, workers=1)
    assert len({line["process"] for line in log.lines}) == 1


@pytest.mark.parametrize(
    ("do", "code"),
    [
        ("leave", 3),
        ("be_killed", -signal.SIGKILL.value),
        ("be_killed_in_mid_line", -signal.SIGKILL.value),
    ],
)
@needs_proc
def test_a_worker_that_dies_costs_the_run_it_was_at(do, code):
    log = Log()
    epoch = log.epoch

    def listen(worker, job, done, visits, figure):
        epoch(worker, job, done, visits, figure)
        if job.do == "be_killed_in_mid_line":  # by the time its line is read it is dead
            wait_for(lambda: gone(int(figure)), "the end of the worker")

    log.epoch = listen
    jobs = [Job(0), Job(1, do), Job(2), Job(3), Job(4)]
    assert apart(jobs, log) == [(jobs[1], f"its process died with exit code {code}")]
    assert sorted(log.written) == [0, 2, 3, 4]
    assert log.of(1)[0] == ("started",) and log.of(1)[-1] == ("failed",)


def test_workers_that_die_one_after_another_are_replaced():
    log = Log()
    failures = apart([Job(seed, "leave") for seed in range(3)] + [Job(3)], log, workers=1)
    assert [job.seed for job, _ in failures] == [0, 1, 2]
    assert log.written == [3]


@needs_proc
def test_a_dead_worker_is_noticed_though_a_child_of_its_lives_on(tmp_path):
    """What it left has its pipe open: its end cannot be told from the pipe."""
    go, log = tmp_path / "go", Log()
    jobs = [Job(0, "leave_a_child_and_die", go), Job(1)]

    def write(line):
        Log.write(log, line)
        go.touch()

    log.write = write
    failures = apart(jobs, log, workers=1)
    assert [job.seed for job, _ in failures] == [0]
    assert "exit code -9" in failures[0][1]
    assert log.written == [1]


# What cannot be sent


@pytest.mark.parametrize("workers", [1, 2])
def test_what_makes_the_runs_and_cannot_be_pickled_is_an_error_at_once(workers):
    log = Log()
    with pytest.raises(TypeError, match="must be something that can be pickled: "):
        apart([Job(0), Job(1)], log, making=lambda job, tell: None, workers=workers)
    assert log.told == []


@pytest.mark.parametrize(
    "making",
    [Make(Unloadable()), Make(Unloadable(), bytes(10_000_000))],
    ids=["small", "large"],
)
def test_what_makes_the_runs_and_cannot_be_loaded_is_an_error_that_says_what_to_do(making):
    """One error, and not one per run."""
    log = Log()
    with pytest.raises(RuntimeError, match="define that in a module or a script") as error:
        apart([Job(seed) for seed in range(50)], log, making=making)
    assert str(error.value).strip().endswith("ImportError: only its own process has this")
    assert len(log.reasons) <= 2 and log.lines == []


def test_a_large_thing_that_makes_the_runs_reaches_the_workers():
    log = Log()
    assert apart([Job(0), Job(1)], log, making=Make(None, bytes(10_000_000))) == []
    assert sorted(log.written) == [0, 1]


UNGUARDED = """
import sys
from seta.comparison.runner import make_apart
from tests.comparison.fake_runs import Job, Make
from tests.comparison.test_runner import Log

make_apart([Job(0), Job(1)], Log().orders(Make(bytes(int(sys.argv[1])))), workers=2)
"""


@pytest.mark.parametrize(
    "size", [pytest.param(10, marks=pytest.mark.slow), 10_000_000], ids=["small", "large"]
)
def test_a_script_that_starts_workers_as_it_is_imported_is_told_so(tmp_path, size):
    """A large one is more than is sent at once: its workers die before they have read it."""
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    found = subprocess.run(
        [sys.executable, script, str(size)],
        env=environment(),
        text=True,
        capture_output=True,
        timeout=SECONDS,
    )
    assert found.returncode == 1
    last = found.stderr.strip().splitlines()[-1]
    assert last.startswith("RuntimeError: worker processes cannot start")
    assert "under `if __name__ == '__main__':`" in last
    assert last.endswith("its process died with exit code 1")


@pytest.mark.parametrize(
    ("other", "text"),
    [(lambda: None, "pickle"), (Unloadable(), "ImportError: only its own process has this")],
    ids=["pickled", "loaded"],
)
def test_a_run_that_cannot_be_sent_fails_and_the_others_are_made(other, text):
    log = Log()
    jobs = [Job(0), Job(1, other=other), Job(2)]
    ((job, reason),) = apart(jobs, log, workers=1)
    assert job is jobs[1] and text in reason
    assert log.written == [0, 2]
    assert log.of(1) == [("started",), ("failed",)]


@pytest.mark.parametrize(
    ("do", "text"),
    [
        ("line_that_cannot_be_pickled", "pickle"),
        ("line_that_cannot_be_loaded", "ImportError: only its own process has this"),
        ("figure_that_cannot_be_loaded", "ImportError: only its own process has this"),
    ],
)
def test_what_a_run_tells_and_cannot_be_sent_fails_it_and_the_others_are_made(do, text):
    """A line that comes after that is not taken for one of the next run."""
    log = Log()
    jobs = [Job(0), Job(1, do), Job(2)]
    ((job, reason),) = apart(jobs, log, workers=1)
    assert job is jobs[1] and text in reason
    assert log.written == [0, 2]


# The end of the parent, and what it is interrupted by


def environment():
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    return os.environ | {"PYTHONPATH": path}


PARENT = """
import sys
from pathlib import Path
from seta.comparison.runner import Orders, make_apart
from tests.comparison.fake_runs import Job, make
from tests.comparison.test_runner import Log

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    jobs = [Job(0, "announce_and_wait", folder), Job(1, "announce_and_wait", folder), Job(2)]
    make_apart(jobs, Log().orders(), workers=3)
"""


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent_however_it_ends(tmp_path, number):
    """Two are at a run, and one is idle."""
    script, folder, errors = tmp_path / "script.py", tmp_path / "pids", tmp_path / "errors"
    script.write_text(PARENT)
    folder.mkdir()
    with errors.open("w") as file:
        parent = subprocess.Popen(
            [sys.executable, script, folder],
            env=environment(),
            stderr=file,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    wait_for(lambda: len(list(folder.iterdir())) == 2, "the runs", SECONDS / 2)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    workers = {file.name for file in folder.iterdir()}
    assert workers <= set(children)
    parent.send_signal(number)
    parent.wait(SECONDS / 4)
    wait_for(lambda: all(map(gone, children)), "the end of the workers", SECONDS / 4)
    text = errors.read_text()
    assert text == "" or (number == signal.SIGINT and text.endswith("KeyboardInterrupt\n")), text


def interrupt(*_):
    raise KeyboardInterrupt


@needs_proc
@pytest.mark.parametrize("at", ["write", "started", "epoch", "finished", "failed", "wanted"])
def test_an_interrupt_in_what_is_told_ends_the_workers(tmp_path, at):
    log, processes = Log(), set()

    def listen(worker, job, done, visits, figure):
        if job.seed == 0:
            processes.add(int(figure))  # of the run that would wait for ever
            go.touch()
            if at == "epoch":
                interrupt()

    go = tmp_path / "go"
    log.epoch = listen
    never = tmp_path / "never"
    jobs = [Job(0, "wait", never), Job(1, "wait", go), Job(2, "wait", go)]
    jobs += [Job(3, "fail"), Job(4)]
    if at == "failed":
        log.failed = interrupt
    elif at in ("write", "finished"):
        setattr(log, at, interrupt)
    elif at == "started":
        log.started = lambda worker, job: job.seed == 2 and interrupt()
    elif at == "wanted":
        log._wanted = lambda job: job.seed < 2 or interrupt()
    with pytest.raises(KeyboardInterrupt):
        apart(jobs, log)
    assert processes and all(map(gone, processes))


@needs_proc
def test_a_run_that_takes_no_notice_of_being_ended_is_killed(monkeypatch):
    monkeypatch.setattr(runner, "_SECONDS_TO_END", 0.1)
    processes = []

    class Interrupted(Log):
        def epoch(self, worker, job, done, visits, figure):
            processes.append(int(figure))
            interrupt()

    with pytest.raises(KeyboardInterrupt):
        apart([Job(0, "hold_on")], Interrupted())
    assert len(processes) == 1 and gone(processes[0])


def test_an_error_in_what_writes_is_not_one_of_the_run():
    def write(line):
        raise OSError("no space left on device")

    log = Log()
    log.write = write
    for run in (here, apart):
        with pytest.raises(OSError, match="no space left"):
            run([Job(0), Job(1)], log)
    assert log.reasons == {}


def test_an_interrupt_of_a_run_that_is_made_here_ends_them_all():
    log = Log()

    def making(job, tell):
        return interrupt() if job.seed == 1 else make(job, tell)

    with pytest.raises(KeyboardInterrupt):
        here([Job(0), Job(1), Job(2)], log, making=making)
    assert log.written == [0] and log.reasons == {}


# Threads and processes of a run


@pytest.fixture
def two_threads(monkeypatch):
    """What workers would have of their own, whatever machine this is."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "2")


def threads_of(other=None, **options):
    log = Log()
    failures = apart([Job(0, "threads", other=other)], log, workers=1, **options)
    assert failures == []
    return log.lines[0]


def test_the_threads_of_torch_and_numpy_are_limited_in_workers(two_threads):
    limited = threads_of("pools", threads=1)
    assert limited["torch"] == 1 and limited["pools"] == {1}


@pytest.mark.slow
def test_the_threads_are_workers_own_choice_where_none_are_given(two_threads):
    assert threads_of(threads=None)["torch"] == 2


@pytest.mark.slow
def test_without_threadpoolctl_torch_is_limited_alone(two_threads, tmp_path, monkeypatch):
    (tmp_path / "threadpoolctl.py").write_text("raise ImportError('not installed')\n")
    monkeypatch.syspath_prepend(tmp_path)  # workers have the path of this process
    assert threads_of(threads=1)["torch"] == 1


@pytest.mark.slow
def test_runs_may_read_their_data_by_processes_of_their_own():
    log = Log()
    assert apart([Job(0, "load_data")], log, workers=1) == []
    assert log.lines[0]["sums"] == [6, 22]
