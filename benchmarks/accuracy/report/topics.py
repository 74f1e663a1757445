"""Tables across the tasks of a suite: wrong labels, and how wall time follows samples saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from statistics import median

from benchmarks.accuracy.report.measures import ACCURACY
from benchmarks.accuracy.report.statistics import time_ratios, values_of
from benchmarks.accuracy.report.studies import CONTROLS, Cell, Study, ordered
from benchmarks.accuracy.report.tables import hardest, level, percent, spread_of
from seta.comparison.cells import WHOLE, Key
from seta.comparison.statistics import mean_and_spread
from seta.comparison.table import NONE, markdown

PROPORTIONAL = 0.03
HALF = 0.5


def times(studies: Sequence[Study]) -> str:
    """By task, the time per sample of pruned runs beside that of Full, and what selection takes."""
    rows = []
    for study in studies:
        wall = per_visit(study, "seconds")
        if not wall:
            continue
        within = sum(abs(ratio - 1) <= PROPORTIONAL for ratio in wall)
        rows.append(
            (
                study.title,
                str(len(wall)),
                spread_of(wall),
                f"{within} of {len(wall)}",
                spread_of(per_visit(study, "cpu_seconds")),
                percent(median(_selection_shares(study) or [0.0]), 2),
                spread_of(per_visit(study, "without selection")),
            )
        )
    headers = (
        "task",
        "pruned runs",
        "wall time per sample, Full = 1",
        "within 3 %",
        "CPU time per sample, Full = 1",
        "selection, % of wall time",
        "wall time per sample without it",
    )
    return markdown(headers, rows) if rows else ""


def _pruned(study: Study) -> list[Cell]:
    """The runs of all methods; references and rivals do no more than plain training."""
    return [cell for key, cell in study.cells.items() if key[0] not in CONTROLS]


def per_visit(study: Study, key: str) -> list[float]:
    """Time per sample trained beside Full's, for every pruned run that can be paired."""
    pruned = _pruned(study)
    return [r for cell in pruned for r in time_ratios(study, cell, key, per_visit=True)]


def _selection_shares(study: Study) -> list[float]:
    """What choosing the samples takes of a pruned run's wall time, in [0, 1]."""
    lines = [line for cell in _pruned(study) for line in cell.values()]
    timed = [
        line for line in lines if line.get("seconds") and line.get("select_seconds") is not None
    ]
    return [line["select_seconds"] / line["seconds"] for line in timed]


def wrong_labels(studies: Sequence[Study]) -> str:
    """Tables of a suite that was run with several shares of wrong labels; empty for others."""
    parts = []
    for rest, group in by_wrong_share(studies):
        label = f", {rest}" if rest else ""
        parts += [f"**{title}{label}**\n\n{text}" for title, text in _wrong_tables(group)]
    return "\n".join(parts)


def by_wrong_share(studies: Sequence[Study]) -> Iterator[tuple[str, list[Study]]]:
    """Yields studies that differ in the share of wrong labels alone, by that share.

    Each group comes with what its variants have in common, which may be "".
    """

    def rest(study: Study) -> str:
        parts = study.variant.split("/")
        return "/".join(part for part in parts if not part.startswith("wrong="))

    for label, group in groupby(sorted(studies, key=rest), rest):
        found = sorted(group, key=lambda study: study.wrong_share)
        if len({study.wrong_share for study in found}) > 1:
            yield label, found


def _wrong_tables(group: Sequence[Study]) -> Iterator[tuple[str, str]]:
    at = f"at {percent(HALF, 0)} % of Full's visits (Full and those as published: as they are)"
    yield f"Accuracy % by share of wrong labels, {at}", _across(group, lambda c: level(c, ACCURACY))
    yield f"Wrong labels among the samples trained, %, {at}", _across(group, _wrong_share)
    title = f"The hardest of five groups against the wrong labels: precision / recall, %, {at}"
    yield title, _across(group, hardest)


def _across(group: Sequence[Study], write: Callable[[Cell], str]) -> str:
    """Methods x shares of wrong labels; methods without a figure are left out."""
    found = {key for study in group for key in study.cells if key[1] in (HALF, None)}
    keys: list[Key] = sorted(found, key=lambda key: ordered(k[0] for k in found).index(key[0]))
    rows = []
    for key in [WHOLE, *keys]:
        figures = [write(cell) if (cell := study.cell(*key)) else NONE for study in group]
        if any(figure != NONE for figure in figures):
            rows.append([key[0], *figures])
    shares = [f"{percent(study.wrong_share, 0)} % wrong" for study in group]
    return markdown(["method", *shares], rows) if rows else "No run says.\n"


def _wrong_share(cell: Cell) -> str:
    figures = mean_and_spread(values_of(cell, "wrong_share"))
    return percent(figures and figures[0], 1)
