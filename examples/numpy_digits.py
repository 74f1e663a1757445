"""A two-layer net by hand on 60 % of the sample visits: numpy alone, no framework.

    python examples/numpy_digits.py                           # some 98 % right, in seconds
    python examples/numpy_digits.py --method Full --budget 1  # the same on all samples

Needs scikit-learn, for its digits. Saves to `--checkpoint FILE`, and goes on from what is there.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import seta
from seta.engine.batches import batches

parser = argparse.ArgumentParser()
parser.add_argument("--method", default="SeTa")
parser.add_argument("--budget", type=float, default=0.6)
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--checkpoint", type=Path)
args = parser.parse_args()

images, labels = load_digits(return_X_y=True)
generator = np.random.default_rng(0)
train, test = np.split(generator.permutation(len(labels)), [1400])
images, targets = images / 16, np.eye(10)[labels]
first = generator.normal(scale=64**-0.5, size=(64, 48))
second = generator.normal(scale=48**-0.5, size=(48, 10))

batch = 28  # every batch is full, and with a budget the number of steps is known
pruner = seta.Pruner(1400, args.method, epochs=args.epochs, budget=args.budget, batch_size=batch)
steps = sum(map(pruner.sizes.batches, pruner.lengths))
step = 0
if args.checkpoint and args.checkpoint.exists():
    saved = seta.load(args.checkpoint)
    first, second, step = saved["first"], saved["second"], saved["step"]
    pruner.load_state_dict(saved["pruner"])

while pruner.next_epoch < args.epochs:
    for indices, weights in batches(pruner):
        x, t = images[train[indices]], targets[train[indices]]
        hidden = np.maximum(x @ first, 0)
        logits = hidden @ second
        logits -= np.log(np.exp(logits).sum(1, keepdims=True))
        pruner.record(indices, -(t * logits).sum(1))  # one loss per sample
        error = weights[:, None] * (np.exp(logits) - t) / batch
        rate = 0.5 * (1 - step / steps)
        back = (error @ second.T) * (hidden > 0)
        second -= rate * hidden.T @ error
        first -= rate * x.T @ back
        step += 1
    pruner.end_epoch()
    if args.checkpoint:
        state = {"first": first, "second": second, "step": step, "pruner": pruner.state_dict()}
        seta.save(state, args.checkpoint)

right = (np.maximum(images[test] @ first, 0) @ second).argmax(1) == labels[test]
print(f"{right.mean():.1%} right after {step} of {steps} steps; {pruner.saved:.0%} saved")
