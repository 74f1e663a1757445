"""seta: dynamic data pruning by the per-sample losses that training computes anyway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seta.engine import Binning as Binning
from seta.engine import KeepCurve as KeepCurve
from seta.engine import LossHistogram as LossHistogram
from seta.engine import Policy as Policy
from seta.engine import Pruner as Pruner
from seta.engine import Selection as Selection
from seta.engine.batches import batches as batches
from seta.engine.files.file import load as load
from seta.engine.files.file import save as save
from seta.engine.samples import SampleTable as SampleTable
from seta.policies import REGISTRY as _METHODS
from seta.policies.methods import *  # noqa: F403

if TYPE_CHECKING:
    from seta.comparison.make import compare as compare
    from seta.comparison.result import Comparison as Comparison
    from seta.compat import Log as Log
    from seta.compat import prune as prune
    from seta.torch import ProgressSchedule as ProgressSchedule
    from seta.torch import PrunedDataLoader as PrunedDataLoader
    from seta.torch import per_sample as per_sample
    from seta.torch import token_counts as token_counts
    from seta.torch import token_losses as token_losses

__version__ = "0.1.0"

_NEEDS_TORCH = {
    "Comparison": "seta.comparison.result",
    "Log": "seta.compat",
    "compare": "seta.comparison.make",
    "prune": "seta.compat",
    "ProgressSchedule": "seta.torch",
    "PrunedDataLoader": "seta.torch",
    "per_sample": "seta.torch",
    "token_counts": "seta.torch",
    "token_losses": "seta.torch",
}
_HERE = (
    "Binning", "KeepCurve", "LossHistogram", "Policy", "Pruner", "SampleTable", "Selection",
    "batches", "load", "save",
)  # fmt: skip
_PUBLIC = sorted([*_HERE, *_NEEDS_TORCH, *_METHODS])


def __dir__() -> list[str]:
    """Returns the public names, those included that are not imported yet."""
    return list(_PUBLIC)


if not TYPE_CHECKING:  # type checkers read the imports: `X as X` is public, and so is `*`
    __all__ = _PUBLIC

    def __getattr__(name: str) -> Any:
        """Imports what needs torch when it is asked for: `import seta` works without it."""
        if name not in _NEEDS_TORCH:
            raise AttributeError(f"module 'seta' has no attribute {name!r}")
        import importlib

        return getattr(importlib.import_module(_NEEDS_TORCH[name]), name)
