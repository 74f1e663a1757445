"""`python -m benchmarks [NAME ...] [--quick] [--out FOLDER]`: run, print the bars, write JSON.

NAME is epoch_start, methods, budget, batch, import_time, scale or ranks; without one all run, in
forty minutes on 2 cores, of which scale takes ten, with 12 GiB of memory and 7 GB on the disk.
`--quick` takes tiny sizes, to see that everything works: its figures say nothing, and it writes
files only where `--out` names a folder. The exit status is 1 if a bar was not met, and 0 if all
were or with `--quick`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import batch, budget, epoch_start, import_time, methods, ranks, scale
from benchmarks.measure import Bar, Result, source

BENCHMARKS = {
    "epoch_start": epoch_start,
    "methods": methods,
    "budget": budget,
    "batch": batch,
    "import_time": import_time,
    "scale": scale,
    "ranks": ranks,
}
RESULTS = Path(__file__).resolve().parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmarks that are asked for and returns the exit status."""
    asked = _parse(arguments)
    console = Console()
    folder = asked.out or (None if asked.quick else RESULTS)
    bars: list[Bar] = []
    for name in asked.names or BENCHMARKS:
        before = source()
        with console.status(name) as status:
            result = BENCHMARKS[name].run(asked.quick, status.update)
        if source() != before:
            console.print(f"[red]seta was changed while {name} ran: nothing written[/red]")
            return 1
        bars += result.bars
        _print_figures(console, result)
        if folder:
            command = "python -m benchmarks --quick" if asked.quick else "python -m benchmarks"
            console.print(f"written: {result.write(folder, command).name} in {folder.name}/")
    console.print(_table_of_bars(bars, judged=not asked.quick))
    return 0 if asked.quick or all(bar.met for bar in bars) else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="tiny sizes; figures say nothing")
    parser.add_argument("--out", type=Path, help="where the JSON goes (benchmarks/results)")
    asked = parser.parse_args(arguments)
    unknown = sorted(set(asked.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"NAME must be one of {', '.join(BENCHMARKS)}; got {', '.join(unknown)}")
    return asked


def _print_figures(console: Console, result: Result) -> None:
    """The figures of each row on one line, without the raw repeats."""
    for row in result.rows:
        shown = {k: v for k, v in row.items() if k != "raw"}
        console.print(", ".join(f"{k} {_short(v)}" for k, v in shown.items()), highlight=False)


def _short(value: object) -> str:
    if isinstance(value, dict):
        return " / ".join(f"{k} {_short(v)}" for k, v in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table_of_bars(bars: Sequence[Bar], judged: bool) -> Table:
    """One line per bar: what, the figure, the limit, and if judged whether it was met."""
    table = Table(title="bars")
    for heading in ("what", "figure", "limit", ""):
        table.add_column(heading, justify="right" if heading in ("figure", "limit") else "left")
    for bar in bars:
        sense = ">=" if bar.at_least else "<="
        verdict = "[green]met[/green]" if bar.met else "[red]not met[/red]"
        verdict = verdict if judged else "not judged"
        table.add_row(bar.what, f"{bar.figure:.4g} {bar.unit}", f"{sense} {bar.limit:g}", verdict)
    return table


if __name__ == "__main__":
    sys.exit(main())
