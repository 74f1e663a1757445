"""Tables and plots from the lines of results: `docs/results.md` and the pictures that it shows.

Everything on the page comes from the lines; the prose at its top, `summary.md`, names figures by
jinja2 expressions (see `figures`), so that no number is typed by hand. The same lines give the same
page: `check` says whether the page that is there is the one that the lines give.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.accuracy.report import plots
from benchmarks.accuracy.report.page import SUMMARY, render
from benchmarks.accuracy.report.studies import Study, missing, read
from benchmarks.accuracy.suites import SUITES, Suite

__all__ = ["DOCS", "LINES", "check", "write"]

_ROOT = Path(__file__).resolve().parents[3]
LINES = _ROOT / "benchmarks" / "results" / "accuracy"
DOCS = _ROOT / "docs" / "results.md"


def write(
    lines_folder: Path = LINES,
    docs_file: Path = DOCS,
    *,
    summary_file: Path = SUMMARY,
    suites: Mapping[str, Suite] = SUITES,
) -> None:
    """Writes the page, and a picture per task into the folder of the same name beside it.

    Pictures in that folder that the page does not show any more are removed.

    Args:
        lines_folder: Where the `*.jsonl` are; it may hold none.
        docs_file: The page.
        summary_file: The prose at its top; it may be missing.
        suites: The runs that are planned: those without a line are named on the page.
    """
    studies, text = _page(lines_folder, docs_file, summary_file, suites)
    folder = docs_file.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    for path in set(folder.glob("*.png")) - {_picture(docs_file, study) for study in studies}:
        path.unlink()
    for study in studies:
        plots.write(study, _picture(docs_file, study))
    docs_file.write_text(text, encoding="utf-8")


def check(
    lines_folder: Path = LINES,
    docs_file: Path = DOCS,
    *,
    summary_file: Path = SUMMARY,
    suites: Mapping[str, Suite] = SUITES,
) -> list[str]:
    """Says what of the page is not what the lines give; empty if all is.

    The page is compared by its text; of the pictures it is asked only that they are there. The
    arguments are those of `write`.
    """
    studies, text = _page(lines_folder, docs_file, summary_file, suites)
    found = docs_file.read_text(encoding="utf-8") if docs_file.exists() else None
    again = "python -m benchmarks.accuracy report makes it anew"
    faults = [] if found == text else [f"{docs_file.name} is not what the lines give: {again}"]
    absent = [path for study in studies if not (path := _picture(docs_file, study)).exists()]
    return faults + [f"{path.name} is missing: {again}" for path in absent]


def _page(
    lines_folder: Path, docs_file: Path, summary_file: Path, suites: Mapping[str, Suite]
) -> tuple[list[Study], str]:
    studies, faults = read(lines_folder, list(suites))
    gaps = [*faults, *missing(suites.values(), studies)]
    summary = summary_file.read_text(encoding="utf-8") if summary_file.exists() else ""
    return studies, render(studies, gaps, pictures=docs_file.stem, summary=summary)


def _picture(docs_file: Path, study: Study) -> Path:
    return docs_file.with_suffix("") / f"{study.slug}.png"
