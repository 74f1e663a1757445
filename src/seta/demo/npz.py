"""Labelled images from an .npz file: `x`, the images, and `y`, their labels.

One of the two kinds of file behind `seta demo --data`. The arrays are held whole in memory, as
NumPy loads them; the images that are used are copied once more, as float32.
"""

import zlib
from collections.abc import Callable
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from seta.demo.files import Layout, Pixels, check_labels
from seta.demo.settings import DemoError

__all__ = ["NpzImages"]

# What numpy lets through of a file that is no archive, a broken one, or a lone .npy array.
_UNREADABLE = (OSError, ValueError, EOFError, TypeError, AttributeError, BadZipFile, zlib.error)
_NEEDED = "needed: x, images (N, H, W), (N, H, W, C) or (N, C, H, W) of uint8 or float, and y, (N,)"


class NpzImages:
    """The images and labels of an .npz file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        arrays = _load(path)
        self._images = _channels_first(path, arrays["x"])
        self.labels = check_labels(path, "y", arrays["y"])
        if len(self._images) != len(self.labels):
            raise DemoError(
                f"{path}: x holds {len(self._images)} images and y {len(self.labels)} labels; "
                "needed: as many of one as of the other"
            )
        _, channels, height, width = self._images.shape
        self.layout = Layout(channels, height, width)

    def read(
        self, rows: NDArray[np.intp], layout: Layout, progress: Callable[[int], None]
    ) -> Pixels:
        """The images of these rows, float32 (len(rows), C, H, W)."""
        needed = (layout.channels, layout.height, layout.width)
        found = self._images.shape[1:]
        if found != needed:
            raise DemoError(
                f"{self.path}: images of {found} (channels, height, width) found; needed: {needed},"
                " as in the file that is trained on"
            )
        images = self._images[rows].astype(np.float32)
        if not np.isfinite(images).all():
            raise DemoError(f"{self.path}: x holds NaN or infinite values; needed: finite ones")
        progress(len(rows))
        return images


def _load(path: Path) -> dict[str, NDArray[np.generic]]:
    """The arrays x and y."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            missing = {"x", "y"} - set(archive.files)
            if missing:
                found = ", ".join(archive.files) or "no arrays"
                raise DemoError(f"{path}: {found} found; {_NEEDED}")
            return {name: archive[name] for name in ("x", "y")}
    except _UNREADABLE as error:
        raise DemoError(f"{path}: cannot be read as .npz ({error}); {_NEEDED}") from error


def _channels_first(path: Path, images: NDArray[np.generic]) -> NDArray[np.generic]:
    """Images as (N, C, H, W), whichever of the three shapes they came in."""
    number = np.issubdtype(images.dtype, np.number) or images.dtype == np.bool_
    if not number or np.iscomplexobj(images) or images.ndim not in (3, 4) or 0 in images.shape:
        raise DemoError(f"{path}: x is {images.dtype} with shape {images.shape}; {_NEEDED}")
    if images.ndim == 3:
        return images[:, None]
    if images.shape[3] in (1, 3, 4):
        return np.moveaxis(images, 3, 1)
    if images.shape[1] in (1, 2, 3, 4):
        return images
    raise DemoError(
        f"{path}: x has shape {images.shape} with no axis of 1 to 4 channels; {_NEEDED}"
    )
