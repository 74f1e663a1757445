"""The plan of a run: as tables for the terminal (rich), and as plain data for programs.

Reads a `Plan` and a `Calibration`, and computes nothing that they do not have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

from seta.plan import Calibration, Plan
from seta.report.units import count, digits, in_bytes, in_time, many, percent

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["plan_dict", "print_plan"]

_ALL_SHOWN = 12  # epochs; of longer runs the first and the last ones
_FIRST, _LAST = 6, 3
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
    console.print(_figures(plan, calibration))


def _head(plan: Plan) -> Iterator[str]:
    run = plan.request
    budget = "no budget" if run.budget is None else f"budget {run.budget:g}"
    losses = f", losses {run.sharding}" if run.ranks > 1 else ""
    yield f"seta plan: {many(run.epochs, 'epoch')} of {run.policy}, {budget}{losses}"
    where = f"{many(run.ranks, 'rank')} on {many(run.nodes, 'node')}"
    dropped = ", incomplete ones dropped" if run.drop_last else ""
    sizes = f"{many(run.samples, 'sample')}, {where}, batches of {run.batch_size:,}"
    yield f"{sizes}{dropped}"


def _lengths(plan: Plan) -> Table:
    """The epochs of a plan as a rich table."""
    from rich.box import SIMPLE
    from rich.table import Table

    run = plan.request
    table = Table(box=SIMPLE, padding=(0, 2, 0, 0), show_footer=run.epochs > 1)
    table.add_column("Epoch", footer="all", no_wrap=True)
    totals = {
        "Samples trained": count(plan.visits, plan.exact),
        "Steps": count(plan.steps, plan.exact),
        "Of full": percent(plan.visits / plan.full_visits),
    }
    for header, total in totals.items():
        table.add_column(header, footer=total, justify="right", no_wrap=True)
    for number, epoch in enumerate(plan.epochs):
        if run.epochs > _ALL_SHOWN and _FIRST <= number < run.epochs - _LAST:
            if number == _FIRST:
                table.add_row("...")
            continue
        trained = epoch.share * run.ranks
        table.add_row(
            str(number),
            count(trained, plan.exact),
            count(epoch.steps, plan.exact),
            percent(trained / run.sizes.most),
        )
    return table


def _remarks(plan: Plan) -> Iterator[str]:
    """What has to be known about the lengths."""
    run = plan.request
    if not plan.exact:
        yield (
            f"These lengths are an estimate: {run.policy} asked about made-up losses (gamma, shape "
            "2). Yours decide; --budget 0.6 would make every length known.\n"
        )
    if run.classes is not None:
        yield (
            f"{run.policy} looks at classes: {run.classes:,} of equal size and with equal losses "
            "here; --classes says how many yours are.\n"
        )
    if plan.partition and plan.left_over > _UNEVEN:
        fewer, more = plan.even_ranks
        yield (
            f"{percent(plan.left_over)} of the chosen samples are left over: {run.ranks:,} ranks "
            f"do not divide the {plan.partition.shards:,} shards. {fewer:,} or {more:,} ranks "
            "would.\n"
        )


def _figures(plan: Plan, calibration: Calibration) -> Table:
    """All other figures as a rich table, in sections."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 1), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim")
    sections = {
        "Memory": _memory(plan),
        "Exchange": _exchange(plan),
        "Average epoch": _times(plan, calibration),
        "Whole run": _saved(plan, calibration),
    }
    for title, lines in sections.items():
        table.add_row(Text(title, style="bold"))
        for line in lines:
            table.add_row(f"  {line.what}", line.figure, line.note)
        if title != [*sections][-1]:
            table.add_row()
    return table


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
        "published way",
        in_bytes(theirs.received),
        f"received by a rank in {theirs.collectives:,} exchanges, one in every step",
    )


def _times(plan: Plan, calibration: Calibration) -> Iterator[Line]:
    run, times = plan.request, plan.times(calibration)
    timed = f"{digits(calibration.choose_ns)} ns per sample, timed here"
    if calibration.crowded(run.node_ranks) > 1:
        timed += f"; {run.node_ranks} ranks on {many(calibration.cores, 'core')}"
    yield Line("choosing", in_time(times.choose), timed)
    looked_up = f"{digits(calibration.order_ns)} ns per sample trained, spread over the epoch"
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


def _saved(plan: Plan, calibration: Calibration) -> Iterator[Line]:
    run, times = plan.request, plan.times(calibration)
    spared = plan.full_visits - plan.visits
    share = f"{percent(spared / plan.full_visits)} of the {plan.full_visits:,} of full training"
    yield Line("visits saved", count(spared, plan.exact), share)
    if times.saved is None or times.full is None:
        return
    saved, full = times.saved * run.epochs, times.full * run.epochs
    yield Line("time saved", in_time(saved), f"of {in_time(full)} of full training")
    if run.ranks > 1:
        hours, of_full = (seconds * run.ranks / 3600 for seconds in (saved, full))
        yield Line("rank-hours saved", digits(hours), f"of {digits(of_full)}")


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
        "seconds": {**asdict(times), "overhead": times.overhead, "saved": times.saved},
        "calibration": asdict(calibration),
    }
