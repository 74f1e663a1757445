"""What is computed of a study: how far a cell lies from Full and its curve, and its times.

The means, spreads and paired differences themselves are those of `seta.comparison.statistics`.
"""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.accuracy.report.studies import Cell, Study
from seta.comparison.contenders import EQUAL_COST, FULL
from seta.comparison.lines import Line
from seta.comparison.statistics import Difference, between, paired_difference


def values_of(cell: Cell, key: str) -> dict[int, float]:
    """A figure by seed: a field of the line, or else an entry of its `metrics`; gaps left out."""
    found = {}
    for seed, line in cell.items():
        value = line.get(key, (line.get("metrics") or {}).get(key))
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            found[seed] = float(value)
    return found


def to_reference(
    study: Study, method: str, budget: float | None, reference: str, key: str = "accuracy"
) -> Difference | None:
    """How far a cell lies from Full, from its curve, or from another reference at its budget."""
    if reference == EQUAL_COST:
        return to_curve(study, method, budget, key)
    beside = study.full if reference == FULL else study.cell(reference, budget)
    return paired_difference(values_of(study.cell(method, budget), key), values_of(beside, key))


def to_curve(
    study: Study, method: str, budget: float | None, key: str = "accuracy"
) -> Difference | None:
    """How far a cell lies from Full's own curve, at the visits that it took.

    The reference is Full at equal cost of the same seed. Where Full was not run at that budget, it
    is the straight line between the seed's two nearest lengths of Full; a curve that bends lies
    above that line, so that the difference flatters the method a little.
    """
    cell, beside = study.cell(method, budget), {}
    if budget is not None:
        beside = values_of(study.cell(EQUAL_COST, budget), key)
    values = values_of(cell, key)
    if values.keys() & beside.keys():
        return paired_difference(values, beside)
    line = {seed: between(full_points(study, seed, key), share(cell[seed])) for seed in values}
    known = {seed: value for seed, value in line.items() if value is not None}
    return paired_difference(values, known, interpolated=True)


def full_points(study: Study, seed: int, key: str) -> list[tuple[float, float]]:
    """Full's own curve of one seed: (share of Full's visits, figure), the shortest run first."""
    cells = [study.full, *(study.cell(*at) for at in study.cells if at[0] == EQUAL_COST)]
    own = [{seed: cell[seed]} for cell in cells if seed in cell]
    return sorted((share(cell[seed]), v) for cell in own for v in values_of(cell, key).values())


def share(line: Line) -> float:
    """Samples that a run trained, as a share of those that Full trains."""
    return float(line["visits"]) / float(line["full_visits"])


def same_conditions(line: Line, other: Line) -> bool:
    """Whether the times of two runs may be compared: processor, device, threads and jobs are."""

    def conditions(of: Line) -> tuple[Any, ...]:
        machine = of.get("machine") or {}
        where = (machine.get(name) for name in ("processor", "device", "device_name"))
        return *where, of.get("threads"), of.get("jobs")

    return conditions(line) == conditions(other)


WAITED = 1.25
"""Wall time over CPU time from which on a run has waited for other programs."""


def waited(line: Line) -> bool:
    """Whether a run on a CPU took so much longer than it computed that wall time says little."""
    on_cpu = (line.get("machine") or {}).get("device") == "cpu"
    wall, computed = line.get("seconds"), line.get("cpu_seconds")
    return on_cpu and bool(wall and computed and wall > WAITED * computed)


def time_ratios(
    study: Study, cell: Cell, key: str = "seconds", *, per_visit: bool = False
) -> list[float]:
    """Time of a run beside that of Full, one ratio per seed that both have.

    Wall times count where neither run has waited for other programs.

    Args:
        study: Where Full is.
        cell: The runs.
        key: `seconds` (wall), `cpu_seconds`, or `without selection` (wall).
        per_visit: Whether both are divided by the samples trained.
    """
    ratios = []
    for seed in sorted(cell.keys() & study.full.keys()):
        line, full = cell[seed], study.full[seed]
        time, beside = seconds_of(line, key), seconds_of(full, key)
        disturbed = key != "cpu_seconds" and (waited(line) or waited(full))
        if same_conditions(line, full) and not disturbed and time and beside:
            visits = line["visits"] / full["visits"] if per_visit else 1.0
            ratios.append(time / beside / visits)
    return ratios


def seconds_of(line: Line, key: str) -> float | None:
    """A time of a run, named as for `time_ratios`; None if the line does not say."""
    if key != "without selection":
        return line.get(key)
    wall, select = line.get("seconds"), line.get("select_seconds")
    return None if wall is None or select is None else wall - select


def saved_time(study: Study, cell: Cell, key: str = "seconds") -> float | None:
    """The share of Full's time that was saved, in the median over the seeds."""
    ratios = time_ratios(study, cell, key)
    return 1 - median(ratios) if ratios else None
