"""CIFAR-10 as arrays, read from the parquet files of a data folder.

`cifar10-train.parquet` and `cifar10-test.parquet`, in the layout of the Hugging Face `datasets`
library: a column `img` {bytes, path} and a column `label`. Reading takes some ten seconds, once in
a process, and 184 MB.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seta.demo.parquet import ParquetImages

Images = tuple[NDArray[np.uint8], NDArray[np.int64]]


def read(data: Path | None) -> tuple[Images, Images]:
    """Returns training and test images: uint8 (N, C, H, W), and labels int64 (N,).

    Args:
        data: The folder of the files.

    Raises:
        ValueError: No folder was given, or a file is not in it.
    """
    return _part(data, "train"), _part(data, "test")


@cache
def _part(data: Path | None, part: str) -> Images:
    name = f"cifar10-{part}.parquet"
    if data is None or not (data / name).is_file():
        raise ValueError(
            f"--data {data}: {name} is not there; give a folder with cifar10-train.parquet and "
            "cifar10-test.parquet (columns img {bytes, path} and label)"
        )
    file = ParquetImages(data / name)
    rows = np.arange(len(file.labels))
    blocks = [
        file.read(block, file.layout, lambda _: None).astype(np.uint8)
        for block in np.array_split(rows, max(1, len(rows) // 10_000))
    ]
    return np.concatenate(blocks), np.asarray(file.labels, np.int64)


def subset(images: Images, count: int, seed: int = 0) -> Images:
    """Returns the first `count` images of a fixed shuffle."""
    chosen = np.random.default_rng(seed).permutation(len(images[1]))[:count]
    return images[0][chosen], images[1][chosen]
