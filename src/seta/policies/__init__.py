"""The methods: one file each, a frozen dataclass that makes a keep curve from a loss histogram.

`methods` lists them, one per line. Not included are methods that run forward passes over samples
that they do not train (KAKURENBO, Selective-Backprop, RHO-LOSS, DivBS, GREATS, IES), since a
forward pass is a third of a training step, which limits what they can save; and methods whose
published description is not precise enough (evolved sampling, PODS).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seta.engine.curves.policy import REGISTRY as REGISTRY
from seta.engine.curves.policy import get as get
from seta.policies import methods
from seta.policies.methods import *  # noqa: F403

REGISTRY.update(
    {name: method for name, method in vars(methods).items() if isinstance(method, type)}
)

if not TYPE_CHECKING:  # type checkers read the imports
    __all__ = sorted([*REGISTRY, "REGISTRY", "get"])
