"""Tune a small Llama on instructions: full training, and with fewer samples.

    python examples/tasks/instruction_tuning.py
    python examples/tasks/instruction_tuning.py --method SeTa --budget 0.5
    python examples/tasks/instruction_tuning.py --data FOLDER

Needs `transformers` and `tokenizers`: `pip install "seta[tasks]"`. All five runs take about four
minutes on two cores. "Exact match %" is the share of test instructions that the net answers
without a fault, writing the likeliest token each time; expect some 60 for full training.
"Held-out loss" is the mean loss of the right answers, the lower the better.

The instructions (`instructions.py`) are short tasks of thirteen families: reversing a word, naming
opposites, sums in words. They are redundant: some families and questions are asked again and again,
in many phrasings, as in instructions gathered from people. Difficulty is long-tailed: most are
short, a few long. 4 % of the training answers are wrong: they answer another question of the same
family. What the test instructions ask, no training instruction asks.

The loss of a sample is the mean cross-entropy over the tokens of its answer: the instruction is
read and not learned, and a long answer counts no more than a short one. A sample's loss is its own,
whatever else is in the batch. The two lines of seta, marked in `train`, stand where the mean over
the batch would; `seta.compare` makes the loaders, one for each run.

`--data FOLDER` holds `train.jsonl` and `test.jsonl`, on each line an object with `instruction` and
`answer`; or `gsm8k-train.jsonl` and `gsm8k-test.jsonl`, with `question` and `answer`, the files of
GSM8K. Where an answer has a "####", the match is of what follows it. An instruction of more than
160 tokens, its answer included, is left out. A net this small learns how long answers read well
before it gets one right, so with a folder the held-out loss comes first.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import draws
import folder
import numpy as np
import torch
from comparison import Settings, options, wrong_visits
from instructions import Instruction, instruction, mislabelled, right
from numpy.typing import NDArray
from torch import Tensor, nn

import seta
from seta.extras import require
from seta.torch import token_losses

require("examples/tasks/instruction_tuning.py", "transformers", "tokenizers", extra="tasks")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else it warns of the loader's workers

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

DEFAULTS = Settings(samples=11_000, epochs=6, batch_size=16)
WRONG = 0.04
"""Share of the training answers."""

SPECIAL = ("<pad>", "<answer>", "<end>")
PAD, ANSWER, END = range(len(SPECIAL))
IGNORED = -100
"""The label of tokens that are not learned: those of the instruction, and padding."""

LONGEST = 160
"""Tokens of an instruction and its answer."""

VOCABULARY = 2000
"""Tokens at most."""

TOKENIZED = 2000
"""Instructions that the tokenizer is trained on."""


class Made:
    """Instructions that are made when they are asked for.

    Args:
        settings: Of the run.
        test: Whether to give those to measure on.
    """

    def __init__(self, settings: Settings, test: bool) -> None:
        self.seed, self.test = settings.seed, test
        self.count = settings.test_samples if test else settings.samples

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Instruction:
        if not self.test and is_wrong(self.seed, index):
            return mislabelled(self.seed, index)
        return instruction(self.seed, index, self.test)


class Tokens(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """Instructions as tokens; sample i is the same whenever, and by whomever, it is asked for.

    Args:
        rows: The instructions.
        tokenizer: Makes the tokens.
    """

    def __init__(self, rows: Made | Sequence[Instruction], tokenizer: Tokenizer) -> None:
        self.rows, self.tokenizer = rows, tokenizer

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Returns tokens and labels: int64 (LONGEST,), padded at the end."""
        asked, answered = self.ids(self.rows[index])
        used = len(asked) + len(answered)
        tokens = torch.full((LONGEST,), PAD)
        labels = torch.full((LONGEST,), IGNORED)
        tokens[:used] = torch.tensor(asked + answered)
        labels[len(asked) : used] = torch.tensor(answered)
        return tokens, labels

    def ids(self, row: Instruction) -> tuple[list[int], list[int]]:
        """Returns the tokens of an instruction, then `ANSWER`; those of its answer, then `END`."""
        encode = self.tokenizer.encode
        return [*encode(row.text).ids, ANSWER], [*encode(row.answer).ids, END]


def is_wrong(seed: int, indices: int | NDArray[np.int64]) -> NDArray[np.bool_]:
    """Returns which training instructions come with wrong answers."""
    return draws.uniform(seed, "wrong", indices) < WRONG


def wrong(settings: Settings) -> NDArray[np.bool_] | None:
    """Returns bool (N,), which samples have wrong answers; None: nobody knows."""
    return is_wrong(settings.seed, np.arange(settings.samples)) if settings.data is None else None


def train_set(settings: Settings) -> Tokens:
    """Returns the instructions to train on."""
    made = tokenizer(settings.seed, settings.data)
    if settings.data is None:
        return Tokens(Made(settings, test=False), made)
    return Tokens(short_enough(settings.data, "train", settings.seed)[: settings.samples], made)


def test_set(settings: Settings) -> Tokens:
    """Returns the instructions to measure on."""
    made = tokenizer(settings.seed, settings.data)
    if settings.data is None:
        return Tokens(Made(settings, test=True), made)
    return Tokens(short_enough(settings.data, "test", settings.seed)[: settings.test_samples], made)


def read(data: Path, part: str) -> list[Instruction]:
    """Returns the instructions of a folder; `part` is "train" or "test"."""
    if (data / "gsm8k-train.jsonl").is_file():
        part, asked = f"gsm8k-{part}", "question"
    else:
        asked = "instruction"
    found = folder.rows(data, part, (asked, "answer"))
    return [Instruction(str(row[asked]), str(row["answer"])) for row in found]


@cache
def short_enough(data: Path, part: str, seed: int) -> list[Instruction]:
    """Returns those of a folder that have at most `LONGEST` tokens."""
    rows = read(data, part)
    ids = Tokens([], tokenizer(seed, data)).ids
    kept = [row for row in rows if sum(map(len, ids(row))) <= LONGEST]
    if not kept:
        raise ValueError(
            f"--data {data}: all {len(rows):,} instructions of the part {part} have more than "
            f"{LONGEST} tokens, their answers included; shorten some, or raise LONGEST"
        )
    return kept


@cache
def tokenizer(seed: int, data: Path | None) -> Tokenizer:
    """Trains a byte-pair tokenizer; each digit and each capital is a token, to count and spell by.

    Args:
        seed: Of the instructions that it is trained on.
        data: The folder that it is trained on; None: the instructions that are made.
    """
    rows: Iterable[Instruction] = (
        (instruction(seed, number) for number in range(TOKENIZED))
        if data is None
        else read(data, "train")
    )
    made = Tokenizer(models.BPE())
    alone = pre_tokenizers.Split(Regex("[0-9A-Z]"), "isolated")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([alone, bytes_])
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator((text for row in rows for text in (row.text, row.answer)), trainer)
    return made


def make_net(data: Tokens) -> LlamaForCausalLM:
    """Returns a small Llama with random weights, for the tokens of the data."""
    config = LlamaConfig(
        vocab_size=data.tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2 * LONGEST,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=ANSWER,
        eos_token_id=END,
        initializer_range=0.05,  # 0.02 is for nets many times as wide, and slow to get going here
        attn_implementation="eager",  # on a CPU quicker than torch's fused attention
    )
    return LlamaForCausalLM(config)


def losses(net: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Returns the mean cross-entropy over the tokens of each answer: float32 (B,).

    Args:
        net: Gives logits for the next token.
        batch: Tokens and labels, int64 (B, LONGEST).
    """
    tokens, labels = batch
    used = int((tokens != PAD).any(0).sum())  # the longest of the batch: no more is computed
    tokens, labels = tokens[:, :used], labels[:, :used]
    # Padding comes last, where causal attention lets no token before it see it: no mask needed.
    logits = net(input_ids=tokens, use_cache=False).logits
    return token_losses(logits, labels, IGNORED, shift=True)


def train(loader: seta.PrunedDataLoader) -> LlamaForCausalLM:
    """Trains a net on what the loader gives out, in all of its epochs; returns it."""
    net = make_net(loader.dataset)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=3e-3, total_steps=loader.total_steps, pct_start=0.1
    )
    net.train()
    for _ in range(loader.epochs):
        for batch in loader:
            each = losses(net, batch)  # seta 1: one loss per answer, not their mean
            loss = loader.update(each)  # seta 2: recorded; returns the mean to go down on
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net


def evaluate(net: nn.Module, dataset: Tokens) -> dict[str, float]:
    """Returns the share of test instructions answered right, and the mean loss of right answers."""
    rows = [dataset.rows[index] for index in range(len(dataset))]
    given = answers(net, dataset, rows)
    exact = 100 * float(np.mean([right(row, one) for row, one in zip(rows, given, strict=True)]))
    batches = torch.utils.data.DataLoader(dataset, batch_size=100)
    with torch.inference_mode():
        loss = torch.cat([losses(net, batch) for batch in batches]).mean().item()
    if isinstance(dataset.rows, Made):
        return {"Exact match %": exact, "Held-out loss": loss}
    return {"Held-out loss": loss, "Exact match %": exact}


def answers(net: nn.Module, dataset: Tokens, rows: Sequence[Instruction]) -> list[str]:
    """Answers instructions, each token being the likeliest.

    Args:
        net: That answers; it is in evaluation mode afterwards.
        dataset: That has the tokenizer.
        rows: The instructions, with their right answers: no answer gets longer than the longest.
    """
    given = []
    net.eval()
    for first in range(0, len(rows), 100):
        asked, answered = zip(*map(dataset.ids, rows[first : first + 100]), strict=True)
        longest = max(map(len, asked))
        # Padding comes first here, so that all answers begin at the same place.
        prompts = torch.tensor([[PAD] * (longest - len(ids)) + ids for ids in asked])
        found = net.generate(
            prompts,
            attention_mask=(prompts != PAD).long(),
            max_new_tokens=max(map(len, answered)),
            do_sample=False,
        )
        given += dataset.tokenizer.decode_batch(found[:, longest:].tolist())
    return given


def show(net: nn.Module, dataset: Tokens) -> str:
    """Returns the answers to the first twelve instructions, beside the right ones."""
    rows = [dataset.rows[index] for index in range(min(12, len(dataset)))]
    blocks = [
        f"{'right' if right(row, given) else 'WRONG'}  {row.text}\n"
        f"       answer  {row.answer}\n"
        f"       net     {given}\n"
        for row, given in zip(rows, answers(net, dataset, rows), strict=True)
    ]
    return "\n".join(blocks)


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
        lower_is_better=["Held-out loss", *settings.lower],
        **settings.asked,
    )
    print(found)
    if nets:  # none where all runs were there already
        (settings.out / "predictions.txt").write_text(show(nets[-1], test), encoding="utf-8")


if __name__ == "__main__":
    main()
