"""Reading words in images: a small CRNN with CTC, trained on 60 % of the sample visits.

    python examples/tasks/scene_text.py                  # five runs, about four minutes
    python examples/tasks/scene_text.py --method SeTa --budget 0.5
    python examples/tasks/scene_text.py --samples 15000000 --epochs 3 --workers 8
    python examples/tasks/scene_text.py --data FOLDER    # your own words

A net reads grey images of words, as those trained on MJSynth do (CRNN, Shi et al. 2015):
convolutions look, a recurrent net goes along the columns both ways, and CTC (Graves et al. 2006)
finds out which column shows which letter. At the end tables compare full training, full training
at the cost of the others, Learnable, SeTa and InfoBatch. "Word accuracy %" counts the words that
are read without a fault; neither they nor their fonts were trained on. Expect full training to read
some three words in four. All five runs take about four minutes on two cores.

The data are like the large sets of drawn words. Redundant: some words come again and again, and
all are made of the same syllables, in the same fonts. Long-tailed in difficulty: most images are
clear, some are faint, blurred and noisy, very few cannot be read. And 4 % are labelled with
another word. Images are drawn when they are asked for, so fifteen million take no room.

The lines marked `seta 1` and `seta 2` are all that differs from ordinary training: a loss for each
sample, and `loader.update` in place of `.mean()`. `seta.compare` makes a loader for each run.

CTC gives a word one loss: how unlikely the net finds all ways to spread its letters over the
columns. Long words would have large losses for being long, and look hard to a method that compares
losses. So a sample's loss is that per letter, as in torch's own `reduction="mean"`;
`reduction="none"` leaves the division to us. At first the net says nothing anywhere, which is CTC's
way to begin: for some hundred steps the losses tell long words from short ones, not hard from easy.

FOLDER has `train.jsonl` and `test.jsonl`. On each line there is an object with "image", a file in
the folder, and "text", a word. Images become grey, 96 by 24 pixels. The net learns the letters of
the training words; the words for testing must do with them.
"""

from collections.abc import Iterator
from itertools import groupby, pairwise
from pathlib import Path

import folder
import numpy as np
import torch
import words
from comparison import Settings, options, wrong_visits
from draws import generator, long_tailed, uniform
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import seta

DEFAULTS = Settings(samples=7500, epochs=6, batch_size=32)
WORDS = 3000
"""In the lexicon for training, and in that for testing."""
WRONG = 0.04
"""Share of the training images that are labelled with another word."""
COLUMNS = 48
"""In which the net reads an image, at most one letter in each."""

Sample = tuple[Tensor, Tensor]
"""An image, uint8 (HEIGHT, WIDTH), and its letters as `spelled` numbers them, int64 (COLUMNS,)."""


class DrawnWords(Dataset[Sample]):
    """Words that are drawn when they are asked for.

    Args:
        seed: Of the data.
        count: How many.
        testing: Words and fonts kept for testing, and right labels only.
    """

    letters = words.LETTERS

    def __init__(self, seed: int, count: int, *, testing: bool = False) -> None:
        self.seed, self.count, self.testing = seed, count, testing
        self.fonts = words.TEST_FONTS if testing else words.FONTS
        self.lexicon = words.lexicon(seed, WORDS, testing=testing)
        self.name = "test" if testing else "train"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        rng = generator(self.seed, self.name, index)
        word = int(long_tailed(self.seed, f"{self.name} word", index, WORDS, 0.7))
        font = self.fonts[rng.integers(len(self.fonts))]
        hardness = min(1.0, 0.04 * rng.random() ** -0.7)  # Pareto: one in ten above 0.2
        image = words.draw(self.lexicon[word], font, hardness, rng)
        if not self.testing and uniform(self.seed, "wrong", index) < WRONG:
            word = (word + int(rng.integers(1, WORDS))) % WORDS
        return torch.from_numpy(image), spelled(self.lexicon[word], words.LETTERS)


class FolderWords(Dataset[Sample]):
    """Words of the user's own folder.

    Args:
        path: Of the folder.
        part: "train" or "test".
    """

    def __init__(self, path: Path, part: str) -> None:
        self.path = path
        self.rows = folder.rows(path, part, ("image", "text"), texts=("text",))
        self.letters = letters_of(path)
        for row in self.rows:
            spelled(row["text"], self.letters)  # a word that cannot be learned is found at once

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        row = self.rows[index]
        image = folder.image(self.path / row["image"], (words.WIDTH, words.HEIGHT), "L")
        return torch.from_numpy(image), spelled(row["text"], self.letters)


def letters_of(data: Path | None) -> str:
    """Returns the letters that there are, in order: those of the training words."""
    if data is None:
        return words.LETTERS
    rows = folder.rows(data, "train", ("text",), texts=("text",))
    return "".join(sorted({letter for row in rows for letter in row["text"]}))


def spelled(text: str, letters: str) -> Tensor:
    """Returns the letters of a word as numbers: 1 for the first, 0 where none is left.

    Args:
        text: The word.
        letters: That there are.

    Returns:
        Int64 (COLUMNS,).

    Raises:
        ValueError: The word is empty or too long, or has other letters.
    """
    needed = len(text) + sum(one == other for one, other in pairwise(text))
    if not 0 < needed <= COLUMNS or not set(text) <= set(letters):
        raise ValueError(
            f"text {text!r} cannot be learned: a word needs 1 to {COLUMNS} letters, those from"
            f" {letters!r}, and one less for each doubled letter; leave it out"
        )
    numbers = torch.zeros(COLUMNS, dtype=torch.int64)
    numbers[: len(text)] = torch.tensor([letters.index(letter) + 1 for letter in text])
    return numbers


def train_set(settings: Settings) -> DrawnWords | FolderWords:
    """Returns the words to train on."""
    if settings.data is not None:
        return FolderWords(settings.data, "train")
    return DrawnWords(settings.seed, settings.samples)


def test_set(settings: Settings) -> DrawnWords | FolderWords:
    """Returns the words to measure on: other words, in other fonts, with right labels."""
    if settings.data is not None:
        return FolderWords(settings.data, "test")
    return DrawnWords(settings.seed, settings.test_samples, testing=True)


def wrong(settings: Settings) -> NDArray[np.bool_] | None:
    """Returns which training words have the label of another, bool (N,); None: nobody knows."""
    if settings.data is not None:
        return None
    return uniform(settings.seed, "wrong", np.arange(settings.samples)) < WRONG


class Reader(nn.Module):
    """A small CRNN: it looks at an image, and says for each column which letter it shows.

    Args:
        letters: How many there are; 0 stands for none.
    """

    def __init__(self, letters: int) -> None:
        super().__init__()
        self.look = nn.Sequential(
            *_convolution(1, 16, 5, stride=2),
            *_convolution(16, 32, 3, stride=(2, 1)),
            *_convolution(32, 64, 3, stride=(2, 1)),
            *_convolution(64, 96, 3, stride=(3, 1)),
        )
        self.read = nn.GRU(96, 64, bidirectional=True, batch_first=True)
        self.say = nn.Linear(128, 1 + letters)

    def forward(self, images: Tensor) -> Tensor:
        """Returns log-probabilities, float32 (B, COLUMNS, 1 + letters), of uint8 (B, H, W)."""
        grey = images.float()
        grey = grey - grey.mean((1, 2), keepdim=True)
        grey = grey / (grey.std((1, 2), keepdim=True) + 1)
        columns = self.look(grey[:, None]).squeeze(2).transpose(1, 2)
        return self.say(self.read(columns)[0]).log_softmax(-1)


def _convolution(
    inputs: int, outputs: int, size: int, stride: int | tuple[int, int]
) -> tuple[nn.Module, ...]:
    look = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    return look, nn.BatchNorm2d(outputs), nn.ReLU()


def make_net(data: DrawnWords | FolderWords) -> Reader:
    """Returns a net that has learned nothing, for the letters of the data."""
    return Reader(len(data.letters))


def losses(net: nn.Module, batch: Sample) -> Tensor:
    """Returns the CTC loss of each word per letter, float32 (B,)."""
    images, letters = batch
    spoken = net(images).transpose(0, 1)
    lengths = (letters > 0).sum(1)
    columns = torch.full_like(lengths, COLUMNS)
    each = nn.functional.ctc_loss(
        spoken, letters, columns, lengths, reduction="none", zero_infinity=True
    )
    return each / lengths


def train(loader: seta.PrunedDataLoader) -> Reader:
    """Trains a net on what the loader gives out, in all of its epochs; returns it."""
    net = make_net(loader.dataset)
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=4e-3, total_steps=loader.total_steps, pct_start=0.15
    )
    for _ in range(loader.epochs):
        for batch in loader:
            each = losses(net, batch)  # seta 1: one loss per word: reduction="none"
            loss = loader.update(each)  # seta 2: recorded; returns the mean to go down on
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimizer.step()
            schedule.step()
    return net


@torch.no_grad()
def read(net: nn.Module, images: Tensor, letters: str) -> list[str]:
    """Returns what the net reads: in each column the likeliest letter, repeated ones once.

    Args:
        net: The net.
        images: Uint8 (B, H, W).
        letters: That there are.
    """
    best = net.eval()(images).argmax(-1).tolist()
    return ["".join(letters[k - 1] for k, _ in groupby(row) if k > 0) for row in best]


def readings(net: nn.Module, data: DrawnWords | FolderWords) -> Iterator[tuple[Tensor, str, str]]:
    """Gives for each word its image, uint8 (H, W), the word, and what the net reads."""
    letters = data.letters
    for images, numbers in DataLoader(data, batch_size=100):
        truths = ["".join(letters[k - 1] for k in row if k > 0) for row in numbers.tolist()]
        yield from zip(images, truths, read(net, images, letters), strict=True)


def evaluate(net: nn.Module, data: DrawnWords | FolderWords) -> dict[str, float]:
    """Returns the share of test words read without a fault, and of faults per letter, percent."""
    pairs = [(truth, said) for _, truth, said in readings(net, data)]
    right = sum(truth == said for truth, said in pairs)
    faults = sum(edits(truth, said) for truth, said in pairs)
    return {
        "Word accuracy %": 100 * right / len(pairs),
        "Letter error %": 100 * faults / sum(len(truth) for truth, _ in pairs),
    }


def edits(one: str, other: str) -> int:
    """Returns how many letters to put in, take out or change make one word of another.

    >>> edits("banana", "bandana"), edits("bold", "cold"), edits("", "ink")
    (1, 1, 3)
    """
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, start=1):
        before, row = row, [i]
        for j, second in enumerate(other, start=1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (letter != second)))
    return row[-1]


def show(net: nn.Module, data: DrawnWords | FolderWords) -> Figure:
    """Draws the first words with what the net reads."""
    figure = Figure(figsize=(10, 5.5), dpi=120, layout="constrained")
    figure.suptitle("The first words for testing, and what the net reads")
    places = figure.subplots(4, 3).ravel()
    for axes in places:
        axes.set_axis_off()
    for axes, (image, truth, said) in zip(places, readings(net, data), strict=False):
        axes.imshow(image.numpy(), cmap="gray", vmin=0, vmax=255)
        mark, colour = ("right", "darkgreen") if truth == said else ("WRONG", "crimson")
        axes.set_title(f"{truth}, read {said or 'nothing'}: {mark}", color=colour, fontsize=11)
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
        lower_is_better=["Letter error %", *settings.lower],
        **settings.asked,
    )
    print(found)
    if nets:  # none where all runs were there already
        show(nets[-1], test).savefig(settings.out / "predictions.png")


if __name__ == "__main__":
    main()
