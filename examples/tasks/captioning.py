"""Captions for pictures: a small CNN and Transformer trained on 60 % of the sample visits.

    python examples/tasks/captioning.py                  # five runs, about four minutes
    python examples/tasks/captioning.py --method SeTa --budget 0.5
    python examples/tasks/captioning.py --data FOLDER    # your own pictures and captions

A net looks at drawn scenes and tells what it sees: "a small red circle above a large blue ring".
At the end tables compare full training, full training at the cost of the others, Learnable, SeTa
and InfoBatch. "Facts %" is the share of captions for new scenes that name all things, and say
nothing wrong; "BLEU" compares their words with eight captions of each scene. Captions are written
word by word, each time the likeliest. Full training gets about seven of ten right in all they say.

The data are as the web would give them, in small. Redundant: a few scenes are shown again and
again, each time drawn and told otherwise. Long-tailed in difficulty: most pictures are clean and
show one thing or two; some are noisy, or show three things behind clutter. And 4 % of the captions
belong to another scene. The combinations of things in test scenes occur in no scene for training.

The lines marked `seta 1` and `seta 2` are all that differs from ordinary training: a loss for each
sample, and `loader.update` in place of `.mean()`. `seta.compare` makes a loader for each run.

A caption has as many losses as words. A sample's loss is their mean, so that long captions do not
count as hard because they are long. Phrasing cannot be guessed from a picture: the loss of a
caption that is understood perfectly is not 0, and chance has a share in which samples look hard.

FOLDER has `train.jsonl` and `test.jsonl`. On each line there is an object with "image", a file in
the folder, and "text", a caption or a list of them. The net learns the words of the training
captions, in small letters, without punctuation. Facts are not known then, and BLEU counts alone.
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
from torch.utils.data import DataLoader, Dataset

import seta
from seta.extras import require
from seta.torch import token_losses

require("examples/tasks/captioning.py", "sacrebleu", extra="tasks")  # before training, not after

from sacrebleu import corpus_bleu  # noqa: E402

DEFAULTS = Settings(samples=8000, epochs=6, batch_size=32)

SCENES = 4000  # for training; the first ones are common, the last ones rare
WRONG = 0.04  # share of captions that belong to another scene
REFERENCES = 8  # captions of a test scene that BLEU compares with
PAD, START, END = 0, 1, 2  # as `world.encode` numbers them
WIDTH = 128  # numbers per place of a picture, and per word

Item = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""A picture, uint8 (48, 48, 3), and its caption as numbers, int64 (length,)."""


@dataclass(frozen=True)
class Captions(Dataset[Item]):
    """Drawn scenes with captions; all of a sample follows from its index.

    Attributes:
        samples: How many there are.
        seed: Of all draws.
        part: "train", with wrong captions; or "test", each scene once.
        words: By number.
        length: Of a caption's numbers, pads included.
    """

    samples: int
    seed: int
    part: str = "train"
    words: tuple[str, ...] = world.WORDS
    length: int = world.LENGTH

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> Item:
        seen = self.scene(index)
        rng = draws.generator(self.seed, f"{self.part} sample", index)
        placed = world.place(seen, rng, clutter=min(int(rng.pareto(1.5)), 8))
        image = world.draw(placed, rng, noise=min(4 + 6 * rng.pareto(1.5), 60))
        text = world.describe(seen, rng)
        if self.part == "train" and is_wrong(self.seed, index):
            while world.facts(text).right_about(seen):
                text = world.describe(self._numbered(int(rng.integers(SCENES))), rng)
        return image, world.encode(text, self.length)

    def scene(self, index: int) -> world.Scene:
        """Returns the scene that a sample shows."""
        if self.part == "test":
            return self._numbered(index)
        return self._numbered(int(draws.long_tailed(self.seed, "scene", index, SCENES, 0.7)))

    def _numbered(self, number: int) -> world.Scene:
        """Returns one of the scenes; many things are rare."""
        things = 1 + int(draws.long_tailed(self.seed, f"{self.part} things", number, 3))
        return world.scene(self.seed, number, part=self.part, things=(things, things))

    def references(self, index: int) -> list[str]:
        """Returns several true captions of a sample."""
        seen, rng = self.scene(index), draws.generator(self.seed, "references", index)
        return [world.describe(seen, rng) for _ in range(REFERENCES)]


class Folder(Dataset[Item]):
    """Pictures and captions of a user; a picture with three captions is three training samples.

    Attributes:
        words: Those of the training captions, by number.
        length: Enough for the numbers of the longest caption.
    """

    def __init__(self, path: Path, part: str) -> None:
        self.path = path
        train, test = (_read(path, part) for part in ("train", "test"))
        single = [(file, [text]) for file, texts in train for text in texts]
        self._rows = single if part == "train" else test
        self._numbers = world.number(text for _, texts in train for text in texts)
        self.words = tuple(self._numbers)
        self.length = 2 + max(len(text.split()) for _, texts in train + test for text in texts)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Item:
        file, texts = self._rows[index]
        image = folder.image(self.path / file, (world.SIZE, world.SIZE))
        return image, world.encode(texts[0], self.length, self._numbers)

    def references(self, index: int) -> list[str]:
        """Returns the captions of a sample."""
        return self._rows[index][1]


def _read(path: Path, part: str) -> list[tuple[str, list[str]]]:
    """Returns file and captions of each picture: words in small letters, no punctuation."""
    found = []
    for row in folder.rows(path, part, ("image", "text")):
        texts = [row["text"]] if isinstance(row["text"], str) else row["text"]
        found.append((row["image"], [" ".join(re.findall(r"\w+", t.lower())) for t in texts]))
    return found


def train_set(settings: Settings) -> Captions | Folder:
    """Returns the samples to train on."""
    if settings.data is not None:
        return Folder(settings.data, "train")
    return Captions(settings.samples, settings.seed)


def test_set(settings: Settings) -> Captions | Folder:
    """Returns the samples to measure on, none of them with a wrong caption that we know of."""
    if settings.data is not None:
        return Folder(settings.data, "test")
    return Captions(settings.test_samples, settings.seed, "test")


def is_wrong(seed: int, indices: ArrayLike) -> NDArray[np.bool_]:
    """Returns whether training captions belong to another scene: bool, of the shape of indices."""
    return np.asarray(draws.uniform(seed, "wrong", indices) < WRONG)


def wrong(settings: Settings) -> NDArray[np.bool_] | None:
    """Returns which training samples have a wrong caption: bool (N,); None: nobody knows."""
    if settings.data is not None:
        return None
    return is_wrong(settings.seed, np.arange(settings.samples))


class Captioner(nn.Module):
    """Tells the next word from a picture and the words before it.

    Args:
        words: That it knows, by number.
        length: Most words of a caption, start and end included.
    """

    def __init__(self, words: Sequence[str], length: int) -> None:
        super().__init__()
        self.words, self.length = tuple(words), length
        self.look = nn.Sequential(  # 48 by 48 pixels to 6 by 6 places
            *_convolution(3, 32, 2),
            *_convolution(32, 64, 2),
            *_convolution(64, WIDTH, 2),
            *_convolution(WIDTH, WIDTH, 1),  # so that each place sees a whole thing
        )
        self.places = nn.Parameter(0.5 * torch.randn(36, WIDTH))
        self.word = nn.Embedding(len(words), WIDTH)
        self.order = nn.Parameter(0.5 * torch.randn(length, WIDTH))
        layer = nn.TransformerDecoderLayer(
            WIDTH, 4, 2 * WIDTH, dropout=0.0, batch_first=True, norm_first=True
        )
        self.tell = nn.TransformerDecoder(layer, 1, nn.LayerNorm(WIDTH))
        self.choose = nn.Linear(WIDTH, len(words))

    def see(self, images: Tensor) -> Tensor:
        """Returns float32 (B, 36, WIDTH), what is seen where, from uint8 (B, 48, 48, 3)."""
        pixels = images.permute(0, 3, 1, 2).float() / 128 - 1
        return self.look(pixels).flatten(2).mT + self.places

    def forward(self, seen: Tensor, tokens: Tensor) -> Tensor:
        """Returns the logits of the words after each word.

        Args:
            seen: As `see` returns it.
            tokens: Int64 (B, T).

        Returns:
            Float32 (B, T, words).
        """
        count = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(count)
        inputs = self.word(tokens) + self.order[:count]
        return self.choose(self.tell(inputs, seen, tgt_mask=mask, tgt_is_causal=True))


def _convolution(channels: int, more: int, stride: int) -> tuple[nn.Module, ...]:
    """Returns a convolution to 1 / stride of the height and width, and what belongs to it."""
    convolution = nn.Conv2d(channels, more, 3, stride, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(more), nn.ReLU()


def make_net(data: Captions | Folder) -> Captioner:
    """Returns an untrained net, for the words of the data."""
    return Captioner(data.words, data.length)


def losses(net: nn.Module, batch: Sequence[Tensor]) -> Tensor:
    """Returns the mean cross-entropy of each caption's words: float32 (B,).

    Args:
        net: To train.
        batch: Pictures, uint8 (B, 48, 48, 3), and captions, int64 (B, length).
    """
    images, tokens = batch
    tokens = tokens[:, : int((tokens != PAD).sum(1).max())]  # no work for what is all padding
    logits = net(net.see(images), tokens[:, :-1])
    return token_losses(logits, tokens[:, 1:], ignore_index=PAD)


def train(loader: seta.PrunedDataLoader) -> Captioner:
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
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return net


@torch.inference_mode()
def write(net: nn.Module, images: Tensor) -> list[str]:
    """Returns a caption for each picture, word by word the likeliest.

    Args:
        net: A trained `Captioner`.
        images: Uint8 (B, 48, 48, 3).
    """
    net.eval()
    seen = net.see(images)
    tokens = torch.full((len(images), 1), START)
    while tokens.shape[1] < net.length and not (tokens == END).any(1).all():
        likeliest = net(seen, tokens)[:, -1:].argmax(-1)
        tokens = torch.cat((tokens, likeliest), dim=1)
    return [world.decode(row, net.words) for row in tokens]


def evaluate(net: nn.Module, data: Captions | Folder) -> dict[str, float]:
    """Measures a net on scenes that it has not seen.

    Returns:
        "Facts %", in [0, 100], where facts are known; "BLEU", in [0, 100].
    """
    texts = [text for images, _ in DataLoader(data, 100) for text in write(net, images)]
    references = [data.references(index) for index in range(len(data))]
    most = max(map(len, references))  # those of a picture with fewer are filled up with None
    streams = [[r[k] if k < len(r) else None for r in references] for k in range(most)]
    metrics = {"BLEU": corpus_bleu(texts, streams, tokenize="none", force=True).score}
    if isinstance(data, Folder):
        return metrics
    right = [world.facts(text).right_about(data.scene(k)) for k, text in enumerate(texts)]
    return {"Facts %": 100 * float(np.mean(right)), **metrics}


def show(net: nn.Module, data: Captions | Folder) -> Figure:
    """Draws the first pictures with the net's captions and true ones."""
    count = min(12, len(data))
    images = np.stack([data[index][0] for index in range(count)])
    texts = write(net, torch.from_numpy(images))
    figure = Figure(figsize=(13, 13), dpi=80)
    figure.subplots_adjust(0.02, 0.08, 0.98, 0.9, hspace=0.6)  # room for four lines
    figure.suptitle("Test pictures. Above: the net's caption, red if wrong; below: a true one")
    for index, axes in enumerate(figure.subplots(3, 4).flat):
        axes.set_axis_off()
        if index < count:
            axes.imshow(images[index])
            true = isinstance(data, Folder) or world.facts(texts[index]).right_about(
                data.scene(index)
            )
            axes.set_title(_lines(texts[index]), color="black" if true else "red")
            below = _lines(data.references(index)[0])
            axes.text(0.5, -0.03, below, ha="center", va="top", transform=axes.transAxes)
    return figure


def _lines(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 34))


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
