"""Labelled images from a parquet file in the layout of the Hugging Face `datasets` library.

One of the two kinds of file behind `seta demo --data`: a column of encoded images (a struct with
`bytes`) and a column of integer labels. Decoding takes some 50 microseconds per small JPEG; images
are read in batches and only the rows that are used are decoded.
"""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from seta.demo.files import Layout, Pixels, check_labels
from seta.demo.settings import DemoError
from seta.extras import require

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ParquetImages"]

_IMAGE_COLUMNS = ("img", "image")
_LABEL_COLUMNS = ("label", "labels", "fine_label")
_NEEDED = "needed: a column img or image {bytes, path} and a column label, labels or fine_label"
_LONGEST_SIDE = 64
_BATCH = 1024


class ParquetImages:
    """The images and labels of a parquet file."""

    def __init__(self, path: Path) -> None:
        require("reading a parquet file of images", "pyarrow", "PIL")
        self.path = path
        self._file = _open(path)
        self._column = _image_column(path, self._file.schema_arrow)
        self.labels = _labels(path, self._file)
        self.layout = self._layout()

    def _layout(self) -> Layout:
        """The size of the first image, at most 64 pixels a side, for all of them."""
        first = self._decode(0, next(iter(self._encoded(np.zeros(1, dtype=np.intp)))))
        shrink = min(1.0, _LONGEST_SIDE / max(first.size))
        width, height = (max(1, round(side * shrink)) for side in first.size)
        note = f"Images are scaled to {width} x {height} pixels." if shrink < 1 else ""
        return Layout(1 if first.mode in ("1", "L", "I;16") else 3, height, width, note)

    def read(
        self, rows: NDArray[np.intp], layout: Layout, progress: Callable[[int], None]
    ) -> Pixels:
        """The images of these rows, float32 (len(rows), C, H, W)."""
        mode = "L" if layout.channels == 1 else "RGB"
        size = (layout.width, layout.height)
        images = np.empty((len(rows), layout.channels, layout.height, layout.width), np.float32)
        shape = (layout.height, layout.width, layout.channels)
        for position, encoded in enumerate(self._encoded(rows)):
            image = self._decode(int(rows[position]), encoded).convert(mode)
            if image.size != size:
                image = image.resize(size)
            images[position] = np.moveaxis(np.asarray(image).reshape(shape), 2, 0)
            if position % 100 == 99 or position == len(rows) - 1:
                progress(position + 1)
        return images

    def _encoded(self, rows: NDArray[np.intp]) -> Iterator[Any]:
        """The `bytes` of the rows, in rising order, batch after batch."""
        start = 0
        for batch in self._file.iter_batches(_BATCH, columns=[self._column]):
            inside = rows[(rows >= start) & (rows < start + len(batch))] - start
            yield from (
                row["bytes"] if row else None for row in batch.column(0).take(inside).to_pylist()
            )
            start += len(batch)

    def _decode(self, row: int, encoded: Any) -> "Image":
        """One image."""
        from PIL import Image

        # Pillow's own errors for a broken or oversized image are of all these kinds.
        broken = (TypeError, ValueError, SyntaxError, OSError, Image.DecompressionBombError)
        try:
            image = Image.open(io.BytesIO(encoded))
            image.load()
        except broken as error:
            found = "no bytes" if encoded is None else f"{len(encoded)} bytes"
            raise DemoError(
                f"{self.path}: row {row} of column {self._column} holds {found} that cannot be "
                "decoded; needed: an image file (PNG, JPEG, ...) as bytes"
            ) from error
        return image


def _open(path: Path) -> Any:
    """The parquet file, its schema read."""
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise DemoError(f"{path}: cannot be read as parquet ({error}); {_NEEDED}") from error


def _image_column(path: Path, schema: Any) -> str:
    """The name of the column of images."""
    import pyarrow

    for name in _IMAGE_COLUMNS:
        if name in schema.names:
            kind = schema.field(name).type
            if pyarrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
                return name
            raise DemoError(f"{path}: column {name} is {kind}; {_NEEDED}")
    raise DemoError(f"{path}: columns {', '.join(schema.names)} found; {_NEEDED}")


def _labels(path: Path, file: Any) -> NDArray[np.int64]:
    """The labels of all rows."""
    names = [name for name in _LABEL_COLUMNS if name in file.schema_arrow.names]
    if not names:
        found = ", ".join(file.schema_arrow.names)
        raise DemoError(f"{path}: columns {found} found; {_NEEDED}")
    column = file.read(columns=[names[0]]).column(0)
    if column.null_count:
        raise DemoError(
            f"{path}: column {names[0]} has {column.null_count} empty rows; needed: an integer in "
            "every row"
        )
    return check_labels(path, f"column {names[0]}", column.to_numpy())
