"""Random numbers by index: what makes `dataset[i]` a pure function of i and a seed.

A draw depends on the seed, the name of what is drawn, and the index, and on nothing else: not on
the order in which samples are asked for, nor on the process that asks.
"""

import zlib

import numpy as np
from numpy.typing import ArrayLike, NDArray


def uniform(seed: int, name: str, indices: ArrayLike) -> NDArray[np.float64]:
    """Returns a number in [0, 1) for each index; some nanoseconds each.

    Args:
        seed: Of the data, >= 0.
        name: Of what is drawn; draws of different names have nothing to do with each other.
        indices: Integers >= 0, of any shape.

    Returns:
        Float64, of the same shape; multiples of 2^-53.
    """
    start = np.random.SeedSequence((seed, zlib.crc32(name.encode()))).generate_state(2, np.uint64)
    with np.errstate(over="ignore"):
        mixed = np.asarray(indices, np.uint64) * np.uint64(0x9E3779B97F4A7C15) + start[0]
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor) + start[1]
        mixed ^= mixed >> np.uint64(31)
    return np.asarray((mixed >> np.uint64(11)) * 2.0**-53)


def generator(seed: int, name: str, index: int) -> np.random.Generator:
    """Returns a generator of its own for one sample, for draws of any kind; some 20 microseconds.

    Args:
        seed: Of the data, >= 0.
        name: Of what is drawn.
        index: Of the sample, >= 0.
    """
    return np.random.default_rng((seed, zlib.crc32(name.encode()), index))


def long_tailed(
    seed: int, name: str, indices: ArrayLike, count: int, tail: float = 1.0
) -> NDArray[np.int64]:
    """Returns which of `count` things each sample shows: the first often, the last ones rarely.

    Thing k comes with a probability of about 1 / (k + 1)^tail, so that most samples are one more
    copy of something common: the redundancy of data gathered from the web.

    Args:
        seed: Of the data.
        name: Of what is drawn.
        indices: Integers (n,), of the samples.
        count: How many things there are, >= 1.
        tail: In [0, 1]; 0: all equally often, 1: as Zipf found it.

    Returns:
        Int64 (n,), in [0, count).
    """
    drawn = uniform(seed, name, indices)
    if tail == 1:
        ranks = np.exp(drawn * np.log(count + 1))
    else:
        power = 1 - tail
        ranks = (1 + drawn * ((count + 1) ** power - 1)) ** (1 / power)
    return np.minimum(ranks.astype(np.int64) - 1, count - 1)
