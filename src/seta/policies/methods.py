"""The methods, a line each: what is named here is in the registry, and all lists are made of that.

`X as X` is how type checkers and editors are told that a name is public. The order is the one in
which methods are listed, run and drawn.
"""
# ruff: isort: skip_file

from seta.policies.seta import SeTa as SeTa
from seta.policies.learnable import Learnable as Learnable
from seta.policies.infobatch import InfoBatch as InfoBatch
from seta.policies.random import Random as Random
from seta.policies.static import Static as Static
from seta.policies.rs2 import RS2 as RS2
from seta.policies.epsilon_greedy import EpsilonGreedy as EpsilonGreedy
from seta.policies.ucb import UCB as UCB
from seta.policies.rcap import RCAP as RCAP
from seta.policies.order_dp import OrderDP as OrderDP
from seta.policies.bls import BLS as BLS
from seta.policies.infobatch_quantiles import InfoBatchQuantiles as InfoBatchQuantiles
from seta.policies.repb import RePB as RePB
from seta.policies.full import Full as Full
