"""Files of labelled images: what every kind of file offers, and which kind a file is.

`open_images` reads the labels and looks at one image; the images themselves are decoded later, and
only those that are used. A file that cannot be used is refused here, with its name, what was found
and what is needed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from seta.demo.settings import DemoError

__all__ = ["FEWEST", "ImageSource", "Labels", "Layout", "Pixels", "check_labels", "open_images"]

Labels = NDArray[np.int64]
Pixels = NDArray[np.float32]

FEWEST = 20
"""Images that make a file worth while."""


@dataclass(frozen=True)
class Layout:
    """Size of the images that the net will see, and how the file's own came to it."""

    channels: int
    height: int
    width: int
    note: str = ""


class ImageSource(Protocol):
    """An opened file of labelled images."""

    path: Path
    labels: Labels
    layout: Layout

    def read(
        self, rows: NDArray[np.intp], layout: Layout, progress: Callable[[int], None]
    ) -> Pixels:
        """Read images, float32 (len(rows), C, H, W), brought to a layout.

        Args:
            rows: Rising positions in the file.
            layout: What the images must come to; of this file, or of the file trained on.
            progress: Called with the number of images read so far.
        """


def open_images(path: Path) -> ImageSource:
    """Open a .parquet or .npz file of labelled images.

    Raises:
        DemoError: The file is missing, of another kind, or does not hold labelled images.
    """
    _check_file(path)
    suffix = path.suffix.lower()
    if suffix == ".npz":
        from seta.demo.npz import NpzImages

        return NpzImages(path)
    if suffix == ".parquet":
        from seta.demo.parquet import ParquetImages

        return ParquetImages(path)
    raise DemoError(
        f"{path}: {suffix or 'no ending'} found; needed: a .parquet file (a column of images, a "
        "column of labels) or an .npz file (arrays x and y)"
    )


def _check_file(path: Path) -> None:
    """Refuse what cannot be opened, whatever is in it."""
    needed = "needed: a .parquet or .npz file of labelled images"
    try:
        with path.open("rb"):
            return
    except FileNotFoundError as error:
        raise DemoError(f"{path}: no such file; {needed}") from error
    except IsADirectoryError as error:
        raise DemoError(f"{path}: is a folder; {needed}") from error
    except (OSError, ValueError) as error:
        raise DemoError(f"{path}: cannot be opened ({error}); {needed}") from error


def check_labels(path: Path, name: str, labels: Any) -> Labels:
    """Check the labels of a file: integers, enough of them, of more than one kind.

    Raises:
        DemoError: They are not.
    """
    found = np.asarray(labels)
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
        raise DemoError(
            f"{path}: {name} is {found.dtype} with shape {found.shape}; needed: integers, one per "
            "image, shape (N,)"
        )
    kinds = len(np.unique(found))
    if len(found) < FEWEST or kinds < 2:
        raise DemoError(
            f"{path}: {len(found)} images with {kinds} different labels found; needed: at least "
            f"{FEWEST} images and 2 labels"
        )
    return found.astype(np.int64)
