"""Figures within pages that are written by hand: tables between markers, made of the lines.

A page says which figures it wants; what lies before the end marker is replaced:

    <!-- results: noise-long cifar10-small/saturated: Full at equal cost, Learnable -->
    <!-- pooled: noise-long: Learnable, Learnable to RS2 -->
    <!-- tallies: Learnable, RS2 -->
    <!-- end -->

`results` names suites, single variants (`suite/variant`) or `all`, and columns. A column is a
method beside Full at equal cost, or beside what it says: `Learnable to Full`. `suite@0.5` names the
runs at one budget alone. `pooled` names the same, and takes the mean over all cells by seed.
`tallies` names methods.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from benchmarks.accuracy.report.figures import Figures
from benchmarks.accuracy.report.measures import ACCURACY
from benchmarks.accuracy.report.statistics import to_reference, values_of
from benchmarks.accuracy.report.studies import Study, is_ragged, planned, slug
from benchmarks.accuracy.report.tables import difference, percent
from benchmarks.accuracy.rivals import RIVALS
from seta.comparison.cells import WHOLE, Key
from seta.comparison.contenders import EQUAL_COST, FULL, METHODS
from seta.comparison.statistics import paired_difference
from seta.comparison.table import NONE, markdown

MARKER = re.compile(r"^ *<!-- *(?:results|pooled|tallies):.*", re.MULTILINE)
MARKED = re.compile(
    r"^<!-- (results|pooled|tallies): ([^\n]*?) -->\n.*?^<!-- end -->$", re.DOTALL | re.MULTILINE
)
TO = " to "


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
                f"a page has the marker {marker[0]!r}: it must be a line <!-- results: ... -->, or "
                "of pooled or tallies in its place, with a line <!-- end --> before the next one"
            )

    def made(found: re.Match[str]) -> str:
        kind, asked = found.groups()
        columns = columns_of(asked)
        if kind == "tallies":
            table = figures.tallies(columns)
        elif kind == "pooled":
            table = pooled(figures, tasks_of(asked, figures), columns)
        else:
            table = results(figures, tasks_of(asked, figures), columns, pages)
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
    columns = re.split(r", *(?=[A-Z])", asked.rpartition(":")[2].strip())
    names = (name for column in columns for name in column.split(TO))
    if unknown := [name for name in names if name not in (*METHODS, *RIVALS)]:
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
        for budget in study.budgets:
            if only not in (None, budget):
                continue
            figures_of = [_figure(study, column, budget) for column in columns]
            if figures_of[0] != NONE:
                task = f"[{study.title}]({pages}/{slug(suite)}.md)"
                keys = [key for column in columns for key in _pair(column, budget)]
                seeds = min(len(study.cell(*key)) for key in keys if study.cell(*key))
                state = _state(seeds, _provisional(figures, study, keys))
                rows.append([task, f"{percent(1 - budget, 0)} %", *figures_of, state])
    heads = [f"{column}{TO}{FULL}" if column == EQUAL_COST else column for column in columns]
    return markdown(["task", "saved", *heads, "seeds"], rows, words=1) if rows else ""


def pooled(
    figures: Figures, tasks: Mapping[tuple[str, str], float | None], columns: Sequence[str]
) -> str:
    """Returns a row per column: the mean difference over all cells that have runs of it, by seed.

    A seed counts if it was run in all of these cells.
    """
    rows = []
    for column in columns:
        cells, waits = _cells(figures, tasks, column)
        if not cells:
            continue
        sides = [
            [values_of(study.cell(*pair[side]), ACCURACY.key) for study, pair in cells]
            for side in (0, 1)
        ]
        seeds = set.intersection(*(set(values) for side in sides for values in side))
        means = ({seed: fmean(one[seed] for one in side) for seed in seeds} for side in sides)
        name = TO.join(method for method, _ in cells[0][1])
        way = difference(paired_difference(*means), ACCURACY)
        rows.append([name, str(len(cells)), way, _state(len(seeds), waits)])
    return markdown(["mean difference", "cells", "points", "seeds"], rows) if rows else ""


def _cells(
    figures: Figures, tasks: Mapping[tuple[str, str], float | None], column: str
) -> tuple[list[tuple[Study, tuple[Key, Key]]], bool]:
    """Returns the pairs of cells that a column has, and whether runs of it are still to be made."""
    studies = {(study.suite, study.variant): study for study in figures.studies}
    found, waits = [], False
    for at, only in tasks.items():
        study, suite = studies.get(at), figures.suites.get(at[0])
        plan = planned(suite).get(at[1], {}) if suite else {}
        budgets = {*(study.budgets if study else ()), *(suite.budgets if suite else ())}
        for budget in sorted(budgets, reverse=True):
            pair = _pair(column, budget)
            if only not in (None, budget):
                continue
            if study and all(study.cell(*key) for key in pair):
                found.append((study, pair))
                waits |= _provisional(figures, study, pair)
            else:
                waits |= pair[0] in plan
    return found, waits


def _figure(study: Study, column: str, budget: float) -> str:
    """Returns the difference that a column has, and its interval."""
    (method, at), (reference, _) = _pair(column, budget)
    if not study.cell(method, at):
        return NONE
    return difference(to_reference(study, method, at, reference), ACCURACY)


def _pair(column: str, budget: float) -> tuple[Key, Key]:
    """Returns the cells of a column: the method, and what it is compared with."""
    method, _, named = column.partition(TO)
    reference = named or (FULL if method == EQUAL_COST else EQUAL_COST)
    return (method, budget), WHOLE if reference == FULL else (reference, budget)


def _provisional(figures: Figures, study: Study, keys: Iterable[Key]) -> bool:
    """Returns whether runs of cells are missing, or to be made again."""
    suite = figures.suites.get(study.suite)
    plan = planned(suite).get(study.variant, {}) if suite else {}
    cells = {key: study.cell(*key) for key in keys if study.cell(*key)}
    missing = any(plan.get(key, set()) - cell.keys() for key, cell in cells.items())
    return missing or any(is_ragged(line) for cell in cells.values() for line in cell.values())


def _state(seeds: int, provisional: bool) -> str:
    return f"{seeds}, provisional" if provisional else f"{seeds}"
