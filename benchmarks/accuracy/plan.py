"""The runs that a suite still has to make, in an order that may be stopped anywhere.

Seed after seed, so that whatever there is when it stops is a comparison of equals; of each seed
Full first, which all others are compared with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.accuracy.rivals import RIVALS, rival
from benchmarks.accuracy.suites import Suite, Variant
from seta.comparison.contenders import METHODS, Contender, contenders
from seta.comparison.lines import Key, key


@dataclass(frozen=True)
class Job:
    """One run that is to be made.

    Args:
        suite: Name of the suite.
        variant: Which task of it.
        contender: What is run.
        seed: Of the run.
        full_epochs: Epochs of full training.
        samples: Size of the training data.
    """

    suite: str
    variant: str
    contender: Contender
    seed: int
    full_epochs: int
    samples: int

    @property
    def key(self) -> Key:
        """The key of its line."""
        return self.suite, self.variant, self.contender.method, self.contender.budget, self.seed

    @property
    def visits(self) -> int:
        """The most samples that it can train."""
        return self.contender.visits(self.samples, self.full_epochs)

    @property
    def epochs(self) -> int:
        """The epochs that it has itself."""
        return self.contender.epochs(self.full_epochs)

    @property
    def name(self) -> str:
        """What a person reads."""
        return ", ".join(filter(None, (self.variant, self.contender.name, f"seed {self.seed}")))


@dataclass(frozen=True)
class Choice:
    """What is asked of a suite; None: all that it has.

    Args:
        methods: Of the suite's methods and rivals.
        budgets: In place of the suite's; then full training's curve is left out.
        seeds: Number of seeds.
        variants: Of the suite's variants.
        epochs: Of full training, in place of every variant's own.
    """

    methods: Sequence[str] | None = None
    budgets: Sequence[float] | None = None
    seeds: int | None = None
    variants: Sequence[str] | None = None
    epochs: int | None = None


def jobs(suite: Suite, choice: Choice) -> list[Job]:
    """Returns all runs that are asked for, in order.

    Raises:
        ValueError: Something is asked for that the suite does not have, or seta does not.
    """
    known_methods = (*METHODS, *suite.rivals)  # others' tasks may lack what a rival is told
    for name, known in (("methods", known_methods), ("variants", tuple(suite.variants))):
        unknown = sorted(set(getattr(choice, name) or ()) - set(known))
        if unknown:
            raise ValueError(f"{name} must be of {', '.join(known)}; got {', '.join(unknown)}")
    for name in ("seeds", "epochs"):
        value = getattr(choice, name)
        if value is not None and value < 1:
            raise ValueError(
                f"{name} must be at least 1, got {value}: leave it out for the suite's"
            )
    chosen = {name: suite.variants[name] for name in choice.variants or suite.variants}
    found = [
        Job(suite.name, name, contender, seed, choice.epochs or variant.epochs, variant.samples)
        for seed in suite.seeds_of(choice.seeds)
        for name, variant in chosen.items()
        for contender in _contenders(suite, variant, choice)
    ]
    for job in found:
        job.contender.policy()  # what cannot be made is told before hours of runs
    return found


def _contenders(suite: Suite, variant: Variant, choice: Choice) -> list[Contender]:
    budgets = suite.budgets if choice.budgets is None else choice.budgets
    curve = suite.curve if choice.budgets is None else ()
    asked = choice.methods or (*suite.methods, *suite.rivals)
    found = contenders([name for name in asked if name not in RIVALS], budgets, curve)
    rivals = [name for name in asked if name in RIVALS]
    found += [rival(name, at, variant.options) for at in budgets for name in rivals]
    return [one for one in found if variant.classes or not one.needs_classes]


def left(planned: Iterable[Job], lines: Iterable[Mapping[str, Any]]) -> list[Job]:
    """Returns the runs that have no line yet.

    Raises:
        ValueError: A line comes from a run of another length, which cannot be compared.
    """
    by_key = {key(line): line for line in lines}
    missing = []
    for job in planned:
        line = by_key.get(job.key)
        if line is None:
            missing.append(job)
        elif line["full_epochs"] != job.full_epochs:
            raise ValueError(
                f"epochs is {job.full_epochs}, but the file has a run of {line['full_epochs']} "
                f"({job.name}): choose another folder by --out, or the same epochs"
            )
    return missing
