"""`docs/suspects.md`, from the template beside this file and the committed lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.suspects.names import AVERAGED, EQUAL, LAST_PASS, NAMES, OURS, PLAIN
from benchmarks.templates import template
from seta.comparison import lines
from seta.comparison.contenders import METHODS
from seta.comparison.statistics import Difference, mean_and_spread, paired_difference, width
from seta.comparison.table import markdown
from seta.comparison.verdict import interval, number

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LINES = ROOT / "benchmarks" / "results" / "suspects"
PAGE = ROOT / "docs" / "suspects.md"
TITLES = {"cifar10": "CIFAR-10", "sst2": "SST-2"}
GOALS = {
    "last loss": PLAIN[:1],
    "mean loss": PLAIN[1:],
    f"{EQUAL} (the same information)": (EQUAL,),
    "best of cleanlab, averaged (more information)": AVERAGED,
    "best of cleanlab, last pass (one more pass)": LAST_PASS,
}
"""What `suspicion` is judged by: titles, and the scores of which the best counts."""

MEASURES = {"ap": "average precision", "auroc": "AUROC", "precision": "precision"}


@dataclass(frozen=True)
class Cell:
    """The runs of one kind of data, share of wrong labels and method.

    Attributes:
        kind: Of the data.
        wrong: Share of wrong labels, as it is named in the lines.
        method: The method and its budget.
        by_seed: A line per seed.
    """

    kind: str
    wrong: str
    method: str
    by_seed: Mapping[int, lines.Line]

    def values(self, score: str, measure: str = "ap") -> dict[int, float]:
        """Returns a figure of a score by seed, in percent."""
        found = self.by_seed.items()
        return {seed: 100 * line["scores"][score][measure] for seed, line in found}

    def mean(self, score: str, measure: str = "ap") -> float:
        """Returns the mean of a figure over the seeds."""
        values = self.values(score, measure)
        return sum(values.values()) / len(values)

    def best(self, scores: Iterable[str]) -> str:
        """Returns which of some scores has the highest average precision."""
        return max(scores, key=self.mean)

    def text(self, score: str, measure: str = "ap") -> str:
        """Returns a figure and half of the width of its interval."""
        mean, spread = mean_and_spread(self.values(score, measure)) or (0.0, None)
        half = None if spread is None else width(spread, len(self.by_seed))
        return number(mean, 1) if half is None else f"{number(mean, 1)} ± {number(half, 1)}"

    def to(self, score: str, reference: str) -> Difference:
        """Returns how far the average precision of a score lies above that of another."""
        way = paired_difference(self.values(score), self.values(reference))
        if way is None:
            raise ValueError(f"{self.kind}, {self.wrong}, {self.method} has no lines")
        return way


def cells_of(folder: Path = LINES) -> list[Cell]:
    """Returns the cells that there are lines of: few wrong labels first, Full before methods."""
    found: dict[tuple[str, str, str], dict[int, lines.Line]] = {}
    read = [line for path in sorted(folder.glob("*.jsonl")) for line in lines.read(path)]
    for line in sorted(read, key=_place):
        at = (line["suite"], line["variant"], method_of(line))
        found.setdefault(at, {})[line["seed"]] = line
    return [Cell(*at, by_seed) for at, by_seed in found.items()]


def _place(line: lines.Line) -> tuple[str, float, int, int]:
    """Returns what the lines are sorted by, in whichever order they were made."""
    wrong = float(line["variant"].removeprefix("wrong="))
    return line["suite"], wrong, METHODS.index(line["method"]), line["seed"]


def method_of(line: lines.Line) -> str:
    """Returns the name of the method, with its budget where there is a choice."""
    return line["method"] if line["budget"] == 1 else f"{line['method']} {line['budget']:g}"


def render(folder: Path = LINES) -> str:
    """Returns the page."""
    cells = cells_of(folder)
    return template(HERE / "page.md.jinja").render(
        cells=cells,
        summary=summary(cells),
        differences=differences(cells),
        details=details(cells),
        made=made_of(cells),
        size=partial(size, cells),
        verdicts=verdicts(cells),
    )


def size(cells: Iterable[Cell], kind: str) -> str:
    """Returns how many samples and epochs the runs of a kind have."""
    found = (line for cell in cells if cell.kind == kind for line in cell.by_seed.values())
    line = next(found, None)
    if line is None:
        return "not run yet"
    return f"{line['n']:,} samples, {line['epochs']} epochs"


def summary(cells: Iterable[Cell]) -> str:
    """Returns the table of average precisions."""
    headings = ["data", "wrong", "training", "seeds", *PLAIN, *OURS, "best, averaged"]
    body = []
    for cell in cells:
        shown = [*PLAIN, *OURS, cell.best(AVERAGED), cell.best(LAST_PASS)]
        means = (number(cell.mean(score), 1) for score in shown)
        body.append([*_named(cell), str(len(cell.by_seed)), *means])
    return markdown([*headings, "best, last pass"], body, words=3)


def differences(cells: Iterable[Cell]) -> str:
    """Returns the table of paired differences of average precisions, clear ones bold."""
    headings = ["data", "wrong", "training", *(f"vs {name}" for name in PLAIN)]
    headings += [f"vs {EQUAL}", "vs best, averaged", "vs best, last pass"]
    body = []
    for cell in cells:
        references = [*PLAIN, EQUAL, cell.best(AVERAGED), cell.best(LAST_PASS)]
        ways = (cell.to(OURS[0], reference) for reference in references)
        body.append([*_named(cell), *map(_written, ways)])
    return markdown(headings, body, words=3)


def tally(cells: Iterable[Cell], score: str, references: Iterable[str]) -> dict[str, int]:
    """Returns in how many cells a score is above the best of some others, and clearly so."""
    found = [cell.to(score, cell.best(tuple(references))) for cell in cells]
    return {
        "above": sum(way.mean >= 0 for way in found),
        "better": sum(way.sign > 0 for way in found),
        "worse": sum(way.sign < 0 for way in found),
    }


def verdicts(cells: Sequence[Cell]) -> str:
    """Returns the table of how often `suspicion` is as good as other scores."""
    headings = ["compared with", "at least as high", "clearly higher", "clearly lower"]
    body = []
    for title, references in GOALS.items():
        found = tally(cells, OURS[0], references)
        body.append([title, *(str(found[at]) for at in ("above", "better", "worse"))])
    return markdown(headings, body, words=1)


def details(cells: Iterable[Cell]) -> str:
    """Returns all figures of all scores, a table for each kind of data and method."""
    tables: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        tables.setdefault((cell.kind, cell.method), []).append(cell)
    parts = []
    for (kind, method), own in tables.items():
        columns = [(cell, measure) for measure in MEASURES for cell in own]
        headings = [f"{MEASURES[of]}, {_wrong(cell)}" for cell, of in columns]
        body = [[name, *(cell.text(name, of) for cell, of in columns)] for name in NAMES]
        parts.append(f"**{TITLES[kind]}, {method}**\n\n{markdown(['score', *headings], body)}")
    return "\n".join(parts)


def made_of(cells: Iterable[Cell]) -> str:
    """Returns what the runs were made with: seeds, accuracies, machine and versions."""
    found: list[dict[str, Any]] = [line for cell in cells for line in cell.by_seed.values()]
    if not found:
        return "No runs yet."
    seeds = sorted({line["seed"] for line in found})
    machines = sorted({line["machine"]["processor"] for line in found})
    versions = {
        name: ", ".join(sorted({line["versions"][name] for line in found}))
        for name in found[-1]["versions"]
    }
    used = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{len(found)} runs, seeds {seeds[0]} to {seeds[-1]}, on one core of "
        f"{', '.join(machines)}; {used}; lines of {max(line['date'] for line in found)}."
    )


def _named(cell: Cell) -> list[str]:
    return [TITLES[cell.kind], _wrong(cell), cell.method]


def _wrong(cell: Cell) -> str:
    return f"{100 * float(cell.wrong.removeprefix('wrong=')):g} %"


def _written(way: Difference) -> str:
    text = interval(way, 1)
    return f"**{text}**" if way.sign else text
