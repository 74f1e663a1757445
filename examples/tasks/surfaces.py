"""Textured surfaces seen from calibrated cameras: scenes whose depth is known exactly.

A scene is a slanted background plane with discs and spheres before it, each with a texture of its
own: a sum of waves in space, so that a point has one grey value, from wherever it is seen. Views
are made by ray casting: where a ray meets a surface is computed, not searched for, and depth is
right to the last digits. A sample of three views takes about a millisecond.

World and cameras: x to the right, y down, z forward; a camera sees the world point X at the pixel
K (R X + t), divided by its third coordinate, which is the depth. Pixel centres are whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import draws
import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 32, 40  # pixels
VIEWS = 3  # the reference, then the sources
RANGE = (1.0, 2.2)  # depths in which surfaces are looked for
WAVES = 6  # per texture
TARGET = np.array([0.0, 0.0, 1.6])  # what the cameras look at

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """Surfaces and their textures: first P flat ones, of which the first is the background.

    Attributes:
        normals: Float64 (P, 3), of length 1, of the flat surfaces.
        centres: Float64 (S, 3), of all surfaces.
        radii: Float64 (S,); the background's is infinite.
        waves: Float64 (S, 3, WAVES), radians per unit of length.
        phases: Float64 (S, WAVES), radians.
        swings: Float64 (S, WAVES), how much each wave adds to the grey value.
    """

    normals: Array
    centres: Array
    radii: Array
    waves: Array
    phases: Array
    swings: Array


@dataclass(frozen=True)
class Cameras:
    """Several of them.

    Attributes:
        intrinsics: Float64 (V, 3, 3), the matrices K.
        poses: Float64 (V, 4, 4), from world to camera: R and t.
    """

    intrinsics: Array
    poses: Array

    @property
    def places(self) -> Array:
        """Float64 (V, 3), where the cameras are in the world."""
        turns, shifts = self.poses[:, :3, :3], self.poses[:, :3, 3:]
        return -(turns.swapaxes(1, 2) @ shifts)[..., 0]

    def rays(self, pixels: Array) -> Array:
        """Returns the directions in which pixels look, in the world.

        Args:
            pixels: Float64 (N, 2) or (V, N, 2), x and y.

        Returns:
            Float64 (V, N, 3); one step along it is one unit of depth.
        """
        whole = np.concatenate((pixels, np.ones_like(pixels[..., :1])), axis=-1)
        inverse = np.linalg.inv(self.intrinsics @ self.poses[:, :3, :3])
        return whole @ inverse.swapaxes(1, 2)

    def project(self, points: Array) -> tuple[Array, Array]:
        """Returns at which pixels world points are seen, and how deep.

        Args:
            points: Float64 (N, 3).

        Returns:
            Pixels float64 (V, N, 2), depths float64 (V, N).
        """
        seen = points @ self.poses[:, :3, :3].swapaxes(1, 2) + self.poses[:, None, :3, 3]
        seen = seen @ self.intrinsics.swapaxes(1, 2)
        return seen[..., :2] / seen[..., 2:], seen[..., 2]


def scene_of(seed: int, name: str, number: int) -> Scene:
    """Returns a scene; large slants and weak textures are rare.

    Args:
        seed: Of the data.
        name: Of a family of scenes, "train" say.
        number: Of the scene in it.
    """
    random = draws.generator(seed, f"{name} scene", number)
    discs, spheres = random.integers(0, 3), random.integers(1, 3)
    flat, count = 1 + discs, 1 + discs + spheres
    steep = np.minimum(0.3 * random.lognormal(0, 0.7, flat), 1.5)  # tangents of the slants
    steep[0] = min(steep[0], 0.45)  # all rays of all cameras meet the background
    angle = random.uniform(0, 2 * np.pi, flat)
    normals = np.stack((steep * np.cos(angle), steep * np.sin(angle), -np.ones(flat)), axis=1)
    radii = random.uniform(0.15, 0.4, count)
    depths = random.uniform(1.25 + 0.3 * radii, 1.75)
    depths[flat:] += 0.3 * radii[flat:]  # a sphere's front is nearer than its centre
    radii[0], depths[0] = np.inf, random.uniform(1.6, 1.75)
    across = random.uniform((-0.4, -0.3, 1), (0.4, 0.3, 1), (count, 3))  # within the view
    across[0, :2] = 0
    waves = random.standard_normal((count, 3, WAVES))
    pitch = 8 * 5 ** random.random((count, 1, WAVES))  # a wave in 20 pixels, to one in 4
    strength = 1 / (1 + 0.25 * random.pareto(1, (count, 1)))
    return Scene(
        normals / np.linalg.norm(normals, axis=1, keepdims=True),
        across * depths[:, None],
        radii,
        waves * pitch / np.linalg.norm(waves, axis=1, keepdims=True),
        random.uniform(0, 2 * np.pi, (count, WAVES)),
        0.3 * strength * random.uniform(0.2, 1, (count, WAVES)),
    )


def cameras_of(seed: int, name: str, number: int, random: np.random.Generator) -> Cameras:
    """Returns the cameras of a scene, moved a little.

    Args:
        seed: Of the data.
        name: Of the family of scenes.
        number: Of the scene.
        random: For the small moves.
    """
    base = draws.generator(seed, f"{name} cameras", number)
    angle = base.uniform(0, 2 * np.pi) + np.array([0, base.uniform(0.4, 1) * np.pi])
    apart = base.uniform(0.35, 0.6, 2)
    places = np.zeros((VIEWS, 3))
    places[1:, :2] = np.stack((np.cos(angle), np.sin(angle)), axis=1) * apart[:, None]
    places += random.normal(0, 0.03, places.shape)
    # They look at one point, the y axis of the images downwards.
    forward = TARGET + random.normal(0, 0.03, places.shape) - places
    right = np.cross((0.0, 1.0, 0.0), forward)
    turns = np.stack((right, np.cross(forward, right), forward), axis=1)
    turns /= np.linalg.norm(turns, axis=2, keepdims=True)
    poses = np.tile(np.eye(4), (VIEWS, 1, 1))
    poses[:, :3, :3] = turns
    poses[:, :3, 3:] = -turns @ places[..., None]
    focal = base.uniform(0.95, 1.05) * WIDTH
    middle = (WIDTH - 1) / 2, (HEIGHT - 1) / 2
    intrinsics = np.array([[focal, 0, middle[0]], [0, focal, middle[1]], [0, 0, 1]])
    return Cameras(np.tile(intrinsics, (VIEWS, 1, 1)), poses)


def cast(scene: Scene, starts: Array, rays: Array) -> tuple[Array, NDArray[np.intp]]:
    """Returns where rays first meet a surface.

    Args:
        scene: The surfaces.
        starts: Float64 (V, 3), where bundles of rays begin.
        rays: Float64 (V, N, 3), the directions of the rays.

    Returns:
        How many steps along the ray, float64 (V, N), infinite where there is no surface; and which
        surface, (V, N).
    """
    flat = len(scene.normals)
    away = starts - scene.centres[:, None]  # (S, V, 3)
    square = np.einsum("vnd,vnd->vn", rays, rays)
    along = (away[:, :, None] @ rays.swapaxes(1, 2))[:, :, 0]  # (S, V, N)
    gap = ((away**2).sum(axis=2) - scene.radii[:, None] ** 2)[..., None]
    steps = np.empty(along.shape)  # to each surface; past it: nan or negative
    with np.errstate(invalid="ignore", divide="ignore"):
        towards = -away[:flat] @ scene.normals[..., None]
        flats = towards / (rays @ scene.normals.T).transpose(2, 0, 1)
        inside = (square * flats + 2 * along[:flat]) * flats + gap[:flat] <= 0  # its radius
        steps[:flat] = np.where(inside, flats, np.inf)
        steps[flat:] = -(along[flat:] + np.sqrt(along[flat:] ** 2 - square * gap[flat:])) / square
        steps[~(steps > 0)] = np.inf
    return steps.min(axis=0), steps.argmin(axis=0)


def shade(scene: Scene, points: Array, which: NDArray[np.intp], light: Array) -> Array:
    """Returns the grey values of points on surfaces, the same from all sides.

    Args:
        scene: The surfaces.
        points: Float64 (N, 3).
        which: (N,), the surface on which each is.
        light: Float64 (3,), the direction in which the light shines, of length 1.

    Returns:
        Float64 (N,), in [0, 1].
    """
    grey = np.empty(len(points))
    for k in range(len(scene.radii)):
        here = np.flatnonzero(which == k)
        at = points[here] - scene.centres[k]
        waves = np.cos((at @ scene.waves[k] + scene.phases[k]).astype(np.float32))
        flat = k < len(scene.normals)
        facing = scene.normals[k] @ light if flat else at @ light / scene.radii[k]
        grey[here] = (0.5 + waves @ scene.swings[k]) * (0.7 - 0.3 * facing)
    return np.clip(grey, 0, 1)


def pixels() -> Array:
    """Returns x and y of all pixels of an image, float64 (HEIGHT * WIDTH, 2)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack((x, y), axis=-1).reshape(-1, 2).astype(np.float64)


def views(scene: Scene, rig: Cameras, light: Array) -> Array:
    """Returns what the cameras see, float64 (V, HEIGHT, WIDTH) in [0, 1].

    Args:
        scene: The surfaces.
        rig: The cameras.
        light: Float64 (3,), the direction in which the light shines, of length 1.
    """
    rays = rig.rays(pixels())
    steps, which = cast(scene, rig.places, rays)
    points = rig.places[:, None] + steps[..., None] * rays
    return shade(scene, points.reshape(-1, 3), which.ravel(), light).reshape(-1, HEIGHT, WIDTH)


def known_depth(scene: Scene, rig: Cameras) -> tuple[Array, NDArray[np.bool_]]:
    """Returns the depth of the first view, and which other views see the same points.

    Args:
        scene: The surfaces.
        rig: The cameras, V of them.

    Returns:
        Float64 (HEIGHT, WIDTH), and bool (V - 1, HEIGHT, WIDTH).
    """
    places, rays = rig.places, rig.rays(pixels())[:1]
    depth, _ = cast(scene, places[:1], rays)
    points = places[0] + depth[0, :, None] * rays[0]
    at, _ = rig.project(points)
    within = ((at >= 0) & (at <= (WIDTH - 1, HEIGHT - 1))).all(axis=-1)[1:]
    steps, _ = cast(scene, places[1:], points - places[1:, None])
    first = steps > 1 - 1e-6  # no surface before the point itself
    return depth.reshape(HEIGHT, WIDTH), (within & first).reshape(-1, HEIGHT, WIDTH)


def sample(seed: int, name: str, number: int, shown: int, wrong: bool) -> dict[str, Any]:
    """Returns what the cameras see of a scene, and the depth that is known of it.

    Nothing is known of points that no source sees, nor in a hole such as scanners leave.

    Args:
        seed: Of the data.
        name: Of the family of scenes.
        number: Of the sample: cameras, light and noise are its own.
        shown: Number of the scene.
        wrong: Whether the depth is that of another scene.

    Returns:
        images: Float32 (VIEWS, HEIGHT, WIDTH), about [0, 1].
        intrinsics, poses: Float32 (VIEWS, 3, 3) and (VIEWS, 4, 4), as those of `Cameras`.
        depth: Float32 (HEIGHT, WIDTH), of the reference view; 0 where it is not known.
        range: Float32 (2,), the nearest and the farthest depth.
    """
    random = draws.generator(seed, f"{name} sample", number)
    seen, rig = scene_of(seed, name, shown), cameras_of(seed, name, shown, random)
    light = np.array([*random.normal(0, 0.5, 2), 1.0])
    images = views(seen, rig, light / np.linalg.norm(light)) * random.uniform(0.8, 1.1)
    noise = min(0.015 * random.lognormal(0, 1.3), 0.5)
    images = images + noise * random.standard_normal(images.shape, np.float32)
    depth, sources = known_depth(seen, rig)
    if wrong:
        depth, sources = _of_another(seed, f"{name} other", number, rig, depth)
    x, y = pixels().T.reshape(2, HEIGHT, WIDTH)
    hole = (x - random.uniform(0, WIDTH)) ** 2 + (y - random.uniform(0, HEIGHT)) ** 2
    known = sources.any(axis=0) & (hole > random.uniform(0, 6) ** 2)
    known &= (depth >= RANGE[0]) & (depth <= RANGE[1])
    return {
        "images": images.astype(np.float32),
        "intrinsics": rig.intrinsics.astype(np.float32),
        "poses": rig.poses.astype(np.float32),
        "depth": np.where(known, depth, 0).astype(np.float32),
        "range": np.array(RANGE, np.float32),
    }


def _of_another(
    seed: int, name: str, number: int, rig: Cameras, depth: Array
) -> tuple[Array, NDArray[np.bool_]]:
    """Returns `known_depth` of one of four scenes: the one that differs most from `depth`."""
    others = [known_depth(scene_of(seed, name, 4 * number + k), rig) for k in range(4)]
    return max(others, key=lambda other: np.abs(other[0] - depth).mean())
