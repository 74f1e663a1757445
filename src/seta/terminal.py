"""What a console can show: whether anything may move on it. Needs rich."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from shutil import get_terminal_size

from rich.console import Console

__all__ = ["console_of", "is_live", "waiting"]

_NARROWEST = 20


def console_of(*, stderr: bool = False) -> Console:
    """Returns the console of a command, which animates nothing where its output is no terminal.

    It is at least 20 letters wide. Where the stream is closed, it prints nothing.
    """
    stream = sys.stderr if stderr else sys.stdout
    # FORCE_COLOR, which a CI sets, makes rich take a pipe for a terminal.
    moves = None if stream is not None and stream.isatty() else False
    console = Console(stderr=stderr, highlight=False, emoji=False, force_interactive=moves)
    if console.width < _NARROWEST:  # COLUMNS=0 means that the width is not known
        console.width = max(_NARROWEST, get_terminal_size().columns)
    return console


def is_live(console: Console) -> bool:
    """Returns whether lines can be drawn anew: not in a pipe, a log or the output of a notebook.

    A notebook gives the commands that it starts a terminal, but shows every frame of it.
    """
    return console.is_interactive and "JPY_PARENT_PID" not in os.environ


@contextmanager
def waiting(console: Console, what: str) -> Iterator[None]:
    """Shows a spinner where it can turn."""
    with console.status(what) if is_live(console) else nullcontext():
        yield
