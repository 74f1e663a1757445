"""The lines of results put together: a study is a task, a cell a method at a budget.

Stands between the runs, which append a JSON line each, and the statistics, tables and plots, which
look up cells. What is not there is named: a file that cannot be read, a run that a suite plans.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.accuracy.plan import Choice, jobs
from benchmarks.accuracy.rivals import RIVALS
from benchmarks.accuracy.suites import Suite
from seta.comparison import lines as files
from seta.comparison.cells import WHOLE, Key
from seta.comparison.contenders import EQUAL_COST, FULL, METHODS, REFERENCES, SMALLER
from seta.comparison.lines import Line

Cell = Mapping[int, Line]

CONTROLS = (*REFERENCES, *RIVALS)
"""What is no method, and stands above methods: by hand, or all samples."""
ORDER = (*REFERENCES, *RIVALS, *(name for name in METHODS if name not in REFERENCES))
CURVE = (FULL, EQUAL_COST)
"""Full training for more or fewer epochs: together, full training's own curve."""


@dataclass(frozen=True)
class Study:
    """All runs of one task: a suite, and a variant of it.

    Attributes:
        suite: Name of the suite.
        variant: Which task of the suite; empty where it has one.
        cells: By (method, budget), the runs by seed. A budget of None is an outcome, not a setting.
        faults: What is wrong with its lines, a text each: those of another plan than its suite's.
    """

    suite: str
    variant: str
    cells: Mapping[Key, Cell]
    faults: Sequence[str] = ()

    @property
    def title(self) -> str:
        """The suite and the variant, as a heading."""
        return title(self.suite, self.variant)

    @property
    def slug(self) -> str:
        """The title as the name of a file."""
        return slug(self.title)

    def cell(self, method: str, budget: float | None) -> Cell:
        """The runs of a method at a budget, by seed; empty if there are none."""
        return self.cells.get((method, budget), {})

    @property
    def full(self) -> Cell:
        """The runs on all samples in all epochs."""
        return self.cell(*WHOLE)

    @property
    def lines(self) -> list[Line]:
        """All runs."""
        return [line for cell in self.cells.values() for line in cell.values()]

    @property
    def budgets(self) -> list[float]:
        """The budgets that are compared, the largest first: those of Full's curve left out."""
        found = {budget for method, budget in self.cells if method not in CURVE}
        return sorted((budget for budget in found if budget is not None), reverse=True)

    @property
    def methods(self) -> list[str]:
        """The methods that were run, in the order of `ORDER`."""
        return ordered({method for method, _ in self.cells})

    def compared(self, *budgets: float | None) -> list[str]:
        """What was run at one of these budgets, but for Full's curve, in the same order."""
        others = (method for method in self.methods if method not in CURVE)
        return [method for method in others if any(self.cell(method, at) for at in budgets)]

    @property
    def wrong_share(self) -> float:
        """The share of the training samples that have a wrong label, in [0, 1]."""
        return max((line.get("wrong_share_of_data") or 0.0 for line in self.lines), default=0.0)


def read(folder: Path, suites: Mapping[str, Suite]) -> tuple[list[Study], list[str]]:
    """Reads every `*.jsonl` of a folder.

    Args:
        folder: It may hold none.
        suites: They come first, in this order; others follow by name.

    Returns:
        The studies; and what is wrong with files that are left out for it, one text each.
    """
    found: list[Line] = []
    faults = []
    for path in sorted(folder.glob("*.jsonl")):
        try:
            found += files.read(path)
        except ValueError as error:
            faults.append(f"`{path.name}` is left out: {error}")
    return studies(found, suites), faults


def studies(some: Iterable[Line], suites: Mapping[str, Suite] | None = None) -> list[Study]:
    """Puts lines together by suite and variant, the cells by method and budget.

    Runs of another length or size than the suite plans are no study with those of the plan: they
    are left out where there are some of the plan, and named in any case. The order of the lines,
    which is that in which runs ended, changes nothing.
    """
    suites = suites or {}
    found: dict[tuple[str, str], list[Line]] = {}
    for line in some:
        found.setdefault((line["suite"], line["variant"]), []).append(line)
    made = [_study(*at, lines, suites.get(at[0])) for at, lines in found.items()]

    def place(study: Study) -> tuple[tuple[int, str], tuple[int, str]]:
        variants = suites[study.suite].variants if study.suite in suites else {}
        return _place(study.suite, list(suites)), _place(study.variant, list(variants))

    return sorted(made, key=place)


def _study(name: str, variant: str, lines: Sequence[Line], suite: Suite | None) -> Study:
    """Puts the lines of a task together: those of the plan, or else of the commonest one."""
    counts = Counter(map(_plan_of, lines))
    of = suite.variants.get(variant) if suite else None
    wanted = (of.epochs, of.samples) if of else None
    taken = wanted if wanted in counts else max(counts, key=lambda plan: (counts[plan], str(plan)))
    cells: dict[Key, dict[int, Line]] = {}
    for line in lines:
        if _plan_of(line) == taken:
            cells.setdefault((line["method"], line["budget"]), {})[line["seed"]] = line
    faults = [
        f"{counts[plan]} {'run' if counts[plan] == 1 else 'runs'} of {_words(plan)}"
        f"{f', planned: {_words(wanted)}' if wanted else f', others: {_words(taken)}'}"
        f"{'' if plan == taken else '; left out'}"
        for plan in sorted(counts, key=str)
        if plan != (wanted or taken)
    ]

    def place(cell: tuple[Key, Cell]) -> tuple[tuple[int, str], float]:
        (method, budget), _ = cell
        return _place(method, ORDER), -(budget or 0.0)

    return Study(name, variant, dict(sorted(cells.items(), key=place)), faults)


def _plan_of(line: Line) -> tuple[Any, Any]:
    """The epochs of full training and the samples that a run is part of."""
    return line.get("full_epochs"), line.get("n")


def _words(plan: tuple[Any, Any]) -> str:
    epochs, samples = ("?" if one is None else f"{one:,g}" for one in plan)
    return f"{epochs} epochs of Full on {samples} samples"


def missing(suites: Iterable[Suite], found: Iterable[Study]) -> Iterator[str]:
    """Names the runs that suites plan and that have no line, as briefly as can be."""
    by_name = {(study.suite, study.variant): study for study in found}
    for suite in suites:
        absent = {
            variant: _absent(cells, by_name.get((suite.name, variant)))
            for variant, cells in planned(suite).items()
        }
        if all(text == NO_RUNS for text in absent.values()):
            yield f"{suite.name}: {NO_RUNS}"
            continue
        yield from (f"{title(suite.name, of)}: {text}" for of, text in absent.items() if text)


NO_RUNS = "no runs yet"


def planned(suite: Suite) -> dict[str, dict[Key, set[int]]]:
    """By variant, the seeds of each cell that a suite plans."""
    found: dict[str, dict[Key, set[int]]] = {name: {} for name in suite.variants}
    for job in jobs(suite, Choice()):
        cell = (job.contender.method, job.contender.budget)
        found[job.variant].setdefault(cell, set()).add(job.seed)
    return found


def _absent(cells: Mapping[Key, set[int]], study: Study | None) -> str:
    """What a study lacks: whole seeds first, then cell by cell; empty if nothing."""
    if study is None:
        return NO_RUNS
    lacking = {key: seeds - study.cell(*key).keys() for key, seeds in cells.items()}
    everywhere = set.intersection(*lacking.values()) if lacking else set()
    texts = [f"of {_seeds(everywhere)} all"] if everywhere else []
    by_seeds: dict[str, dict[str, list[str]]] = {}
    for (method, budget), seeds in lacking.items():
        if rest := seeds - everywhere:
            at = "" if budget is None or method == FULL else f"{100 * budget:g} %"
            by_seeds.setdefault(_seeds(rest), {}).setdefault(method, []).append(at)
    for seeds, methods in by_seeds.items():
        named = (f"{method} {', '.join(at)}".strip() for method, at in methods.items())
        texts.append(f"of {seeds}: {' / '.join(named)}")
    return "; ".join(texts)


def is_ragged(line: Line) -> bool:
    """Whether a run did not train in full batches alone; nobody knows where none are named."""
    size = (line.get("task") or {}).get("batch_size")
    return bool(size and line["method"] != SMALLER and line["visits"] % size)


def title(suite: str, variant: str) -> str:
    """A suite and a variant of it, as a heading."""
    return f"{suite}, {variant}" if variant else suite


def slug(text: str) -> str:
    """A text as the name of a file: lower case letters, digits, `-`, `.` and `_`."""
    kept = (c if c.isascii() and (c.isalnum() or c in "._-") else " " for c in text)
    return "-".join("".join(kept).lower().split())


def ordered(methods: Iterable[str]) -> list[str]:
    """Methods in the order of `ORDER`, unknown ones after them by name."""
    return sorted(methods, key=lambda method: _place(method, ORDER))


def distinct(texts: Iterable[str]) -> list[str]:
    """The different ones, in the order in which they first appear."""
    return list(dict.fromkeys(texts))


def _place(name: str, order: Sequence[str]) -> tuple[int, str]:
    return (list(order).index(name) if name in order else len(order), name)


def _seeds(seeds: Iterable[int]) -> str:
    numbers = sorted(seeds)
    return f"seed{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
