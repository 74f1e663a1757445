"""The suites by name: which tasks, for how many epochs, with which contenders and seeds.

A suite names its tasks as "module:callable" and imports nothing before a run needs it, so that a
list of the runs takes no second, and needs neither data nor the libraries of other suites.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.accuracy.rivals import CUT, QUOTAS, RESAMPLED
from benchmarks.accuracy.task import Task
from seta.comparison.contenders import METHODS


@dataclass(frozen=True)
class Variant:
    """One task of a suite.

    Args:
        task: "module:callable"; called with the data folder (a Path, or None) and `options`, it
            returns a `Task`. On another device than the CPU it is given `device`, too.
        epochs: Of full training.
        samples: Size of the training data, to tell the visits of a run before the data is read.
        options: Keyword arguments of the callable.
        classes: Whether the task has classes; where not, methods that need them are left out.
    """

    task: str
    epochs: int
    samples: int
    options: Mapping[str, Any] = field(default_factory=dict)
    classes: bool = True


@dataclass(frozen=True)
class Suite:
    """Tasks, and the contenders and seeds that run on each of them.

    Args:
        name: Of the suite, and of the file of its lines.
        variants: By name; "" where there is one.
        methods: Of `contenders.METHODS`.
        budgets: Shares of full training's visits at which methods are compared.
        rivals: Of `rivals.RIVALS`, run at the same budgets.
        curve: More shares for "Full at equal cost": full training's curve of accuracy by epochs.
        seeds: Runs per contender.
        first_seed: Their seeds are this one and those that follow.
        needs_data: Whether `--data` has to be given.
        counts: Whether its tasks count where cells are counted: not if they are those of another
            suite once more, with other settings.
    """

    name: str
    variants: Mapping[str, Variant]
    methods: tuple[str, ...] = METHODS
    budgets: tuple[float, ...] = (0.5, 0.3)
    rivals: tuple[str, ...] = ()
    curve: tuple[float, ...] = ()
    seeds: int = 5
    first_seed: int = 0
    needs_data: bool = True
    counts: bool = True

    def seeds_of(self, count: int | None = None) -> range:
        """Returns the seeds, or the first `count` of them."""
        return range(self.first_seed, self.first_seed + (self.seeds if count is None else count))


FRESH = 3
"""The first seed of our suites: on those before it choices were made (LAB.md)."""
UNTOUCHED = 8
"""The first seed that no run had had when suites were made for the second time (LAB.md)."""


def _named(*suites: Suite) -> dict[str, Suite]:
    return {suite.name: replace(suite, first_seed=suite.first_seed or FRESH) for suite in suites}


_IMAGES = "benchmarks.accuracy.image_suites:"
_SENTENCES = "benchmarks.accuracy.sst2:"
_BACKBONES = "benchmarks.accuracy.backbones:"


def _noise_with(option: str, *values: float) -> dict[str, Variant]:
    """Returns the task of `noise-long` with a fifth of the labels wrong, with other settings."""
    return {
        f"{option}={value:g}": Variant(
            _IMAGES + "noise", epochs=30, samples=10_000, options={"wrong": 0.2, option: value}
        )
        for value in values
    }


def _with_wrong(task: str, epochs: int, samples: int, *shares: float) -> dict[str, Variant]:
    """Returns a task with several shares of wrong labels."""
    return {
        f"wrong={share:g}": Variant(task, epochs, samples, {"wrong": share}) for share in shares
    }


_CURVE = (0.15, 0.7, 1.5)
_FEW = (
    "Full",
    "Full at equal cost",
    "SeTa",
    "Learnable",
    "InfoBatch",
    "Random",
    "RS2",
    "UCB",
)
"""For suites that ask something else than which method is best: one of each kind."""

_LONG = ("Full", "Full at equal cost", "SeTa", "Learnable", "RS2")
"""For the longest runs."""


def _long_noise(name: str, task: str, samples: int, first_seed: int = 0) -> Suite:
    """Returns a suite on wrong labels in long runs: the same questions, whatever the data."""
    return Suite(
        name,
        _with_wrong(task, 30, samples, 0.0, 0.1, 0.2, 0.4),
        methods=(*_LONG, "InfoBatch"),
        rivals=(CUT,),
        curve=(0.4, 0.7),
        first_seed=first_seed,
    )


SUITES = _named(
    Suite(
        "digits",
        {
            "improving": Variant(_IMAGES + "digits", epochs=5, samples=1078),
            "saturated": Variant(_IMAGES + "digits", epochs=60, samples=1078),
        },
        curve=_CURVE,
        needs_data=False,
    ),
    Suite(
        "cifar10-small",
        {
            "improving": Variant(
                _IMAGES + "small", epochs=8, samples=20_000, options={"train": 20_000}
            ),
            "saturated": Variant(
                _IMAGES + "small", epochs=60, samples=1_500, options={"train": 1_500}
            ),
        },
        curve=_CURVE,
    ),
    Suite(
        "cifar10-long",
        {"": Variant(_IMAGES + "small", epochs=30, samples=50_000)},
        methods=_LONG,
        budgets=(0.5,),
    ),
    Suite(
        "cifar10-resnet18",
        {"improving": Variant(_IMAGES + "resnet", epochs=30, samples=50_000)},
        curve=_CURVE,
    ),
    Suite(
        "noise",
        _with_wrong(_IMAGES + "noise", 8, 10_000, 0.0, 0.1, 0.2, 0.4),
        methods=(*_FEW, "Full, smaller batches"),
        budgets=(0.5,),
    ),
    _long_noise("noise-long", _IMAGES + "noise", 10_000, UNTOUCHED),
    _long_noise("noise-text", _SENTENCES + "noise", 6_920),
    Suite(
        "imbalance",
        {"improving": Variant(_IMAGES + "imbalance", epochs=12, samples=12_408)},
        methods=(*_FEW, "RCAP"),
        rivals=(QUOTAS, RESAMPLED),
        curve=(0.2, 1.5),
    ),
    Suite(
        "imbalance-long",
        _with_wrong(_IMAGES + "imbalance", 30, 12_408, 0.0, 0.2),
        methods=(*_LONG, "RCAP"),
        rivals=(QUOTAS, RESAMPLED),
    ),
    Suite(
        "redundant",
        {"improving": Variant(_IMAGES + "redundant", epochs=4, samples=40_000)},
        methods=(*_FEW, "SeTa as published", "InfoBatch as published"),
        curve=(0.75, 1.5),
    ),
    Suite(
        "redundant-long",
        {"": Variant(_IMAGES + "redundant", epochs=12, samples=40_000)},
        methods=(*_LONG, "InfoBatch"),
    ),
    Suite(
        "rates",
        _noise_with("rate", 0.05, 0.1, 0.2, 0.4),
        methods=("Full at equal cost", "SeTa", "Learnable"),
        budgets=(0.5,),
        counts=False,
    ),
    Suite(
        "batches",
        _noise_with("batch", 32, 64, 128, 256),
        methods=("Full at equal cost", "Learnable"),
        budgets=(0.5,),
        counts=False,
    ),
    Suite(
        "backbones",
        {
            "resnet": Variant(_BACKBONES + "resnet", epochs=20, samples=10_000),
            "vit": Variant(_BACKBONES + "vit", epochs=20, samples=10_000),
            "swin": Variant(_BACKBONES + "swin", epochs=20, samples=10_000),
            "mamba": Variant(_BACKBONES + "mamba", epochs=6, samples=6_920),
        },
        methods=("Full", "Full at equal cost", "SeTa", "Learnable", "InfoBatch", "RS2", "UCB"),
        budgets=(0.5,),
        first_seed=UNTOUCHED,
    ),
    Suite(
        "instruction",
        {
            "improving": Variant(
                "benchmarks.accuracy.instruction:instruction",
                epochs=3,
                samples=2_000,
                options={"train": 2_000},
                classes=False,
            )
        },
        methods=_FEW,
        budgets=(0.5,),
        curve=(1.5,),
    ),
)


def get(name: str) -> Suite:
    """Returns the suite of that name, or a suite of your own given as "module:attribute".

    Raises:
        ValueError: There is none; the message lists them all.
    """
    if ":" in name:
        suite = _load(name)
        if isinstance(suite, Suite):
            return suite
    if name not in SUITES:
        raise ValueError(
            f"suite must be one of {', '.join(SUITES)}, or module:attribute of a Suite; "
            f"got {name!r}"
        )
    return SUITES[name]


def make_task(variant: Variant, data: Path | None, device: str = "cpu") -> Task:
    """Returns the task of a variant: reads the data, which may take minutes.

    Args:
        variant: Names it.
        data: Folder of the data sets; None: the task needs none.
        device: "cpu" or "cuda".
    """
    options = dict(variant.options)
    if device != "cpu":
        options["device"] = device
    task: Task = _load(variant.task)(data, **options)
    return task


def _load(path: str) -> Any:
    """Returns what "module:attribute" names.

    Raises:
        ValueError: There is no such module or attribute.
    """
    module, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ValueError(f"{path!r} must name a module and what is in it: {error}") from error
