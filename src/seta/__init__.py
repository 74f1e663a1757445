"""seta: train on the samples that are worth it, chosen from the losses that training computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seta.engine import Binning, KeepCurve, LossHistogram, Policy, Pruner, Selection
from seta.engine.batches import batches
from seta.engine.files import load, save
from seta.policies import (
    BLS,
    RCAP,
    RS2,
    UCB,
    EpsilonGreedy,
    Full,
    InfoBatch,
    InfoBatchQuantiles,
    OrderDP,
    Random,
    RePB,
    SeTa,
    Static,
)

if TYPE_CHECKING:
    from seta.compat import Log, prune
    from seta.torch import (
        ProgressSchedule,
        PrunedDataLoader,
        per_sample,
        token_counts,
        token_losses,
    )

__version__ = "0.1.0"

_NEEDS_TORCH = {
    "Log": "seta.compat",
    "prune": "seta.compat",
    "ProgressSchedule": "seta.torch",
    "PrunedDataLoader": "seta.torch",
    "per_sample": "seta.torch",
    "token_counts": "seta.torch",
    "token_losses": "seta.torch",
}


def __getattr__(name: str) -> Any:
    """Imports what needs torch when it is asked for: `import seta` works without it."""
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module 'seta' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_NEEDS_TORCH[name]), name)


def __dir__() -> list[str]:
    """Returns the public names, those included that are not imported yet."""
    return sorted(__all__)


__all__ = [
    "BLS",
    "RCAP",
    "RS2",
    "UCB",
    "Binning",
    "EpsilonGreedy",
    "Full",
    "InfoBatch",
    "InfoBatchQuantiles",
    "KeepCurve",
    "Log",
    "LossHistogram",
    "OrderDP",
    "Policy",
    "ProgressSchedule",
    "PrunedDataLoader",
    "Pruner",
    "Random",
    "RePB",
    "SeTa",
    "Selection",
    "Static",
    "batches",
    "load",
    "per_sample",
    "prune",
    "save",
    "token_counts",
    "token_losses",
]
