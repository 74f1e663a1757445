"""The images of a demo: scikit-learn's digits, or the user's own, split and standardised.

Comes before the first run and is shared by all of them: the split depends on nothing but the data.
The digits take a fraction of a second; a file is decoded in `files`, and only the images that are
used.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seta.demo.files import ImageSource, Labels, Pixels, open_images
from seta.demo.memory import require_images
from seta.demo.settings import DemoError
from seta.report.units import text_of

__all__ = ["ImageData", "load_digits", "load_file", "stratified"]

Rows = NDArray[np.intp]

_SPLIT_SEED = 20250313
_DIGITS_HELD_OUT = 0.4
_FILE_HELD_OUT = 0.2
_PART = 1 << 20  # values that are standardised at a time
_PIXELS = 5_120_000  # 5,000 images of 32 x 32: all runs together take some three minutes


@dataclass(frozen=True)
class ImageData:
    """Images to train and to measure on.

    Attributes:
        name: What they are, in a few words.
        train: float32 (N, C, H, W), standardised.
        train_labels: int64 (N,), 0 .. classes - 1.
        test: float32 (M, C, H, W), standardised with the mean and deviation of `train`.
        test_labels: int64 (M,).
        classes: Number of labels.
        epochs: Epochs of full training if the user asks for no number.
        seeds: Runs per method and budget if the user asks for no number.
        notes: What was done to the data that a reader of the results should know.
    """

    name: str
    train: Pixels
    train_labels: Labels
    test: Pixels
    test_labels: Labels
    classes: int
    epochs: int
    seeds: int
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        _, channels, height, width = self.train.shape
        return channels, height, width


def load_digits() -> ImageData:
    """The 1,797 handwritten digits that come with scikit-learn, 8 x 8 pixels, 40 % held out.

    So few epochs that half of them cost something, and so many seeds that it shows: by Full alone,
    eight seeds of it. Half of 40 epochs reach what all of them reach.
    """
    from sklearn import datasets

    digits = datasets.load_digits()
    labels = np.asarray(digits.target, dtype=np.int64)
    images = np.asarray(digits.images, dtype=np.float32)[:, None]
    held_out, kept = stratified(labels, round(_DIGITS_HELD_OUT * len(labels)))
    train, test = images[kept], images[held_out]
    _standardise(train, test)
    return ImageData(
        name="scikit-learn's handwritten digits",
        train=train,
        train_labels=labels[kept],
        test=test,
        test_labels=labels[held_out],
        classes=10,
        epochs=10,
        seeds=5,
    )


def load_file(
    path: Path,
    test: Path | None = None,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    batch_size: int = 64,
) -> ImageData:
    """Labelled images from a .parquet or .npz file.

    Args:
        path: Images to train on, and to hold some out from if there is no `test`.
        test: Images to measure on; at most a quarter as many as are trained on are used.
        limit: Images to train on at most; None: as many as a few minutes allow; 0: all.
        progress: Called with (images decoded, images to decode).
        batch_size: Images of a step that is made in this machine's memory; 0: elsewhere.

    Raises:
        DemoError: A file cannot be used, or not in the memory that is free; says what was found
            and what is needed.
    """
    source = open_images(path)
    measured = source if test is None else open_images(test)
    wanted = _wanted(source, limit)
    rows, test_rows = _rows(source.labels, None if test is None else measured.labels, wanted)
    kinds = np.unique(source.labels)
    test_labels = _known(measured, test_rows, kinds)
    require_images(path, source.layout, len(rows), len(test_rows), batch_size)
    total = len(rows) + len(test_rows)
    report = progress or _silent
    train_images = source.read(rows, source.layout, lambda done: report(done, total))
    test_images = measured.read(
        test_rows, source.layout, lambda done: report(len(rows) + done, total)
    )
    _standardise(train_images, test_images)
    return ImageData(
        name=text_of(path.name if test is None else f"{path.name}, measured on {test.name}"),
        train=train_images,
        train_labels=np.searchsorted(kinds, source.labels[rows]).astype(np.int64),
        test=test_images,
        test_labels=test_labels,
        classes=len(kinds),
        epochs=15,
        seeds=3,
        notes=_notes(source, measured, len(rows), len(test_rows)),
    )


def stratified(labels: Labels, count: int) -> tuple[Rows, Rows]:
    """Draw `count` samples with each label's share, by a fixed seed.

    Returns:
        The drawn positions and the others, both rising.
    """
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(labels))
    by_label = order[np.argsort(labels[order], kind="stable")]
    _, starts, sizes = np.unique(labels[by_label], return_index=True, return_counts=True)
    rank = np.arange(len(labels)) - np.repeat(starts, sizes)
    share = (rank + 0.5) / np.repeat(sizes, sizes)
    ranked = by_label[np.argsort(share, kind="stable")]
    return np.sort(ranked[:count]), np.sort(ranked[count:])


def _wanted(source: ImageSource, limit: int | None) -> int:
    """The number of images to train on at most."""
    if limit is None:
        return max(500, _PIXELS // (source.layout.height * source.layout.width))
    return min(limit or len(source.labels), len(source.labels))


def _rows(labels: Labels, test_labels: Labels | None, wanted: int) -> tuple[Rows, Rows]:
    """The rows to train on and the rows to measure on, at least one of either."""
    fair = max(1, round(min(wanted, len(labels)) * _FILE_HELD_OUT / (1 - _FILE_HELD_OUT)))
    if test_labels is not None:
        return stratified(labels, wanted)[0], stratified(test_labels, fair)[0]
    used, _ = stratified(labels, wanted + fair)
    held_out, kept = stratified(labels[used], max(1, round(_FILE_HELD_OUT * len(used))))
    return used[kept], used[held_out]


def _known(source: ImageSource, rows: Rows, kinds: Labels) -> Labels:
    """Test labels as positions among the labels trained on."""
    labels = source.labels[rows]
    strange = np.setdiff1d(labels, kinds)
    if len(strange):
        raise DemoError(
            f"{source.path}: label {strange[0]} found, which the file that is trained on does not "
            "have; needed: labels of that file"
        )
    return np.searchsorted(kinds, labels).astype(np.int64)


def _notes(source: ImageSource, measured: ImageSource, train: int, test: int) -> tuple[str, ...]:
    """What to tell of the images of a file."""
    note = (
        f"Trained on {train:,} of the {len(source.labels):,} images of {source.path.name}, measured"
        f" on {test:,} of {measured.path.name}, drawn once by a fixed seed."
    )
    if train + (test if measured is source else 0) < len(source.labels):
        note += " (--limit 0 takes all.)"
    return (note, source.layout.note) if source.layout.note else (note,)


def _standardise(train: Pixels, test: Pixels) -> None:
    """Bring both, in place, to mean 0 and deviation 1 per channel, as measured on `train`."""
    mean = train.mean(axis=(0, 2, 3), dtype=np.float64)[:, None, None]
    squares = sum(((part - mean) ** 2).sum(axis=(0, 2, 3)) for part in _parts(train))
    deviation = np.sqrt(squares / train[:, 0].size)[:, None, None]
    scale = 1 / np.where(deviation > 0, deviation, 1)
    for part in (*_parts(train), *_parts(test)):
        part[:] = (part - mean) * scale


def _parts(images: Pixels) -> Iterator[Pixels]:
    """Images, some megabytes of them at a time."""
    step = max(1, _PART // images[0].size)
    for start in range(0, len(images), step):
        yield images[start : start + step]


def _silent(done: int, total: int) -> None:
    """Report to nobody."""
