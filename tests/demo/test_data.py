import re
import tracemalloc

import numpy as np
import pytest

from seta.demo import memory, npy
from seta.demo.data import load_digits, load_file, stratified
from seta.demo.npz import NpzImages
from seta.demo.settings import DemoError


def save_npz(path, *, n=60, shape=(6, 6), classes=3, **arrays):
    labels = np.arange(n) % classes
    images = np.random.default_rng(0).integers(0, 255, (n, *shape), dtype=np.uint8)
    np.savez(path, **{"x": images, "y": labels, **arrays})
    return path


def test_the_digits_are_split_once_by_label_and_standardised():
    data = load_digits()
    assert (len(data.train), len(data.test)) == (1078, 719)
    assert data.shape == (1, 8, 8)
    assert np.bincount(data.test_labels).min() >= 69
    assert data.train.mean() == pytest.approx(0, abs=1e-5)
    assert data.train.std() == pytest.approx(1, abs=1e-5)
    assert np.array_equal(data.train, load_digits().train)


def test_train_and_held_out_share_no_sample():
    labels = np.repeat([5, 7], [30, 70])
    drawn, others = stratified(labels, 20)
    assert sorted([*drawn, *others]) == list(range(100))
    assert np.bincount(labels[drawn])[[5, 7]].tolist() == [6, 14]
    assert drawn.tolist() == sorted(drawn)


def test_more_than_there_are_means_all():
    drawn, others = stratified(np.arange(5), 9)
    assert len(drawn) == 5
    assert len(others) == 0


@pytest.mark.parametrize(
    ("shape", "needed"),
    [((6, 5), (1, 6, 5)), ((6, 5, 3), (3, 6, 5)), ((3, 6, 5), (3, 6, 5)), ((6, 5, 1), (1, 6, 5))],
)
def test_every_shape_of_images_is_brought_to_channels_first(tmp_path, shape, needed):
    data = load_file(save_npz(tmp_path / "a.npz", shape=shape))
    assert data.shape == needed
    assert data.train.dtype == np.float32


def test_channels_stay_with_their_pixels(tmp_path):
    images = np.zeros((60, 6, 5, 3), np.float32)
    images[..., 1] = np.linspace(0, 1, 60)[:, None, None]
    data = load_file(save_npz(tmp_path / "a.npz", x=images))
    assert not data.train[:, [0, 2]].any()
    assert data.train[:, 1].std() == pytest.approx(1, abs=1e-5)


def test_a_fifth_is_held_out_and_the_limit_holds(tmp_path):
    path = save_npz(tmp_path / "a.npz", n=100, classes=2)
    assert [len(part) for part in (load_file(path).train, load_file(path).test)] == [80, 20]
    small = load_file(path, limit=40)
    assert (len(small.train), len(small.test)) == (40, 10)
    assert "Trained on 40 of the 100 images of a.npz" in small.notes[0]
    assert "--limit 0 takes all" in small.notes[0]
    assert "--limit" not in load_file(path, limit=0).notes[0]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 41, 42, 43, 79, 80, 10**400])
def test_any_limit_leaves_images_to_train_on_and_to_measure_on(tmp_path, limit):
    path = save_npz(tmp_path / "a.npz", n=100)
    for test in (None, path):
        data = load_file(path, test, limit)
        assert len(data.train) == min(limit, 80 if test is None else 100)
        assert len(data.test) >= 1


def test_without_a_limit_large_sets_are_cut_to_what_minutes_allow(tmp_path):
    path = save_npz(tmp_path / "a.npz", n=900, shape=(128, 128))
    assert len(load_file(path).train) == 500
    assert len(load_file(path, limit=0).train) == 720


def test_a_test_file_is_measured_on_and_all_of_the_data_trained_on(tmp_path):
    train, test = save_npz(tmp_path / "a.npz"), save_npz(tmp_path / "b.npz", n=90)
    data = load_file(train, test)
    assert (len(data.train), len(data.test)) == (60, 15)
    assert data.name == "a.npz, measured on b.npz"


def test_labels_may_be_any_integers(tmp_path):
    labels = np.where(np.arange(60) % 2, 100, -7)
    data = load_file(save_npz(tmp_path / "a.npz", y=labels))
    assert data.classes == 2
    assert set(data.train_labels) == set(data.test_labels) == {0, 1}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["uint8", ">i2", "float64", "bool"])
@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 3), (2, 6, 5)])
def test_rows_are_read_from_any_layout(tmp_path, save, order, dtype, shape):
    images = np.random.default_rng(0).integers(0, 9, (40, *shape)).astype(dtype, order=order)
    save(tmp_path / "a.npz", x=images, y=np.arange(40) % 2)
    source, rows = NpzImages(tmp_path / "a.npz"), np.array([0, 3, 4, 39])
    channels = images[:, None] if len(shape) == 2 else images
    if shape[-1] == 3:
        channels = np.moveaxis(images, 3, 1)
    found = source.read(rows, source.layout, print)
    assert np.array_equal(found, channels[rows].astype(np.float32))


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_is_that_of_the_images_that_are_used(tmp_path, order):
    images = np.zeros((64, 800, 800), np.uint8, order=order)  # 41 MB, 164 MB as float32
    np.savez_compressed(tmp_path / "a.npz", x=images, y=np.arange(64) % 2)
    del images
    tracemalloc.start()
    try:
        data = load_file(tmp_path / "a.npz", limit=4)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * (data.train.nbytes + data.test.nbytes) + 2 * npy._BLOCK
    assert (data.train.nbytes, data.test.nbytes) == (4 * 800 * 800 * 4, 800 * 800 * 4)


def test_images_that_do_not_fit_are_refused_before_they_are_read(tmp_path, monkeypatch):
    path = save_npz(tmp_path / "a.npz", n=200, shape=(64, 64))
    monkeypatch.setattr("seta.demo.npz.NpzImages.read", None)
    monkeypatch.setattr("seta.demo.memory.free_memory", lambda: 30_000_000)
    with pytest.raises(DemoError) as error:
        load_file(path)
    limit = int(re.search(r"; give --limit (\d+), or scale the images down", str(error.value))[1])
    assert "160 images of 64 x 64 x 1, 40 to measure on, and a step of training need" in str(
        error.value
    )
    assert " of memory, and 30 MB are free" in str(error.value)
    monkeypatch.undo()
    monkeypatch.setattr("seta.demo.memory.free_memory", lambda: 30_000_000)
    assert len(load_file(path, limit=limit).train) == limit
    with pytest.raises(DemoError, match=f"give --limit {limit}, or"):
        load_file(path, limit=limit + 2)
    monkeypatch.setattr("seta.demo.memory.free_memory", lambda: 1_000_000)
    with pytest.raises(DemoError, match="1 MB are free; scale the images down"):
        load_file(path)


def test_labels_that_do_not_fit_are_refused_before_they_are_read(tmp_path, monkeypatch):
    path = save_npz(tmp_path / "a.npz", n=1000)
    monkeypatch.setattr("seta.demo.npz.StoredArray.read_all", None)
    monkeypatch.setattr("seta.demo.memory.free_memory", lambda: 1000)
    with pytest.raises(DemoError, match=r"a\.npz: the labels need about 64 kB of memory, and 1 kB"):
        load_file(path)


def test_where_nothing_is_known_of_the_memory_nothing_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("seta.demo.memory.free_memory", lambda: None)
    assert len(load_file(save_npz(tmp_path / "a.npz")).train) == 48


def test_a_container_has_what_its_limit_leaves(tmp_path, monkeypatch):
    assert memory.free_memory() > 0
    monkeypatch.setattr("seta.demo.memory._CONTROL_GROUP", tmp_path)
    (tmp_path / "memory.max").write_text("70000\n")
    (tmp_path / "memory.current").write_text("30000\n")
    assert memory.free_memory() == 40_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_memory() > 40_000


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.arange(59) % 3}, "x holds 60 images and y 59 labels; needed: as many"),
        ({"y": np.linspace(0, 1, 60)}, r"y is float64 with shape \(60,\); needed: integers"),
        ({"y": np.zeros((60, 1), int)}, r"y is int64 with shape \(60, 1\); needed: integers"),
        ({"y": np.zeros(60, int)}, "60 images with 1 different labels found; needed: at least 20"),
        ({"x": np.zeros((60, 6))}, r"x is float64 with shape \(60, 6\); needed: x, images"),
        ({"x": np.zeros((60, 6, 6, 9))}, r"x has shape \(60, 6, 6, 9\) with no axis of 1 to 4"),
        ({"x": np.full((60, 6, 6), "a")}, r"x is <U1 with shape .*needed: x, images"),
        ({"x": np.full((60, 6, 6), np.nan)}, "x holds NaN or infinite values; needed: finite"),
        ({"x": np.full((60, 6, 6), 1e300)}, "x holds NaN or infinite values; needed: finite ones"),
        ({"x": np.zeros(())}, r"x is float64 with shape \(\); needed: x, images"),
        ({"y": np.zeros((), int)}, r"y is int64 with shape \(\); needed: integers"),
        ({"x": np.array([None] * 60)}, r"cannot be read as \.npz \(Object arrays"),
    ],
)
def test_arrays_that_are_no_labelled_images_are_refused(tmp_path, arrays, message):
    with pytest.raises(DemoError, match=rf"a\.npz: {message}"):
        load_file(save_npz(tmp_path / "a.npz", **arrays))


def test_missing_arrays_are_named(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros(3))
    with pytest.raises(DemoError, match=r"a\.npz: images found; needed: x, images .* and y"):
        load_file(tmp_path / "a.npz")


@pytest.mark.parametrize("kind", ["junk", "lone array", "cut short", "empty"])
def test_a_file_that_is_no_archive_is_refused(tmp_path, kind):
    path = save_npz(tmp_path / "a.npz")
    if kind == "lone array":
        with path.open("wb") as file:
            np.save(file, np.zeros(60))
    else:
        path.write_bytes(
            {"junk": b"no zip", "empty": b"", "cut short": path.read_bytes()[:99]}[kind]
        )
    with pytest.raises(DemoError, match=r"a\.npz: cannot be read as \.npz"):
        load_file(tmp_path / "a.npz")


@pytest.mark.parametrize(("place", "value"), [(6, 1), (8, 99)], ids=["locked", "unknown packing"])
def test_an_archive_that_cannot_be_unpacked_is_refused(tmp_path, place, value):
    path = save_npz(tmp_path / "a.npz")
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\3\4", place), (b"PK\1\2", place + 2)):
        for found in re.finditer(re.escape(mark), bytes(content)):
            content[found.start() + offset] = value
    path.write_bytes(content)
    with pytest.raises(DemoError, match=r"a\.npz: cannot be read as \.npz"):
        load_file(path)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(DemoError, match=r"is a folder; needed: a \.parquet or \.npz file"):
        load_file(tmp_path)


def test_a_missing_file_and_a_strange_kind_are_refused(tmp_path):
    with pytest.raises(DemoError, match=r"a\.npz: no such file"):
        load_file(tmp_path / "a.npz")
    (tmp_path / "a.csv").touch()
    with pytest.raises(DemoError, match=r"a\.csv: \.csv found; needed: a \.parquet file"):
        load_file(tmp_path / "a.csv")


def test_a_test_file_of_another_kind_of_image_is_refused(tmp_path):
    train = save_npz(tmp_path / "a.npz")
    test = save_npz(tmp_path / "b.npz", shape=(8, 8))
    with pytest.raises(DemoError, match=r"b\.npz: images of \(1, 8, 8\) .*needed: \(1, 6, 6\)"):
        load_file(train, test)


def test_a_label_that_is_only_in_the_test_file_is_refused(tmp_path):
    train = save_npz(tmp_path / "a.npz")
    test = save_npz(tmp_path / "b.npz", classes=4)
    with pytest.raises(DemoError, match=r"b\.npz: label 3 found, which the file that is trained"):
        load_file(train, test)
