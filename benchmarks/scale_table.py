"""`python -m benchmarks.scale_table`: writes the tables of `docs/scale.md`, between their markers.

Every row says where it comes from: `computed` by the cost model of `seta plan`, `measured` on a
machine, or `simulated` on virtual ranks. Measured figures are taken from `results/scale.json` and
`results/ranks.json` where these files exist; their rows are dicts with

- `run`: options of `seta plan`, such as `{"samples": 10**8, "ranks": 4, "sharding": "sharded"}`;
  `DEFAULTS` are added, and what is None is left out;
- any of `table`, `peak`, `sent`, `received`: bytes of one rank, the dearest one, in one epoch; and
  `choose_seconds`, of an epoch start. Other keys are left alone.

Each is put under what is computed for the same run. Simulated figures come from
`results/simulate.json` (`python -m benchmarks.simulate`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.readme import FOLDER, _source
from seta.plan import Plan, read
from seta.report.units import in_bytes, in_time, percent

PAGE = FOLDER.parent / "docs" / "scale.md"
RESULTS = FOLDER / "results"
MEASURED = ("scale", "ranks")

DEFAULTS = {"epochs": 10, "ranks": 1, "batch-size": 64, "method": "SeTa", "budget": 0.6}
SAMPLES = (10**6, 10**7, 10**8, 10**9, 10**10)
RANKS = (1, 8, 64, 512, 4096)
BESIDE = ((10**7, 8), (10**7, 512), (10**8, 8), (10**8, 512), (10**9, 64), (10**9, 4096))

Row = Sequence[str]


def planned(run: Mapping[str, Any]) -> Plan:
    """Returns the plan of a run, given by options of `seta plan`."""
    options = {**DEFAULTS, **run}.items()
    return Plan(read({name: str(value) for name, value in options if value is not None}))


def table(headers: Row, rows: Iterable[Row]) -> str:
    """Returns a Markdown table: the last column is words, the others figures."""
    rule = ["---:"] * (len(headers) - 1) + ["---"]
    return "".join(f"| {' | '.join(row)} |\n" for row in (headers, rule, *rows))


def by_default() -> str:
    """What the loader chooses by itself, from the smallest run to the largest."""
    rows = []
    for samples in SAMPLES:
        for ranks in RANKS:
            plan = planned({"samples": samples, "ranks": ranks})
            memory, ours, theirs = plan.memory, plan.exchange, plan.published
            rows.append(
                (
                    f"{samples:,}",
                    f"{ranks:,}",
                    plan.request.sharding if ranks > 1 else "",
                    in_bytes(memory.table),
                    in_bytes(memory.peak),
                    in_bytes(memory.peak * plan.request.node_ranks),
                    in_bytes(ours.received) if ranks > 1 else "",
                    in_bytes(theirs.received) if ranks > 1 else "",
                    f"{theirs.collectives:,}" if ranks > 1 else "",
                    "computed",
                )
            )
    return table(
        (
            "samples",
            "ranks",
            "losses",
            "rank, always",
            "rank, peak",
            "node, peak",
            "rank receives per epoch",
            "per-step gather: rank receives",
            "per-step gather: exchanges",
            "source",
        ),
        rows,
    )


def side_by_side() -> str:
    """Both ways of holding the losses, for the same runs."""
    rows = []
    for samples, ranks in BESIDE:
        pair = [
            planned({"samples": samples, "ranks": ranks, "sharding": sharding})
            for sharding in ("replicated", "sharded")
        ]
        figures = [
            value(plan)
            for value in (
                lambda plan: in_bytes(plan.memory.table),
                lambda plan: in_bytes(plan.memory.peak),
                lambda plan: in_bytes(plan.exchange.received),
            )
            for plan in pair
        ]
        by_itself = planned({"samples": samples, "ranks": ranks}).request.sharding
        rows.append((f"{samples:,}", f"{ranks:,}", *figures, by_itself, "computed"))
    names = ("rank, always", "rank, peak", "rank receives per epoch")
    both = [f"{name}: {way}" for name in names for way in ("replicated", "sharded")]
    return table(("samples", "ranks", *both, "by default", "source"), rows)


def measured(folder: Path = RESULTS) -> str:
    """What was measured, each row under the computed one."""
    parts = []
    for path in (folder / f"{name}.json" for name in MEASURED):
        if not path.exists():
            continue
        result = json.loads(path.read_text())
        rows = [row for found in result["rows"] if "run" in found for row in _pair(found)]
        headers = (
            "samples",
            "ranks",
            "losses",
            "rank, always",
            "rank, peak",
            "rank sends per epoch",
            "rank receives per epoch",
            "choosing",
            "source",
        )
        parts.append(f"`{result['command']}`: {_source(result)}\n\n{table(headers, rows)}")
    return "\n".join(parts) or "Nothing has been measured yet.\n"


def _pair(found: Mapping[str, Any]) -> Iterable[Row]:
    """The computed and the measured row of a run."""
    plan = planned(found["run"])
    run = plan.request
    head = (f"{run.samples:,}", f"{run.ranks:,}", run.sharding if run.ranks > 1 else "")
    computed = {
        "table": plan.memory.table,
        "peak": plan.memory.peak,
        "sent": plan.exchange.sent,
        "received": plan.exchange.received,
    }
    for source, figures in (("computed", computed), ("measured", found)):
        shown = [in_bytes(figures[name]) if name in figures else "" for name in computed]
        seconds = figures.get("choose_seconds")
        yield (*head, *shown, "" if seconds is None else in_time(seconds), source)


def simulated(folder: Path = RESULTS) -> str:
    """What virtual ranks had, beside the plan."""
    path = folder / "simulate.json"
    if not path.exists():
        return "Nothing has been simulated yet.\n"
    rows = []
    for row in json.loads(path.read_text())["rows"]:
        plan = row["planned"]
        rows.append(
            (
                f"{row['samples']:,}",
                f"{row['ranks']:,}",
                f"{row['shards']:,}",
                _span(row["samples_of_rank"]),
                f"{row['rows_of_rank'][1]:,} / {plan['rows']:,}",
                f"{row['share_of_rank']:,} / {plan['share']:,}",
                f"{row['steps_of_rank']:,} / {plan['steps']:,}",
                percent(row["left_over"]),
                "yes" if row["merged_is_whole"] else "no",
                "yes" if row["same_as_one_rank"] else "no",
                "simulated / computed",
            )
        )
    return table(
        (
            "samples",
            "ranks",
            "shards",
            "samples of a rank",
            "largest table of a rank",
            "trained by every rank",
            "steps of every rank",
            "chosen, but left over",
            "sum of the histograms = whole",
            "same samples as one rank",
            "source",
        ),
        rows,
    )


def _span(ends: Sequence[int]) -> str:
    low, high = ends
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def render(page: str) -> str:
    """Returns the page with its tables made anew; the rest stays as it is."""
    tables = {
        "by default": by_default,
        "side by side": side_by_side,
        "measured": measured,
        "simulated": simulated,
    }
    for name, make in tables.items():
        begin, end = f"<!-- table: {name} -->\n", f"<!-- end: {name} -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        if len(pattern.findall(page)) != 1:
            raise ValueError(f"{PAGE.name} must have one {begin.strip()} with its {end}")
        made = f"{begin}{make()}{end}"
        page = pattern.sub(lambda _, made=made: made, page)
    return page


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
