"""The `seta` command: where it begins, before anything that it needs is known to be installed.

The commands themselves are in `commands`, which needs typer; this file needs only Python, so that
whoever has installed seta without its extras gets a sentence instead of a traceback.
"""

import sys

from seta import __version__
from seta.extras import MissingExtra, require

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        require("the seta command", "typer", "rich", extra="cli")
    except MissingExtra as error:
        if sys.argv[1:] == ["--version"]:
            print(f"seta {__version__}")
            return
        sys.exit(str(error))
    from seta.commands import app

    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="replace")  # a terminal without a plus-minus sign still gets tables
    app(prog_name="seta")
