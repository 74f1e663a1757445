"""What moves on a terminal stands still elsewhere."""

import io

import pytest
from rich.padding import Padding

from seta.terminal import console_of, is_live, waiting


class Stream(io.StringIO):
    def __init__(self, tty):
        super().__init__()
        self.isatty = lambda: tty


@pytest.mark.parametrize(
    ("tty", "env", "live"),
    [
        (True, {}, True),
        (False, {}, False),
        (False, {"FORCE_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
        (True, {"JPY_PARENT_PID": "17"}, False),
    ],
)
@pytest.mark.parametrize("stderr", [False, True])
def test_a_spinner_turns_on_a_terminal_alone(monkeypatch, tty, env, live, stderr):
    for name in ("FORCE_COLOR", "JPY_PARENT_PID", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"TERM": "xterm-256color"} | env).items():
        monkeypatch.setenv(name, value)
    stream = Stream(tty)
    monkeypatch.setattr("sys.stderr" if stderr else "sys.stdout", stream)
    console = console_of(stderr=stderr)
    assert is_live(console) == live
    with waiting(console, "loading torch"):
        pass
    assert ("loading torch" in stream.getvalue()) == live


@pytest.mark.parametrize(("columns", "width"), [("0", 80), ("1", 20), ("20", 20), ("40", 40)])
def test_nothing_is_lost_on_a_terminal_without_width(monkeypatch, capsys, columns, width):
    monkeypatch.setenv("COLUMNS", columns)
    console = console_of()
    console.print(Padding("what it is", (0, 0, 0, 4)))
    assert "".join(capsys.readouterr().out.split()) == "whatitis"
    assert console.width == width


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_closed_stream_gets_nothing(monkeypatch, name):
    monkeypatch.setattr(f"sys.{name}", None)  # as Python has it after `seta plan >&-`
    console = console_of(stderr=name == "stderr")
    console.print("seta")
    assert not is_live(console)
