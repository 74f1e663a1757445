"""The methods: one file each, a frozen dataclass that makes a keep curve from a loss histogram.

`methods` names them, a line each. Left out are methods that need forward passes over samples that
they do not train (KAKURENBO, Selective-Backprop, RHO-LOSS, DivBS, GREATS, IES): a forward pass is a
third of a step, which caps what they save. And those not described precisely enough to us (evolved
sampling, PODS).
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
