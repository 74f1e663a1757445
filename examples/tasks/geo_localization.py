"""Geo-localization: find the place on the map that a drone looks at, turned, zoomed, in any season.

    python examples/tasks/geo_localization.py
    python examples/tasks/geo_localization.py --method SeTa --budget 0.4
    python examples/tasks/geo_localization.py --data FOLDER

About four minutes on two cores for all five runs. "Recall at 1 %" says how many percent of the
queries find their own map tile first among all tiles of the test region, "Recall at 10 %" how many
find it among the first ten.

The loop in `train` is an ordinary one but for two lines: `seta 1` keeps the losses apart that would
be averaged there, and `seta 2` averages them. `seta.compare` makes the loaders, one for each run.

Data. `terrain.py` makes a landscape. A sample is a drone's view of a place (the query) and the map
tile of that place: north up, in summer. The query is turned by any angle, zoomed by 0.8 to 1.25,
moved a little, and taken in one of four seasons.

- Redundant: there are 3,000 places however many samples, and some are seen far more often than
  others. Most samples show a known place from one more angle.
- Long-tailed: most queries are clear; the hardest are far off the middle, noisy, under clouds.
- 4 % of the samples carry the map tile of another place.

Test places lie in a region that no training place is near, each seen once in every season.

The loss is the symmetric contrastive one (InfoNCE): of the batch's tiles, find the query's; of its
queries, find the tile's; a sample's loss is the mean of both. Three things follow from that:

- The loss of a sample depends on the others in its batch, and so does the recorded one (batch
  normalization does the same, to a lesser degree). It still tells hard pairs from easy ones, as
  long as all batches are equally large; `seta.compare` leaves out the incomplete one.
- Two samples of one place in a batch would be each other's wrong answers, although both are right.
  So the batch carries the number of the place, and such answers are masked.
- The place is the one that the label says, as with real data: for a wrong label, that of the tile.

FOLDER holds `train.jsonl` and `test.jsonl`, a line per query, the images' paths relative to it:

    {"query": "drone/0001_300m.jpg", "map": "satellite/0001.jpg", "place": "0001"}

`place` is any text, the same for all views of one place. Images are scaled to 32 x 32 pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import terrain
import torch
from comparison import Settings, options, wrong_visits
from draws import generator, long_tailed, uniform
from folder import image, rows
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

import seta

DEFAULTS = Settings(samples=8000, epochs=5, batch_size=128, test_samples=1600)
PLACES = 3000
SEASONS = len(terrain.SEASONS)
WRONG = 0.04
TEMPERATURE = 0.07

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8], int]
"""Query and map tile, uint8 (SIDE, SIDE, 3), and the number of the place."""


class Flights(Dataset[Pair]):
    """Views of a made landscape, each with its map tile.

    Args:
        seed: Of the world and the flights.
        count: How many there are.
        test: Whether over the test region, with right labels only.
    """

    def __init__(self, seed: int, count: int, *, test: bool = False) -> None:
        self.seed, self.count, self.test = seed, count, test

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Pair:
        seen, label = self._places(i)
        draw = generator(self.seed, f"flight {self.test}", i)
        hard = draw.random() ** 4
        east, north = middle(seen, test=self.test) + draw.normal(size=2) * (1 + 3 * hard)
        angle, scale = draw.uniform(0, 360), 1.25 ** draw.uniform(-1, 1)
        season = i % SEASONS if self.test else int(draw.integers(SEASONS))
        query = terrain.view(self.seed, east, north, angle, scale, season)
        tile = terrain.view(self.seed, *middle(label, test=self.test))
        return weather(query, draw, hard), tile, label

    def _places(self, i: int) -> tuple[int, int]:
        """Returns which place sample i shows, and which its label names."""
        if self.test:
            return i // SEASONS, i // SEASONS
        seen = int(long_tailed(self.seed, "place", [i], PLACES, tail=0.5)[0])
        if not is_wrong(self.seed, i):
            return seen, seen
        step = 1 + int(uniform(self.seed, "other place", i) * (PLACES - 1))
        return seen, (seen + step) % PLACES


class Photos(Dataset[Pair]):
    """Pairs of images from a folder of the user's own.

    Args:
        folder: Where `train.jsonl` and `test.jsonl` are.
        part: "train" or "test".
    """

    def __init__(self, folder: Path, part: str) -> None:
        self.folder, self.rows = folder, rows(folder, part, ["query", "map", "place"])
        names = sorted({str(row["place"]) for row in self.rows})
        self.number = {name: number for number, name in enumerate(names)}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Pair:
        row, size = self.rows[i], (terrain.SIDE, terrain.SIDE)
        # Copies: torch does not like arrays that nobody may write to.
        query, tile = (np.array(image(self.folder / row[name], size)) for name in ("query", "map"))
        return query, tile, self.number[str(row["place"])]


def middle(place: int, *, test: bool = False) -> NDArray[np.float64]:
    """Returns where a place is, metres to the east and north, float64 (2,).

    Places lie on a grid, 64 m apart. Those of the test region lie 6 km south of all others.
    """
    row, column = divmod(place, 64)
    return 64.0 * np.array([column, -100 - row if test else row])


def is_wrong(seed: int, indices: ArrayLike) -> NDArray[np.bool_]:
    """Returns which training samples carry the tile of another place, bool, one per index."""
    return uniform(seed, "wrong", indices) < WRONG


def wrong(settings: Settings) -> NDArray[np.bool_] | None:
    """Returns which training samples have wrong labels, bool (N,); None: nobody knows."""
    return None if settings.data else is_wrong(settings.seed, np.arange(settings.samples))


def weather(view: NDArray[np.uint8], draw: np.random.Generator, hard: float) -> NDArray[np.uint8]:
    """Adds noise, and in hard cases a cloud and its shadow.

    Args:
        view: Uint8 (SIDE, SIDE, 3).
        draw: Draws what is added.
        hard: In [0, 1); how much that is.
    """
    light = draw.normal(scale=4 + 40 * hard, size=view.shape) + view
    if hard > 0.1:
        across = np.arange(terrain.SIDE)
        for colour in (20.0, 240.0):  # the shadow, then the cloud
            middle, wide = draw.uniform(0, terrain.SIDE, 2), 2 + 9 * hard
            down, right = np.exp(-(((across - middle[:, None]) / wide) ** 2))
            cover = 0.9 * (down[:, None] * right)[:, :, None]
            light += cover * (colour - light)
    return np.clip(light, 0, 255).astype(np.uint8)


def train_set(settings: Settings) -> Dataset[Pair]:
    """Returns what is trained on."""
    if settings.data:
        return Photos(settings.data, "train")
    return Flights(settings.seed, settings.samples)


def test_set(settings: Settings) -> Dataset[Pair]:
    """Returns what is measured on: a region that is not trained on."""
    if settings.data:
        return Photos(settings.data, "test")
    return Flights(settings.seed, settings.test_samples, test=True)


class Tower(nn.Module):
    """Turns a view into a point on the unit sphere, the same whichever way the view is turned.

    It reads the view in polar coordinates, where turning is shifting: convolutions go along with
    it, and the size of Fourier coefficients along the angle does not see it.

    Args:
        channels: Of the last convolution.
        size: Of the embedding.
    """

    RINGS, ANGLES, WAVES = 14, 32, 5

    def __init__(self, channels: int = 64, size: int = 64) -> None:
        super().__init__()
        radius = (torch.arange(self.RINGS) + 0.5) / self.RINGS
        angle = torch.arange(self.ANGLES) * (2 * torch.pi / self.ANGLES)
        ring = torch.stack([angle.cos(), angle.sin()], -1)
        self.register_buffer("polar", radius[:, None, None] * ring, persistent=False)
        self.convolutions = nn.Sequential(
            *_convolution(3, channels // 2, along=1),
            *_convolution(channels // 2, channels, along=2),
            *_convolution(channels, channels, along=1),
            nn.AvgPool2d((2, 1)),
        )
        rings = (self.RINGS - 6) // 2
        self.embed = nn.Linear(channels * rings * self.WAVES, size)

    def forward(self, views: Tensor) -> Tensor:
        """Embeds views, uint8 (B, SIDE, SIDE, 3), as float32 (B, size) of length 1."""
        pixels = views.permute(0, 3, 1, 2).float() / 255
        grid = self.polar.expand(len(views), -1, -1, -1)
        seen = self.convolutions(functional.grid_sample(pixels, grid, align_corners=False))
        waves = torch.view_as_real(torch.fft.rfft(seen, norm="ortho")[..., : self.WAVES])
        sizes = (waves.square().sum(-1) + 1e-6).sqrt()  # abs() has no slope at 0
        return functional.normalize(self.embed(sizes.flatten(1)), dim=-1)


def _convolution(channels: int, into: int, *, along: int) -> list[nn.Module]:
    """Returns a convolution that goes round in the angle, every `along`-th step of it."""
    return [
        nn.CircularPad2d((1, 1, 0, 0)),
        nn.Conv2d(channels, into, 3, stride=(1, along), bias=False),
        nn.BatchNorm2d(into),
        nn.ReLU(),
    ]


def make_net(data: Dataset[Pair]) -> Tower:
    """Returns an untrained net: one tower for queries and map tiles alike, whatever the data."""
    return Tower()


def losses(net: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Returns the contrastive loss of each pair, float32 (B,).

    Args:
        net: Of `make_net`.
        batch: Queries and map tiles, uint8 (B, SIDE, SIDE, 3); places, int64 (B,).
    """
    queries, tiles, places = batch
    seen, known = net(torch.cat([queries, tiles])).chunk(2)
    alike = seen @ known.T / TEMPERATURE
    same = places[:, None] == places
    same.fill_diagonal_(False)
    alike = alike.masked_fill(same, -torch.inf)
    own = torch.arange(len(places))
    each = functional.cross_entropy(alike, own, reduction="none")
    return (each + functional.cross_entropy(alike.T, own, reduction="none")) / 2


def train(loader: seta.PrunedDataLoader) -> Tower:
    """Trains a net on what the loader gives out, in all of its epochs; returns it."""
    net = make_net(loader.dataset)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=3e-3, total_steps=loader.total_steps
    )
    for _ in range(loader.epochs):
        for batch in loader:
            each = losses(net, batch)  # seta 1: one loss per sample: reduction="none"
            loss = loader.update(each)  # seta 2: recorded; returns the mean to go down on
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net


@torch.no_grad()
def search(net: nn.Module, data: Dataset[Pair]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ranks the tiles of all test places for each test query.

    Returns:
        Tiles from the nearest on, int64 (queries, tiles), as indices of test samples that carry
        them; and which of them is right, int64 (queries,).
    """
    net.eval()
    found = [
        (net(queries), net(tiles), places)
        for queries, tiles, places in DataLoader(data, batch_size=256)
    ]
    queries, tiles, places = (torch.cat(parts) for parts in zip(*found, strict=True))
    _, first, place = np.unique(places.numpy(), return_index=True, return_inverse=True)
    order = (queries @ tiles[first].T).argsort(1, descending=True).numpy()
    return first[order], first[place]


def evaluate(net: nn.Module, data: Dataset[Pair]) -> dict[str, float]:
    """Returns how many percent of the test queries find their tile first, and in the first ten."""
    ranked, right = search(net, data)
    rank = (ranked == right[:, None]).argmax(1)
    return {f"Recall at {k} %": 100 * float(np.mean(rank < k)) for k in (1, 10)}


def show(net: nn.Module, data: Dataset[Pair]) -> Figure:
    """Draws twelve queries, each with its own tile, and the five found first."""
    ranked, right = search(net, data)
    chosen = np.linspace(0, len(ranked) - 1, min(12, len(ranked))).astype(int)
    figure = Figure(figsize=(15, 8.5), dpi=100, layout="constrained")
    figure.suptitle(
        "Geo-localization: a query of the test region, the right tile, and the five found first.\n"
        "Green: the right one among them. Red: the first, where it is wrong."
    )
    axes = figure.subplots(6, 15)
    for axis in axes.flat:
        axis.set_axis_off()
    for n, i in enumerate(chosen):
        row = axes[n % 6, 8 * (n // 6) :]
        rank = int((ranked[i] == right[i]).argmax())
        _draw(row[0], data[i][0], "query", None)
        _draw(row[1], data[right[i]][1], f"right: no. {rank + 1}", None)
        for k, tile in enumerate(ranked[i, :5]):
            frame = "tab:green" if k == rank else "tab:red" if k == 0 else None
            _draw(row[2 + k], data[tile][1], f"{k + 1}", frame)
    return figure


def _draw(axis: Axes, picture: NDArray[np.uint8], title: str, frame: str | None) -> None:
    axis.imshow(picture)
    axis.set_title(title, fontsize=9)
    if frame:
        axis.set_axis_on()
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set(color=frame, linewidth=4)


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
        batch_size=min(settings.batch_size, len(data)),
        lower_is_better=settings.lower,
        **settings.asked,
    )
    print(found)
    if nets:  # none where all runs were there already
        show(nets[-1], test).savefig(settings.out / "predictions.png")


if __name__ == "__main__":
    main()
