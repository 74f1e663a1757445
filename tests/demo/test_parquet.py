import io
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from seta.demo.data import load_file
from seta.demo.files import open_images
from seta.demo.settings import DemoError


def encoded(number, size=(8, 8), mode="RGB"):
    """A PNG whose pixels are all `number`."""
    out = io.BytesIO()
    Image.new(mode, size, number if mode == "L" else (number, 0, 255 - number)).save(out, "PNG")
    return {"bytes": out.getvalue(), "path": None}


def save(path, images=None, *, image="img", label="label", labels=None, **columns):
    images = [encoded(number) for number in range(60)] if images is None else images
    labels = [number % 3 for number in range(len(images))] if labels is None else labels
    table = pa.table({image: images, label: labels, **columns})
    parquet.write_table(table, path, row_group_size=7)
    return path


@pytest.mark.parametrize("image", ["img", "image"])
@pytest.mark.parametrize("label", ["label", "labels", "fine_label"])
def test_the_usual_names_of_columns_are_known(tmp_path, image, label):
    data = load_file(save(tmp_path / "a.parquet", image=image, label=label, other=[0] * 60))
    assert data.shape == (3, 8, 8)
    assert data.classes == 3


def test_every_row_comes_with_its_own_image(tmp_path):
    source = open_images(save(tmp_path / "a.parquet"))
    rows = np.array([0, 6, 7, 30, 59])
    counts = []
    images = source.read(rows, source.layout, counts.append)
    assert images[:, 0, 0, 0].tolist() == rows.tolist()
    assert images[:, 2, 3, 3].tolist() == (255 - rows).tolist()
    assert source.labels[rows].tolist() == (rows % 3).tolist()
    assert counts == [5]


def test_grey_images_have_one_channel(tmp_path):
    images = [encoded(number, mode="L") for number in range(60)]
    assert load_file(save(tmp_path / "a.parquet", images)).shape == (1, 8, 8)


def test_all_images_are_brought_to_the_size_of_the_first_and_large_ones_scaled(tmp_path):
    images = [encoded(7, size=(200, 100)), *(encoded(9, size=(20, 30)) for _ in range(59))]
    data = load_file(save(tmp_path / "a.parquet", images))
    assert data.shape == (3, 32, 64)
    assert data.notes[1] == "Images are scaled to 64 x 32 pixels."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "picture"}, "columns picture, label found; needed: a column img or image"),
        ({"label": "target"}, "columns img, target found; needed: .*label, labels or fine_label"),
        ({"images": [7] * 60}, "column img is int64; needed: a column img or image"),
        ({"labels": ["cat"] * 60}, "column label is .*; needed: integers, one per image"),
        ({"labels": [0] * 59 + [None]}, "column label has 1 empty rows; needed: an integer"),
        ({"labels": [4] * 60}, "60 images with 1 different labels found; needed: at least 20"),
        ({"images": [{"bytes": b"junk"}] * 60}, "row 0 of column img holds 4 bytes that cannot"),
        ({"images": [encoded(1), None] * 30}, "row 1 of column img holds no bytes that cannot"),
    ],
)
def test_files_that_hold_no_labelled_images_are_refused(tmp_path, change, message):
    with pytest.raises(DemoError, match=rf"a\.parquet: {message}"):
        load_file(save(tmp_path / "a.parquet", **change))


def test_a_file_that_is_no_parquet_is_refused(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"something else")
    with pytest.raises(DemoError, match=r"a\.parquet: cannot be read as parquet"):
        load_file(tmp_path / "a.parquet")


def test_cifar10_can_be_read():
    folder = os.environ.get("SETA_DATA")
    path = Path(folder or "") / "cifar10-train.parquet"
    if not folder or not path.is_file():
        pytest.skip("needs cifar10-train.parquet in the folder that SETA_DATA names")
    data = load_file(path, limit=400)
    assert data.shape == (3, 32, 32)
    assert data.classes == 10
    assert np.bincount(data.train_labels).tolist() == [40] * 10
    assert len(data.test) == 100
