"""`python -m benchmarks.accuracy --suite NAME --data DIR`: makes the runs of a suite, or goes on.

Kill it and start it again with the same options: runs that have a line are not made again. `report`
makes `docs/results.md`, and pages and plots of each suite, of the lines. The exit status is 1 if a
run failed, 2 if what was asked for does not exist, 130 after Ctrl-C.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.accuracy import suites
from benchmarks.accuracy.maker import Maker
from benchmarks.accuracy.plan import Choice, Job, jobs, left
from seta.commands import heed_interrupts
from seta.comparison import lines
from seta.comparison.display import display
from seta.comparison.runner import Orders, make_apart

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "accuracy"
DOCS = ROOT / "docs" / "results.md"

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__
)


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    suite: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(suites.SUITES)}; or module:attribute of your own."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(envvar="SETA_DATA", help="Folder of the data sets.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the lines.")] = RESULTS,
    methods: Annotated[str | None, typer.Option(help="Methods, with commas. [all]")] = None,
    budgets: Annotated[
        str | None,
        typer.Option(help="Shares of full training's visits, with commas. [the suite's]"),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Number of seeds. [the suite's]")] = None,
    variants: Annotated[
        str | None, typer.Option(help="Variants of the suite, with commas. [all]")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of full training. [each variant's own]")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    jobs_at_a_time: Annotated[
        int, typer.Option("--jobs", min=1, help="Runs at a time, a process each.")
    ] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch, in each run.")] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "--list", help="Show the runs to make; make none.")
    ] = False,
) -> None:
    """Make the runs of a suite that have no line yet."""
    if context.invoked_subcommand:
        return
    console = Console(highlight=False)
    try:
        chosen = suites.get(_given(suite))
        choice = Choice(_split(methods), _numbers(budgets), seeds, _split(variants), epochs)
        path = out / f"{chosen.name}.jsonl"
        planned = jobs(chosen, choice)
        missing = left(planned, lines.read(path))
        if chosen.needs_data and data is None and not dry_run:
            raise ValueError(
                f"--data is missing, and suite {chosen.name!r} needs data: give the folder, or set "
                "SETA_DATA"
            )
        if device not in ("cpu", "cuda"):
            raise ValueError(f"--device must be cpu or cuda, got {device!r}")
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    if dry_run:
        _show(console, missing, len(planned) - len(missing))
        return
    command = _command(chosen, data, epochs, device, jobs_at_a_time, threads)
    maker = Maker(chosen, data, device, jobs_at_a_time, command)
    raise typer.Exit(_make(console, missing, len(planned), maker, path, threads))


@app.command()
def report(
    out: Annotated[Path, typer.Option(help="Folder of the lines.")] = RESULTS,
    docs: Annotated[Path, typer.Option(help="The page to write; others go beside it.")] = DOCS,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if the pages are others.")
    ] = False,
) -> None:
    """Make docs/results.md, and pages and plots of each suite, of the lines."""
    from benchmarks.accuracy import report as page

    if not check:
        page.write(out, docs)
        return
    faults = page.check(out, docs)
    for fault in faults:
        typer.echo(fault, err=True)
    raise typer.Exit(1 if faults else 0)


def _make(
    console: Console, missing: list[Job], planned: int, maker: Maker, path: Path, threads: int
) -> int:
    """Makes the runs and returns the exit status."""

    def write(line: lines.Line) -> None:
        lines.append(path, line)  # of a run that another call has made by now, its line stays

    heed_interrupts()
    try:
        with display(console, missing, planned - len(missing)) as watcher:
            orders = Orders(maker, write, watcher)
            failures = make_apart(missing, orders, workers=maker.workers, threads=threads)
    except KeyboardInterrupt:
        typer.echo("stopped: the same command goes on", err=True)
        return 130
    for job, reason in failures:
        typer.echo(f"\n{job.name} failed:\n{reason}", err=True)
    done = planned - len(failures)
    console.print(f"{done} of {planned} runs are in {path.name}", markup=False)
    return 1 if failures else 0


def _show(console: Console, missing: list[Job], already: int) -> None:
    """The runs to make, with their visits."""
    table = Table(title=f"{len(missing)} runs to make, {already} made")
    for heading in ("variant", "method", "budget", "seed", "epochs", "visits"):
        table.add_column(heading, justify="left" if heading in ("variant", "method") else "right")
    for job in missing:
        one = job.contender
        budget = "as published" if one.budget is None else f"{one.budget:g}"
        figures = (str(job.seed), str(job.epochs), f"{job.visits:,}")
        table.add_row(job.variant, one.method, budget, *figures)
    console.print(table)
    console.print(f"{sum(job.visits for job in missing):,} visits at most")


def _command(
    suite: suites.Suite, data: Path | None, epochs: int | None, device: str, jobs: int, threads: int
) -> str:
    """The command that makes such a line, without paths of this machine."""
    parts = [f"python -m benchmarks.accuracy --suite {suite.name}"]
    parts += ["--data DIR"] if data and suite.needs_data else []
    parts += [f"--epochs {epochs}"] if epochs else []
    parts += [f"--device {device}"] if device != "cpu" else []
    parts += [f"--jobs {jobs}"] if jobs > 1 else []
    parts += [f"--threads {threads}"] if threads > 1 else []
    return " ".join(parts)


def _given(suite: str | None) -> str:
    if suite is None:
        raise ValueError(f"--suite is missing: choose one of {', '.join(suites.SUITES)}")
    return suite


def _split(text: str | None) -> list[str] | None:
    """Returns what lies between commas; "Full, smaller batches" is one name."""
    parts = None if text is None else re.split(r",(?! [a-z])", text)
    return None if parts is None else [part.strip() for part in parts if part.strip()]


def _numbers(text: str | None) -> list[float] | None:
    try:
        return None if text is None else [float(part) for part in _split(text) or []]
    except ValueError as error:
        raise ValueError(f"--budgets must be numbers with commas, 0.7,0.5; got {text!r}") from error


if __name__ == "__main__":
    app()
