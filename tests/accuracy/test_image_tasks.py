"""The image tasks: the right image for an index, the labels that were made wrong, nets by seed."""

import io
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from benchmarks.accuracy import cifar10, image_suites
from benchmarks.accuracy.convnets import resnet18, small_net
from benchmarks.accuracy.image_trial import ImageTask, Recipe, one_cycle, shifted
from benchmarks.accuracy.suites import SUITES, make_task


def write(path, count, seed):
    """Writes images whose pixels all hold the image's own number, and labels."""
    labels = np.random.default_rng(seed).integers(0, 10, count)
    rows = []
    for at in range(count):
        buffer = io.BytesIO()
        Image.fromarray(np.full((32, 32, 3), at, np.uint8)).save(buffer, "PNG")
        rows.append({"bytes": buffer.getvalue(), "path": None})
    pa.parquet.write_table(pa.table({"img": rows, "label": labels}), path)
    return labels


@pytest.fixture
def folder(tmp_path):
    labels = write(tmp_path / "cifar10-train.parquet", 200, 0)
    write(tmp_path / "cifar10-test.parquet", 40, 1)
    return tmp_path, labels


def test_each_index_gives_its_own_image_and_label(folder):
    data, labels = folder
    dataset = image_suites.small(data, train=200).dataset
    order = np.random.default_rng(0).permutation(200)  # of `subset`
    images, given = dataset.__getitems__([7, 3, 150])
    assert images.dtype == torch.uint8 and images.shape == (3, 3, 32, 32)
    for image, label, index in zip(images, given, (7, 3, 150), strict=True):
        assert set(image.flatten().tolist()) == {order[index]}
        assert label == labels[order[index]]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4])
def test_the_wrong_labels_are_those_that_were_changed(folder, share):
    data, labels = folder
    task = image_suites.noise(data, wrong=share, train=200)
    truth = labels[task.dataset.images[:, 0, 0, 0].numpy()]  # a pixel tells the image
    assert np.array_equal(task.wrong, task.dataset.labels.numpy() != truth)
    assert task.wrong.sum() == round(share * 200)
    assert np.array_equal(task.classes, task.dataset.labels.numpy())


def test_wrong_labels_are_any_other_class():
    labels = np.zeros(9000, np.int64)
    given = image_suites.with_wrong(labels, 1.0)
    counts = np.bincount(given, minlength=10)
    assert counts[0] == 0
    assert np.abs(counts[1:] - 1000).max() < 150


def test_classes_are_thinned_to_their_shares():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 500))
    chosen = image_suites.thinned(labels, 100.0)
    counts = np.bincount(labels[chosen])
    assert counts.tolist() == [round(500 * 100 ** (-c / 9)) for c in range(10)]
    assert len(np.unique(chosen)) == len(chosen)


def test_images_are_repeated_once_to_fifty_times_with_a_long_tail():
    of = image_suites.repeats(1000, 6000)
    counts = np.bincount(of, minlength=1000)
    assert counts.sum() == 6000
    assert counts.min() == 1 and counts.max() == 50
    assert np.median(counts) <= 3 < counts.mean()


def test_copies_of_an_image_have_one_label(folder):
    data, labels = folder
    task = image_suites.redundant(data, originals=100, samples=600, wrong=0.1)
    pictures = task.dataset.images[:, 0, 0, 0].numpy()
    given = task.dataset.labels.numpy()
    for picture in np.unique(pictures):
        assert len(set(given[pictures == picture])) == 1
    assert np.array_equal(task.wrong, given != labels[pictures])
    wrong_pictures = {int(p) for p in pictures[task.wrong]}
    assert len(wrong_pictures) == 10


def test_equal_seeds_make_equal_runs_and_others_do_not(folder):
    data, _ = folder
    task = image_suites.small(data, train=200)

    def losses(seed):
        trial = task.trial(seed)
        for progress in (0.5, 1.0):
            result = trial.losses(task.dataset.__getitems__(list(range(32))))
            trial.step(result.mean(), progress)
        return result.tolist()

    before = torch.random.get_rng_state()
    assert task.settings["parameters"] > 0
    assert losses(0) == losses(0) != losses(1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_losses_are_one_for_each_sample_and_carry_gradients(folder):
    data, _ = folder
    task = image_suites.small(data, train=200)
    losses = task.trial(0).losses(task.dataset.__getitems__([0, 1, 2, 3, 4]))
    assert losses.shape == (5,) and losses.dtype == torch.float32 and losses.requires_grad


def test_rare_classes_are_measured_on_their_own(folder):
    data, _ = folder
    found = image_suites.imbalance(data, ratio=10.0).trial(0).evaluate()
    assert {"accuracy", "loss", "rare_accuracy", "frequent_accuracy"} == set(found)
    assert 0 <= found["accuracy"] <= 1


@pytest.mark.parametrize("mirror", [False, True])
def test_images_are_shifted_each_by_its_own_number_of_pixels(mirror):
    images = torch.arange(1, 1 + 64 * 48, dtype=torch.int32).view(64, 3, 4, 4)
    moved = shifted(images, 1, mirror, torch.Generator().manual_seed(0))
    found = set()
    for image, result in zip(images, moved, strict=True):
        padded = torch.nn.functional.pad(image, (1, 1, 1, 1))
        views = {
            (down, right, turned): (padded.flip(2) if turned else padded)[
                :, down : down + 4, right : right + 4
            ]
            for down in range(3)
            for right in range(3)
            for turned in ((False, True) if mirror else (False,))
        }
        matching = [key for key, view in views.items() if torch.equal(view, result)]
        assert len(matching) == 1
        found.add(matching[0])
    assert len(found) > (12 if mirror else 7)


def test_the_learning_rate_rises_and_ends_at_nothing():
    rates = [one_cycle(step / 100, 0.4, 0.2) for step in range(101)]
    assert rates[20] == max(rates) == 0.4
    assert rates[0] == 0 and rates[100] == pytest.approx(0, abs=1e-12)


def test_resnet18_has_the_size_that_the_tables_mean():
    net = resnet18()
    assert sum(parameter.numel() for parameter in net.parameters()) == 11_173_962
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_resnet18_takes_a_step():
    rng = np.random.default_rng(0)
    part = (rng.integers(0, 255, (8, 3, 32, 32), np.uint8), rng.integers(0, 10, 8))
    task = ImageTask("noise", part, part, resnet18, Recipe(batch_size=8))
    trial = task.trial(0)
    losses = trial.losses(task.dataset.__getitems__(list(range(8))))
    trial.step(losses.mean(), 0.5)
    assert np.isfinite(losses.detach().numpy()).all()


def test_the_small_net_ends_in_a_batch_of_one():
    assert small_net().train()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


@pytest.mark.parametrize("data", [None, Path("nowhere")])
def test_a_folder_without_the_files_is_refused(data):
    with pytest.raises(ValueError, match=r"cifar10-train.parquet is not there; give a folder"):
        image_suites.small(data)


def test_the_suites_say_how_large_their_data_is():
    task = make_task(SUITES["digits"].variants["improving"], None)
    assert len(task.dataset) == 1078
    assert task.settings["parameters"] == 14_458


@pytest.mark.skipif("SETA_DATA" not in os.environ, reason="SETA_DATA names no folder of real data")
@pytest.mark.parametrize("suite", ["cifar10-small", "noise", "imbalance", "redundant"])
def test_the_suites_of_real_images_are_as_large_as_they_say(suite):
    data = Path(os.environ["SETA_DATA"])
    for variant in SUITES[suite].variants.values():
        assert len(make_task(variant, data).dataset) == variant.samples
    assert len(cifar10.read(data)[1][1]) == 10_000
