"""Composed retrieval: an image and a change in words find the image after the change.

    python examples/tasks/composed_retrieval.py                  # five runs: about four minutes
    python examples/tasks/composed_retrieval.py --method SeTa --budget 0.4
    python examples/tasks/composed_retrieval.py --data FOLDER    # on images and words of your own

That is on two cores. What counts is Recall@1 %: for how many queries (the reference image, and
"make the red circle blue") the target comes first, of three thousand images. It is a small relative
of CIRR and FashionIQ. The lines marked `seta 1` and `seta 2` are all that differs from ordinary
training; `seta.compare` makes the loaders, one for each run.

Data: sample i shows one of `SCENES` scenes, the first ones often and the last ones rarely, and one
of `CHANGES` changes of it. What is drawn anew for each is where exactly things lie, the light, and
which synonyms the words are; so most samples are near-copies of others. Noise and clutter are
mild mostly, and very strong at times. Of some 4 % the target is that of another scene and change:
a wrong label. References of the test are combinations of things that training never shows.

What to expect: the right scene is found early; that the words count takes longer, since nothing is
more like the query than its own reference, which is searched as well. So Recall@10 % is high soon,
and Recall@1 % rises until late: training on less costs some of it. One run says little about which
of the methods that cost the same is best: chance alone moves each by a few percent (`--seeds 3`).

FOLDER has `train.jsonl` and `test.jsonl`, a line `{"reference": "a.png", "target": "b.png",
"text": "make it blue"}` per sample, and the images; at least `--batch-size` lines to train on.
Words are those of the texts of train; others count as unknown. Images are equal if they are the
same file.

The loss is InfoNCE: how well the query tells its target from all other targets, and from all
references, of its batch (its own reference is the hardest). Images that show what the target shows
are near-copies, no wrong answers: they are masked, by a key of their contents. A fixed temperature
keeps the losses of all epochs on one scale.

Such a loss is not the sample's alone. It depends on which others were in the batch, and on how
many: in another batch the same sample, by the same net, has another loss. So what seta records is
a noisy estimate of how hard the sample is. What to heed:

- All batches are of one size. A net that knows nothing has a loss of about log(candidates), so a
  smaller batch is an easier one, and the samples of an incomplete last batch would pass for easy
  ones. `seta.compare` has full batches alone, so that this cannot happen. One who needs that batch
  divides each loss by log(candidates).
- A larger batch has more negatives, so that its losses are higher. Losses of runs of different
  batch sizes compare only divided by log(candidates), and roughly. They need not be less noisy
  (here they were more so): a scene very like the target is rare, and then decides the loss.
- A pruned epoch has other negatives: fewer near-copies, and hard or wrong samples meet each other
  more often. Losses can rise or fall by that alone, with nothing learned or forgotten. Here the
  effect was slight: the same samples, by the same net, had nearly the same losses among all samples
  as among those kept. Look whether it is in a task of yours that lives on hard negatives.
"""

import itertools
import re
import zlib
from pathlib import Path
from typing import Any

import folder
import numpy as np
import torch
import torch.nn.functional as F
from comparison import Settings, options, wrong_visits
from draws import generator, long_tailed, uniform
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from world import (
    COLOURS,
    SHAPES,
    SIZE,
    SIZES,
    WORDS,
    Scene,
    change,
    decode,
    draw,
    encode,
    number,
    part_of,
    pick,
    place,
    scene,
)

import seta

DEFAULTS = Settings(samples=9600, epochs=6, batch_size=64, test_samples=1000)
SCENES = 1000
CHANGES = 8
WRONG = 0.04
LENGTH = 16
TEMPERATURE = 0.05
VERBS = {"add": ("add", "put"), "turn": ("turn", "change"), "grow": ("larger", "bigger")}
SAME = {
    word: names
    for table in (SIZES, COLOURS, SHAPES, VERBS)
    for names in table.values()
    for word in names
}
"""The synonyms of each word that has some."""

Sample = dict[str, Any]
"""Of one sample, or of a batch.

Images uint8 (3, 48, 48): "reference", "target", and of tests of drawn scenes "other", the
reference after another change. "text": int64 (length,), as `world.encode` makes it. "reference
key", "target key", "other key": integers, equal for images of equal contents.
"""


class Drawn(Dataset[Sample]):
    """Drawn scenes before and after a change, and the change in words.

    Args:
        samples: How many.
        seed: Of the world.
        part: "train" or "test".
    """

    words = WORDS
    length = LENGTH

    def __init__(self, samples: int, seed: int, part: str) -> None:
        self.samples, self.seed, self.part = samples, seed, part

    def __len__(self) -> int:
        """The samples."""
        return self.samples

    def __getitem__(self, index: int) -> Sample:
        """Returns a sample, the same one each time."""
        seed, part = self.seed, self.part
        rng = generator(seed, f"composed {part}", index)
        shown, which = self._pair(index)
        before, text, after = composed(seed, shown, which, part)
        contents = {"reference": before, "target": after}
        if part == "test":
            others = (composed(seed, shown, k, part)[2] for k in itertools.count(1))
            contents["other"] = next(other for other in others if other != after)
        elif uniform(seed, "wrong", index) < WRONG:
            while contents["target"] == after:
                shown, which = int(rng.integers(SCENES)), int(rng.integers(CHANGES))
                _, _, contents["target"] = composed(seed, shown, which, part)
        sample: Sample = {"text": encode(reworded(text, rng), LENGTH)}
        for name, content in contents.items():
            sample[name] = picture(content, rng)
            sample[f"{name} key"] = zlib.crc32(repr(content).encode())
        return sample

    def _pair(self, index: int) -> tuple[int, int]:
        """Returns the numbers of a scene and of one of its changes."""
        if self.part == "test":
            return index, 0
        shown = long_tailed(self.seed, "scene", index, SCENES, tail=0.6)
        return int(shown), int(CHANGES * uniform(self.seed, "change", index))


def composed(seed: int, shown: int, which: int, part: str) -> tuple[Scene, str, Scene]:
    """Returns a scene, one of its changes in words, and the scene after it.

    In training, neither scene is one that is held out of it.
    """
    before = scene(seed, shown, part=part)
    rng = generator(seed, f"change {which} {part}", shown)
    while True:
        text, after = change(before, rng)
        if part == "test" or part_of(after) == "train":
            return before, text, after


def reworded(text: str, rng: np.random.Generator) -> str:
    """Returns a text with other synonyms."""
    return " ".join(pick(SAME.get(word, (word,)), rng) for word in text.split())


def picture(content: Scene, rng: np.random.Generator) -> Tensor:
    """Draws a scene, mostly with little noise and clutter, at times with much: uint8 (3, 48, 48).

    Each image has its own, so that noise does not tell which images belong together.
    """
    hard = rng.pareto(1.5)
    placed = place(content, rng, clutter=min(int(2 * hard), 16))
    pixels = draw(placed, rng, noise=min(4 + 6 * hard, 60))
    return torch.from_numpy(pixels).permute(2, 0, 1)


class Own(Dataset[Sample]):
    """Images and words of a folder of the user's own.

    Args:
        root: The folder.
        part: "train" or "test".
    """

    def __init__(self, root: Path, part: str) -> None:
        self.root, self.rows = root, self._read(root, part)
        read = self.rows if part == "train" else self._read(root, "train")
        self.numbers = number(row["text"] for row in read)
        self.words = tuple(self.numbers)
        self.length = 2 + max(len(row["text"].split()) for row in self.rows)

    @staticmethod
    def _read(root: Path, part: str) -> list[dict[str, str]]:
        """Returns the lines of a part; of the texts, the words in lower case alone."""
        found = folder.rows(root, part, ("reference", "target", "text"), texts=("text",))
        return [row | {"text": " ".join(re.findall(r"\w+", row["text"].lower()))} for row in found]

    def __len__(self) -> int:
        """The lines."""
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        """Returns the sample of a line. Images are equal if they are the same file."""
        row = self.rows[index]
        sample: Sample = {"text": encode(row["text"], self.length, self.numbers)}
        for name in ("reference", "target"):
            pixels = folder.image(self.root / row[name], (SIZE, SIZE))
            sample[name] = torch.from_numpy(pixels).permute(2, 0, 1)
            sample[f"{name} key"] = zlib.crc32(row[name].encode())
        return sample


def train_set(settings: Settings) -> Drawn | Own:
    """Returns the samples to train on."""
    if settings.data:
        return Own(settings.data, "train")
    return Drawn(settings.samples, settings.seed, "train")


def test_set(settings: Settings) -> Drawn | Own:
    """Returns the samples to measure on: right ones, of scenes that are held out of training."""
    if settings.data:
        return Own(settings.data, "test")
    return Drawn(settings.test_samples, settings.seed, "test")


def wrong(settings: Settings) -> NDArray[np.bool_] | None:
    """Returns which samples have the target of another: bool (N,); None: nobody knows."""
    if settings.data:
        return None
    return uniform(settings.seed, "wrong", np.arange(settings.samples)) < WRONG


class Composer(nn.Module):
    """Puts images, and images with a change in words, into one space.

    A picture becomes 3 by 3 cells of features. The change, read by a GRU, is made in each cell: a
    gate says how much of the cell stays, and an update what comes in its place (as in TIRG). What
    makes one vector of the cells is the same for queries and images.

    Args:
        words: How many there are, with pads.
        width: Features of a cell.
        size: Of a vector.
    """

    def __init__(self, words: int, width: int = 96, size: int = 128) -> None:
        super().__init__()
        self.cells = nn.Sequential(
            *self._block(3, 24, 5),
            *self._block(24, 48, 3),
            *self._block(48, 64, 3),
            *self._block(64, width, 3),
        )
        self.embedding = nn.Embedding(words, 48, padding_idx=0)
        self.reader = nn.GRU(48, width, batch_first=True)
        self.place = nn.Parameter(0.1 * torch.randn(width, 3, 3))
        self.meeting = nn.Sequential(
            nn.Conv2d(2 * width, 2 * width, 1), nn.ReLU(), nn.Conv2d(2 * width, 2 * width, 1)
        )
        self.update = nn.Sequential(nn.ReLU(), nn.Conv2d(2 * width, 2 * width, 1))
        self.head = nn.Linear(9 * width, size)

    @staticmethod
    def _block(inner: int, outer: int, kernel: int) -> tuple[nn.Module, ...]:
        """Returns layers that halve the picture. No batch norm: no sample but through the loss."""
        convolution = nn.Conv2d(inner, outer, kernel, stride=2, padding=kernel // 2)
        return convolution, nn.GroupNorm(8, outer), nn.ReLU()

    def see(self, images: Tensor) -> Tensor:
        """Returns the cells of images: uint8 (B, 3, 48, 48) to float32 (B, width, 3, 3)."""
        return self.cells(images.float() / 127.5 - 1)

    def compose(self, cells: Tensor, text: Tensor) -> Tensor:
        """Returns the cells (B, width, 3, 3) after the change that int64 (B, length) words tell."""
        states, _ = self.reader(self.embedding(text))
        last = (text != 0).sum(1) - 1
        told = states[torch.arange(len(text)), last, :, None, None].expand_as(cells)
        met = self.meeting(torch.cat([cells + self.place, told], dim=1))
        gate, new = self.update(met).chunk(2, dim=1)
        return cells + torch.sigmoid(gate - 1) * (new - cells)

    def embed(self, cells: Tensor) -> Tensor:
        """Returns vectors of length 1: (B, width, 3, 3) to (B, size)."""
        return F.normalize(self.head(cells.flatten(1)), dim=1)


def make_net(data: Drawn | Own) -> Composer:
    """Returns an untrained net, for the words of the data."""
    return Composer(len(data.words))


def losses(net: Composer, batch: Sample) -> Tensor:
    """Returns the loss of each query: float32 (B,), from 0; log(2 B) of a net that knows nothing.

    Candidates are the targets of the batch, then its references. Those that show what the target
    of the query shows, and are not its own target, are masked.
    """
    cells = net.see(torch.cat([batch["target"], batch["reference"]]))
    own = torch.arange(len(batch["text"]))
    query = net.embed(net.compose(cells[len(own) :], batch["text"]))
    scores = query @ net.embed(cells).T / TEMPERATURE
    keys = torch.cat([batch["target key"], batch["reference key"]])
    same = batch["target key"][:, None] == keys
    same[own, own] = False
    return F.cross_entropy(scores.masked_fill(same, -torch.inf), own, reduction="none")


def train(loader: seta.PrunedDataLoader) -> Composer:
    """Trains a net on what the loader gives out, in all of its epochs; returns it."""
    net = make_net(loader.dataset)
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 4e-3, total_steps=loader.total_steps, pct_start=0.15
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
def search(net: Composer, data: Drawn | Own) -> tuple[Tensor, Tensor, Tensor]:
    """Searches all images of the test for each query: targets, references and other scenes.

    Returns:
        Uint8 (C, 3, 48, 48), the images, the targets first, in the order of the queries; float32
        (Q, C), how well each fits: -inf for those that show what the target shows, and are not the
        target; int64 (Q,), the place of the target, from 1.
    """
    queries, found = [], {"target": [], "reference": [], "other": []}
    keys: dict[str, list[Tensor]] = {name: [] for name in found}
    for batch in DataLoader(data, batch_size=256):
        queries.append(net.embed(net.compose(net.see(batch["reference"]), batch["text"])))
        for name in found.keys() & batch.keys():
            found[name].append(batch[name])
            keys[name].append(batch[f"{name} key"])
    images, key = (
        torch.cat([x for part in parts.values() for x in part]) for parts in (found, keys)
    )
    scores = torch.cat(queries) @ torch.cat([net.embed(net.see(x)) for x in images.split(256)]).T
    own = torch.arange(len(scores))
    same = key[: len(own), None] == key
    same[own, own] = False
    scores.masked_fill_(same, -torch.inf)
    return images, scores, 1 + (scores > scores[own, own, None]).sum(1)


def evaluate(net: Composer, data: Drawn | Own) -> dict[str, float]:
    """Returns for how many queries the very target comes first, and among the first ten.

    Images are searched that show the targets, the references, and the references after another
    change; for each query without those that show what its target shows.
    """
    _, _, places = search(net, data)
    return {f"Recall@{k} %": 100 * (places <= k).float().mean().item() for k in (1, 10)}


def show(net: Composer, data: Drawn | Own) -> Figure:
    """Draws twelve queries, their targets, and the five images that come first for each."""
    images, scores, places = search(net, data)
    figure = Figure(figsize=(16, 9), dpi=80)
    figure.suptitle(
        "Each: the reference, the target, then the five images found first. Framed: the target; "
        f"place: its own, of {scores.shape[1]:,} images"
    )
    # Two columns of queries; the axes between them stay empty.
    axes = figure.subplots(6, 15)
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.9, wspace=0.08, hspace=0.35)
    for axis in axes.flat:
        axis.set_axis_off()
    rows = [*axes[:, :7], *axes[:, 8:]]
    for query, (row, found_at) in enumerate(zip(rows, places.tolist(), strict=False)):
        best = scores[query].topk(min(5, scores.shape[1])).indices.tolist()
        shown = [data[query]["reference"], *images[[query, *best]]]
        for axis, image in zip(row, shown, strict=False):
            axis.imshow(image.permute(1, 2, 0).numpy())
        words = decode(data[query]["text"], data.words)
        colour = "tab:green" if found_at == 1 else "tab:red"
        row[0].set_title(f"{words}: place {found_at}", loc="left", color=colour, fontsize=11)
        for axis, found in zip(row[2:], best, strict=False):
            if found == query:
                size = images.shape[-1]
                axis.add_patch(Rectangle((-0.5, -0.5), size, size, fill=False, ec="lime", lw=6))
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
