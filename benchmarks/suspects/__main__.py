"""`python -m benchmarks.suspects --data DIR` makes the runs; `... report` makes docs/suspects.md.

One line per run, with the figures of all scores, in benchmarks/results/suspects/. Seed after seed;
a run that has a line is not made again, so the same command goes on where it was stopped. Needs
cleanlab (pip install cleanlab). Some 40 minutes on one core for all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from benchmarks.accuracy.run import made_with
from benchmarks.suspects import report as page
from benchmarks.suspects.scores import cleanlab_version, figures, scores_of
from benchmarks.suspects.tasks import KINDS
from benchmarks.suspects.watch import watch
from seta.comparison import lines
from seta.comparison.contenders import FULL, Contender
from seta.extras import MissingExtra

CONTENDERS = (Contender(FULL, 1.0), Contender("SeTa", 0.5), Contender("Learnable", 0.5))
SEEDS = 5

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__
)


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    data: Annotated[
        Path | None, typer.Option(envvar="SETA_DATA", help="Folder of the data sets.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the lines.")] = page.LINES,
    kinds: Annotated[str, typer.Option(help="With commas.")] = ",".join(KINDS),
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = SEEDS,
    first_seed: Annotated[
        int, typer.Option(help="0 for what is reported; what was chosen, was on 100 and more.")
    ] = 0,
) -> None:
    """Make the runs that have no line yet."""
    if context.invoked_subcommand:
        return
    torch.set_num_threads(1)
    asked = kinds.split(",")
    console = Console(highlight=False)
    try:
        cleanlab_version()
        if unknown := [kind for kind in asked if kind not in KINDS]:
            raise ValueError(f"--kinds must be of {', '.join(KINDS)}; got {', '.join(unknown)}")
        for seed in range(first_seed, first_seed + seeds):
            for kind in asked:
                _make(console, kind, data, out, seed)
    except (MissingExtra, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


@app.command()
def report(
    out: Annotated[Path, typer.Option(help="Folder of the lines.")] = page.LINES,
    docs: Annotated[Path, typer.Option(help="The page to write.")] = page.PAGE,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if the page is another.")
    ] = False,
) -> None:
    """Make docs/suspects.md of the lines."""
    text = page.render(out)
    if not check:
        docs.write_text(text, encoding="utf-8")
    elif docs.read_text(encoding="utf-8") != text:
        typer.echo(f"{docs.name} is not what the lines give", err=True)
        raise typer.Exit(1)


def _make(console: Console, kind: str, data: Path | None, out: Path, seed: int) -> None:
    """Makes the runs of a seed that have no line yet."""
    path = out / f"{kind}.jsonl"
    for wrong in KINDS[kind].rates:
        for contender in CONTENDERS:
            key = (kind, f"wrong={wrong:g}", contender.method, contender.budget, seed)
            if key in map(lines.key, lines.read(path)):
                continue
            line = make_line(kind, data, wrong, contender, seed)
            lines.append(path, line)
            first = max(line["scores"].items(), key=lambda one: one[1]["ap"])[0]
            text = f"accuracy {line['accuracy']:.3f}, first in AP: {first}"
            console.print(*key, text, soft_wrap=True)


def make_line(
    kind: str, data: Path | None, wrong: float, contender: Contender, seed: int
) -> dict[str, Any]:
    """Makes a run and returns its line."""
    task, epochs = KINDS[kind].make(data, wrong, seed), KINDS[kind].epochs
    found = watch(task, contender, seed, epochs)
    made = made_with("cpu")
    return {
        "suite": kind,
        "variant": f"wrong={wrong:g}",
        "method": contender.method,
        "budget": contender.budget,
        "seed": seed,
        "n": len(task.dataset),
        "epochs": epochs,
        "visits": found.visits,
        "unseen": int((found.table["visits"] == 0).sum()),
        "accuracy": found.accuracy,
        "scores": figures(scores_of(found, task.classes), task.wrong),
        "policy": repr(contender.policy()),
        "task": task.settings,
        "command": "python -m benchmarks.suspects --data DIR",
        **{**made, "versions": {**made["versions"], "cleanlab": cleanlab_version()}},
    }


if __name__ == "__main__":
    app()
