"""The engine: losses -> histogram -> keep curve -> selection. It knows numpy and nothing else."""

from seta.engine.cluster import DifficultyGroups, difficulty_groups
from seta.engine.curve import KeepCurve
from seta.engine.draw import Selection
from seta.engine.histogram import Binning, LossHistogram
from seta.engine.losses import LossTable
from seta.engine.policy import Policy
from seta.engine.pruner import Pruner

__all__ = [
    "Binning",
    "DifficultyGroups",
    "KeepCurve",
    "LossHistogram",
    "LossTable",
    "Policy",
    "Pruner",
    "Selection",
    "difficulty_groups",
]
