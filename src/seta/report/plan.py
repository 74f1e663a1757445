"""The plan of a run: as tables for a terminal, and as plain data for programs.

Reads a `Plan` and a `Calibration`, and computes nothing that they do not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

from seta.plan import Calibration, Plan, Times
from seta.report.units import count, digits, in_bytes, in_time, many, money, percent

if TYPE_CHECKING:
    from rich.console import Console

    from seta.fitting import FigureList, FittingTable

__all__ = ["plan_dict", "print_plan"]

_ALL_SHOWN = 12  # epochs; of longer runs the first and the last ones
_FIRST, _LAST = 6, 3
_WORTH_SAYING = 0.1  # share of choosing from which on what each epoch takes is told apart
_UNEVEN = 0.002  # share of the chosen samples from which on it is said that they are left over


class Line(NamedTuple):
    """A figure: what it is, how much, and how it comes about."""

    what: str
    figure: str
    note: str


def print_plan(plan: Plan, calibration: Calibration, console: Console) -> None:
    """Prints a plan."""
    console.print("\n".join(_head(plan)), markup=False, highlight=False)
    console.print(_lengths(plan))
    for remark in _remarks(plan):
        console.print(remark, markup=False, highlight=False)
    console.print(_figures(plan, calibration), highlight=False)


def _head(plan: Plan) -> Iterator[str]:
    run = plan.request
    budget = "no budget" if run.budget is None else f"budget {run.budget:g}"
    losses = f", losses {run.sharding}" if run.ranks > 1 else ""
    yield f"seta plan: {many(run.epochs, 'epoch')} of {run.policy}, {budget}{losses}"
    where = f"{many(run.ranks, 'rank')} on {many(run.nodes, 'node')}"
    dropped = ", incomplete ones dropped" if run.drop_last else ""
    batches = f"batches of {many(run.batch_size, 'sample')} per rank"
    if run.batch_size == 1:
        batches += " (--batch-size)"
    yield f"{many(run.samples, 'sample')}, {where}, {batches}{dropped}"


def _lengths(plan: Plan) -> FittingTable:
    """The epochs of a plan."""
    from seta.fitting import FittingTable

    run, rows = plan.request, []
    for number, epoch in enumerate(plan.epochs):
        if run.epochs > _ALL_SHOWN and _FIRST <= number < run.epochs - _LAST:
            if number == _FIRST:
                rows.append(["...", "", "", ""])
            continue
        trained = epoch.share * run.ranks
        rows.append(_length(plan, str(number), trained, epoch.steps, run.sizes.most))
    if run.epochs > 1:
        rows.append(_length(plan, "all", plan.visits, plan.steps, plan.full_visits))
    headings = ["Epoch", "Samples\ntrained", "Steps", "Of full\ntraining"]
    return FittingTable(headings, rows, spare=["Steps"], total=run.epochs > 1)


def _length(plan: Plan, name: str, trained: int, steps: int, full: int) -> list[str]:
    """A row of the table of epochs."""
    figures = (count(trained, plan.exact), count(steps, plan.exact), percent(trained / full))
    return [name, *figures]


def _remarks(plan: Plan) -> Iterator[str]:
    """What has to be known about the lengths."""
    run = plan.request
    if not plan.exact:
        yield (
            f"These lengths are an estimate: {run.policy} asked about made-up losses (gamma, shape "
            "2). Yours decide; --budget 0.6 would make every length known."
        )
    if run.classes is not None:
        yield (
            f"{run.policy} looks at classes: {run.classes:,} of equal size and with equal losses "
            "here; --classes says how many yours are."
        )
    if plan.partition and plan.left_over > _UNEVEN:
        fewer, more = plan.even_ranks
        yield (
            f"{percent(plan.left_over)} of the chosen samples are left over: {run.ranks:,} ranks "
            f"do not divide the {plan.partition.shards:,} shards. {fewer:,} or {more:,} ranks "
            "would."
        )


def _figures(plan: Plan, calibration: Calibration) -> FigureList:
    """All other figures, in sections."""
    from seta.fitting import FigureList

    return FigureList(
        {
            "Memory": list(_memory(plan)),
            "Exchange": list(_exchange(plan)),
            "Average epoch": list(_times(plan, calibration)),
            "Whole run": list(_whole(plan, calibration)),
        }
    )


def _memory(plan: Plan) -> Iterator[Line]:
    run, memory = plan.request, plan.memory
    per_row = memory.always // plan.rows
    part = "all samples" if plan.partition is None else f"its {plan.rows:,} samples"
    held = "losses" if run.classes is None else "losses and classes"
    yield Line("rank, always", in_bytes(memory.always), f"{held} of {part}, {per_row} bytes each")
    more = ", records of the epoch" if memory.log else ""
    yield Line("rank, at the peak", in_bytes(memory.peak), f"and mask, order, work space{more}")
    if run.node_ranks > 1:
        node = f"{run.node_ranks} ranks"
        yield Line("node, at the peak", in_bytes(memory.peak * run.node_ranks), node)


def _exchange(plan: Plan) -> Iterator[Line]:
    run = plan.request
    if run.ranks == 1:
        yield Line("none", "", "a single rank")
        return
    ours, theirs = plan.exchange, plan.published
    what = (
        "once per epoch: index and loss of each sample trained"
        if plan.partition is None
        else "once per epoch: a histogram, no losses"
    )
    yield Line("rank, sends", in_bytes(ours.sent), what)
    yield Line("rank, receives", in_bytes(ours.received), f"{in_bytes(ours.network)} by all ranks")
    yield Line(
        "per-step gather",
        in_bytes(theirs.received),
        f"received by a rank in {theirs.collectives:,} exchanges, one in every step",
    )


def _times(plan: Plan, calibration: Calibration) -> Iterator[Line]:
    run, times = plan.request, plan.times(calibration)
    timed = f"{in_time(1e-9 * calibration.choose_ns)} per sample"
    if calibration.choose_s >= _WORTH_SAYING * times.choose:
        timed += f" and {in_time(calibration.choose_s)} per epoch"
    timed += ", timed here"
    if calibration.crowded(run.node_ranks) > 1:
        timed += f"; {run.node_ranks} ranks on {many(calibration.cores, 'core')}"
    yield Line("choosing", in_time(times.choose), timed)
    each = in_time(1e-9 * calibration.order_ns)
    looked_up = f"{each} per sample trained, spread over the epoch"
    yield Line("order", in_time(times.order), looked_up)
    if times.record:
        yield Line("recording", in_time(times.record), "of what all ranks trained, at its end")
    if times.exchange is not None and run.ranks > 1:
        speed = f"at {run.bandwidth / 1e9:g} GB/s per rank" if run.bandwidth else ""
        yield Line("exchange", in_time(times.exchange), speed)
    if times.train is None:
        yield Line("training", "?", "give --throughput, the samples per second of a rank")
        return
    yield Line("training", in_time(times.train), f"at {run.throughput:,g} samples/s per rank")
    yield Line("cost of pruning", percent(times.overhead / times.train), "of the training time")


def _whole(plan: Plan, calibration: Calibration) -> Iterator[Line]:
    run, times = plan.request, plan.times(calibration)
    spared = plan.full_visits - plan.visits
    share = f"{percent(spared / plan.full_visits)} of the {plan.full_visits:,} of full training"
    yield Line("visits saved", count(spared, plan.exact), share)
    if times.run is None or times.full is None or times.saved is None:
        return
    taken, full, saved = (run.epochs * one for one in (times.run, times.full, times.saved))
    yield Line("time", in_time(taken), "training and choosing")
    yield _spared("time", saved, in_time, f"of {in_time(full)} of full training")
    hours = run.ranks / 3600
    if run.ranks > 1:
        yield Line("rank-hours", digits(taken * hours), f"{run.ranks:,} ranks")
        yield _spared("rank-hours", saved * hours, digits, f"of {digits(full * hours)}")
    if run.price is not None:
        rate = hours * run.price
        yield Line("cost", money(taken * rate), f"at {run.price:g} per rank-hour")
        yield _spared("cost", saved * rate, money, f"of {money(full * rate)} of full training")


def _spared(what: str, saved: float, shown: Callable[[float], str], note: str) -> Line:
    """What is saved; or lost, where choosing costs more than it spares."""
    if saved < 0:
        return Line(f"{what} lost", shown(-saved), f"{note}: choosing costs more than it spares")
    return Line(f"{what} saved", shown(saved), note)


def plan_dict(plan: Plan, calibration: Calibration) -> dict[str, Any]:
    """All figures of a plan, JSON-able: bytes, seconds, samples; times of the average epoch."""
    run, memory, times = plan.request, plan.memory, plan.times(calibration)
    exchanges = {"exchange": plan.exchange, "published_exchange": plan.published}
    return {
        "run": asdict(run),
        "lengths": "exact" if plan.exact else "estimated",
        "epochs": [asdict(epoch) for epoch in plan.epochs],
        "visits": plan.visits,
        "full_visits": plan.full_visits,
        "steps": plan.steps,
        "memory": {
            **asdict(memory),
            "rows": plan.rows,
            "peak": memory.peak,
            "peak_of_node": memory.peak * run.node_ranks,
        },
        **{name: {**asdict(e), "network": e.network} for name, e in exchanges.items()},
        "seconds": {
            **asdict(times),
            "overhead": times.overhead,
            "run": times.run,
            "saved": times.saved,
        },
        "cost": _costs(plan, times),
        "calibration": asdict(calibration),
    }


def _costs(plan: Plan, times: Times) -> dict[str, float] | None:
    """What the whole run costs, what full training would, and the difference."""
    run = plan.request
    if run.price is None or times.run is None or times.full is None or times.saved is None:
        return None
    rate = run.epochs * run.ranks / 3600 * run.price
    return {"run": times.run * rate, "full": times.full * rate, "saved": times.saved * rate}
