"""A policy that looks at classes."""

from dataclasses import dataclass

import numpy as np

from seta import KeepCurve


@dataclass(frozen=True)
class OneClass:
    """Keeps the samples of class 1."""

    stratified = True

    def __call__(self, histogram, epoch, epochs):
        keep = np.zeros((len(histogram.by_stratum), histogram.bins))
        keep[1] = 1.0
        return KeepCurve(keep, keep[:, 0])
