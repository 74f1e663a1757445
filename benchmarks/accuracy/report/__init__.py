"""Pages and pictures from the lines of results: `docs/results.md`, and the folder of its name.

The page is a verdict on all suites, with one picture; in the folder are a page per suite, with a
picture per task. Pages beside the first one that quote results get their tables anew (`quoted`).
All of it comes from the lines, whichever there are, and no number is typed by hand. The same lines
give the same pages: `check` says whether those there are the ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.accuracy.report import heatmap, page, plots, quoted
from benchmarks.accuracy.report.figures import Figures
from benchmarks.accuracy.report.studies import distinct, read, slug
from benchmarks.accuracy.report.topics import by_wrong_share
from benchmarks.accuracy.suites import SUITES, Suite
from seta.comparison.contenders import EQUAL_COST, FULL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DOCS", "LINES", "check", "write"]

_ROOT = Path(__file__).resolve().parents[3]
LINES = _ROOT / "benchmarks" / "results" / "accuracy"
DOCS = _ROOT / "docs" / "results.md"

VERDICTS = {EQUAL_COST: "", FULL: "-full"}
"""The references that the page of all suites has a picture for, and the ends of their names."""

Made = tuple[dict[Path, str], dict[Path, "Callable[[], Figure]"]]


def write(
    lines_folder: Path = LINES, docs_file: Path = DOCS, *, suites: Mapping[str, Suite] = SUITES
) -> None:
    """Writes the pages, and their pictures into the folder of the first one's name.

    Pages and pictures in that folder that are not made any more are removed.

    Args:
        lines_folder: Where the `*.jsonl` are; it may hold none.
        docs_file: The page of all suites.
        suites: The runs that are planned: the pages name those without a line.
    """
    made = pages, pictures = _made(lines_folder, docs_file, suites)
    docs_file.with_suffix("").mkdir(parents=True, exist_ok=True)
    for path in _left_over(docs_file, made):
        path.unlink()
    for path, draw in pictures.items():
        plots.write(draw(), path)
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")


def check(
    lines_folder: Path = LINES, docs_file: Path = DOCS, *, suites: Mapping[str, Suite] = SUITES
) -> list[str]:
    """Says what of the pages is not what the lines give; empty if all is.

    Pages are compared by their texts; of the pictures it is asked only that they are there. The
    arguments are those of `write`.
    """
    made = pages, pictures = _made(lines_folder, docs_file, suites)
    faults = [
        f"{path.name} is not what the lines give"
        for path, text in pages.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    faults += [f"{path.name} is missing" for path in pictures if not path.exists()]
    faults += [f"{path.name} is of no suite any more" for path in _left_over(docs_file, made)]
    return [f"{fault}: python -m benchmarks.accuracy report makes all anew" for fault in faults]


def _made(lines_folder: Path, docs_file: Path, suites: Mapping[str, Suite]) -> Made:
    """The text of each page, and what draws each picture."""
    studies, faults = read(lines_folder, suites)
    figures, folder = Figures(studies, suites), docs_file.with_suffix("")
    drawn = {folder / f"{study.slug}.png": partial(plots.draw, study) for study in studies}
    pictures = {ref: f"verdict{end}.png" for ref, end in VERDICTS.items() if ref in figures.to}
    for reference, name in pictures.items():
        drawn[folder / name] = partial(heatmap.draw, figures.to[reference], reference)
    pages = {docs_file: page.verdict(figures, faults, folder=folder.name, pictures=pictures)}
    home = f"../{docs_file.name}"
    pages[folder / page.READING] = page.reading(home=home)
    for name in distinct(study.suite for study in studies):
        some, across = figures.of(name), {}
        for rest, group in by_wrong_share(some.studies):
            across[plots.BY_WRONG_SHARE] = f"{slug(f'{name} {rest} by wrong labels')}.png"
            drawn[folder / across[plots.BY_WRONG_SHARE]] = partial(plots.draw_by_wrong_share, group)
        made = page.suite_page(name, some, home=home, pictures=across)
        pages[folder / f"{slug(name)}.md"] = made
    for path, folder_of in quoted.quoting(docs_file):
        pages[path] = quoted.filled(path.read_text("utf-8"), figures, pages=folder_of)
    return pages, drawn


def _left_over(docs_file: Path, made: Made) -> list[Path]:
    """The pages and pictures in the folder that are not made any more."""
    folder = docs_file.with_suffix("")
    found = {path for ending in ("*.md", "*.png") for path in folder.glob(ending)}
    return sorted(found - made[0].keys() - made[1].keys())
