"""What a state says of a run: settings, rows, and a numpy column for each thing known of samples.

Read from states alone, so that a page of a file and a page of a live pruner are the same. Columns
are views where that is possible; reading 10 million samples takes less than a second.

Of a run of `seta.rl` the losses are success rates, decoded from the signals, and there are no mean
and spread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine.curves.policy import method_of, takes_signals
from seta.engine.draw.partition import Partition, shards_of
from seta.engine.rows import Row
from seta.engine.state.fields import Field, same
from seta.engine.state.identity import check_settings
from seta.engine.state.parts import check_together
from seta.engine.state.rows import check_row
from seta.engine.table import tracked
from seta.report.inspection.trace import Trace
from seta.rl.signal import rate_of

Floats = NDArray[np.float32]

_FLOAT32 = float(np.finfo(np.float32).max)
_MOST_VISITS = 2**24  # what counts up to in float32


@dataclass(frozen=True, eq=False)
class Facts:
    """What is known of a run, and of the samples whose losses are here.

    Attributes:
        settings: Of the run, as in its state.
        history: Rows of the epochs that are over.
        open: Row of the open epoch as it began; None between epochs.
        full: What full training would have visited in the epochs that are over.
        samples: int64 (rows,), the index of each row in the data set.
        loss: float32 (rows,), the latest, NaN = none; None where a score hides it.
        score: float32 (rows,); None where the policy keeps none.
        left_out: int64 (rows,), epochs since it was last trained.
        kept: uint32 (rows,), how many epochs kept it; None where that was not counted.
        visits: int64 (rows,), how many losses it had; None in a run that was not tracked.
        mean: float32 (rows,), of these losses; None as before, and of signals.
        spread: float32 (rows,), their standard deviation, NaN before two; None as before.
        trace: Loss curves of some samples, and a picture of each epoch; None as before.
    """

    settings: Mapping[str, Any]
    history: list[Row]
    open: Row | None
    full: int
    samples: NDArray[np.int64]
    loss: Floats | None
    score: Floats | None
    left_out: NDArray[np.int64]
    kept: NDArray[np.uint32] | None
    visits: NDArray[np.int64] | None
    mean: Floats | None
    spread: Floats | None
    trace: Trace | None

    @property
    def n(self) -> int:
        """Samples of the data set."""
        return int(self.settings["n"])

    @property
    def epochs(self) -> int:
        """Length of the run."""
        return int(self.settings["epochs"])

    @property
    def over(self) -> int:
        """How many epochs have ended."""
        return len(self.history)

    @property
    def begun(self) -> int:
        """How many epochs have ended or begun: the most that a sample can have been left out."""
        latest = self.open or (self.history[-1] if self.history else None)
        return 0 if latest is None else int(latest["epoch"]) + 1

    @property
    def latest(self) -> Floats:
        """Latest loss or success rate of each sample, or its score: float32 (rows,)."""
        return _either(self.loss, self.score)

    @property
    def measure(self) -> str:
        """What `latest` is: "loss", "success rate" or "score"."""
        if self.loss is None:
            return "score"
        return "success rate" if self.signals else "loss"

    @property
    def judged_by(self) -> Floats:
        """What the policy chooses by: the score where it keeps one, else the loss."""
        return _either(self.score, self.loss)

    @property
    def judged(self) -> str:
        """What `judged_by` is: "loss" or "score"."""
        return "loss" if self.score is None else "score"

    @property
    def signals(self) -> bool:
        """Whether signals of rewards were recorded (`seta.rl`), and not losses."""
        return takes_signals(method_of(str(self.settings["policy"])))


def _either(first: Floats | None, second: Floats | None) -> Floats:
    found = second if first is None else first
    return np.empty(0, np.float32) if found is None else found


def facts_of(states: Sequence[Mapping[str, Any]]) -> Facts:
    """Returns what the states of a pruner say: one, or parts of a sharded table.

    Of a table that each rank holds whole, the first state is read. Of a sharded one the samples of
    the parts that are given are known, which may be some of them.

    Raises:
        ValueError: A state is damaged, or they are of different runs; the message names the entry.
    """
    several = len(states) > 1
    roots = [Field(state, f"state {at}: " if several else "") for at, state in enumerate(states)]
    for root in roots:
        check_settings(root["settings"])
        _history(root)
        _open(root)
    _check_alike(roots)
    if roots[0]["settings"]["sharding"].value != "sharded":
        roots = roots[:1]
    first = roots[0]
    history, opened = _history(first), _open(first)
    latest = opened or (history[-1] if history else None)
    begun = 0 if latest is None else int(latest["epoch"]) + 1
    parts = [_part(root, begun) for root in roots]
    columns = {name: _joined([part.get(name) for part in parts]) for name in _COLUMNS}
    scored = columns.pop("scored") is not None
    values, own = columns.pop("values"), columns.pop("own_loss")
    facts = Facts(
        settings=first["settings"].value,
        history=history,
        open=opened,
        full=first["run"]["full"].integer(len(history)),
        loss=own if scored else values,
        score=values if scored else None,
        trace=Trace.of(
            [root["trace"] for root in roots],
            n=first["settings"]["n"].integer(),
            epochs=first["settings"]["epochs"].integer(),
            history=history,
        ),
        **columns,
    )
    return _with_rates(facts) if facts.signals else facts


def _with_rates(facts: Facts) -> Facts:
    """Returns facts with success rates for signals, whose mean and spread say nothing."""
    loss, trace = facts.loss, facts.trace
    return replace(
        facts,
        loss=None if loss is None else rate_of(loss).astype(np.float32),
        mean=None,
        spread=None,
        trace=trace and replace(trace, losses=rate_of(trace.losses).astype(np.float32)),
    )


_COLUMNS = (
    "samples", "values", "own_loss", "scored", "left_out", "kept", "visits", "mean", "spread",
)  # fmt: skip


def _check_alike(roots: Sequence[Field]) -> None:
    """Refuses states that are not the parts of one run at one time, each given once.

    Raises:
        ValueError: Names what they do not have in common, or the part that comes twice.
    """
    for root in roots[1:]:
        if not same(root["settings"].value, roots[0]["settings"].value):
            raise ValueError(
                f"{root['settings'].path} differs from {roots[0]['settings'].path}: give the "
                "states of one run, and a page for each run"
            )
    check_together(roots)
    if roots[0]["settings"]["sharding"].value != "sharded":
        return
    shards = [root["table"]["shards"] for root in roots]
    taken = sorted(shards, key=lambda field: field.items(2)[0].integer())
    for one, other in pairwise(taken):
        if other.items(2)[0].integer() < one.items(2)[1].integer():
            raise ValueError(
                f"{one.path} and {other.path} have the same samples ({one.value} and "
                f"{other.value}): give each part once"
            )


def _history(root: Field) -> list[Row]:
    epochs, over = root["settings"]["epochs"].integer(1), 0
    for row in root["run"]["history"].items():
        over = check_row(row, over, epochs) + 1
    return [dict(row) for row in root["run"]["history"].value]


def _open(root: Field) -> Row | None:
    if not root["open"].given:
        return None
    check_row(root["open"]["row"], 0, root["settings"]["epochs"].integer(1))
    return dict(root["open"]["row"].value)


def _part(root: Field, begun: int) -> dict[str, NDArray[Any]]:
    """Returns the columns of a state, without the rows that have no sample."""
    n, table = root["settings"]["n"].integer(1), root["table"]
    here: Any = slice(None)
    samples = np.arange(n)
    if root["settings"]["sharding"].value == "sharded":
        partition = Partition(n, shards_of(n))
        start, stop = (end.integer(0, partition.shards) for end in table["shards"].items(2))
        slots = partition.slots(range(start, stop))
        held = partition.index_of(np.arange(slots.start, slots.stop))
        here = held < n
        samples, rows = held[here], len(held)
    else:
        rows = n
    trained = table["last_trained"]
    wide = isinstance(trained.value, np.ndarray) and trained.value.dtype == np.uint32
    last = trained.array(np.uint32 if wide else np.uint16, rows)
    trained.within(last, 0, begun)
    table["losses"].within(table["losses"].array(np.float32, rows), -_FLOAT32, _FLOAT32)
    found: dict[str, NDArray[Any]] = {
        "samples": samples,
        "values": table["losses"].value[here],
        "left_out": begun - last[here].astype(np.int64),
    }
    if table["kept_counts"].given:
        found["kept"] = table["kept_counts"].array(np.uint32, rows)[here]
    table["columns"].require(isinstance(table["columns"].value, Mapping), "a dict")
    memory = {
        name: table["columns"][name].array(np.float32, rows)[here]
        for name in table["columns"].value
    }
    if any("." not in name for name in memory):  # those of a policy that keeps a score
        found["scored"] = np.empty(0)
    if tracked.LATEST in memory:
        found["own_loss"] = memory[tracked.LATEST]
    if tracked.VISITS in memory:
        visits = table["columns"][tracked.VISITS]
        visits.require(not np.isnan(visits.value).any(), "numbers")
        visits.within(visits.value, 0, _MOST_VISITS)
        found["visits"] = tracked.visits_of(memory)
        found["mean"] = tracked.mean_of(memory)
        found["spread"] = tracked.spread_of(memory)
    return found


def _joined(parts: Sequence[NDArray[Any] | None]) -> Any:
    """Returns the columns of all parts after each other; None where a part has none."""
    there = [part for part in parts if part is not None]
    if len(there) < len(parts):
        return None
    return there[0] if len(there) == 1 else np.concatenate(there)
