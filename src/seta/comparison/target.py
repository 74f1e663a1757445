"""What a command line names: `my_training.py:run`, a function or an object of the user's own."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from typing import Any


class TargetError(ValueError):
    """What was asked for does not exist, or is not allowed; the message says what to do."""


def find(text: str, *, option: str, beside: str | None = None) -> Any:
    """Returns what `module:name` or `file.py:name` names.

    Args:
        text: As it is typed; a name alone is looked for where `beside` is.
        option: For messages.
        beside: Another target.

    Raises:
        TargetError: There is no such module, or nothing of that name in it.
    """
    module, colon, name = text.partition(":")
    if not colon and beside is not None:
        module, name = beside.partition(":")[0], text
    if not module or not name:
        raise TargetError(
            f"{option} must name a file or module and what is in it, my_training.py:run; got "
            f"{text!r}"
        )
    found = _module(module, option)
    for part in name.split("."):
        if not hasattr(found, part):
            raise TargetError(f"{option}: {module} has no {name!r}")
        found = getattr(found, part)
    return found


def own(option: str, text: str | None, *, beside: str | None = None, call: bool = True) -> Any:
    """Returns what an option names; with `call`, what its function returns; None for None.

    Raises:
        TargetError: There is no such thing, or it is nothing, or the user's code fails.
    """
    if text is None:
        return None
    try:
        found = find(text, option=option, beside=beside)
        found = made(found) if call else found
    except TargetError:
        raise
    except (Exception, SystemExit) as error:  # of the user's own code, whatever it is
        file = Path((text if ":" in text else beside or text).partition(":")[0]).stem
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename).stem == file]
        raise TargetError(
            f"{option} {text}: {type(error).__name__}: {error}"
            f"{f' (line {lines[-1]} of {file}.py)' if lines else ''}: see that the file can be "
            'imported without training, with what it runs under if __name__ == "__main__"'
            f"{', and that the function needs no arguments' if call else ''}"
        ) from error
    if found is None:
        raise TargetError(f"{option} {text} must be, or return, what is looked at, got None")
    return found


def made(found: Any) -> Any:
    """Returns a data set, or what its function returns."""
    plain = not isinstance(found, type) and (hasattr(found, "__len__") or not callable(found))
    return found if plain else found()


def _module(text: str, option: str) -> Any:
    path = Path(text)
    folder, name = (path.parent, path.stem) if path.suffix == ".py" else (Path(), text)
    if path.suffix == ".py" and not path.is_file():
        raise TargetError(f"{option}: there is no file {text}")
    if path.suffix == ".py" and "." in name:
        raise TargetError(
            f"{option}: {text} must have a name without further points, since it is imported as "
            "a module: rename it"
        )
    where = str(folder.resolve())
    if where not in sys.path:
        sys.path.insert(0, where)  # stays: worker processes import it from there, too
    try:
        found = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise  # what it needs itself
        raise TargetError(
            f"{option}: there is no module {name!r} here; a file is named as {name}.py:..."
        ) from error
    there = getattr(found, "__file__", None)
    if path.suffix == ".py" and Path(there or "").resolve() != path.resolve():
        raise TargetError(
            f"{option}: {text} must have a name that no other module has, got that of "
            f"{there or 'a module of Python'}: rename it"
        )
    return found
