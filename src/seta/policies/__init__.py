"""The methods: one file each, a frozen dataclass that makes a keep curve from a loss histogram."""

from __future__ import annotations

from seta.engine.policy import REGISTRY, get
from seta.policies.full import Full
from seta.policies.infobatch import InfoBatch
from seta.policies.random import Random
from seta.policies.seta import SeTa
from seta.policies.static import Static

REGISTRY.update({method.__name__: method for method in (SeTa, InfoBatch, Random, Static, Full)})

__all__ = ["REGISTRY", "Full", "InfoBatch", "Random", "SeTa", "Static", "get"]
