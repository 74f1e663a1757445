"""Labelled images from an .npz file: `x`, the images, and `y`, their labels.

One of the two kinds of file behind `seta demo --data`. Opening it reads what the arrays are, and
the labels; the images are unpacked as a stream, and only those that are used are held, as float32.
"""

import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from seta.demo.files import Layout, Pixels, check_labels
from seta.demo.memory import require_memory
from seta.demo.npy import StoredArray
from seta.demo.settings import DemoError

__all__ = ["NpzImages"]

# What a file comes to that is no archive, a broken one, a locked one, or a lone .npy array.
_UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, BadZipFile, zlib.error)
_NEEDED = "needed: x, images (N, H, W), (N, H, W, C) or (N, C, H, W) of uint8 or float, and y, (N,)"
_PER_LABEL = 64  # bytes, while labels are sorted and drawn from


class NpzImages:
    """The images and labels of an .npz file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _opened(path) as archive:
            self._images, labels = (StoredArray.of(archive, name) for name in ("x", "y"))
            self._channels_last = _channels_last(path, self._images)
            self._check_lengths(labels.shape)
            self.labels = check_labels(path, "y", labels.read_all(archive))
        _, height, width, *channels = self._images.shape
        if not self._channels_last and channels:
            (height, width), channels = self._images.shape[2:], [self._images.shape[1]]
        self.layout = Layout(channels[0] if channels else 1, height, width)

    def _check_lengths(self, labels: tuple[int, ...]) -> None:
        """Refuses what is not one label for each image, before any is unpacked."""
        images = self._images.shape[0]
        if len(labels) == 1 and labels[0] != images:
            raise DemoError(
                f"{self.path}: x holds {images} images and y {labels[0]} labels; "
                "needed: as many of one as of the other"
            )
        wayout = "cut the file into smaller ones"
        require_memory(_PER_LABEL * math.prod(labels), f"{self.path}: the labels", wayout)

    def read(
        self, rows: NDArray[np.intp], layout: Layout, progress: Callable[[int], None]
    ) -> Pixels:
        """The images of these rows, float32 (len(rows), C, H, W)."""
        needed = (layout.channels, layout.height, layout.width)
        found = (self.layout.channels, self.layout.height, self.layout.width)
        if found != needed:
            raise DemoError(
                f"{self.path}: images of {found} (channels, height, width) found; needed: {needed},"
                " as in the file that is trained on"
            )
        images = np.empty((len(rows), *needed), np.float32)
        with _opened(self.path) as archive, np.errstate(over="ignore"):
            for done in self._images.read_rows(archive, rows, self._as_stored(images)):
                progress(done)
        if not all(np.isfinite(image).all() for image in images):
            raise DemoError(
                f"{self.path}: x holds NaN or infinite values; needed: finite ones, within float32"
            )
        return images

    def _as_stored(self, images: Pixels) -> Pixels:
        """A view of images (n, C, H, W) with the axes that the file has."""
        if self._channels_last:
            return np.moveaxis(images, 1, 3)
        return images[:, 0] if len(self._images.shape) == 3 else images


@contextmanager
def _opened(path: Path) -> Iterator[ZipFile]:
    """The archive with its arrays x and y; what cannot be read of it is told."""
    try:
        with ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            if not {"x", "y"} <= set(names):
                found = ", ".join(names) or "no arrays"
                raise DemoError(f"{path}: {found} found; {_NEEDED}")
            yield archive
    except _UNREADABLE as error:
        raise DemoError(f"{path}: cannot be read as .npz ({error}); {_NEEDED}") from error


def _channels_last(path: Path, images: StoredArray) -> bool:
    """Whether images are (N, H, W, C), not (N, C, H, W) or (N, H, W)."""
    shape, dtype = images.shape, images.dtype
    number = np.issubdtype(dtype, np.number) or dtype == np.bool_
    if not number or dtype.kind == "c" or len(shape) not in (3, 4) or min(shape) < 1:
        raise DemoError(f"{path}: x is {dtype} with shape {shape}; {_NEEDED}")
    if len(shape) == 3:
        return False
    if shape[3] not in (1, 3, 4) and shape[1] not in (1, 2, 3, 4):
        raise DemoError(f"{path}: x has shape {shape} with no axis of 1 to 4 channels; {_NEEDED}")
    return shape[3] in (1, 3, 4)
