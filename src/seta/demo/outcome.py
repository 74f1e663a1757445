"""The end of a demo: the table, the plot, the sentences, and where they all are.

Made of whatever was measured, be the demo finished or stopped. Takes about three seconds, nearly
all of them for the plot.
"""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from seta.demo.comparison import Comparison
from seta.demo.notes import sentences
from seta.report.figure import comparison_figure, save_figure
from seta.report.results import MethodSummary, summarise
from seta.report.tables import results_markdown, results_table

__all__ = ["report"]


def report(comparison: Comparison, console: Console, *, stopped: bool = False) -> None:
    """Print the table, write summary and plot, and say where they are.

    Args:
        comparison: The runs, made as far as they were.
        console: Where to print.
        stopped: Whether Ctrl-C ended the runs.
    """
    folder = comparison.settings.out
    summaries = summarise(comparison.runs)
    if stopped:
        done = f"{comparison.finished} of {len(comparison.runs)} runs were finished"
        console.print(f"Stopped: {done}." if summaries else "Stopped before the first epoch ended.")
    files = {"rows": folder / "rows.jsonl"}
    if summaries:
        notes = sentences(summaries, comparison.data, comparison.epochs)
        console.print(results_table(summaries, title=comparison.title))
        for note in notes:
            console.print(note, markup=False, highlight=False)
        files["table"] = folder / "summary.md"
        _write_summary(files["table"], comparison, summaries, notes, stopped)
        files["plot"] = folder / "demo.png"
        _draw(files["plot"], comparison)
    for what, path in files.items():
        console.print(f"{what:>5}: {path}", markup=False, highlight=False, soft_wrap=True)


def _write_summary(
    path: Path,
    comparison: Comparison,
    summaries: Sequence[MethodSummary],
    notes: Sequence[str],
    stopped: bool,
) -> None:
    """The table and what is to be said of it, as Markdown."""
    parts = [f"# {comparison.title}\n", results_markdown(summaries)]
    if stopped:
        parts.append("Stopped before all runs were finished.\n")
    parts += [f"{note}\n" for note in (*notes, *comparison.data.notes)]
    path.write_text("\n".join(parts), encoding="utf-8")


def _draw(path: Path, comparison: Comparison) -> None:
    """The plot."""
    figure = comparison_figure(
        comparison.snapshots.taken,
        comparison.runs,
        comparison.settings.methods,
        title=comparison.title,
        looked_at=f"{comparison.snapshots.method} (seed 0)",
    )
    save_figure(figure, path)
