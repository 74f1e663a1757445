"""The methods: one file each, a frozen dataclass that makes a keep curve from a loss histogram.

Left out are methods that need forward passes over samples that they do not train (KAKURENBO,
Selective-Backprop, RHO-LOSS, DivBS, GREATS, IES): a forward pass is a third of a step, which caps
what they save. And those not described precisely enough to us (evolved sampling, PODS).
"""

from __future__ import annotations

from seta.engine.policy import REGISTRY, get
from seta.policies.bls import BLS
from seta.policies.epsilon_greedy import EpsilonGreedy
from seta.policies.full import Full
from seta.policies.infobatch import InfoBatch
from seta.policies.infobatch_quantiles import InfoBatchQuantiles
from seta.policies.order_dp import OrderDP
from seta.policies.random import Random
from seta.policies.rcap import RCAP
from seta.policies.repb import RePB
from seta.policies.rs2 import RS2
from seta.policies.seta import SeTa
from seta.policies.static import Static
from seta.policies.ucb import UCB

_METHODS = (
    SeTa, InfoBatch, InfoBatchQuantiles, RePB, BLS, OrderDP, EpsilonGreedy, UCB, RCAP, RS2, Random,
    Static, Full,
)  # fmt: skip

REGISTRY.update({method.__name__: method for method in _METHODS})

__all__ = [
    "BLS",
    "RCAP",
    "REGISTRY",
    "RS2",
    "UCB",
    "EpsilonGreedy",
    "Full",
    "InfoBatch",
    "InfoBatchQuantiles",
    "OrderDP",
    "Random",
    "RePB",
    "SeTa",
    "Static",
    "get",
]
