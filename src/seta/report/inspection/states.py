"""Where the state of a pruner is found: in a pruner, a loader, a file, or in another state.

Loaders, streams and trainers put the state of their pruner into their own, with tensors for arrays,
and users put that into a checkpoint beside the weights of a model. All of these are searched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seta.engine.files.file import load
from seta.engine.pruner import Pruner
from seta.engine.state.formats import CURRENT, upgrade

_FORMAT = re.compile(r"seta-([a-z]+)-\d+")
_DEPTH = 6  # a checkpoint of Lightning has it in the fourth dict
_MAGIC = b"\x89seta"
_TRAINER = "seta_state.bin"


def states_of(run: Any) -> list[dict[str, Any]]:
    """Returns the states of the pruner of a run: one, or its parts.

    Args:
        run: A pruner; what has one (`.pruner`); a state of either; a checkpoint that holds one; or
            a list of such, the parts of a sharded table.

    Raises:
        TypeError: It is none of these.
        ValueError: It holds no state, or several.
    """
    if isinstance(run, Pruner):
        return [run.state_dict(copy=False, gather=False)]
    if isinstance(getattr(run, "pruner", None), Pruner):
        return states_of(run.pruner)
    if isinstance(run, Mapping):
        return [_inside(run)]
    if isinstance(run, (list, tuple)) and run:
        return [state for part in run for state in states_of(part)]
    raise TypeError(
        "run must be a Pruner, a loader, what its state_dict() or seta.load() returned, or a list "
        f"of the states of all ranks, got {type(run).__name__}"
    )


def file_of(path: Path) -> Path:
    """Returns the file of a state: in the folder of a Trainer's checkpoint, or the path itself."""
    inner = path / _TRAINER
    return inner if path.is_dir() and inner.is_file() else path


def read(path: Path) -> Any:
    """Returns what a file holds: one of `seta.save`, one of `torch.save`, or a Trainer's folder.

    Raises:
        OSError: It cannot be read.
        ValueError: It is neither, or damaged; the message names it.
    """
    path = file_of(path)
    if path.is_dir():
        raise IsADirectoryError(
            f"{path} is a folder without {_TRAINER}: give the file of a state, or the folder of a "
            "checkpoint of PrunedTrainer"
        )
    with open(path, "rb") as file:
        magic = file.read(len(_MAGIC))
    return load(path) if magic == _MAGIC else _torch_load(path, magic)


def _torch_load(path: Path, magic: bytes) -> Any:
    if not magic.startswith((b"PK\x03\x04", b"\x80")):
        raise ValueError(
            f"{path} is no state that seta reads: give what seta.save or torch.save wrote, such as "
            "seta.save(loader.pruner.state_dict(), path)"
        )
    from seta.extras import require

    require(f"{path}, a file of torch.save,", "torch", extra="torch")
    import pickle

    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds objects that are not loaded from a file, since that could run code: "
            "save the state of the loader in a file of its own, torch.save(loader.state_dict(), "
            "path)"
        ) from error
    except Exception as error:  # a damaged file fails anywhere
        raise ValueError(
            f"{path} is damaged, or no file of torch.save ({type(error).__name__}: {error}): give "
            "what seta.save or torch.save wrote"
        ) from error


def _inside(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the one state of a pruner that lies in a dict."""
    found = list(_search(saved, _DEPTH))
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"{len(found)} states of pruners lie in it, got no way to choose: give one of them"
        )
    names = ", ".join(repr(str(key)) for key in list(saved)[:8]) or "nothing"
    raise ValueError(
        f"no state of a pruner lies in it, got a dict of {names}: give what state_dict() of a "
        "Pruner or of a loader returned"
    )


def _search(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    if isinstance(value, Mapping):
        kind = _kind_of(value)
        if kind == "pruner":
            yield upgrade(_arrays(value), "pruner")
            return
        inner = value if kind is None else upgrade(value, kind)
        entries: Any = inner.values()
    elif isinstance(value, (list, tuple)) and len(value) <= 64:
        entries = value
    else:
        return
    if depth:
        for entry in entries:
            yield from _search(entry, depth - 1)


def _kind_of(value: Mapping[str, Any]) -> str | None:
    name = value.get("format")
    found = _FORMAT.fullmatch(name) if isinstance(name, str) else None
    return found[1] if found is not None and found[1] in CURRENT else None


def _arrays(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a state with arrays for tensors."""
    table = state.get("table")
    losses = table.get("losses") if isinstance(table, Mapping) else None
    if losses is None or isinstance(losses, np.ndarray):
        return state
    from seta.torch.state import with_arrays

    found: Mapping[str, Any] = with_arrays(state)
    return found
