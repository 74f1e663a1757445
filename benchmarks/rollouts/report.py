"""The page of results, made of the lines of the runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from benchmarks.rollouts.methods import METHODS, SHARE
from seta.comparison.statistics import between, mean_and_spread, paired_difference

UNIFORM = "Uniform"
SMOOTH = 3
"""Looks that a figure is the mean of: the last of a run, or those around one."""
GOAL = 0.6

_PAGE = """# Rollouts

How many rollouts do [`ZeroSignal` and `SuccessRate`](reinforcement-learning.md) save, compared with
all prompts equally often, and with resampling? Measured on two toy tasks: they show that the
methods work and in which direction, not how much they save on a language model.

A Llama-like network of 2 layers, pretrained on arithmetic that it seldom solves, is trained by GRPO
on verifiable rewards. The figure is the mean expected reward on held-out prompts.
{sections}
## How to read the tables
- **Rollouts needed** to reach the reward that Uniform has after half of its rollouts, and at its
  end, as a share of Uniform's. The goal is at most {goal:.0%}; *met*: the whole interval is at or
  below it; *missed*: all of it is above; *open*: neither. A run that never reaches the reward
  counts with all of its rollouts, in its favor. *Flat groups* are given as a share of all groups
  made.
- **At equal seconds**: the reward after as many CPU seconds as the Uniform run of the same seed
  took. Here a training step costs more than its rollouts; with the long rollouts of language
  models, the table at equal rollouts is closer.
- ± is the standard deviation over the seeds; intervals are 95 % intervals of differences paired by
  seed (Student's t). A run that ended earlier counts with its last reward.

## Setup
- **Uniform**: all prompts, in a new order each epoch.
- **DynamicResampling**: as in DAPO (Yu et al., arXiv 2503.14476): flat groups are dropped, and a
  step waits until there are as many others as a batch has prompts. All rollouts count.
- **ZeroSignal**, **SuccessRate**: default settings, epochs of {share:.0%} of the prompts, as many
  as make the same number of rollouts.
- Every step trains one batch of groups. For the first task, learning rate and sizes were chosen by
  Uniform's reward on other seeds, so that there is something left to learn at the end.
{sizes}
- The expected reward of a prompt is the probability of the right answer, without sampling. Each
  figure is the mean of {smooth} evaluations, made every few batches (`every`).
- {made}.
- `python -m benchmarks.rollouts` makes the runs, `python -m benchmarks.rollouts report` this page
  from `benchmarks/results/rollouts.jsonl`.

## How the second task was chosen
Ten settings were tried in 17 runs, on seeds 100 and 101, which no other table contains. The table
has the reward at the end of each run. In the settings marked *never*, 30 % of the prompts are
trivial, 40 % are graded, and 30 % have answers that the model never gives.

| prompts, epochs, learning rate | seed | Uniform | ZeroSignal | SuccessRate |
| --- | --- | ---: | ---: | ---: |
| 2048, 4, 3e-4 (chosen) | 100 | 0.670 | | 0.680 |
| 1024, 12, 3e-4, never | 100 | 0.622 | 0.629 | 0.620 |
| 1024, 8, 3e-4, never | 100 | 0.581 | | |
| 1024, 8, 6e-4, never | 100 | 0.612 | | 0.637 |
| the same, epochs of 12.5 % | 100 | | | 0.593 |
| 1024, 8, 1e-3, never | 100 | 0.613 | | |
| the same | 101 | 0.545 | | |
| 512, 8, 1e-3, never | 100 | 0.564 | 0.556 | 0.558 |
| the same, batches of 16 | 100 | 0.570 | | |
| 512, 8, 5e-4, never | 100 | 0.550 | | |
| 2048, 4, 6e-4, never | 100 | 0.607 | | |

The chosen setting was the first. Its reward still rises at the end, and its sizes and learning rate
are those of the first task. The policies were not changed. The other settings are not in the
repository; their figures are a record, not a result.
"""

_SECTION = """
## {title}
{about}
Each run makes {total:,} rollouts, {rollouts} per group, for {prompts:,} prompts; {held_out:,} more
are held out.

Runs: {seeds}.

{needed}

Reward at equal rollouts:

{at_rollouts}

Reward at equal seconds:

{at_seconds}
"""

TITLES = {
    "few": (
        "Few prompts to learn from",
        "Two fifths of the prompts are trivial, one third is impossible, the rest is in between.",
    ),
    "graded": (
        "Many prompts to learn from",
        "A quarter of the prompts is trivial, and a quarter is impossible. Half is graded: before "
        "GRPO,\nthey are solved with a probability from 0.03 to 0.9, depending on the first digit.",
    ),
}
"""The title of each task, and what its prompts are."""

Line = Mapping[str, Any]
ROLLOUTS, SECONDS, REWARD = 0, 1, 2  # columns of a look


def page(lines: Sequence[Line]) -> str:
    """Returns the page, in Markdown."""
    tasks: dict[str, dict[str, dict[int, Line]]] = {}
    for line in lines:
        runs = tasks.setdefault(line["sizes"]["task"], {name: {} for name in METHODS})
        runs[line["method"]][line["seed"]] = line
    shown = {task: tasks[task] for task in TITLES if task in tasks and tasks[task][UNIFORM]}
    if not shown:
        return "# Rollouts\n\nThere are no runs yet: `python -m benchmarks.rollouts`.\n"
    firsts = {task: next(iter(runs[UNIFORM].values())) for task, runs in shown.items()}
    return _PAGE.format(
        sections="".join(_section(task, runs, firsts[task]) for task, runs in shown.items()),
        goal=GOAL,
        share=SHARE,
        smooth=SMOOTH,
        made="; ".join(dict.fromkeys(first["made"] for first in firsts.values())),
        sizes="\n".join(map(_sizes, firsts.values())),
    )


def _section(task: str, runs: Mapping[str, Mapping[int, Line]], first: Line) -> str:
    """Returns what the runs of a task gave."""
    title, about = TITLES[task]
    return _SECTION.format(
        **first["sizes"],
        title=title,
        about=about,
        total=int(first["looks"][-1][ROLLOUTS]),
        seeds=", ".join(f"{name} {len(by_seed)}" for name, by_seed in runs.items()),
        needed="\n".join(_needed_rows(runs)),
        at_rollouts="\n".join(_table(runs, _at_equal(runs, ROLLOUTS))),
        at_seconds="\n".join(_table(runs, _at_equal(runs, SECONDS))),
    )


def _sizes(line: Line) -> str:
    return "- Sizes: " + ", ".join(f"{name} {value}" for name, value in line["sizes"].items()) + "."


def _needed_rows(runs: Mapping[str, Mapping[int, Line]]) -> list[str]:
    """Returns how many rollouts each method takes to rewards of uniform prompts."""
    rows = [
        "| rollouts needed | to the reward at half | goal | to that at the end | goal "
        "| flat groups |",
        "| --- | ---: | --- | ---: | --- | ---: |",
    ]
    for name, by_seed in runs.items():
        shared = by_seed.keys() & runs[UNIFORM].keys()
        if not shared:
            continue
        flat = f"{fmean(line['flat'] for line in by_seed.values()):.0%}"
        cells = ["100%", "", "100%", ""]
        if name != UNIFORM:
            cells = []
            for part in (0.5, 1.0):
                found = {at: _needed(by_seed[at], runs[UNIFORM][at], part) for at in shared}
                cells += _verdict(found)
        rows.append("| " + " | ".join([name, *cells, flat]) + " |")
    return rows


def _verdict(needed: Mapping[int, float]) -> list[str]:
    """Returns the mean share of rollouts with its interval, and whether the goal was met."""
    found = paired_difference(needed, dict.fromkeys(needed, 0.0))
    if found is None or found.low is None or found.high is None:
        return [f"{fmean(needed.values()):.0%}", "one seed tells nothing"]
    verdict = "met" if found.high <= GOAL else "missed" if found.low > GOAL else "open"
    return [f"{found.mean:.0%} ({found.low:.0%} to {found.high:.0%})", verdict]


def _needed(line: Line, uniform: Line, part: float) -> float:
    """Returns the rollouts to a reward of a run of Uniform, as a share of what that took.

    Args:
        line: Of a run.
        uniform: Of the run of Uniform.
        part: Of the rollouts of that, after which its reward is looked at.
    """
    spent = part * uniform["looks"][-1][ROLLOUTS]
    goal = between([(row[ROLLOUTS], row[REWARD]) for row in _smooth(uniform)], spent)
    assert goal is not None
    for before, after in pairwise(_smooth(line)):
        if after[REWARD] >= goal > before[REWARD]:
            share = (goal - before[REWARD]) / (after[REWARD] - before[REWARD])
            made = before[ROLLOUTS] + share * (after[ROLLOUTS] - before[ROLLOUTS])
            return float(made / spent)
    return float(line["looks"][-1][ROLLOUTS] / spent)


def _smooth(line: Line) -> list[list[float]]:
    """Returns the looks, each reward the mean of those up to it, as many as `SMOOTH`."""
    looks = line["looks"]
    return [
        [*look[:REWARD], fmean(row[REWARD] for row in looks[max(0, at - SMOOTH + 1) : at + 1])]
        for at, look in enumerate(looks)
    ]


def _last(line: Line) -> float:
    """Returns the reward at the end."""
    return _smooth(line)[-1][REWARD]


def _at_equal(
    runs: Mapping[str, Mapping[int, Line]], what: int
) -> Callable[[Line, float], float | None]:
    """Returns what tells the reward of a run after a part of what its Uniform run spent."""

    def reward(line: Line, part: float) -> float | None:
        uniform = runs[UNIFORM].get(line["seed"])
        if uniform is None:
            return None
        points = [(row[what], row[REWARD]) for row in _smooth(line)]
        at = part * uniform["looks"][-1][what]
        return between(points, min(at, points[-1][0]))

    return reward


def _table(
    runs: Mapping[str, Mapping[int, Line]], reward: Callable[[Line, float], float | None]
) -> list[str]:
    parts = (0.25, 0.5, 1.0)
    rows = [
        "| method | " + " | ".join(f"after {part:.0%}" for part in parts) + " | vs Uniform, 95 % |",
        "| --- |" + " ---: |" * (len(parts) + 1),
    ]
    for name, by_seed in runs.items():
        cells = [name]
        at_end: dict[int, float] = {}
        for part in parts:
            found = {seed: reward(line, part) for seed, line in by_seed.items()}
            at_end = {seed: value for seed, value in found.items() if value is not None}
            figures = mean_and_spread(at_end)
            cells.append("-" if figures is None else _figure(*figures))
        reference = {seed: _last(line) for seed, line in runs[UNIFORM].items()}
        difference = paired_difference(at_end, reference)
        if name == UNIFORM:
            cells.append("reference")
        elif difference is None or difference.low is None:
            cells.append("-")
        else:
            word = {1: " better", -1: " worse", 0: ""}[difference.sign]
            cells.append(
                f"{difference.mean:+.3f} ({difference.low:+.3f} to {difference.high:+.3f}){word}"
            )
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def _figure(mean: float, spread: float | None) -> str:
    return f"{mean:.3f}" if spread is None else f"{mean:.3f} ± {spread:.3f}"
