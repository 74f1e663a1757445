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

measures everything here, prints a table and writes `results/*.json`: every raw repeat, the machine,
the versions. This page is made of those files by `python -m benchmarks.readme`. The limits are what
the project asks of itself. Ratios are to something run beside it, in turns, in the same process or
pair of processes; absolute times go with the machine, and no test asserts one.

- `epoch_start`: histogram, groups and draw of an epoch of SeTa with its defaults, on gamma losses,
  two threads; beside the published way of doing the same (`published.py`, written by us:
  scikit-learn's k-means over all scores, and a Python loop over the samples into groups), and
  beside a copy of the loss array. The order is made as it is read: what that takes, in blocks, on
  one thread.
- `methods`: an epoch start of each method beside that of Random, what recording a batch of 128
  takes, and what is held per sample; with 1,000 classes.
- `budget`: what an exact budget adds to that, and what saving a state in mid-epoch costs.
- `batch`: `update` on a batch of 128, the same with `track=True` beside it, and loading alone,
  beside a plain `DataLoader`.
- `import_time`: `import seta` beside `import numpy`.
- `scale`: the steps of a run of a billion samples on one machine, its checkpoint included: time and
  memory, beside 100 million.
- `ranks`: what 2 and 4 processes tell each other in an epoch, with whole losses and with losses in
  parts; in turns with the published way on the same samples, which gathers index and loss in every
  step (`exchange.py`, written by us). `docs/scale.md` has bytes and memory beside what `seta plan`
  computes.

Whether the methods keep the accuracy, on real data, is another question, and hours:
`python -m benchmarks.accuracy --suite NAME --data DIR` makes the runs, one line each, and
[docs/results.md](../docs/results.md) is made of the lines. How many wrong labels a run finds,
beside cleanlab: `python -m benchmarks.suspects --data DIR`, and
[docs/suspects.md](../docs/suspects.md).
Whether prompts are worth their rollouts, with a toy of a language model and in minutes:
`python -m benchmarks.rollouts`, and [docs/rollouts.md](../docs/rollouts.md).
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
        "| samples | epoch start | per sample | in copies | published way | times faster | "
        "published way on numpy arrays, times faster |",
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
        "| samples | order, a drawn sample | beside a random number |",
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
        "| samples | ranks | way | a rank tells per epoch | receives | torch's collectives | "
        "time in them | of all of end_epoch | published way, times slower |",
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
        "| method | epoch start | beside Random | recording a batch | held |",
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
