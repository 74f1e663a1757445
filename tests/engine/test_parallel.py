"""Blocks and threads."""

import contextlib
import sys
import threading
import time

import pytest

from seta.engine import parallel


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 3, 40])
def test_results_come_in_the_order_of_the_tasks(count, threads):
    assert parallel.run(lambda task: task * 2, range(count), threads) == [
        2 * t for t in range(count)
    ]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_an_error_in_a_task_comes_out_and_no_thread_is_left(threads):
    before = threading.active_count()

    def fail(task):
        if task == 3:
            raise ValueError(task)
        return task

    with pytest.raises(ValueError, match="3"):
        parallel.run(fail, range(50), threads)
    assert threading.active_count() == before


def test_tasks_run_at_the_same_time():
    barrier = threading.Barrier(3, timeout=30)
    assert parallel.run(lambda task: barrier.wait() >= 0, range(3), 3) == [True] * 3


def test_an_interrupt_anywhere_leaves_no_thread_that_goes_on():
    """Else it would write into what the caller has already given up, or fills anew."""
    lines, number, done = [], 0, []

    def trace(frame, event, argument):
        if frame.f_code is not parallel.run.__code__:
            return None
        if event == "line":
            lines.append(frame.f_lineno)
            if len(lines) == number:
                raise KeyboardInterrupt
        return trace

    def task(at):
        time.sleep(0.001)
        done.append(at)

    while not number or len(lines) >= number:
        number += 1
        lines.clear()
        sys.settrace(trace)
        with contextlib.suppress(KeyboardInterrupt):
            parallel.run(task, range(12), 3)
        sys.settrace(None)
        before = len(done)
        time.sleep(0.005)
        assert len(done) == before, number
    assert number > 15
