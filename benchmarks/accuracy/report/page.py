"""The page: `results.md.jinja` filled with the summary, the tables, and what made the runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks.accuracy.report import tables, topics
from benchmarks.accuracy.report.figures import Figures
from benchmarks.accuracy.report.studies import Study, distinct

HERE = Path(__file__).resolve().parent
SUMMARY = HERE / "summary.md"


def render(studies: Sequence[Study], gaps: Sequence[str], *, pictures: str, summary: str) -> str:
    """Returns the page.

    Args:
        studies: What was run.
        gaps: What is missing, a text each.
        pictures: Folder of the pictures, as seen from the page.
        summary: Prose with jinja2 expressions that call `Figures`.
    """
    environment = Environment(
        loader=FileSystemLoader(HERE),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, not HTML
    )
    environment.globals |= Figures(studies).functions()
    intervals, clear = tables.clear_differences(studies)
    return environment.get_template("results.md.jinja").render(
        summary=environment.from_string(summary).render().strip(),
        studies=studies,
        suites=distinct(study.suite for study in studies),
        gaps=[*gaps, *changed(studies)],
        pictures=pictures,
        tables=tables,
        topics=topics,
        made_of=made_of,
        policies=policies,
        intervals=intervals,
        clear=clear,
    )


def changed(studies: Iterable[Study]) -> list[str]:
    """Names the studies whose runs are not all of the same task, and cannot be compared."""
    return [
        f"{study.title}: the settings of the task changed between its runs"
        for study in studies
        if len(distinct(_settings(of) for of in _values(study.lines, "task"))) > 1
    ]


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
    return tables.table(("method", "policy"), rows, words=2) if rows else ""


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
