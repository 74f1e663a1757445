"""The engine: losses -> histogram -> keep curve -> selection. Needs numpy alone."""

from seta.engine.curves.cluster import DifficultyGroups, difficulty_groups
from seta.engine.curves.curve import KeepCurve
from seta.engine.curves.histogram import Binning, LossHistogram
from seta.engine.curves.policy import Policy
from seta.engine.draw.selection import Selection
from seta.engine.pruner import Pruner
from seta.engine.table.columns import LossColumns

__all__ = [
    "Binning",
    "DifficultyGroups",
    "KeepCurve",
    "LossColumns",
    "LossHistogram",
    "Policy",
    "Pruner",
    "Selection",
    "difficulty_groups",
]
