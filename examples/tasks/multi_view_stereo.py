"""Depth from several calibrated views (as MVSNet on DTU), trained on 60 % of the sample visits.

    pip install "seta[demo]"
    python examples/tasks/multi_view_stereo.py                 # about four minutes on two cores
    python examples/tasks/multi_view_stereo.py --method SeTa   # one method
    python examples/tasks/multi_view_stereo.py --data FOLDER   # your own views

A plane-sweep net, MVSNet in small: one CNN looks at all views; the features of the sources are
warped onto planes before the reference camera; how much the views disagree on each plane, smoothed
by 3D convolutions, says how likely the depth of the plane is; the depth is the mean over the
planes. It has half the resolution of the images. What counts is the error of the depth on scenes
that no method has seen, in per cent of the range of depths: lower is better. Full training comes
to less than 3 %; one who always said the middle of the range would come to 13 %. What remains is
mostly at the edges of things.

The samples are made as they are asked for (`surfaces.py`), so that there is nothing to download:
planes, discs and spheres seen by a reference camera and two sources. Most samples show a scene that
others show as well, with the cameras and the light moved a little. Weak textures, noise and large
slants are rare. Of the training samples 4 % have the depth of another scene.

Losses: the error is known per pixel, and only where the depth is known: nothing is where no source
sees the surface, nor in holes of the scan. The loss of a sample is the mean over its known pixels,
so that a sample with few of them counts as much as any other, and its loss is comparable with
theirs. (`loader.update(losses, mask=known)` takes losses per pixel too, and does this itself.)

Two lines are marked `# seta`: losses left one per sample in place of their mean, and `update`,
which records them and returns the mean. `seta.compare` makes the loaders, one for each run.

FOLDER holds `train.jsonl` and `test.jsonl`, an object per line, all with equally many images:

    {"images": ["a/reference.png", "a/left.png", "a/right.png"],
     "cameras": [{"intrinsics": [[f, 0, x], [0, f, y], [0, 0, 1]], "pose": [[...], ...]}, ...],
     "depth": "a/depth.npy", "range": [425, 935]}

Intrinsics are in pixels, the centre of the first one being (0, 0); poses, 4 x 4, lead from the
world to the camera. The depth of the reference view is an array as large as the images, 0 where it
is not known. All are scaled to 32 x 40 pixels, and the intrinsics with them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import draws
import folder
import numpy as np
import surfaces
import torch
from comparison import Settings, options, wrong_visits
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import grid_sample, interpolate, smooth_l1_loss
from torch.utils.data import DataLoader, Dataset

import seta

DEFAULTS = Settings(samples=3000, epochs=5, batch_size=16, test_samples=400)
SCENES = 1000  # of the training samples
WRONG = 0.04  # share of the training samples
PLANES = 16
STRIDE = 2  # of the features, and so of the depth
CHANNELS = 8


class Views(Dataset[dict[str, Any]]):
    """Made samples: `surfaces.sample`, a pure function of seed and index.

    Args:
        samples: How many there are.
        seed: Of the data.
        part: "train", where scenes are shared and some depths wrong, or "test".
    """

    def __init__(self, samples: int, seed: int, part: str) -> None:
        self.samples, self.seed, self.part = samples, seed, part

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self.part == "test":
            return surfaces.sample(self.seed, "test", index, index, False)
        shown = draws.long_tailed(self.seed, "shown", [index], SCENES, tail=0.8)[0]
        wrong = is_wrong(self.seed, [index])[0]
        return surfaces.sample(self.seed, "train", index, int(shown), bool(wrong))


class FolderViews(Dataset[dict[str, Any]]):
    """The user's own views, as the docstring of this file describes them.

    Args:
        path: The folder.
        part: "train" or "test".

    Raises:
        ValueError: A line has another number of images or cameras than the first one.
    """

    def __init__(self, path: Path, part: str) -> None:
        self.path = path
        self.rows = folder.rows(path, part, ("images", "cameras", "depth", "range"))
        views = len(self.rows[0]["images"])
        for number, row in enumerate(self.rows, start=1):
            if views < 2 or not len(row["images"]) == len(row["cameras"]) == views:
                raise ValueError(
                    f"{path / part}.jsonl, line {number} has {len(row['images'])} images and "
                    f"{len(row['cameras'])} cameras; needed: on all lines the same number, at "
                    f"least 2, one camera per image, the reference first"
                )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.rows[index]
        size = surfaces.WIDTH, surfaces.HEIGHT
        images = [folder.image(self.path / name, size, "L") for name in row["images"]]
        intrinsics = np.array([camera["intrinsics"] for camera in row["cameras"]])
        poses = np.array([camera["pose"] for camera in row["cameras"]])
        depth, intrinsics = scaled(np.load(self.path / row["depth"]), intrinsics, size)
        return {
            "images": np.stack(images).astype(np.float32) / 255,
            "intrinsics": intrinsics.astype(np.float32),
            "poses": poses.astype(np.float32),
            "depth": depth.astype(np.float32),
            "range": np.array(row["range"], np.float32),
        }


def scaled(
    depth: NDArray[Any], intrinsics: NDArray[Any], size: tuple[int, int]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scales what is known of images of another size.

    Args:
        depth: Of any size; the nearest pixels are taken, as depths must not be mixed.
        intrinsics: (V, 3, 3), of images of that size.
        size: Width and height to have.

    Returns:
        The depth (height, width), and the intrinsics.
    """
    ratio = np.divide(size, depth.shape[::-1])
    x, y = (((np.arange(n) + 0.5) / r).astype(int) for n, r in zip(size, ratio, strict=True))
    wanted = intrinsics.astype(np.float64)
    wanted[:, :2, 2] += 0.5  # the first pixel is as wide before its centre as after it
    wanted[:, :2] *= ratio[:, None]
    wanted[:, :2, 2] -= 0.5
    return depth[np.ix_(y, x)], wanted


def is_wrong(seed: int, indices: Any) -> NDArray[np.bool_]:
    """Returns which training samples have the depth of another scene."""
    return draws.uniform(seed, "wrong", indices) < WRONG


def wrong(settings: Settings) -> NDArray[np.bool_] | None:
    """Returns which training samples have wrong labels, bool (N,); None: nobody knows."""
    return None if settings.data else is_wrong(settings.seed, np.arange(settings.samples))


def train_set(settings: Settings) -> Dataset[dict[str, Any]]:
    """Returns what is trained on."""
    if settings.data:
        return FolderViews(settings.data, "train")
    return Views(settings.samples, settings.seed, "train")


def test_set(settings: Settings) -> Dataset[dict[str, Any]]:
    """Returns what is measured on: scenes that are not in the training set."""
    if settings.data:
        return FolderViews(settings.data, "test")
    return Views(settings.test_samples, settings.seed, "test")


class StereoNet(nn.Module):
    """Features, their variance over the views on each plane, 3D convolutions, mean depth."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(16, 16, 3, STRIDE, padding=1), nn.ReLU()),
            *(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()),
            nn.Conv2d(16, CHANNELS, 3, padding=1),
        )
        self.fine = nn.Sequential(nn.Conv3d(CHANNELS, 8, 3, padding=1), nn.ReLU())
        self.coarse = nn.Sequential(
            *(nn.Conv3d(8, 16, 3, 2, padding=1), nn.ReLU()),
            *(nn.Conv3d(16, 8, 3, padding=1), nn.ReLU()),
        )
        self.score = nn.Conv3d(8, 1, 3, padding=1)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Returns the depth of the reference views.

        Args:
            batch: As `surfaces.sample` has it, with V views; the true depth is not looked at.

        Returns:
            Float32 (B, H / 2, W / 2): of every other pixel of every other row.
        """
        images = batch["images"]
        spread, mean = torch.std_mean(images, (2, 3), keepdim=True)
        images = (images - mean) / (spread + 0.01)  # the texture, whatever the light
        features = self.features(images.flatten(0, 1)[:, None]).unflatten(0, images.shape[:2])
        planes = depths_of_planes(batch["range"])
        grids = sweep(batch["intrinsics"], batch["poses"], planes, features.shape[-2:])
        seen = [features[:, 0, :, None]]
        for source, grid in enumerate(grids.unbind(1), start=1):
            warped = grid_sample(features[:, source], grid.flatten(1, 2), align_corners=True)
            seen.append(warped.unflatten(2, (PLANES, -1)))
        squares = sum(view**2 for view in seen) / len(seen)
        cost = self.fine(squares - (sum(seen) / len(seen)) ** 2)  # of the variance
        wide = interpolate(self.coarse(cost), cost.shape[2:])
        weights = self.score(cost + wide)[:, 0].softmax(1)
        return (weights * planes[:, :, None, None]).sum(1)


def depths_of_planes(span: Tensor) -> Tensor:
    """Returns evenly spaced depths, float32 (B, PLANES), from ranges (B, 2)."""
    near, far = span[:, :1], span[:, 1:]
    return near + (far - near) * torch.linspace(0, 1, PLANES, device=span.device)


def sweep(intrinsics: Tensor, poses: Tensor, planes: Tensor, size: Sequence[int]) -> Tensor:
    """Returns where the sources see the cells of the reference, if they lie on each plane.

    Args:
        intrinsics: Float32 (B, V, 3, 3), of the images.
        poses: Float32 (B, V, 4, 4), from world to camera.
        planes: Float32 (B, D), depths.
        size: Height and width of the features, h and w.

    Returns:
        Float32 (B, V - 1, D, h, w, 2), x and y in [-1, 1], as `grid_sample` takes them.
    """
    height, width = size
    scale = intrinsics.new_tensor([[1 / STRIDE], [1 / STRIDE], [1]])
    camera = torch.eye(4).to(poses).repeat(*poses.shape[:2], 1, 1)
    camera[..., :3, :3] = intrinsics * scale
    camera = camera @ poses
    moved = (camera[:, 1:] @ torch.linalg.inv(camera[:, :1]))[..., None, :3, :]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    cells = torch.stack((x, y, torch.ones_like(x)), dim=-1).to(poses).reshape(-1, 3)
    turned = cells @ moved[..., :3].mT  # (B, V - 1, 1, h * w, 3)
    at = turned * planes[:, None, :, None, None] + moved[..., 3][..., None, :]
    at = at[..., :2] / at[..., 2:].clamp(min=1e-6)
    return (at / at.new_tensor([width - 1, height - 1]) * 2 - 1).unflatten(3, (height, width))


def make_net(data: Dataset[dict[str, Any]]) -> StereoNet:
    """Returns an untrained net, the same for all data."""
    return StereoNet()


def errors(net: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Returns by how much the depth is wrong, in planes, and where that is known.

    Returns:
        Float32 and bool (B, H / 2, W / 2).
    """
    depth, span = batch["depth"][:, ::STRIDE, ::STRIDE], batch["range"]
    step = (span[:, 1] - span[:, 0]) / (PLANES - 1)
    return (net(batch) - depth) / step[:, None, None], depth > 0


def losses(net: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Returns one loss per sample, float32 (B,): the mean over its known pixels, 0 without any."""
    error, known = errors(net, batch)
    each = smooth_l1_loss(error, torch.zeros_like(error), reduction="none") * known
    return each.sum((1, 2)) / known.sum((1, 2)).clamp(min=1)


def train(loader: seta.PrunedDataLoader) -> StereoNet:
    """Trains a net on what the loader gives out, in all of its epochs; returns it."""
    net = make_net(loader.dataset)
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, loader.total_steps)
    for _ in range(loader.epochs):
        for batch in loader:
            each = losses(net, batch)  # seta 1: one loss per sample
            loss = loader.update(each)  # seta 2: recorded; returns the mean to go down on
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net


def evaluate(net: nn.Module, data: Dataset[dict[str, Any]]) -> dict[str, float]:
    """Returns the figures over all known pixels of the samples."""
    found = []
    with torch.inference_mode():
        for batch in DataLoader(data, batch_size=64):
            error, known = errors(net, batch)
            found.append(error[known].abs())
    error = torch.cat(found)
    return {
        "Depth error %": 100 * float(error.mean()) / (PLANES - 1),
        "Within one plane %": 100 * float((error < 1).float().mean()),
    }


def show(net: nn.Module, data: Dataset[dict[str, Any]]) -> Figure:
    """Draws the first samples, a row each."""
    batch = next(iter(DataLoader(data, batch_size=8)))
    with torch.inference_mode():
        error, known = errors(net, batch)
        depth = net(batch)
    true = batch["depth"].where(batch["depth"] > 0, torch.nan)
    error = error.abs().where(known, torch.nan)
    figure = Figure(figsize=(9, 1 + 1.6 * len(depth)), dpi=120, layout="constrained")
    figure.suptitle("Depth of test scenes (white: not known); near is dark")
    axes = figure.subplots(len(depth), 4, squeeze=False)
    for row, span in enumerate(batch["range"].tolist()):
        mean = f"mean {error[row].nanmean():.2f}, in planes"
        for axis, values, colours, limits, title in zip(
            axes[row],
            (batch["images"][row, 0], true[row], depth[row], error[row]),
            ("gray", "viridis", "viridis", "Reds"),
            ((0, 1), span, span, (0, 3)),
            ("reference view", "true depth", "predicted depth", f"error: {mean}"),
            strict=True,
        ):
            axis.imshow(values.numpy(), colours, vmin=limits[0], vmax=limits[1])
            axis.set_title(title, fontsize=8)
            axis.set_xticks([])
            axis.set_yticks([])
    return figure


def main() -> None:
    """Compares the methods on this task."""
    settings = options(__doc__, DEFAULTS)
    data, test, mislabelled = train_set(settings), test_set(settings), wrong(settings)
    nets = []

    def run(loader: seta.PrunedDataLoader, seed: int) -> dict[str, float]:
        nets.append(train(loader))
        return {**evaluate(nets[-1], test), **wrong_visits(loader, mislabelled)}

    found = seta.compare(
        run,
        data,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        lower_is_better=["Depth error %", *settings.lower],
        **settings.asked,
    )
    print(found)
    if nets:  # none where all runs were there already
        show(nets[-1], test).savefig(settings.out / "predictions.png")


if __name__ == "__main__":
    main()
