"""Terrain: a landscape without end, whose colour at any point follows from the point and a seed.

Nothing is stored. Heights, moisture, towns and roads are value noise: random numbers at the points
of lattices of several widths, drawn by index (`draws.uniform`), and smoothly filled in between.
Height and moisture say what grows; fields and houses lie in the squares of a lattice. So a point of
the world looks the same in every view of it, but for the season and the sharpness of a pixel. A
view costs some 0.3 ms.
"""

import numpy as np
from draws import uniform
from numpy.typing import NDArray

SIDE = 32
"""Pixels of a view, each way."""
SEASONS = ("summer", "autumn", "winter", "spring")
REACH = 1e8
"""The world goes from -REACH to REACH, metres, each way."""

# Lattices that are filled in smoothly, by their widths in metres: four add up to the height, three
# to the moisture, one says where towns are, one where roads run.
WIDTHS = (40, 20, 10, 5, 32, 16, 8, 50, 36)
HEIGHT = np.float32([0.5, 0.25, 0.15, 0.1])
MOISTURE = np.float32([0.5, 0.3, 0.2])
# Lattices of squares: fields, and the houses' colours and two coordinates.
FIELD, HOUSE = 11, 7
SQUARES = (FIELD, HOUSE, HOUSE, HOUSE)

WATER, SAND, MEADOW, FOREST, ROCK, FIELDS, ROAD, ROOFS = 0, 1, 2, 3, 4, 5, 8, 9
# RGB of each: water, sand, meadow, forest, rock, three kinds of field, road, two kinds of roof.
# fmt: off
COLOURS = np.array([
    [[40, 85, 140], [205, 190, 140], [120, 165, 75], [40, 95, 45], [130, 125, 120],
     [215, 190, 90], [150, 180, 70], [95, 140, 60], [110, 105, 105], [170, 75, 55], [80, 80, 95]],
    [[45, 75, 115], [190, 170, 130], [160, 145, 75], [175, 95, 35], [125, 115, 110],
     [140, 105, 70], [165, 130, 80], [120, 125, 60], [100, 95, 95], [160, 70, 50], [75, 75, 90]],
    [[110, 140, 165], [220, 220, 220], [235, 238, 242], [110, 125, 120], [165, 165, 172],
     [245, 246, 250], [225, 228, 232], [210, 208, 205], [125, 122, 125], [215, 195, 192],
     [190, 192, 202]],
    [[50, 100, 140], [200, 190, 150], [140, 195, 95], [95, 150, 70], [135, 130, 120],
     [225, 215, 60], [130, 100, 70], [135, 190, 85], [110, 105, 105], [175, 80, 60], [80, 80, 95]],
], np.float32)
# fmt: on


def view(
    seed: int, x: float, y: float, rotation: float = 0.0, scale: float = 1.0, season: int = 0
) -> NDArray[np.uint8]:
    """Looks at the world from above.

    Args:
        seed: Of the world, >= 0.
        x: Of the point in the middle of the view, metres to the east, within `REACH`.
        y: The same, metres to the north.
        rotation: By which the picture is turned anticlockwise, degrees; 0: north is up.
        scale: Metres per pixel, in (0, 4].
        season: Which of `SEASONS`.

    Returns:
        Uint8 (SIDE, SIDE, 3), RGB.

    Raises:
        ValueError: The place lies outside the world, or the scale is out of range.
    """
    if not (abs(x) <= REACH and abs(y) <= REACH):
        raise ValueError(f"x = {x}, y = {y}: the world ends at {REACH:g} m; go back inside")
    if not 0 < scale <= 4:
        raise ValueError(f"scale = {scale}: metres per pixel, in (0, 4]; choose it there")
    east, north = points(x, y, rotation, scale)
    kind, light = ground(seed, east, north)
    colour = COLOURS[season][kind] * light[:, None]
    return np.clip(colour, 0, 255).astype(np.uint8).reshape(SIDE, SIDE, 3)


def points(
    x: float, y: float, rotation: float, scale: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the point that each pixel of a view shows.

    Arguments as in `view`.

    Returns:
        Float64 (SIDE * SIDE,) twice, metres to the east and to the north, row by row.
    """
    steps = (np.arange(SIDE) - (SIDE - 1) / 2) * scale
    right, up = np.tile(steps, SIDE), np.repeat(-steps, SIDE)
    cos, sin = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    return x + cos * right + sin * up, y - sin * right + cos * up


def ground(
    seed: int, east: NDArray[np.float64], north: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Returns what is at each of some points that lie near each other.

    Args:
        seed: Of the world.
        east: Float64 (n,), metres.
        north: Float64 (n,), metres.

    Returns:
        What is there, int64 (n,), the columns of `COLOURS`; and how light it is, float32 (n,), 1 is
        medium.
    """
    smooth, squares, (across, along) = _noise(seed, east, north)
    height, moisture, town, road = HEIGHT @ smooth[:4], MOISTURE @ smooth[4:7], smooth[7], smooth[8]
    farmed = (moisture > 0.42) & (moisture < 0.55)
    kind = np.where(moisture >= 0.55, FOREST, MEADOW)
    kind = np.where(farmed, FIELDS + (squares[0] * 3).astype(np.int64), kind)
    kind[height > 0.64] = ROCK
    house = (np.abs(across - squares[2]) < 0.27) & (np.abs(along - squares[3]) < 0.2)
    kind[house & (town > 0.55)] = ROOFS
    kind[house & (town > 0.55) & (squares[1] < 0.4)] = ROOFS + 1
    kind[np.abs(road - 0.5) < 0.03] = ROAD
    kind[height < 0.385] = SAND
    kind[height < 0.36] = WATER
    return kind, 0.7 + 0.35 * smooth[3] + 0.25 * height


def _noise(
    seed: int, east: NDArray[np.float64], north: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Reads all lattices at n points.

    Returns:
        Those filled in smoothly, float32 (len(WIDTHS), n), in [0, 1); those of squares, float32
        (len(SQUARES), n), in [0, 1); where in its house's square each point is, float32 (2, n), in
        [0, 1).
    """
    widths = np.array(WIDTHS + SQUARES)[:, None]
    lowest = np.array([[[east.min()]], [[north.min()]]])  # the south-western corner of the view
    start = np.floor(lowest / widths)  # (2, lattices, 1)
    # From there on single precision will do: it is three times faster.
    local = (np.stack([east, north])[:, None] - lowest).astype(np.float32)
    where = local / np.float32(widths) + np.float32(lowest / widths - start)  # (2, lattices, n)
    corner = np.floor(where)
    within = where - corner
    # The lattice points around the view are few: all are drawn, and then looked up.
    side = int(corner.max()) + 2
    lattices = np.arange(len(widths))[:, None]
    i, j = start.astype(np.int64) + 2**27 + np.arange(side)
    table = uniform(seed, "terrain", lattices[:, :, None] << 56 | i[:, :, None] << 28 | j[:, None])
    table = table.astype(np.float32).ravel()
    first = lattices * side**2 + (corner[0] * side + corner[1]).astype(np.int64)
    k = len(WIDTHS)
    s, t = within[:, :k] ** 2 * (3 - 2 * within[:, :k])
    a, b, c, d = (table.take(first[:k] + step) for step in (0, side, 1, side + 1))
    low, high = a + (b - a) * s, c + (d - c) * s
    return low + (high - low) * t, table.take(first[k:]), within[:, -1]
