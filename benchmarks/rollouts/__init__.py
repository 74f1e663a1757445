"""Held-out reward against rollouts made: a tiny language model, GRPO, and prompts chosen or not."""
