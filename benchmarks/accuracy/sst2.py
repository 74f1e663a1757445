"""SST-2: sentences of film reviews, good or bad, as a task for any net over words.

Read from `sst2-train.tsv` and `sst2-test.tsv`: on each line a sentence, a tab, and 0 or 1; no
heading. From the Stanford Sentiment Treebank (Socher et al., EMNLP 2013). Words are those between
spaces; one that training has only once is as good as unknown. Reading takes a fraction of a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.accuracy.image_suites import with_wrong
from benchmarks.accuracy.image_trial import parameter_count, seeded
from benchmarks.accuracy.text import Descent, TextRecipe, find, padded

Batch = tuple[Tensor, Tensor, Tensor]
MakeNet = Callable[[int], nn.Module]
"""From the size of the vocabulary to a net: words (B, L), lengths (B,) -> logits (B, 2)."""

_LAYOUT = "sst2-train.tsv and sst2-test.tsv (on each line a sentence, a tab, and 0 or 1)"
UNKNOWN = 1
"""The number of all words that are not in the vocabulary; 0 is the padding."""


def read(data: Path | None, part: str) -> tuple[list[list[str]], list[int]]:
    """Returns the words of each sentence, and its label, 0 or 1.

    Args:
        data: The folder of the files.
        part: "train", "dev" or "test".

    Raises:
        ValueError: No folder was given, the file is not in it, or a line is of another form.
    """
    path = find(data, f"sst2-{part}.tsv", _LAYOUT)
    sentences, labels = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        words, label = line.rpartition("\t")[0].split(), line.rpartition("\t")[2]
        if words and label in ("0", "1"):
            sentences.append(words)
            labels.append(int(label))
        elif line:
            raise ValueError(
                f"{path.name}, line {number} is {line[:60]!r}; needed: a sentence, a tab, and 0 "
                "or 1"
            )
    return sentences, labels


def vocabulary(sentences: Iterable[list[str]], least: int = 2) -> dict[str, int]:
    """Returns the numbers, from 2 on, of the words that are there at least so often."""
    counts = Counter(word for sentence in sentences for word in sentence)
    known = sorted(word for word, count in counts.items() if count >= least)
    return {word: number for number, word in enumerate(known, start=UNKNOWN + 1)}


class WordNet(nn.Module):
    """Embeddings, a convolution over three words, the maximum over a sentence, a linear layer.

    Ten times as fast on a CPU as the Mamba of `backbones`. After Kim, "Convolutional Neural
    Networks for Sentence Classification", EMNLP 2014.

    Args:
        words: Size of the vocabulary.
        width: Of the embeddings and of the convolution.
    """

    def __init__(self, words: int, width: int = 64) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width, padding_idx=0)
        self.near = nn.Conv1d(width, width, 3, padding=1)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(width, 2))

    def forward(self, words: Tensor, lengths: Tensor) -> Tensor:
        """Returns logits (B, 2) of words int64 (B, L), padded at the end, and lengths (B,)."""
        states = torch.relu(self.near(self.words(words).transpose(1, 2)))
        padding = torch.arange(words.shape[1], device=words.device) >= lengths[:, None]
        largest = states.masked_fill(padding[:, None, :], 0).amax(dim=2)
        logits: Tensor = self.head(largest)
        return logits


class Sentences(torch.utils.data.Dataset[Batch]):
    """Sentences as numbers of words, and labels; given out a batch at a time."""

    def __init__(self, rows: list[list[int]], labels: list[int], device: str) -> None:
        self.rows, self.labels, self.device = rows, torch.tensor(labels, device=device), device

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> Batch:
        """Returns words int64 (B, L), padded at the end, lengths (B,) and labels (B,)."""
        words, lengths = padded([self.rows[index] for index in indices], self.device)
        return words, lengths, self.labels[torch.tensor(indices, device=self.device)]


class SentenceTask:
    """Sentences, a net and a recipe.

    Args:
        data: The folder of the files.
        net: Makes the net.
        train: Sentences to train on, the first of the file.
        recipe: How it is trained.
        longest: Words of a sentence that are read; the rest is cut off.
        device: Where it is trained.
        wrong: Share of the labels to turn round.
        seed: Says which.

    Raises:
        ValueError: A file cannot be used, or has too few sentences.
    """

    def __init__(
        self,
        data: Path | None,
        net: MakeNet,
        *,
        train: int,
        recipe: TextRecipe | None = None,
        longest: int = 40,
        device: str = "cpu",
        wrong: float = 0.0,
        seed: int = 0,
    ) -> None:
        sentences, labels = read(data, "train")
        if not 1 <= train <= len(sentences):
            raise ValueError(
                f"train must lie between 1 and {len(sentences)}, the sentences of sst2-train.tsv; "
                f"got {train}"
            )
        numbers = vocabulary(sentences)
        self.words = len(numbers) + UNKNOWN + 1
        self.longest, self.device = longest, device
        self.recipe = TextRecipe() if recipe is None else recipe
        self.batch_size = self.recipe.batch_size
        true = np.array(labels[:train])
        self.classes = with_wrong(true, wrong, seed, classes=2)
        self.wrong = self.classes != true if wrong else None
        self.notes = {"wrong": wrong} if wrong else {}
        self.dataset = self._dataset(sentences[:train], self.classes.tolist(), numbers)
        self.held_out = self._dataset(*read(data, "test"), numbers)
        self._make = net

    def _dataset(
        self, sentences: list[list[str]], labels: list[int], numbers: dict[str, int]
    ) -> Sentences:
        rows = [[numbers.get(word, UNKNOWN) for word in words] for words in sentences]
        return Sentences([row[: self.longest] for row in rows], labels, self.device)

    def net(self) -> nn.Module:
        """Returns a new net."""
        return self._make(self.words)

    @property
    def settings(self) -> dict[str, Any]:
        """What makes it what it is."""
        return {
            "data": "SST-2",
            "train": len(self.dataset),
            "test": len(self.held_out),
            "words": self.words,
            "longest": self.longest,
            "parameters": parameter_count(self.net),
            "precision": "float32",
            "optimizer": "AdamW",
            **asdict(self.recipe),
            **self.notes,
        }

    def trial(self, seed: int) -> SentenceTrial:
        """Returns a new net, and its optimizer."""
        return SentenceTrial(self, seed)


class SentenceTrial:
    """One net in training.

    Args:
        task: What it is trained on, and how.
        seed: Of its first weights.
    """

    def __init__(self, task: SentenceTask, seed: int) -> None:
        self._task = task
        self.net = seeded(task.net, seed).to(task.device)
        self._descent = Descent(self.net, task.recipe)

    def losses(self, batch: Batch) -> Tensor:
        """Returns cross-entropies: float32 (B,)."""
        words, lengths, labels = batch
        self.net.train()
        return F.cross_entropy(self.net(words, lengths), labels, reduction="none")

    def step(self, loss: Tensor, progress: float) -> None:
        """Goes one step down, at the rate that the progress calls for."""
        self._descent.step(loss, progress)

    def evaluate(self) -> dict[str, float]:
        """Returns accuracy and mean loss on the held-out sentences."""
        held_out = self._task.held_out
        self.net.eval()
        with torch.inference_mode():
            parts = np.array_split(np.arange(len(held_out)), -(-len(held_out) // 64))
            batches = [held_out.__getitems__(part.tolist()) for part in parts]
            logits = torch.cat([self.net(words, lengths) for words, lengths, _ in batches])
        right = logits.argmax(dim=1) == held_out.labels
        return {
            "accuracy": right.float().mean().item(),
            "loss": F.cross_entropy(logits, held_out.labels).item(),
        }


def noise(data: Path | None, *, wrong: float, train: int = 6920) -> SentenceTask:
    """SST-2, a share of whose labels is turned round, and a small net over words."""
    return SentenceTask(data, WordNet, train=train, longest=32, wrong=wrong)
