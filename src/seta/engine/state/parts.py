"""The parts of a state: one part serves all ranks, or each rank has a part of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from seta.engine.rows import CLOCKED
from seta.engine.state.fields import Field, same
from seta.engine.state.formats import upgrade
from seta.engine.table.ranks import Ranks


def part_of(ranks: Ranks | None, sharding: str, *, whole: bool) -> dict[str, int]:
    """Returns whose state it is: part p of P; 0 of 1 where one serves all ranks."""
    if ranks is None or (whole and sharding == "replicated"):
        return {"part": 0, "parts": 1}
    return {"part": ranks.process, "parts": ranks.processes}


def upgraded(saved: Any, kind: str) -> list[Field]:
    """Returns the states that were given, one or several, in the current format.

    Args:
        saved: A state, or an iterable of some.
        kind: Of each of them, see `formats`.

    Raises:
        ValueError: One is no such state, or there is none.
    """
    several = isinstance(saved, Iterable) and not isinstance(saved, (Mapping, str, bytes))
    states = [upgrade(state, kind) for state in (saved if several else [saved])]
    if not states:
        raise ValueError("no state was given: give what state_dict() returned")
    if len(states) == 1:
        return [Field(states[0])]
    return [Field(state, f"state {at}: ") for at, state in enumerate(states)]


def parts_of(saved: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> list[Field]:
    """Returns the states that were given, in the current format, by their part.

    Raises:
        ValueError: One is no state, or they are not all of a whole.
    """
    roots = upgraded(saved, "pruner")
    counts = {root["table"]["parts"].integer(1) for root in roots}
    roots.sort(key=lambda root: root["table"]["part"].integer())
    found = [root["table"]["part"].integer() for root in roots]
    missing = sorted({*range(min(max(counts), len(found) + 1))} - set(found))
    if missing or len(counts) > 1 or found != [*range(max(counts))]:
        raise ValueError(
            f"the state was saved in {max(counts)} parts, one by each rank, and "
            + (f"part {missing[0]} is missing" if missing else f"{len(roots)} states were given")
            + ": give all of one checkpoint, load_state_dict([state_of_rank_0, ...])"
        )
    return roots


def check_together(roots: Sequence[Field]) -> None:
    """Refuses parts that are not of one checkpoint of one run.

    They may be of different moments of an epoch.

    Raises:
        ValueError: Names what they do not have in common.
    """
    for root in roots[1:]:
        if _position(root.value) != _position(roots[0].value):
            raise ValueError(
                "the states of the ranks are of different epochs: give those of one checkpoint"
            )
        for mine, theirs in zip(_common(root), _common(roots[0]), strict=True):
            if not same(_timeless(mine.value), _timeless(theirs.value)):
                raise ValueError(
                    f"{mine.path} differs from {theirs.path}: these states are not of one "
                    "checkpoint of one run"
                )


def _position(state: Mapping[str, Any]) -> tuple[int, int | None]:
    opened = state["open"]
    return len(state["run"]["history"]), None if opened is None else opened["row"]["epoch"]


def _common(root: Field) -> Iterator[Field]:
    """Yields what all parts have alike."""
    whole = root["settings"]["sharding"].value == "replicated"
    table, opened = root["table"], root["open"]
    yield root["settings"]
    yield root["run"]
    yield root["trace"]["samples"] if root["trace"].given else root["trace"]
    columns = ("losses", "last_trained", "kept_counts", "columns")
    for name in columns if whole else ("dealt", "shared"):
        yield table[name]
    if opened.given:
        yield opened["row"]
        yield opened["curve"]
        if whole:
            yield opened["mask"]
            yield opened["weights"]


def _timeless(value: Any) -> Any:
    """Returns an entry without the figures that each rank has of its own."""
    if isinstance(value, Mapping):
        return {key: _timeless(one) for key, one in value.items() if key not in CLOCKED}
    return [*map(_timeless, value)] if isinstance(value, list) else value
