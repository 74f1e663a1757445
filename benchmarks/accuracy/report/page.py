"""The pages: a verdict on all suites, and a page per suite, from the templates beside this file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy.report import tables, topics
from benchmarks.accuracy.report.figures import Figures
from benchmarks.accuracy.report.questions import QUESTIONS
from benchmarks.accuracy.report.studies import Study, distinct, is_ragged
from benchmarks.templates import template
from seta.comparison.contenders import SMALLER
from seta.comparison.table import markdown

HERE = Path(__file__).resolve().parent
READING = "how-to-read.md"


def verdict(
    figures: Figures, faults: Sequence[str], *, folder: str, pictures: Mapping[str, str]
) -> str:
    """Returns the page of all suites.

    Args:
        figures: Of all studies.
        faults: What is wrong with files that are left out, a text each.
        folder: Of the other pages and the pictures, as seen from this page.
        pictures: By reference, the name of the picture; none where there is nothing to show.
    """
    return template(HERE / "verdict.md.jinja").render(
        figures=figures,
        gaps=[*faults, *faults_of(figures.studies)],
        folder=folder,
        reading=READING,
        pictures=pictures,
        smaller=SMALLER,
    )


def suite_page(name: str, figures: Figures, *, home: str, pictures: Mapping[str, str]) -> str:
    """Returns the page of a suite.

    Args:
        name: Of the suite.
        figures: Of its studies.
        home: The page of all suites, as seen from this one.
        pictures: Across its tasks: by title, the name of the file.
    """
    return template(HERE / "suite.md.jinja").render(
        suite=name,
        question=QUESTIONS.get(name, ""),
        figures=figures,
        home=home,
        pictures=pictures,
        reading=READING,
        tables=tables,
        topics=topics,
        faults_of=faults_of,
        made_of=made_of,
        policies=policies,
    )


def reading(*, home: str) -> str:
    """Returns the page that says how to read the tables.

    Args:
        home: The page of all suites, as seen from this one.
    """
    return template(HERE / f"{READING}.jinja").render(home=home, smaller=SMALLER)


def faults_of(studies: Sequence[Study]) -> list[str]:
    """Names the runs that cannot be compared, or only with care, and says why."""
    found = [f"{study.title}: {fault}" for study in studies for fault in study.faults]
    found += [
        f"{study.title}: the settings of the task changed between its runs"
        for study in studies
        if len(distinct(_settings(of) for of in _values(study.lines, "task"))) > 1
    ]
    ragged = [is_ragged(line) for study in studies for line in study.lines]
    if any(ragged):
        found.append(
            f"{sum(ragged)} of {len(ragged)} runs ended epochs in a batch of few samples, which "
            "lowers accuracy, most of all in pruned runs"
        )
    return found


def made_of(study: Study) -> list[tuple[str, str]]:
    """What made the runs of a study: (what, how) each, what is not known left out."""
    lines = study.lines
    seeds = ", ".join(str(seed) for seed in sorted({line["seed"] for line in lines}))
    found = {
        "samples": _all(f"{n:,}" for n in _values(lines, "n")),
        "epochs of Full": _all(f"{epochs:g}" for epochs in _values(lines, "full_epochs")),
        "seeds": seeds,
        "runs": f"{len(lines):,}",
        "task": _all(_settings(of) for of in _values(lines, "task")),
        "machine": _all(_machine(of) for of in lines),
        "versions": _all(_settings(of.get("versions") or {}) for of in lines),
        "code of seta": _all(f"`{of}`" for of in _values(lines, "source")),
        "dates": _range(_values(lines, "date")),
        "command": _all(f"`{of}`" for of in _values(lines, "command")),
    }
    return [(what, how) for what, how in found.items() if how]


def policies(study: Study) -> str:
    """A table of the methods' hyper-parameters; empty where no line says."""
    rows = []
    for method in study.methods:
        cells = [cell for key, cell in study.cells.items() if key[0] == method]
        said = distinct(str(p) for cell in cells for p in _values(cell.values(), "policy"))
        rows += [(method, f"`{policy}`") for policy in said]
    return markdown(("method", "policy"), rows, words=2) if rows else ""


def _values(lines: Iterable[Mapping[str, Any]], key: str) -> list[Any]:
    return [line[key] for line in lines if line.get(key) not in (None, "")]


def _all(texts: Iterable[str]) -> str:
    return "; ".join(text for text in distinct(texts) if text)


def _range(dates: Sequence[str]) -> str:
    return " to ".join(distinct((min(dates), max(dates)))) if dates else ""


def _settings(settings: Mapping[str, Any]) -> str:
    """Settings as `name value`, nested ones as JSON."""
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in settings.items()}
    return ", ".join(f"{name} {text}" for name, text in texts.items())


def _machine(line: Mapping[str, Any]) -> str:
    """Processor, cores, memory, and how many threads and jobs were at work; not its load."""
    machine = {k: v for k, v in (line.get("machine") or {}).items() if k != "load"}
    parts = [machine.pop("processor", ""), f"{machine.pop('cores', '?')} cores"]
    memory = machine.pop("memory_gib", None)
    parts += [f"{memory} GiB"] if memory else []
    parts += [str(value) for k, value in machine.items() if k not in ("system", "architecture")]
    for key, noun in (("threads", "threads a run"), ("jobs", "runs at a time")):
        parts += [f"{noun}: {line[key]}"] if line.get(key) is not None else []
    return ", ".join(part for part in parts if part) if line.get("machine") else ""
