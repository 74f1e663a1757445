"""The check-in before each collective, which names processes that are late or out of step.

Each process writes what it comes for into the group's key-value store, and reads the one verdict
on the call: all came for the same, or two came for different things, or some did not come in time.
Whoever finds out first decides it for all; a process that comes too late reads it, too. So every
process counts the call, and the next one can go well.

One board serves all loaders of a group, since their calls have one order. Nothing goes over the
group itself, whose collectives would mix with those of the training. Cost: five round trips to the
store per call, whatever the number of processes.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch.distributed as dist

_SAME_CALLS = (
    "all ranks make the same calls in the same order (loaders made, end_epoch() or the next pass, "
    "state_dict() in mid-epoch)"
)


class Occasion(NamedTuple):
    """What a process comes for: in words, and which loader of the group asks, from 1 on."""

    what: str
    loader: int


class Board:
    """Where this process and the others of a group check in.

    Args:
        group: A process group of torch.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._store = _store_of(group)
        self._process, self._world = dist.get_rank(group), dist.get_process_group_ranks(group)
        # A store may outlive a restart of the processes: none may read what another run left
        # there. Process 0 names a fresh mark to whoever greets it with a fresh word.
        self._word = os.urandom(8).hex()
        self._mark = self._word if self._process == 0 else ""
        self._strangers = set(range(1, len(self._world))) if self._process == 0 else set()
        self._calls = 0
        self.loaders = 0

    def meet(self, occasion: Occasion, timeout: timedelta) -> None:
        """Waits for all processes to come for this call.

        Raises:
            RuntimeError: Names those that did not come in time, or came for something else; or the
                store is gone.
        """
        try:
            verdict = self._verdict(occasion, timeout)
        except RuntimeError as error:  # DistStoreError and DistNetworkError are such
            raise RuntimeError(
                f"{occasion.what}: the group's store cannot be reached ({error}): the process that "
                "keeps it, rank 0 where torchrun does not, has failed or was ended before this one"
            ) from error
        if "apart" in verdict:
            raise RuntimeError(self._apart(occasion, verdict["apart"]))
        if "missing" in verdict:
            raise RuntimeError(self._absent(occasion, **verdict))

    def _verdict(self, occasion: Occasion, timeout: timedelta) -> dict[str, Any]:
        """Checks in, and returns the verdict on this call, the same on all processes."""
        end = time.monotonic() + timeout.total_seconds()
        if not self._mark and not self._greet(timeout):
            return _missing([0], occasion, timeout)
        store, call, own = self._store, self._calls, [self._process, *occasion]
        key = f"seta/{self._mark}/{call}"
        self._calls += 1
        store.set(self._place(self._process), str(call))
        first = json.loads(store.compare_set(f"{key}/first", "", json.dumps(own)))
        if first[1:] != own[1:]:
            return self._decide(key, {"apart": [first, own]})
        if store.add(f"{key}/agreed", 1) < len(self._world):
            self._answer_greetings(f"{key}/verdict", end)
            return self._read(call, key, occasion, timeout, end)
        verdict = self._decide(key, {})
        if not verdict and call:  # all are here: none reads any more of the call before
            for name in ("first", "agreed", "verdict"):
                store.delete_key(f"seta/{self._mark}/{call - 1}/{name}")
        return verdict

    def _place(self, process: int) -> str:
        """Returns the key of the latest call that a process came to."""
        return f"seta/{self._mark}/of/{process}"

    def _decide(self, key: str, verdict: dict[str, Any]) -> dict[str, Any]:
        """Returns the verdict on a call: this one, unless there is one already."""
        text = self._store.compare_set(f"{key}/verdict", "", json.dumps(verdict))
        decided: dict[str, Any] = json.loads(text)
        return decided

    def _read(
        self, call: int, key: str, occasion: Occasion, timeout: timedelta, end: float
    ) -> dict[str, Any]:
        """Waits for the verdict, and returns it; decides on who is missing when time is up."""
        left = max(end - time.monotonic(), 0.001)  # 0 would be for ever
        try:
            self._store.wait([f"{key}/verdict"], timedelta(seconds=left))
        except RuntimeError:
            missing = [p for p in range(len(self._world)) if not self._came(p, call)]
            return self._decide(key, _missing(missing, occasion, timeout))
        verdict: dict[str, Any] = json.loads(self._store.get(f"{key}/verdict"))
        return verdict

    def _came(self, process: int, call: int) -> bool:
        place = self._place(process)
        return bool(self._store.check([place])) and int(self._store.get(place)) >= call

    # The first call.

    def _greet(self, timeout: timedelta) -> bool:
        """Asks process 0 for the mark of this run; returns whether it answered in time."""
        self._store.set(f"seta/greeting/{self._process}", self._word)
        try:
            self._store.wait([f"seta/answer/{self._word}"], timeout)
        except RuntimeError:
            self._store.check(["seta"])  # raises if it is the store that is gone
            return False
        self._mark = self._store.get(f"seta/answer/{self._word}").decode()
        self._store.set(f"seta/greeting/{self._process}", self._mark)
        return True

    def _answer_greetings(self, verdict: str, end: float) -> None:
        """Names the mark to those that do not know it yet, until there is a verdict, or no time."""
        store, answered = self._store, set()
        while self._strangers and time.monotonic() < end and not store.check([verdict]):
            greeted = [p for p in self._strangers if store.check([f"seta/greeting/{p}"])]
            for process in greeted:
                word = store.get(f"seta/greeting/{process}").decode()
                if word == self._mark:  # it knows
                    self._strangers.remove(process)
                elif word not in answered:
                    store.set(f"seta/answer/{word}", self._mark)
                    answered.add(word)
            if self._strangers:
                time.sleep(0.005)

    # What is wrong.

    def _apart(self, own: Occasion, came: Sequence[Sequence[Any]]) -> str:
        """Returns who came for what; `came` has two [process, *occasion] that differ."""
        process, *occasion = next(one for one in came if tuple(one[1:]) != own)
        other = Occasion(*occasion)
        texts = [one.what for one in (own, other)]
        if own.loader != other.loader:
            texts = [f"{one.what} (of loader {one.loader})" for one in (own, other)]
        numbered = "; loaders are numbered as they were made" if own.loader != other.loader else ""
        return (
            f"rank {self._world[self._process]} came to {texts[0]}, rank {self._world[process]} to "
            f"{texts[1]}: {_SAME_CALLS}{numbered}"
        )

    def _absent(self, own: Occasion, missing: list[int], what: str, seconds: float) -> str:
        """Returns who did not come, while the others came to `what` and waited."""
        if self._process in missing:
            return (
                f"rank {self._world[self._process]} came to {own.what} after the others had waited "
                f"for it to come to {what} for the group's timeout of {seconds:g} s"
            )
        if not missing:
            return f"{what}: the last rank came after the group's timeout of {seconds:g} s"
        ranks = [str(self._world[process]) for process in missing]
        listed = ", ".join(ranks[:8]) + (", ..." if len(ranks) > 8 else "")
        return (
            f"{what}: rank{'' if len(ranks) == 1 else 's'} {listed} did not come within the "
            f"group's timeout of {seconds:g} s, and the others wait: it failed, hangs, or got "
            "another number of batches; or a batch was left unanswered on some ranks, without "
            "loader.skip(); or it does not make this call, which all ranks must make (end_epoch "
            "after a break, state_dict in mid-epoch, a loader made)"
        )


def _missing(processes: list[int], occasion: Occasion, timeout: timedelta) -> dict[str, Any]:
    return {
        "missing": processes,
        "what": occasion.what,
        "seconds": timeout.total_seconds(),
    }


_BOARDS: WeakKeyDictionary[dist.ProcessGroup, Board] = WeakKeyDictionary()


def board_of(group: dist.ProcessGroup) -> Board:
    """Returns the one board of a group."""
    if group not in _BOARDS:
        _BOARDS[group] = Board(group)
    return _BOARDS[group]


def _store_of(group: Any) -> Any:
    """Returns a group's key-value store; groups tell it themselves in newer versions of torch."""
    if hasattr(group, "get_group_store"):
        return group.get_group_store()
    return dist.distributed_c10d._world.pg_map[group][1]
