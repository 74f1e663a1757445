"""A Llama of some 75,000 weights, begun at random: supervised for a while, then GRPO."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.rollouts.task import PROMPT, VOCABULARY, Prompts, Task, shown

WIDTH = 64


def begun(seed: int) -> Any:
    """Returns a model with random weights, which leaves the global random state as it was."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=16,
        use_cache=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def supervised(
    model: Any, task: Task, seed: int, steps: int, *, batch: int = 128, rate: float = 2e-3
) -> None:
    """Trains on prompts with the answers that are shown: some rightly, some seldom so."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    data = shown(task, 40_000, seed + 1_000_000)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50) * (1 - step / steps)
        at = torch.randint(len(data.tokens), (batch,), generator=generator)
        loss = -log_probabilities(model, data.tokens[at], data.answers[at]).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def log_probabilities(model: Any, tokens: Tensor, answers: Tensor) -> Tensor:
    """Returns those of the tokens of answers: float32 (B, 2)."""
    logits = model(torch.cat([tokens, answers[:, :-1]], dim=1)).logits[:, PROMPT - 1 :]
    return -cross_entropy(logits.transpose(1, 2), answers, reduction="none")


@torch.no_grad()
def rolled_out(model: Any, tokens: Tensor, rollouts: int, generator: torch.Generator) -> Tensor:
    """Returns drawn answers: int64 (B, rollouts, 2)."""
    first = model(tokens).logits[:, -1].softmax(-1)
    tens = torch.multinomial(first, rollouts, replacement=True, generator=generator)
    longer = torch.cat([tokens.repeat_interleave(rollouts, 0), tens.reshape(-1, 1)], dim=1)
    second = model(longer).logits[:, -1].softmax(-1)
    ones = torch.multinomial(second, 1, generator=generator)
    return torch.stack([tens, ones.view_as(tens)], dim=2)


@torch.no_grad()
def expected(model: Any, prompts: Prompts) -> Tensor:
    """Returns the expected reward of each prompt, the probability of its answer: float32 (N,)."""
    return log_probabilities(model, prompts.tokens, prompts.answers).sum(dim=1).exp()


def step(model: Any, optimizer: Any, tokens: Tensor, drawn: Tensor, rewards: Tensor) -> None:
    """Makes one step of GRPO.

    Args:
        model: Drew the answers.
        optimizer: Of it.
        tokens: int64 (B, 6).
        drawn: int64 (B, G, 2).
        rewards: float32 (B, G).
    """
    gaps = rewards - rewards.mean(dim=1, keepdim=True)
    advantages = (gaps / (rewards.std(dim=1, keepdim=True) + 1e-4)).reshape(-1, 1)
    rollouts = drawn.shape[1]
    logs = log_probabilities(model, tokens.repeat_interleave(rollouts, 0), drawn.flatten(0, 1))
    loss = -(advantages * logs).mean()
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
