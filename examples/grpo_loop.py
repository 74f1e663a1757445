"""GRPO in a loop of your own, with rollouts for half of the prompts in each epoch.

    python examples/grpo_loop.py         # the right digit has probability 0.60
    python examples/grpo_loop.py --full  # 0.47: all prompts, in half of the epochs

Both make 7,680 rollouts; one run of each says little. Seconds on one core. Needs torch alone: the
model is a table of logits, of 24 different prompts and 8 answers. A third of the prompts has one
right answer, a third takes any, and a third none. Three lines, numbered below, are added to a plain
loop. On TRL's trainer: `examples/grpo.py`.
"""

import argparse

import torch
from torch import Tensor

import seta
from seta.rl import ZeroSignal, group_signal

parser = argparse.ArgumentParser()
parser.add_argument("--full", action="store_true", help="all prompts in every epoch")
parser.add_argument("--epochs", type=int, default=8)
options = parser.parse_args()
policy, budget = ZeroSignal(), 0.5
if options.full:
    policy, budget, options.epochs = "Full", 1.0, options.epochs // 2

PROMPTS, ANSWERS, ROLLOUTS, BATCH = 240, 8, 8, 12
digit, kind = torch.arange(PROMPTS) % ANSWERS, torch.arange(PROMPTS) // ANSWERS % 3

torch.manual_seed(0)
model = torch.nn.Embedding(3 * ANSWERS, ANSWERS)  # logits of the answers to each prompt
optimizer = torch.optim.SGD(model.parameters(), lr=2.0)


def rewards_of(prompts: Tensor, answers: Tensor) -> Tensor:
    """Returns 1 for a right answer, else 0: float32 (B, rollouts)."""
    right = answers == digit[prompts, None]
    right[kind[prompts] == 1], right[kind[prompts] == 2] = True, False
    return right.float()


# 1: what knows the prompts
pruner = seta.Pruner(PROMPTS, policy, epochs=options.epochs, budget=budget, batch_size=BATCH)
for _ in range(options.epochs):
    for indices, _ in seta.batches(pruner):  # 2: in place of a shuffled range
        prompts = torch.from_numpy(indices)
        logs = model(kind[prompts] * ANSWERS + digit[prompts]).log_softmax(-1)
        answers = torch.multinomial(logs.detach().exp(), ROLLOUTS, replacement=True)
        rewards = rewards_of(prompts, answers)
        advantages = (rewards - rewards.mean(1, keepdim=True)) / (
            rewards.std(1, keepdim=True) + 1e-4
        )
        loss = -(advantages * logs.gather(1, answers)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        pruner.record(indices, group_signal(rewards))  # 3: after the rewards
    pruner.end_epoch()

chances = model.weight.detach()[:ANSWERS].softmax(-1).diagonal()
made = sum(row["trained"] for row in pruner.history) * ROLLOUTS
print(f"the right digit has probability {chances.mean():.2f} after {made:,} rollouts")
