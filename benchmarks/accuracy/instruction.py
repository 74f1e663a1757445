"""The task of the suite `instruction`: a small Llama learns to answer GSM8K's questions.

Random weights, and a tokenizer trained on the training file. One loss per sequence, the mean over
the tokens of its answer; the question is read and not learned. Attention is the plain one, "eager",
which on a CPU is quicker in bfloat16 than torch's fused one. Making the task takes a few seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.accuracy import gsm8k
from benchmarks.accuracy.image_trial import low_precision, parameter_count, seeded
from benchmarks.accuracy.text import Descent, TextRecipe, padded
from seta.extras import require
from seta.torch import token_losses

require("benchmarks.accuracy.instruction", "transformers", "tokenizers", extra="transformers")

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

Batch = tuple[Tensor, Tensor]

SPECIAL = ("<pad>", "<answer>", "<end>")
PAD, ANSWER, END = range(len(SPECIAL))
IGNORED = -100
"""The label of tokens that are not learned, of the question and of padding."""


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """Returns a byte-pair tokenizer, the same each time; every digit is a token.

    Args:
        texts: What it is trained on.
        size: Tokens at most; the 256 bytes and the special tokens are always among them.
    """
    tokenizer = Tokenizer(models.BPE())
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


@dataclass(frozen=True)
class Problem:
    """A question and its answer, as tokens; the question ends in `ANSWER`, the answer in `END`."""

    question: list[int]
    answer: list[int]


class Problems(torch.utils.data.Dataset[Batch]):
    """Problems, given out a batch at a time."""

    def __init__(self, rows: list[Problem], device: str) -> None:
        self.rows, self.device = rows, device

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> Batch:
        """Returns tokens int64 (B, L), padded at the end, and their labels (B, L)."""
        rows = [self.rows[index] for index in indices]
        tokens, lengths = padded([row.question + row.answer for row in rows], self.device)
        at = torch.arange(tokens.shape[1], device=self.device)
        starts = torch.tensor([[len(row.question)] for row in rows], device=self.device)
        learned = (at >= starts) & (at < lengths[:, None])
        return tokens, torch.where(learned, tokens, IGNORED)


class InstructionTask:
    """GSM8K, a small Llama and a recipe.

    Args:
        data: The folder of the files.
        train: Problems to train on: the first that are short enough.
        test: Problems to measure on, likewise.
        longest: Tokens of question and answer together; longer problems are left out.
        size: Tokens of the vocabulary.
        width: Of the net's states.
        layers: Of the net.
        recipe: How it is trained.
        device: Where it is trained.

    Raises:
        ValueError: A file cannot be used, or has too few problems.
    """

    classes = None
    wrong = None

    def __init__(
        self,
        data: Path | None,
        *,
        train: int = 3000,
        test: int = 400,
        longest: int = 160,
        size: int = 2000,
        width: int = 128,
        layers: int = 4,
        recipe: TextRecipe | None = None,
        device: str = "cpu",
    ) -> None:
        pairs = gsm8k.read(data, "train")
        self.tokenizer = train_tokenizer((text for pair in pairs for text in pair), size)
        self.longest, self.width, self.layers, self.device = longest, width, layers, device
        self.recipe = TextRecipe(batch_size=16) if recipe is None else recipe
        self.batch_size = self.recipe.batch_size
        self.dataset = self._problems(pairs, train, "train")
        self.held_out = self._problems(gsm8k.read(data, "test"), test, "test")

    def _problems(self, pairs: list[tuple[str, str]], count: int, name: str) -> Problems:
        questions = self.tokenizer.encode_batch([question for question, _ in pairs])
        answers = self.tokenizer.encode_batch([answer for _, answer in pairs])
        problems = [
            Problem([*question.ids, ANSWER], [*answer.ids, END])
            for question, answer in zip(questions, answers, strict=True)
            if len(question) + len(answer) + 2 <= self.longest
        ]
        if not 1 <= count <= len(problems):
            raise ValueError(
                f"{name} must lie between 1 and {len(problems)}, the problems of "
                f"gsm8k-{name}.jsonl of at most {self.longest} tokens (raise longest for more); "
                f"got {count}"
            )
        return Problems(problems[:count], self.device)

    def net(self) -> LlamaForCausalLM:
        """Returns a new net."""
        heads = max(1, self.width // 64)
        config = LlamaConfig(
            vocab_size=self.tokenizer.get_vocab_size(),
            hidden_size=self.width,
            intermediate_size=2 * self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=2 * self.longest,
            tie_word_embeddings=True,
            pad_token_id=PAD,
            bos_token_id=ANSWER,
            eos_token_id=END,
            attn_implementation="eager",
        )
        return LlamaForCausalLM(config)

    @property
    def settings(self) -> dict[str, Any]:
        """What makes it what it is."""
        return {
            "data": "GSM8K",
            "net": "Llama",
            "train": len(self.dataset),
            "test": len(self.held_out),
            "longest": self.longest,
            "vocabulary": self.tokenizer.get_vocab_size(),
            "width": self.width,
            "layers": self.layers,
            "parameters": parameter_count(self.net),
            "precision": "bfloat16" if low_precision(self.device) else "float32",
            "optimizer": "AdamW",
            **asdict(self.recipe),
        }

    def trial(self, seed: int) -> InstructionTrial:
        """Returns a new net, and its optimizer."""
        return InstructionTrial(self, seed)


class InstructionTrial:
    """One net in training.

    Args:
        task: What it is trained on, and how.
        seed: Of its first weights.
    """

    def __init__(self, task: InstructionTask, seed: int) -> None:
        self._task = task
        self.net = seeded(task.net, seed).to(task.device)
        self._descent = Descent(self.net, task.recipe)

    def losses(self, batch: Batch) -> Tensor:
        """Returns the mean cross-entropy over each answer's tokens: float32 (B,)."""
        tokens, labels = batch
        self.net.train()
        return token_losses(self._logits(tokens), labels, IGNORED, shift=True)

    def step(self, loss: Tensor, progress: float) -> None:
        """Goes one step down, at the rate that the progress calls for."""
        self._descent.step(loss, progress)

    def evaluate(self) -> dict[str, float]:
        """Returns, over the tokens of held-out answers: how many are foreseen, and the mean loss.

        `accuracy` is the share of tokens that are the likeliest, given all before them.
        """
        held_out = self._task.held_out
        right, loss, count = 0, 0.0, 0
        self.net.eval()
        with torch.inference_mode():
            for part in np.array_split(np.arange(len(held_out)), -(-len(held_out) // 32)):
                tokens, labels = held_out.__getitems__(part.tolist())
                logits = self._logits(tokens)
                lengths = (labels != IGNORED).sum(dim=1)
                right += int((logits[:, :-1].argmax(dim=2) == labels[:, 1:]).sum())
                loss += (token_losses(logits, labels, IGNORED, shift=True) * lengths).sum().item()
                count += int(lengths.sum())
        return {"accuracy": right / count, "loss": loss / count}

    def evaluate_last(self, problems: int = 50, tokens: int = 100) -> dict[str, float]:
        """Returns what `evaluate` does, and `exact_match`: the share of right final answers.

        Args:
            problems: Held-out problems to answer, at most.
            tokens: Of an answer, at most.
        """
        rows = self._task.held_out.rows[:problems]
        answers = self.answers([row.question for row in rows], tokens)
        decode = self._task.tokenizer.decode
        right = 0
        for row, answer in zip(rows, answers, strict=True):
            given = gsm8k.final_answer(decode(answer))
            right += given is not None and given == gsm8k.final_answer(decode(row.answer))
        return {**self.evaluate(), "exact_match": right / len(rows)}

    def answers(self, questions: list[list[int]], tokens: int) -> list[list[int]]:
        """Answers questions, each token being the likeliest.

        Args:
            questions: Their tokens, `ANSWER` the last.
            tokens: Of an answer, at most.

        Returns:
            The tokens of each answer, without `END`.
        """
        backwards, _ = padded([question[::-1] for question in questions], self._task.device)
        prompts = backwards.flip(1)  # padded in front, so that all go on at their ends
        self.net.eval()
        with self._precision():
            found = self.net.generate(
                prompts,
                attention_mask=(prompts != PAD).long(),
                max_new_tokens=tokens,
                do_sample=False,
            )
        rows = found[:, prompts.shape[1] :].tolist()
        return [row[: row.index(END)] if END in row else row for row in rows]

    def _logits(self, tokens: Tensor) -> Tensor:
        # Padding comes last, where causal attention lets no token before it see it: no mask needed.
        with self._precision():
            logits: Tensor = self.net(input_ids=tokens, use_cache=False).logits
        return logits

    def _precision(self) -> torch.autocast:
        device = self._task.device
        return torch.autocast(device, torch.bfloat16, enabled=low_precision(device))


def instruction(data: Path | None, *, device: str = "cpu", **options: Any) -> InstructionTask:
    """GSM8K and a small Llama.

    Args:
        data: The folder of the files.
        device: Where it is trained.
        **options: Of `InstructionTask`.
    """
    return InstructionTask(data, device=device, **options)
