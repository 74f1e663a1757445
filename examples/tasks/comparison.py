"""What the programs beside this one share: their options, and how often wrong labels were trained.

The comparison itself is `seta.compare`, which each program calls at its end.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import seta
from seta import policies
from seta.engine.curves.policy import is_stratified

METHODS = tuple(
    name for name in policies.REGISTRY if name != "Full" and not is_stratified(policies.get(name))
)  # the samples of these tasks have no classes; Full and Full at equal cost are always run


@dataclass(frozen=True)
class Settings:
    """How a program is run.

    Attributes:
        samples: To train on.
        epochs: Of full training.
        batch_size: Samples per batch.
        test_samples: To measure on.
        budget: Share of full training's visits that all contenders but Full train, in (0, 1).
        methods: Of `METHODS`; compared with Full and Full at equal cost.
        seeds: Runs of each.
        seed: Of the data, and of the first runs; the next runs have the seeds after it.
        workers: Processes that make the samples.
        data: A folder of the user's own; None: samples are made.
        out: The folder for runs, tables and predictions.
    """

    samples: int
    epochs: int
    batch_size: int
    test_samples: int = 1000
    budget: float = 0.6
    methods: tuple[str, ...] = ("Learnable", "SeTa", "InfoBatch")
    seeds: int = 1
    seed: int = 0
    workers: int = 1
    data: Path | None = None
    out: Path = Path("runs")

    @property
    def asked(self) -> dict[str, Any]:
        """What the command line asks of `seta.compare`."""
        made = {} if self.data is None else {"data": self.data.name}
        return {
            "methods": self.methods,
            "budgets": [self.budget],
            "seeds": range(self.seed, self.seed + self.seeds),
            "out": self.out,
            "settings": {"data seed": self.seed, "test samples": self.test_samples, **made},
            "num_workers": self.workers,
            "persistent_workers": self.workers > 0,
            "count_kept": True,  # for `wrong_visits`
        }

    @property
    def lower(self) -> list[str]:
        """The figure of `wrong_visits`, which is better when lower; none for the user's data."""
        return ["Wrong %"] if self.data is None else []


def wrong_visits(
    loader: seta.PrunedDataLoader, wrong: NDArray[np.bool_] | None
) -> dict[str, float]:
    """Returns how many percent of the samples trained had wrong labels, each visit counted.

    Args:
        loader: At the end of a run, made with `count_kept=True`.
        wrong: Bool (N,), which samples have wrong labels; None: nobody knows.

    Returns:
        "Wrong %", in [0, 100]; nothing if nobody knows.
    """
    if wrong is None:
        return {}
    counts = loader.pruner.kept_counts.astype(np.int64)
    return {"Wrong %": 100 * float(counts[wrong].sum() / counts.sum())}


def options(
    description: str | None, defaults: Settings, arguments: Sequence[str] | None = None
) -> Settings:
    """Reads the command line, and returns the settings that it asks for.

    Args:
        description: What `--help` opens with: the docstring of the program.
        defaults: Of the program.
        arguments: In place of those of the command line.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    shown = ", ".join(defaults.methods)
    add(
        "--method",
        action="append",
        dest="methods",
        choices=METHODS,
        help=f"to compare; may be repeated ({shown})",
    )
    add("--budget", type=_share, metavar="SHARE", help=f"of the visits ({defaults.budget})")
    for name, text in (
        ("epochs", "of full training"),
        ("samples", "to train on"),
        ("test-samples", "to measure on"),
        ("batch-size", "samples per batch"),
        ("seeds", "runs of each method; a verdict needs 3"),
    ):
        value = getattr(defaults, name.replace("-", "_"))
        add(f"--{name}", type=_at_least(1), metavar="N", help=f"{text} ({value:,})")
    add("--workers", type=_at_least(0), metavar="N", help=f"that load ({defaults.workers})")
    add("--seed", type=_at_least(0), metavar="N", help=f"of data, first runs ({defaults.seed})")
    add("--data", type=_folder, metavar="FOLDER", help="train on your own samples")
    out = Path("runs", Path(sys.argv[0]).stem)
    add("--out", type=Path, metavar="FOLDER", default=out, help=f"for all that comes of it ({out})")
    given = {k: v for k, v in vars(parser.parse_args(arguments)).items() if v is not None}
    if "methods" in given:
        given["methods"] = tuple(given["methods"])
    return replace(defaults, **given)


def _share(text: str) -> float:
    with suppress(ValueError):
        if 0 < float(text) < 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text}: must be a share of the visits, in (0, 1)")


def _at_least(least: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        with suppress(ValueError):
            if int(text) >= least:
                return int(text)
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number from {least} on")

    return whole


def _folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text}: there is no such folder")
    return Path(text)
