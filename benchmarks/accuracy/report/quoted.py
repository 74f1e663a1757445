"""Figures within pages that are written by hand: tables between markers, made of the lines.

A page says which figures it wants; what lies before the end marker is replaced:

    <!-- results: noise-long cifar10-small/saturated: Full at equal cost, Learnable -->
    <!-- tallies: Learnable, RS2 -->
    <!-- end -->

`results` names suites, single variants (`suite/variant`) or `all`, and columns. A column is a
method beside Full at equal cost, or beside Full if it says `to Full`. `suite@0.5` names the runs
at one budget alone. `tallies` names methods.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.accuracy.report.figures import Figures
from benchmarks.accuracy.report.measures import ACCURACY
from benchmarks.accuracy.report.statistics import to_reference
from benchmarks.accuracy.report.studies import Cell, Study, is_ragged, planned, slug
from benchmarks.accuracy.report.tables import difference, percent
from benchmarks.accuracy.rivals import RIVALS
from seta.comparison.cells import WHOLE, Key
from seta.comparison.contenders import EQUAL_COST, FULL, METHODS
from seta.comparison.table import NONE, markdown

MARKER = re.compile(r"^ *<!-- *(?:results|tallies):.*", re.MULTILINE)
MARKED = re.compile(
    r"^<!-- (results|tallies): ([^\n]*?) -->\n.*?^<!-- end -->$", re.DOTALL | re.MULTILINE
)
TO_FULL = f" to {FULL}"


def quoting(docs_file: Path) -> list[tuple[Path, str]]:
    """Returns the pages that have such tables, and how each sees the folder of suites' pages.

    Args:
        docs_file: The page of all suites: pages beside it are looked at, and the README above.
    """
    home, folder = docs_file.parent, docs_file.stem
    found = [(path, folder) for path in sorted(home.glob("*.md"))]
    found.append((home.parent / "README.md", f"{home.name}/{folder}"))
    return [at for at in found if at[0].exists() and MARKER.search(at[0].read_text("utf-8"))]


def filled(text: str, figures: Figures, *, pages: str) -> str:
    """Returns a page with its tables made anew.

    Args:
        text: The page.
        figures: Of all studies.
        pages: Folder of the suites' pages, as seen from this one.

    Raises:
        ValueError: A marker names a suite, a variant or a method that does not exist, or is not
            written as above.
    """
    whole = {found.start(): found[0] for found in MARKED.finditer(text)}
    for marker in MARKER.finditer(text):
        if len(MARKER.findall(whole.get(marker.start(), ""))) != 1:
            raise ValueError(
                f"a page has the marker {marker[0]!r}: it must be a line <!-- results: ... --> or "
                "<!-- tallies: ... -->, with a line <!-- end --> before the next one"
            )

    def made(found: re.Match[str]) -> str:
        kind, asked = found.groups()
        if kind == "tallies":
            table = figures.tallies(columns_of(asked))
        else:
            table = results(figures, tasks_of(asked, figures), columns_of(asked), pages)
        return f"<!-- {kind}: {asked} -->\n\n{table or 'No runs yet.'}\n<!-- end -->"

    return MARKED.sub(made, text)


def tasks_of(asked: str, figures: Figures) -> dict[tuple[str, str], float | None]:
    """Returns the (suite, variant) pairs that a `results` marker names, in its order.

    Each comes with the one budget that is asked for, or None: all.
    """
    there = [(name, of) for name, suite in figures.suites.items() for of in suite.variants]
    there = list(dict.fromkeys([*there, *((one.suite, one.variant) for one in figures.studies)]))
    chosen: dict[tuple[str, str], float | None] = {}
    for word in asked.split(":")[0].split():
        name, _, budget = word.partition("@")
        suite, _, of = name.partition("/")
        found = [at for at in there if name == "all" or (at[0] == suite and of in ("", at[1]))]
        if not found:
            raise ValueError(f"a page asks for figures of {name!r}: there is no such suite")
        chosen |= dict.fromkeys(found, float(budget) if budget else None)
    return chosen


def columns_of(asked: str) -> list[str]:
    """Returns the columns that a `results` marker names, or the methods of a `tallies` marker."""
    # Names begin with a capital: "Full, smaller batches" is one.
    known = {*METHODS, *RIVALS}
    columns = re.split(r", *(?=[A-Z])", asked.rpartition(":")[2].strip())
    if unknown := [name for name in columns if name.removesuffix(TO_FULL) not in known]:
        raise ValueError(f"a page asks for figures of {unknown[0]!r}: there is no such method")
    return columns


def results(
    figures: Figures,
    tasks: Mapping[tuple[str, str], float | None],
    columns: Sequence[str],
    pages: str,
) -> str:
    """Returns a row per task and budget asked for at which the first column has a figure."""
    studies = {(study.suite, study.variant): study for study in figures.studies}
    rows = []
    for (suite, variant), only in tasks.items():
        study = studies.get((suite, variant))
        if study is None:
            continue
        plan = planned(figures.suites[suite])[variant] if suite in figures.suites else {}
        for budget in study.budgets:
            if only not in (None, budget):
                continue
            figures_of = [_figure(study, column, budget) for column in columns]
            if figures_of[0] != NONE:
                keys: list[Key] = [(column.removesuffix(TO_FULL), budget) for column in columns]
                keys += [_beside(column, budget) for column in columns]
                cells = {key: study.cell(*key) for key in keys if study.cell(*key)}
                task = f"[{study.title}]({pages}/{slug(suite)}.md)"
                rows.append([task, f"{percent(1 - budget, 0)} %", *figures_of, _state(cells, plan)])
    heads = [f"{column}{TO_FULL}" if column == EQUAL_COST else column for column in columns]
    return markdown(["task", "saved", *heads, "seeds"], rows, words=1) if rows else ""


def _figure(study: Study, column: str, budget: float) -> str:
    """Returns the difference that a column has, and its interval."""
    method = column.removesuffix(TO_FULL)
    if not study.cell(method, budget):
        return NONE
    return difference(to_reference(study, method, budget, _beside(column, budget)[0]), ACCURACY)


def _beside(column: str, budget: float) -> Key:
    """Returns the reference of a column."""
    full = column.endswith(TO_FULL) or column == EQUAL_COST
    return WHOLE if full else (EQUAL_COST, budget)


def _state(cells: Mapping[Key, Cell], plan: Mapping[Key, set[int]]) -> str:
    """Returns the number of seeds, and whether some are missing or to be made again."""
    missing = any(plan.get(key, set()) - cell.keys() for key, cell in cells.items())
    again = any(is_ragged(line) for cell in cells.values() for line in cell.values())
    return f"{min(map(len, cells.values()))}" + (", provisional" if missing or again else "")
