"""Made views of surfaces, and those of a folder: the geometry agrees between the cameras."""

import json
from dataclasses import replace

import multi_view_stereo
import numpy as np
import pytest
import surfaces
import torch
from PIL import Image

LIGHT = np.array([0.3, -0.2, np.sqrt(1 - 0.13)])
NUMBERS = range(12)


def scene_and_cameras(number):
    random = np.random.default_rng(number)
    return surfaces.scene_of(0, "train", number), surfaces.cameras_of(0, "train", number, random)


def points_of(scene, rig):
    """The surface points of the reference's pixels, and which surfaces they are on."""
    rays = rig.rays(surfaces.pixels())[:1]
    steps, which = surfaces.cast(scene, rig.places[:1], rays)
    return rig.places[0] + steps[0, :, None] * rays[0], which[0]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_pixel_moved_by_its_depth_into_a_source_has_the_same_grey_value(number):
    scene, rig = scene_and_cameras(number)
    points, which = points_of(scene, rig)
    grey = surfaces.shade(scene, points, which, LIGHT)
    np.testing.assert_allclose(surfaces.views(scene, rig, LIGHT)[0].ravel(), grey, atol=1e-12)
    depth, seen = surfaces.known_depth(scene, rig)
    at, deep = rig.project(points)
    np.testing.assert_allclose(deep[0], depth.ravel(), atol=1e-9)
    rays = rig.rays(at)  # of the sources, through the very places where they see the points
    steps, hit = surfaces.cast(scene, rig.places, rays)
    for source in range(1, surfaces.VIEWS):
        here = seen[source - 1].ravel()
        assert here.mean() > 0.5
        found = rig.places[source] + steps[source, :, None] * rays[source]
        np.testing.assert_allclose(found[here], points[here], atol=1e-8)
        again = surfaces.shade(scene, found, hit[source], LIGHT)
        np.testing.assert_allclose(again[here], grey[here], atol=1e-5)


def test_what_a_source_does_not_see_is_hidden_or_out_of_view():
    hidden = 0
    for number in NUMBERS:
        scene, rig = scene_and_cameras(number)
        points, _ = points_of(scene, rig)
        _, seen = surfaces.known_depth(scene, rig)
        at, deep = rig.project(points)
        steps, _ = surfaces.cast(scene, rig.places, rig.rays(at))
        last = np.array([surfaces.WIDTH - 1, surfaces.HEIGHT - 1])
        outside = ((at < 0) | (at > last)).any(axis=-1)[1:]
        behind = deep[1:] > steps[1:] + 1e-6
        np.testing.assert_array_equal(~seen.reshape(behind.shape), outside | behind)
        hidden += (behind & ~outside).sum()
    assert hidden > 100


def test_the_images_of_a_source_show_the_points_where_they_are_projected():
    scene, rig = scene_and_cameras(3)
    points, which = points_of(scene, rig)
    _, seen = surfaces.known_depth(scene, rig)
    at, _ = rig.project(points)
    views = surfaces.views(scene, rig, LIGHT)
    grey = surfaces.shade(scene, points, which, LIGHT)
    here = seen[0].ravel()
    x, y = np.rint(at[1][here]).astype(int).T
    right = np.corrcoef(views[1][y, x], grey[here])[0, 1]
    moved = np.corrcoef(views[1][y, np.minimum(x + 3, surfaces.WIDTH - 1)], grey[here])[0, 1]
    assert right > 0.9
    assert moved < right - 0.3


def test_the_nearest_of_the_surfaces_is_seen():
    ahead = np.array([0.0, 0.0, 1.0])
    scene = surfaces.Scene(
        normals=np.array([-ahead, -ahead]),
        centres=np.array([2 * ahead, 1.8 * ahead, 1.5 * ahead]),
        radii=np.array([np.inf, 0.9, 0.25]),
        waves=np.zeros((3, 3, surfaces.WAVES)),
        phases=np.zeros((3, surfaces.WAVES)),
        swings=np.zeros((3, surfaces.WAVES)),
    )
    rays = np.array([[[0.0, 0.0, 1.0], [0.3, 0.0, 1.0], [0.6, 0.0, 1.0]]])
    steps, which = surfaces.cast(scene, np.zeros((1, 3)), rays)
    np.testing.assert_allclose(steps, [[1.25, 1.8, 2.0]])
    np.testing.assert_array_equal(which, [[2, 1, 0]])


def test_a_ray_that_meets_nothing_goes_on_for_ever():
    scene, _ = scene_and_cameras(0)
    steps, _ = surfaces.cast(scene, np.zeros((1, 3)), np.array([[[0.0, 0.0, -1.0]]]))
    assert np.isinf(steps).all()


def test_turns_of_the_cameras_are_rotations():
    for number in NUMBERS:
        _, rig = scene_and_cameras(number)
        turns = rig.poses[:, :3, :3]
        np.testing.assert_allclose(
            turns @ turns.swapaxes(1, 2), np.eye(3)[None].repeat(3, 0), atol=1e-12
        )
        np.testing.assert_allclose(np.linalg.det(turns), 1)


def test_known_depths_lie_in_the_range_and_are_most_of_the_image():
    for number in NUMBERS:
        depth = surfaces.sample(0, "train", number, number, False)["depth"]
        near, far = surfaces.RANGE
        assert ((depth == 0) | ((depth >= near) & (depth <= far))).all()
        assert 0.6 < (depth > 0).mean() < 1.0


def test_a_wrong_depth_is_clearly_another_and_the_images_stay():
    for number in range(100):
        right = surfaces.sample(0, "train", number, number, False)
        wrong = surfaces.sample(0, "train", number, number, True)
        np.testing.assert_array_equal(right["images"], wrong["images"])
        both = (right["depth"] > 0) & (wrong["depth"] > 0)
        apart = np.abs(right["depth"] - wrong["depth"])[both].mean()
        assert apart > 0.08 * (surfaces.RANGE[1] - surfaces.RANGE[0])


def test_samples_of_one_scene_are_near_copies_and_others_are_not():
    first, again = (surfaces.sample(0, "train", number, 5, False)["images"] for number in (1, 2))
    other = surfaces.sample(0, "train", 1, 6, False)["images"]
    assert not np.array_equal(first, again)
    near, far = (
        np.corrcoef(first[0, 4:-4, 4:-4].ravel(), image[0, 4:-4, 4:-4].ravel())[0, 1]
        for image in (again, other)
    )
    assert near > far + 0.2


def test_families_of_scenes_and_seeds_have_nothing_in_common():
    images = [
        surfaces.sample(seed, name, 0, 0, False)["images"]
        for seed, name in ((0, "train"), (0, "test"), (1, "train"))
    ]
    assert len({image.tobytes() for image in images}) == 3


def test_the_planes_are_swept_where_the_sources_see_them():
    _, rig = scene_and_cameras(4)
    depth = 1.37
    points = rig.places[0] + depth * rig.rays(surfaces.pixels())[0]
    at, _ = rig.project(points)
    cells = at.reshape(3, surfaces.HEIGHT, surfaces.WIDTH, 2)[1:, ::2, ::2]  # of the features
    size = cells.shape[1:3]
    given = (torch.tensor(part[None]) for part in (rig.intrinsics, rig.poses))
    swept = multi_view_stereo.sweep(*given, torch.tensor([[depth]], dtype=torch.float64), size)
    pixels = (swept[0, :, 0].numpy() + 1) * (np.array(size[::-1]) - 1)  # twice the cells
    np.testing.assert_allclose(pixels, cells, atol=1e-9)


@pytest.fixture
def own(tmp_path):
    """A folder with one made sample, its images and depth three times as large."""
    made = surfaces.sample(0, "train", 1, 1, False)
    cameras = []
    for intrinsics, pose in zip(made["intrinsics"], made["poses"], strict=True):
        large = np.diag((3, 3, 1)) @ intrinsics + [[0, 0, 1], [0, 0, 1], [0, 0, 0]]
        cameras.append({"intrinsics": large.tolist(), "pose": pose.tolist()})
    for number, image in enumerate(made["images"]):
        grey = (image.clip(0, 1) * 255).round().astype(np.uint8)
        Image.fromarray(np.kron(grey, np.ones((3, 3), np.uint8))).save(tmp_path / f"{number}.png")
    np.save(tmp_path / "depth.npy", np.kron(made["depth"], np.ones((3, 3))))
    row = {
        "images": ["0.png", "1.png", "2.png"],
        "cameras": cameras,
        "depth": "depth.npy",
        "range": list(surfaces.RANGE),
    }
    for part in ("train", "test"):
        (tmp_path / f"{part}.jsonl").write_text(json.dumps(row) + "\n")
    return tmp_path, row, made


def test_views_of_a_folder_are_scaled_with_their_cameras(own):
    path, _, made = own
    settings = replace(multi_view_stereo.DEFAULTS, data=path)
    assert multi_view_stereo.wrong(settings) is None
    for dataset in (multi_view_stereo.train_set(settings), multi_view_stereo.test_set(settings)):
        assert len(dataset) == 1
        assert dataset[0].keys() == made.keys()
        for name, value in dataset[0].items():
            assert value.dtype == np.float32
            assert value.shape == made[name].shape
        for name in ("intrinsics", "poses", "depth", "range"):
            np.testing.assert_allclose(dataset[0][name], made[name], atol=1e-5)
        difference = dataset[0]["images"] - made["images"].clip(0, 1)
        assert np.abs(difference).mean() < 0.05


def test_a_line_with_another_number_of_images_is_named(own):
    path, row, _ = own
    fewer = {**row, "images": row["images"][:2]}
    (path / "train.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps(fewer)}\n")
    with pytest.raises(ValueError, match="line 2 has 2 images and 3 cameras; needed: on all"):
        multi_view_stereo.FolderViews(path, "train")
