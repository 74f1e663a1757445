"""Masks for expressions: a small convolutional net trained on 60 % of the sample visits.

    python examples/tasks/referring_segmentation.py      # five runs, about four minutes
    python examples/tasks/referring_segmentation.py --method SeTa --budget 0.5
    python examples/tasks/referring_segmentation.py --data FOLDER    # your own pictures and masks

An expression picks one thing of a picture, "the star to the left of the large ring", and a net
paints the pixels of that thing. At the end tables compare full training, full training at the
cost of the others, Learnable, SeTa and InfoBatch. "Mean IoU %" is the mean over new pictures of the
overlap of the net's mask and the true one, by what the two cover together; "IoU > 0.5 %" is the
share of pictures where it is more than a half, so that the right thing was painted. Expect a mean
IoU of some 85 of full training, and under 80 at 60 % of its cost; who paints any one of the things
has about a third.

Samples are drawn: one of 2,000 scenes with two to four things, the first ones often, each time
placed and lit a little differently, and one of many expressions for one of its things. Most
pictures are clean; a few have strong noise, or grey marks that cover things. In a part of the
scenes things differ in one attribute only. Half of the expressions name attributes; others need the
place, or the relation to another thing, and few to two of them. With 4 % of the training samples
the mask is that of another thing. Test pictures show combinations of things that occur in no
training picture, all with right masks.

`--data FOLDER` has train.jsonl and test.jsonl, on each line {"image": "1.jpg", "mask": "1.png",
"text": "the dog on the left"}. Pictures and masks are scaled to 48 by 48 pixels; a mask is where
its file is brighter than half. Words that occur in train.jsonl are known.

The lines marked `seta 1` and `seta 2` are all that differs from ordinary training: a loss for each
sample, and `loader.update` in place of `.mean()`. `seta.compare` makes a loader for each run.

The loss of a sample is the mean cross-entropy of its pixels, and one minus the soft Dice overlap:
things cover few of the pixels, and the overlap tells a small thing missed from one found, which the
mean over all pixels hardly does. Both are taken per picture; the overlap over all pictures of a
batch at once would be no loss of a sample. A mask of the wrong thing costs more than one, for as
long as the net does not learn it by heart.
"""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import draws
import folder
import numpy as np
import torch
import world
from comparison import Settings, options, wrong_visits
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

import seta

DEFAULTS = Settings(samples=7500, epochs=6, batch_size=32)
SCENES = 2000  # for training; the first ones are common, the last ones rare
WRONG = 0.04  # share of masks that are of another thing
ATTRIBUTES = ((), ("size",), ("colour",), ("size", "colour"))

Item = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]]
"""A picture, uint8 (48, 48, 3), the numbers of an expression, int64 (length,), a mask, bool."""


@dataclass(frozen=True)
class Expressions(Dataset[Item]):
    """Drawn scenes with an expression for one thing; all of a sample follows from its index.

    Attributes:
        samples: How many there are.
        seed: Of all draws.
        part: "train", with wrong masks; or "test", each scene once.
    """

    samples: int
    seed: int
    part: str = "train"
    words: tuple[str, ...] = world.WORDS

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> Item:
        seen, target, rng = self._drawn(index)
        text = expression(seen.things[target], seen, rng)
        placed = world.place(seen, rng, clutter=min(int(rng.pareto(1.5)), 8))
        image = world.draw(placed, rng, noise=min(4 + 6 * rng.pareto(1.5), 60))
        if self.part == "train" and is_wrong(self.seed, index):
            target = (target + int(rng.integers(1, len(seen.things)))) % len(seen.things)
        return image, world.encode(text), world.masks(placed)[target]

    def text(self, index: int) -> str:
        """Returns the expression of a sample."""
        seen, target, rng = self._drawn(index)
        return expression(seen.things[target], seen, rng)

    def _drawn(self, index: int) -> tuple[world.Scene, int, np.random.Generator]:
        """Returns the scene, the number of the thing, and the generator for all the rest."""
        number = index
        if self.part == "train":
            number = int(draws.long_tailed(self.seed, "scene", index, SCENES, 0.5))
        seen = world.scene(self.seed, number, part=self.part, things=(2, 4))
        rng = draws.generator(self.seed, f"{self.part} sample", index)
        return seen, int(rng.integers(len(seen.things))), rng


def expression(thing: world.Thing, scene: world.Scene, rng: np.random.Generator) -> str:
    """Returns words that pick one thing of a scene: by attributes, its place, or relations."""
    kind = rng.random()
    if kind < 0.5:
        return world.refer(thing, scene, rng)
    if kind < 0.7:
        named = world.noun(thing, rng, ATTRIBUTES[int(rng.integers(len(ATTRIBUTES)))])
        return f"the {named} {world.pick(world.PLACES[thing.row, thing.column], rng)}"
    others = [other for other in scene.things if other is not thing]
    lies = []
    for k in rng.permutation(len(others))[: 2 if kind > 0.94 else 1]:
        names = world.relations(thing, others[k])
        lies.append((names[int(rng.integers(len(names)))], others[k]))
    enough = [said for said in ATTRIBUTES if _picked(thing, said, lies, scene) == 1]
    # The fewer attributes are named, the more is left to the relation.
    named = world.noun(thing, rng, enough[int(len(enough) * rng.random() ** 2)])
    told = [f"{world.pick(world.RELATIONS[n], rng)} {world.refer(o, scene, rng)}" for n, o in lies]
    return f"the {named} {' and '.join(told)}"


def _picked(
    thing: world.Thing,
    said: Sequence[str],
    lies: Sequence[tuple[str, world.Thing]],
    scene: world.Scene,
) -> int:
    """Returns how many things of a scene fit what is said of one, and lie as it does."""
    return sum(
        all(getattr(other, name) == getattr(thing, name) for name in (*said, "shape"))
        and all(name in world.relations(other, anchor) for name, anchor in lies)
        for other in scene.things
    )


class Folder(Dataset[Item]):
    """Pictures, masks and expressions of a user.

    Attributes:
        words: Those of the training expressions, by number.
    """

    def __init__(self, path: Path, part: str) -> None:
        self.path = path
        fields = ("image", "mask", "text")
        train, test = (
            folder.rows(path, name, fields, texts=("text",)) for name in ("train", "test")
        )
        for row in train + test:
            row["text"] = " ".join(re.findall(r"\w+", row["text"].lower()))
        self._rows = train if part == "train" else test
        self._numbers = world.number(row["text"] for row in train)
        self.words = tuple(self._numbers)
        self._length = 2 + max(len(row["text"].split()) for row in train + test)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Item:
        row, size = self._rows[index], (world.SIZE, world.SIZE)
        image = folder.image(self.path / row["image"], size)
        mask = folder.image(self.path / row["mask"], size, "L") > 127
        return image, world.encode(row["text"], self._length, self._numbers), mask

    def text(self, index: int) -> str:
        """Returns the expression of a sample."""
        return self._rows[index]["text"]


def train_set(settings: Settings) -> Expressions | Folder:
    """Returns the samples to train on."""
    if settings.data is not None:
        return Folder(settings.data, "train")
    return Expressions(settings.samples, settings.seed)


def test_set(settings: Settings) -> Expressions | Folder:
    """Returns the samples to measure on, none of them with a wrong mask that we know of."""
    if settings.data is not None:
        return Folder(settings.data, "test")
    return Expressions(settings.test_samples, settings.seed, "test")


def is_wrong(seed: int, indices: ArrayLike) -> NDArray[np.bool_]:
    """Returns whether training masks are of another thing: bool, of the shape of indices."""
    return np.asarray(draws.uniform(seed, "wrong", indices) < WRONG)


def wrong(settings: Settings) -> NDArray[np.bool_] | None:
    """Returns which training samples have a wrong mask: bool (N,); None: nobody knows."""
    if settings.data is not None:
        return None
    return is_wrong(settings.seed, np.arange(settings.samples))


class Block(nn.Module):
    """A convolution whose channels a text scales and shifts (FiLM), added to what it came from.

    Args:
        channels: In and out.
        told: Length of the vector for the text.
    """

    def __init__(self, channels: int, told: int) -> None:
        super().__init__()
        self.convolve = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.film = nn.Linear(told, 2 * channels)

    def forward(self, seen: Tensor, told: Tensor) -> Tensor:
        """Returns float32 (B, C, H, W), as `seen`, for texts, float32 (B, told)."""
        scale, shift = self.film(told)[:, :, None, None].chunk(2, dim=1)
        return seen + functional.relu((1 + scale) * self.norm(self.convolve(seen)) + shift)


class Painter(nn.Module):
    """Paints the mask of what a text picks: down to 6 by 6 places, and up again.

    Args:
        words: How many words there are.
        told: Length of the vector for a text.
    """

    def __init__(self, words: int, told: int = 96) -> None:
        super().__init__()
        self.word = nn.Embedding(words, 48, padding_idx=0)
        self.read = nn.GRU(48, told, batch_first=True)
        self.look = nn.ModuleList([_seeing(14, 32, 1), _seeing(32, 64, 2), _seeing(64, 128, 2)])
        self.think = nn.ModuleList(Block(128, told) for _ in range(3))
        self.narrow = nn.ModuleList([nn.Conv2d(128, 64, 1), nn.Conv2d(64, 32, 1)])
        self.paint = nn.ModuleList([Block(64, told), Block(32, told)])
        self.last = nn.Conv2d(32, 4, 3, padding=1)

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        """Returns the logits of the mask.

        Args:
            images: Uint8 (B, 48, 48, 3).
            tokens: Int64 (B, length), 0 where there is no word.

        Returns:
            Float32 (B, 48, 48).
        """
        used = (tokens != 0).sum(1)
        states, _ = self.read(self.word(tokens[:, : int(used.max())]))
        told = states[torch.arange(len(states)), used - 1]
        seen = self._pixels(images)
        levels = []
        for layer in self.look:
            seen = layer(seen)
            levels.append(seen)
        for block in self.think:
            seen = block(seen, told)
        for narrow, level, block in zip(self.narrow, levels[-2::-1], self.paint, strict=True):
            seen = block(functional.interpolate(narrow(seen), scale_factor=2) + level, told)
        return functional.pixel_shuffle(self.last(seen), 2)[:, 0]

    def _pixels(self, images: Tensor) -> Tensor:
        """Returns float32 (B, 14, 24, 24): four pixels at each place, and where the place is."""
        pixels = functional.pixel_unshuffle(images.permute(0, 3, 1, 2).float() / 128 - 1, 2)
        line = torch.linspace(-1, 1, pixels.shape[-1])
        where = torch.stack(torch.meshgrid(line, line, indexing="ij"))
        return torch.cat((pixels, where.expand(len(pixels), -1, -1, -1)), dim=1)


def _seeing(channels: int, more: int, stride: int) -> nn.Module:
    """Returns a layer that looks at 3 by 3 places, and keeps every second one for stride 2."""
    convolution = nn.Conv2d(channels, more, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(more), nn.ReLU())


def make_net(data: Expressions | Folder) -> Painter:
    """Returns an untrained net, for the words of the data."""
    return Painter(len(data.words)).to(memory_format=torch.channels_last)  # faster on the CPU


def losses(net: nn.Module, batch: Sequence[Tensor]) -> Tensor:
    """Returns cross-entropy and missing overlap of each picture: float32 (B,), >= 0.

    Args:
        net: To train.
        batch: Pictures, uint8 (B, 48, 48, 3), expressions, int64 (B, length), and masks, bool
            (B, 48, 48).
    """
    images, tokens, masks = batch
    logits, true = net(images, tokens).flatten(1), masks.flatten(1).float()
    entropy = functional.binary_cross_entropy_with_logits(logits, true, reduction="none").mean(1)
    painted = logits.sigmoid()
    overlap = (2 * (painted * true).sum(1) + 1) / (painted.sum(1) + true.sum(1) + 1)
    return entropy + 1 - overlap


def train(loader: seta.PrunedDataLoader) -> Painter:
    """Trains a net on what the loader gives out, in all of its epochs; returns it."""
    net = make_net(loader.dataset)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=3e-3, total_steps=loader.total_steps, pct_start=0.15
    )
    for _ in range(loader.epochs):
        for batch in loader:
            each = losses(net, batch)  # seta 1: one loss per sample, not their mean
            loss = loader.update(each)  # seta 2: recorded; returns the mean to go down on
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net


@torch.inference_mode()
def paint(net: nn.Module, images: Tensor, tokens: Tensor) -> Tensor:
    """Returns the masks that a net paints: bool (B, 48, 48), for arguments as `Painter` has."""
    net.eval()
    return net(images, tokens) > 0


def overlaps(painted: Tensor, true: Tensor) -> Tensor:
    """Returns the IoU of masks: float32 (B,), in [0, 1]; 1 if both are empty.

    Args:
        painted: Bool (B, H, W).
        true: Bool (B, H, W).
    """
    both, any_ = (painted & true).sum((1, 2)), (painted | true).sum((1, 2))
    return torch.where(any_ > 0, both / any_, 1.0)


def evaluate(net: nn.Module, data: Expressions | Folder) -> dict[str, float]:
    """Measures a net on pictures that it has not seen.

    Returns:
        "Mean IoU %" and "IoU > 0.5 %", in [0, 100].
    """
    batches = DataLoader(data, 100)
    found = [overlaps(paint(net, images, tokens), true) for images, tokens, true in batches]
    values = torch.cat(found)
    return {
        "Mean IoU %": 100 * values.mean().item(),
        "IoU > 0.5 %": 100 * (values > 0.5).float().mean().item(),
    }


def show(net: nn.Module, data: Expressions | Folder) -> Figure:
    """Draws the first pictures with the net's masks and the true ones."""
    count = min(12, len(data))
    images, tokens, true = next(iter(DataLoader(data, count)))
    painted = paint(net, images, tokens)
    figure = Figure(figsize=(13, 11), dpi=80, layout="constrained")
    figure.suptitle(
        "Test pictures. Dotted white: the true mask; bright: the net's; red: overlap at most 0.5"
    )
    for index, axes in enumerate(figure.subplots(3, 4).flat):
        axes.set_axis_off()
        if index < count:
            mask, value = painted[index], overlaps(painted[[index]], true[[index]]).item()
            shown = torch.where(mask[..., None], images[index], images[index] // 3)
            axes.imshow(shown.numpy())
            if 0 < true[index].sum() < true[index].numel():  # else there is no outline
                axes.contour(true[index].numpy(), [0.5], colors="white", linestyles="dotted")
            title = "\n".join(textwrap.wrap(f"{data.text(index)} ({value:.2f})", 36))
            axes.set_title(title, color="black" if value > 0.5 else "red")
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
        lower_is_better=settings.lower,
        **settings.asked,
    )
    print(found)
    if nets:  # none where all runs were there already
        show(nets[-1], test).savefig(settings.out / "predictions.png")


if __name__ == "__main__":
    main()
