"""Values of parameters, and combinations of them of which a few cover all values or all pairs."""

from itertools import combinations, product

import pytest

WORKERS = [0, pytest.param(2, marks=pytest.mark.processes)]  # of a loader


def some_of(names, *values, together=1):
    """Parametrizes a test with all combinations, and marks `slow` those that show nothing new.

    Args:
        names: Of the parameters, separated by commas.
        *values: Of each parameter.
        together: What the combinations without the mark cover. 1: each value of each parameter;
            2: each pair of values of two parameters.
    """
    every = [*product(*([*some] for some in values))]
    places = [*product(*(range(len(some)) for some in values))]
    parts = {at: {*combinations(enumerate(at), together)} for at in places}
    missing, quick = set().union(*parts.values()), set()
    while missing:
        best = max(places, key=lambda at: len(parts[at] & missing))
        missing -= parts[best]
        quick.add(best)
    params = [
        pytest.param(*given, marks=[] if at in quick else pytest.mark.slow)
        for at, given in zip(places, every, strict=True)
    ]
    return pytest.mark.parametrize(names, params)
