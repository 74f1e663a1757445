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

Is a prompt worth its rollouts, and can that be known before? A Llama-like net of 2 layers, which
was shown arithmetic and seldom answers it rightly, is trained by GRPO on rewards that can be
checked. Each run makes {total:,} rollouts, {rollouts} of a prompt. Of its {prompts:,} prompts two
fifths are trivial, a third is impossible, and the rest is graded between. What counts is the mean
expected reward of {held_out:,} held-out prompts.

A toy: it shows that the machinery works and which way it pulls, and says nothing about the size of
the effect on a language model. [What the methods do](reinforcement-learning.md).

Runs: {seeds}.

## In short
Rollouts made until the held-out reward is that of Uniform at half of its rollouts, and at its end,
as a share of what that took. The goal was {goal:.0%} at most: *met* and *missed* are of the whole
interval. A run that never comes so far counts with all of its rollouts, which flatters it.

{needed}

## At equal rollouts

{at_rollouts}

## At equal seconds
The reward after as many seconds of the CPU as the run of Uniform of the same seed took. The step of
this tiny net costs more than its rollouts. Where rollouts are long, as those of language models
are, the table above is nearer to the truth.

{at_seconds}

± is the standard deviation over the seeds; intervals are Student's, of differences paired by seed.
A run that is over earlier counts with its last reward.

## How it was made
- **Uniform**: all prompts, in a new order each epoch, {passes} times.
- **DynamicResampling**: as DAPO: groups without spread are put aside, and a step waits until there
  are {batch} with one. All rollouts that are made count.
- **ZeroSignal**, **SuccessRate**: epochs of {share:.0%} of the prompts, as many as make the same
  rollouts; the methods with their defaults.
- A step is made of {batch} groups, for all alike. The learning rate was chosen by Uniform's reward,
  on other seeds, as were the sizes, so that there is something left to learn at the end.
- Sizes: {sizes}.
- The expected reward of a prompt is the probability of its answer: nothing is drawn for it. A
  figure is the mean of {smooth} looks, {every} batches apart.
- {made}.
- `python -m benchmarks.rollouts` makes the runs, and `python -m benchmarks.rollouts report` this
  page, of the lines of `benchmarks/results/rollouts.jsonl`.
"""

Line = Mapping[str, Any]
ROLLOUTS, SECONDS, REWARD = 0, 1, 2  # columns of a look


def page(lines: Sequence[Line]) -> str:
    """Returns the page, in Markdown."""
    runs: dict[str, dict[int, Line]] = {name: {} for name in METHODS}
    for line in lines:
        if line["method"] in runs:
            runs[line["method"]][line["seed"]] = line
    if not runs[UNIFORM]:
        return "# Rollouts\n\nThere are no runs yet: `python -m benchmarks.rollouts`.\n"
    first = next(iter(runs[UNIFORM].values()))
    return _PAGE.format(
        **first["sizes"],
        total=int(first["looks"][-1][ROLLOUTS]),
        goal=GOAL,
        seeds=", ".join(f"{name} {len(by_seed)}" for name, by_seed in runs.items()),
        needed="\n".join(_needed_rows(runs)),
        at_rollouts="\n".join(_table(runs, _at_equal(runs, ROLLOUTS))),
        at_seconds="\n".join(_table(runs, _at_equal(runs, SECONDS))),
        share=SHARE,
        smooth=SMOOTH,
        made=first["made"],
        sizes=", ".join(f"{name} {value}" for name, value in first["sizes"].items()),
    )


def _needed_rows(runs: Mapping[str, Mapping[int, Line]]) -> list[str]:
    """Returns how many rollouts each method takes to rewards of uniform prompts."""
    rows = [
        "| method | to the reward at half | goal | to that at the end | goal | without spread |",
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
        "| method | " + " | ".join(f"after {part:.0%}" for part in parts) + " | to Uniform, 95 % |",
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
