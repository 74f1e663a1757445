"""What a `Pruner` is made of, and how it changes: completely, or not at all.

`Pruner` is the interface. Behind it, `lifecycle` (begin, record, end), `saving` (state dicts) and
`views` (tables and texts) are plain functions of a `Core`.

A step first computes all that it needs. `commit` then notes the change, applies it to the table
and replaces the `Run`. A change may be applied twice without harm. So an interrupt before the note
leaves the run as it was; after it, the next call of `settle` completes the change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from seta.engine.curves.policy import SeesBatch
from seta.engine.rows import Row
from seta.engine.run import Run
from seta.engine.settings import Settings
from seta.engine.table.table import Table


class Holder(Protocol):
    """Holds losses back for a pruner, as `seta.torch.LossBuffer` does; see `Pruner.attach`."""

    def drain(self) -> None:
        """Records all losses that it holds."""

    def clear(self) -> None:
        """Discards all losses that it holds."""


@dataclass(eq=False)
class Change:
    """A change to a run.

    Attributes:
        before: The run that it was computed from.
        run: The run after it.
        apply: Writes it to the table; calling it twice has no further effect.
        done: Whether it was made.
    """

    before: Run
    run: Run
    apply: Callable[[], None] | None = None
    done: bool = False


class Core:
    """The parts of a pruner.

    Args:
        settings: The checked arguments.
        table: The loss table.

    Attributes:
        settings: The checked arguments.
        table: The loss table.
        trace: The course of a tracked run; None if the run is not tracked.
        sees_batch: The policy, if it looks at a loss beside those of its batch; else None.
        history: The rows of the epochs that are over.
        holders: What holds losses back.
        run: Where the run stands. `settle` completes an interrupted change first.
    """

    def __init__(self, settings: Settings, table: Table) -> None:
        self.settings, self.table, self.trace = settings, table, settings.trace()
        # Checked once: the check takes longer than recording a batch should.
        self.sees_batch = settings.policy if isinstance(settings.policy, SeesBatch) else None
        self.history: list[Row] = []
        self.holders: list[Holder] = []
        self.run = Run()
        self._change: Change | None = None
        self._overwriting: str | None = None

    def settle(self) -> Run:
        """Completes an interrupted change, and returns where the run stands.

        Raises:
            RuntimeError: The loss table is half overwritten.
        """
        change = self._change
        if change is not None:
            if self.run is change.before:
                try:
                    if change.apply is not None:
                        change.apply()
                except Exception:  # of a policy's own code; an interrupt leaves the change to do
                    self._change = None
                    raise
                # In one line: a signal handler may have come here first, and gone on from there.
                self.run = change.run if self.run is change.before else self.run
                change.done = True
            self._change = None
        if self._overwriting is not None:
            raise RuntimeError(
                f"{self._overwriting} was interrupted while it wrote to the loss table: load a "
                "state with load_state_dict(), or make a new Pruner"
            )
        return self.run

    def collect(self) -> Run:
        """Records the losses that are held back, and returns where the run stands."""
        self.settle()
        for holder in self.holders:
            holder.drain()
        return self.settle()

    def attempt(self, change: Change) -> bool:
        """Changes table and run together, whatever interrupts it.

        Returns:
            Whether it did. False if a signal handler changed the run since `change` was computed.
        """
        self._change = change
        self.settle()
        return change.done

    def commit(self, before: Run, run: Run, apply: Callable[[], None] | None = None) -> None:
        """Changes table and run together, whatever interrupts it; see `Change`.

        Raises:
            RuntimeError: The run has changed since `before`.
        """
        if not self.attempt(Change(before, run, apply)):
            raise RuntimeError(
                "the run was changed while a step of it was under way: a signal handler may "
                "call state_dict(), and nothing else; one thread alone may use a run at a time"
            )

    def begin_overwrite(self, what: str) -> None:
        """Marks table and run as unusable until `end_overwrite`.

        Args:
            what: The method that overwrites them, for the error that `settle` raises meanwhile.
        """
        self._overwriting, self._change = what, None

    def end_overwrite(self, run: Run) -> None:
        """Makes table and run usable again."""
        self.run = run
        self._overwriting = None

    @property
    def latest_epoch(self) -> int:
        """The open epoch, or else the one that ended last; -1 before the first."""
        run = self.settle()
        return run.begun - 1
