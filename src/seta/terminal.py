"""What a console can show: whether anything may move on it. Needs rich."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from rich.console import Console

__all__ = ["console_of", "is_live", "waiting"]


def console_of(*, stderr: bool = False) -> Console:
    """Returns the console of a command, which animates nothing where its output is no terminal."""
    stream = sys.stderr if stderr else sys.stdout
    # FORCE_COLOR, which a CI sets, makes rich take a pipe for a terminal.
    return Console(
        stderr=stderr, highlight=False, force_interactive=None if stream.isatty() else False
    )


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
