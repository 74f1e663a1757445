"""A pilot: a part of the data set, as many of each class, the same for all runs."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seta.engine.numbers import real
from seta.torch.arguments import check_dataset

OF_SAMPLES = ("losses", "always_keep", "track")
"""Options of the loader that may speak of single samples: not where they are True or False."""


def part_of(
    dataset: Any,
    fraction: float,
    strata: NDArray[np.integer[Any]] | None,
    options: Mapping[str, Any],
) -> tuple[Any, NDArray[np.integer[Any]] | None]:
    """Returns a part of a data set, drawn once and for all, and its classes.

    Args:
        dataset: Map-style, N samples.
        fraction: In (0, 1).
        strata: Integers (N,); of each class the same share is taken, and one sample at least.
        options: Of the loader.

    Raises:
        ValueError: The fraction is none, or an option speaks of single samples.
    """
    from torch.utils.data import Subset

    share = real("fraction", fraction, 0, 1, "the part of the data set, 0.1 for 10 %", ends="()")
    given = [name for name in OF_SAMPLES if not isinstance(options.get(name), bool | NoneType)]
    if given:
        raise ValueError(f"{given[0]} speaks of single samples, and fraction takes a part of them")
    n = check_dataset(dataset)
    rng = np.random.default_rng(0)
    of_class = np.zeros(n, np.int64) if strata is None else strata
    order = rng.permutation(n)
    parts = []
    for label in np.unique(of_class):
        members = order[of_class[order] == label]
        parts.append(members[: max(1, round(share * len(members)))])
    chosen = np.sort(np.concatenate(parts))
    classes = None if strata is None else np.unique(strata[chosen], return_inverse=True)[1]
    return Subset(dataset, chosen.tolist()), classes
