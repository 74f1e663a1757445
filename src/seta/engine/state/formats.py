"""The formats of saved states: what each is called, and how an older one becomes the current one.

Every state says in its entry `format` what it is and in which version: "seta-pruner-1". States lie
in one another (a loader's holds a pruner's), and each has a format of its own. To change one, raise
its number in `CURRENT`, and put into `STEPS` a function that makes the new one of the one before:
then states of all earlier versions are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from seta.engine.table import tracked

CURRENT = {"pruner": 2, "loader": 1, "stream": 1, "lightning": 1, "trainer": 1}
"""The number of each format."""

Step = Callable[[dict[str, Any]], dict[str, Any]]


def _with_trace(old: dict[str, Any]) -> dict[str, Any]:
    """Returns a state with an entry for the course of the run; visits begin with 0, not NaN."""
    sums = (tracked.VISITS, tracked.MEAN, tracked.SQUARES)
    columns = {
        name: np.nan_to_num(column) if name in sums else column
        for name, column in old["table"]["columns"].items()
    }
    return {**old, "table": {**old["table"], "columns": columns}, "trace": None}


STEPS: dict[tuple[str, int], Step] = {("pruner", 1): _with_trace}
"""What makes of a state of (kind, number) the one of the next number. It changes no argument."""

_SAVED_BY = {
    "pruner": ("a Pruner", "Pruner.state_dict() or seta.load() returned"),
    "loader": ("a PrunedDataLoader", "its state_dict() returned"),
    "stream": ("a PrunedStream", "PrunedStream.state_dict() returned"),
    "lightning": ("a PruningCallback", "a checkpoint of Lightning holds for it"),
    "trainer": ("a PrunedTrainer", "a checkpoint of Trainer has in seta_state.bin"),
}


def name_of(kind: str) -> str:
    """Returns the format that a state of a kind is saved in.

    Examples:
        >>> name_of("pruner")
        'seta-pruner-2'
    """
    return f"seta-{kind}-{CURRENT[kind]}"


def number_of(state: Any, kind: str) -> int | None:
    """Returns the number of a state's format; None where it is no state of that kind."""
    name = state.get("format") if isinstance(state, Mapping) else None
    found = re.fullmatch(rf"seta-{kind}-([1-9]\d*)", name) if isinstance(name, str) else None
    return None if found is None else int(found[1])


def upgrade(state: Any, kind: str) -> dict[str, Any]:
    """Returns a state in the current format.

    Args:
        state: What was read.
        kind: One of `CURRENT`.

    Raises:
        ValueError: It is no state of that kind, or one of a newer format.
    """
    number = number_of(state, kind)
    if number is None:
        owner, source = _SAVED_BY[kind]
        raise ValueError(
            f"not a state of {owner}: its format must be {name_of(kind)!r}, got {_found(state)}: "
            f"give what {source}"
        )
    if number > CURRENT[kind]:
        raise ValueError(
            f"the state has the format seta-{kind}-{number}, and this seta ({_version()}) reads up "
            f"to {CURRENT[kind]}: upgrade seta"
        )
    upgraded = dict(state)
    for before in range(number, CURRENT[kind]):
        upgraded = STEPS[kind, before](upgraded)
    return upgraded


def _found(state: Any) -> str:
    if not isinstance(state, Mapping):
        return f"a {type(state).__name__}"
    if "format" in state:
        return repr(state["format"])
    return f"a dict without one, with {', '.join(map(repr, list(state)[:8])) or 'nothing in it'}"


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # a sixth of `import seta`

    try:
        return version("seta")
    except PackageNotFoundError:  # run from its sources
        return "not installed"
