"""What moves on a terminal stands still elsewhere."""

import io

import pytest

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
