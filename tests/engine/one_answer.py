"""Prints what all methods choose, as digests, under the threads and block size that are given."""

import hashlib
import json
import sys

import numpy as np

import seta
from seta.engine import parallel
from seta.policies import REGISTRY

SIZES = (20_010, 20_005)  # 70 % of them: a half of a batch of two, and of one


def made_losses(n):
    """Losses all different, made by products alone."""
    u = np.random.default_rng(0).random(n)
    return (8 * u * u * u + 1e-3).astype(np.float32)


def softmax(histogram, epoch, epochs):
    """A user's curve, by functions that differ between CPUs; it keeps 70 %, to a half."""
    if not histogram.seen:
        return seta.KeepCurve.constant(histogram, 0.7)
    weights = np.exp(histogram.centres / 50)
    share = (0.7 * histogram.total - 0.5 * histogram.unseen) / (histogram.counts @ weights)
    return seta.KeepCurve(np.minimum(weights * share, 1.0), 0.5)


def digest(values):
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:12]


def chosen(n, policy, *, exact=True, **options):
    """Two epochs' lengths, samples, and curves, where the policy is exact."""
    losses, answers = made_losses(n), []
    pruner = seta.Pruner(n, policy, epochs=3, losses=losses, **options)
    for _ in range(2):
        indices = pruner.begin_epoch().indices
        curve = digest(pruner.curve.keep_by_cell) if exact else None
        answers.append([len(indices), digest(indices), curve])
        for part in np.array_split(np.sort(indices), 60):
            pruner.record(part, losses[part] * np.float32(0.75))
        pruner.end_epoch()
    return answers


def main():
    threads, parallel.BLOCK = int(sys.argv[1]), 1 << int(sys.argv[2])
    answers = {}
    for name in (*REGISTRY, "softmax"):
        policy = softmax if name == "softmax" else name
        for sharding in ("replicated", "sharded"):
            if name == "RCAP" and sharding == "sharded":
                continue  # classes need all losses
            for n, batch, budget in ((SIZES[0], 2, None), (SIZES[1], 1, None), (SIZES[1], 2, 0.37)):
                options = {"batch_size": batch, "budget": budget, "sharding": sharding}
                options["strata"] = np.arange(n) % 7 if name == "RCAP" else None
                what = f"{name}, {sharding}, {n} samples, batch {batch}, budget {budget}"
                exact = name != "softmax"
                answers[what] = chosen(n, policy, exact=exact, threads=threads, **options)
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
