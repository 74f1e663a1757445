"""`python -m benchmarks.readme`: writes `benchmarks/README.md` from the files in `results/`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seta.report.units import in_bytes, in_time

FOLDER = Path(__file__).resolve().parent
ORDER = ("epoch_start", "methods", "budget", "batch", "import_time", "scale", "ranks")

HEAD = """# Benchmarks

    make bench

runs all speed benchmarks, prints a table and writes `results/*.json` with every repeat, the machine
and the versions. `python -m benchmarks.readme` makes this page from these files. Limits are the
project's own goals. Ratios compare with an alternative that runs in turns in the same process or
processes; absolute times depend on the machine, and no test asserts any.

- `epoch_start`: histogram, groups and draw of an epoch of SeTa with its defaults, on gamma losses
  and two threads. Compared with a copy of the loss array, and with the *published* approach
  (`published.py`, our implementation: scikit-learn's k-means over all scores, and a Python loop
  that puts samples into groups). *Order* is the time to compute the order, in blocks, on one
  thread.
- `methods`: epoch start of each method relative to Random, time to record a batch of 128, and
  memory per sample; with 1,000 classes.
- `budget`: what an exact budget adds, and what saving a state in mid-epoch costs.
- `batch`: `update` on a batch of 128, with and without `track=True`, and loading alone, compared
  with a plain `DataLoader`.
- `import_time`: `import seta` compared with `import numpy`.
- `scale`: all steps of a run of a billion samples on one machine, with its checkpoint: time and
  memory, compared with 100 million.
- `ranks`: traffic of 2 and 4 processes per epoch, with replicated and with sharded losses, compared
  with the *published* approach on the same samples, which gathers index and loss in every step
  (`exchange.py`, our implementation). `docs/scale.md` compares bytes and memory with `seta plan`.

Benchmarks of quality take longer, and have pages of their own:

- accuracy on real data, in hours: `python -m benchmarks.accuracy --suite NAME --data DIR`, and
  [docs/results.md](../docs/results.md);
- wrong labels found, compared with cleanlab: `python -m benchmarks.suspects --data DIR`, and
  [docs/suspects.md](../docs/suspects.md);
- rollouts saved on a toy language model, in minutes: `python -m benchmarks.rollouts`, and
  [docs/rollouts.md](../docs/rollouts.md).
"""


def render(results: list[dict[str, Any]]) -> str:
    """Returns the page."""
    parts = [HEAD]
    for result in results:
        parts.append(f"\n## {result['name']}\n\n{_source(result)}\n\n{_bars(result['bars'])}")
        if result["name"] in TABLES:
            parts.append(f"\n{TABLES[result['name']](result['rows'])}")
    return "".join(parts)


def _source(result: dict[str, Any]) -> str:
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return (
        f"{result['date']}, {machine['processor']}, {machine['cores']} cores, "
        f"{machine.get('memory_gib', '?')} GiB; {versions}."
    )


def _bars(bars: list[dict[str, Any]]) -> str:
    lines = ["| what | figure | limit | |", "| --- | ---: | ---: | --- |"]
    for bar in bars:
        sense, met = "≥" if bar["sense"] == "at least" else "≤", "met" if bar["met"] else "not met"
        figure = f"{bar['figure']:.4g} {bar['unit']}"
        lines.append(f"| {bar['what']} | {figure} | {sense} {bar['limit']:g} | {met} |")
    return "\n".join(lines) + "\n"


def _epoch_starts(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| samples | epoch start | per sample | in copies | published | times faster | "
        "times faster than published on numpy arrays |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in (row for row in rows if row["kind"] == "time"):
        published = f"{row['published_seconds']:.3g} s" if "published_seconds" in row else ""
        faster = f"{row['times_faster']:.0f}" if "times_faster" in row else ""
        numpy = f"{row['times_faster_than_numpy']:.0f}" if "times_faster_than_numpy" in row else ""
        per_sample = row["seconds"] / row["n"] * 1e9
        lines.append(
            f"| {row['n']:,} | {row['seconds'] * 1e3:.3g} ms | {per_sample:.3g} ns | "
            f"{row['copies']:.0f} | {published} | {faster} | {numpy} |"
        )
    return "\n".join(lines) + "\n" + _orders([row for row in rows if row["kind"] == "order"])


def _orders(rows: list[dict[str, Any]]) -> str:
    lines = [
        "",
        "| samples | order, per drawn sample | relative to a random number |",
        "| ---: | ---: | ---: |",
    ]
    for row in rows:
        lines.append(
            f"| {row['n']:,} | {row['nanoseconds']:.3g} ns | {row['beside_random']:.3g} x |"
        )
    return "\n".join(lines) + "\n" if rows else ""


def _steps(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| samples | step | time | per sample | process, at most |",
        "| ---: | --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        lines.append(
            f"| {row['n']:,} | {row['step']} | {row['seconds']:.3g} s | "
            f"{row['ns_per_sample']:.3g} ns | {row['gib']:.3g} GiB |"
        )
    return "\n".join(lines) + "\n"


def _exchanges(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| samples | ranks | losses | own payload per epoch | receives | torch's collectives | "
        "time in them | time of end_epoch | published, times slower |",
        "| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        end = in_time(row["end_seconds"]) if "end_seconds" in row else ""
        faster = f"{row['times_faster']:.0f}" if "times_faster" in row else ""
        lines.append(
            f"| {row['n']:,} | {row['ranks']} | {row['way']} | {in_bytes(row['told'])} | "
            f"{in_bytes(row['received'])} | {row['collectives']:,.0f} | "
            f"{in_time(row['communication_seconds'])} | {end} | {faster} |"
        )
    return "\n".join(lines) + "\n"


def _methods(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| method | epoch start | relative to Random | recording a batch | memory |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        lines.append(
            f"| {row['method']} | {row['start_seconds'] / row['n'] * 1e9:.3g} ns/sample | "
            f"{row['start_ratio']:.2f} x | {row['record_seconds_per_batch'] * 1e6:.0f} µs | "
            f"{row['bytes']:.3g} bytes/sample |"
        )
    return "\n".join(lines) + "\n"


TABLES = {"epoch_start": _epoch_starts, "methods": _methods, "scale": _steps, "ranks": _exchanges}


def stored(folder: Path = FOLDER / "results") -> list[dict[str, Any]]:
    """Returns the results that there are, in the order of the page."""
    paths = (folder / f"{name}.json" for name in ORDER)
    return [json.loads(path.read_text()) for path in paths if path.exists()]


if __name__ == "__main__":
    (FOLDER / "README.md").write_text(render(stored()), encoding="utf-8")
