import io

import pytest
from rich.console import Console

from seta.demo.display import LiveDisplay, PlainDisplay, decoding, make_display
from seta.report.results import Run


def console(*, terminal, width=80):
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, height=30, color_system
                   =None, _environ={"TERM": "xterm"})  # fmt: skip


def runs(seeds=2):
    return [Run(method, seed, 2) for method in ("Full", "SeTa") for seed in range(seeds)]


def advance(run):
    run.rows.append({"accuracy": 0.5, "visits": 1000, "saved": 0.25, "seconds": 1.0})


def test_a_pipe_gets_a_line_per_finished_run_without_control_characters():
    out, planned = console(terminal=False), runs()
    with make_display(out, planned) as display:
        for _ in range(2):
            advance(planned[0])
            display.update(planned[0])
    assert out.file.getvalue() == (
        "[1/4] Full, seed 0: accuracy 50.00 %, 1,000 samples trained, 1.0 s\n"
    )


def test_a_long_run_tells_in_between_how_far_it_is():
    out, planned = console(terminal=False), runs()
    with PlainDisplay(out, planned, every=0) as display:
        advance(planned[3])
        display.update(planned[3])
    assert out.file.getvalue().startswith("[0/4] SeTa, seed 1, epoch 1 of 2: accuracy 50.00 %")


def test_a_terminal_gets_a_bar_per_run_and_the_table_so_far():
    out, planned = console(terminal=True), runs()
    display = make_display(out, planned)
    assert isinstance(display, LiveDisplay)
    with display:
        advance(planned[0])
        advance(planned[0])
        advance(planned[2])
        display.update(planned[2])
    shown = out.file.getvalue()
    assert "\x1b[" in shown
    last = shown.rsplit("seed 0  ", 1)[1]
    assert "2/2" in last and "1/2" in last and last.count("0/2") == 2
    assert "1 of 4 runs done; last: SeTa, seed 0, epoch 1 of 2" in last
    assert "1/2 epochs" in last


def test_a_dumb_terminal_gets_lines():
    dumb = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
    assert isinstance(make_display(dumb, runs()), PlainDisplay)


@pytest.mark.parametrize("current", [0, 7, 19])
def test_of_many_seeds_those_around_the_current_one_are_shown(current):
    out, planned = console(terminal=True), runs(seeds=20)
    with LiveDisplay(out, planned) as display:
        advance(planned[current])
        display.update(planned[current])
    lines = out.file.getvalue().splitlines()
    header = next(line for line in reversed(lines) if "seed" in line and "runs done" not in line)
    assert f"seed {current}" in header
    assert max(len(line) for line in lines if "\x1b" not in line) <= 80


def test_decoding_is_told_on_a_terminal_and_in_a_pipe():
    for terminal in (False, True):
        out = console(terminal=terminal)
        with decoding(out, "some.parquet") as progress:
            progress(1, 2)
        assert "decoding some.parquet" in out.file.getvalue()
