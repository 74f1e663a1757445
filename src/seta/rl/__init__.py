"""Reinforcement learning of language models: choose the prompts that get rollouts.

A prompt takes the place of a sample, and the signal of its group of rewards the place of a loss:

    pruner = seta.Pruner(len(prompts), seta.rl.ZeroSignal(), epochs=10, budget=0.6, batch_size=64)
    for epoch in range(10):
        for indices, _ in seta.batches(pruner):
            rewards = ...  # of the rollouts, (64, rollouts of a prompt)
            pruner.record(indices, seta.rl.group_signal(rewards))

Needs numpy alone. For TRL: `seta.integrations.trl`.
"""

from seta.rl.signal import group_signal, is_flat, rate_of, record_rewards
from seta.rl.success_rate import SuccessRate
from seta.rl.zero_signal import ZeroSignal

__all__ = [
    "SuccessRate",
    "ZeroSignal",
    "group_signal",
    "is_flat",
    "rate_of",
    "record_rewards",
]
