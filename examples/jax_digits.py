"""A small Flax net on scikit-learn's digits, on 60 % of the sample visits: JAX, and no PyTorch.

    pip install jax flax optax scikit-learn
    python examples/jax_digits.py                        # some 98 % right, in 5 s on two CPU cores
    python examples/jax_digits.py --method Full --budget 1                # the same on all samples
    python examples/jax_digits.py --checkpoint digits.seta --stop-after 250        # stop, and go on
    python examples/jax_digits.py --checkpoint digits.seta

Every batch is full, so the step is compiled once. With a budget the number of steps is known before
the first: the learning rate reaches its end with the last of them. A run that was stopped, in
mid-epoch too, ends bit for bit with the net of one that was not.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import linen as nn
from sklearn.datasets import load_digits

import seta
from seta.engine.batches import batches

BATCH = 28
TRAIN = 1400  # of 1,797


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Returns images (1797, 64) and labels, in random order."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    return images[order].astype(np.float32) / 16, labels[order].astype(np.int32)


def train(
    method: str, budget: float, epochs: int, checkpoint: Path | None, stop_after: int | None
) -> None:
    """Trains, and says how it went."""
    images, labels = digits()
    pruner = seta.Pruner(TRAIN, method, epochs=epochs, seed=0, budget=budget, batch_size=BATCH)
    steps = sum(map(pruner.sizes.batches, pruner.lengths))
    net = nn.Sequential([nn.Dense(64), nn.relu, nn.Dense(10)])
    optimizer = optax.adam(optax.cosine_decay_schedule(0.01, steps))
    params = net.init(jax.random.key(0), images[:1])
    state = params, optimizer.init(params)

    @jax.jit
    def train_step(state: Any, images: Any, labels: Any, weights: Any) -> tuple[Any, jax.Array]:
        def objective(params: Any) -> Any:
            logits = net.apply(params, images)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return (weights * losses).mean(), losses

        params, moments = state
        gradient, losses = jax.grad(objective, has_aux=True)(params)
        updates, moments = optimizer.update(gradient, moments)
        return (optax.apply_updates(params, updates), moments), losses

    step = 0

    def save(done: int) -> None:
        if checkpoint is not None:
            leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
            parts = {"leaves": leaves, "step": step, "pruner": pruner.state_dict(done=done)}
            seta.save(parts, checkpoint)

    if checkpoint is not None and checkpoint.exists():
        saved = seta.load(checkpoint)
        state = jax.tree.unflatten(jax.tree.structure(state), saved["leaves"])
        step = saved["step"]
        pruner.load_state_dict(saved["pruner"])

    while pruner.next_epoch < epochs:
        done = pruner.done  # samples of the epoch that are trained
        for indices, weights in batches(pruner):
            if step == stop_after:
                save(done)
                print(f"stopped after step {step} of {steps}, in epoch {pruner.epoch}")
                return
            state, losses = train_step(state, images[indices], labels[indices], weights)
            pruner.record(indices, losses)
            step, done = step + 1, done + len(indices)
        pruner.end_epoch()
        save(done=0)

    logits = net.apply(state[0], images[TRAIN:])
    right = (np.asarray(logits).argmax(1) == labels[TRAIN:]).mean()
    print(f"{right:.1%} right after {step} of {steps} steps; {pruner.saved:.0%} saved")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--method", default="SeTa")
    parser.add_argument("--budget", type=float, default=0.6)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--stop-after", type=int, metavar="STEPS")
    train(**vars(parser.parse_args()))
