"""Digits on two processes: DDP over gloo, half a minute on two cores.

    torchrun --nproc-per-node 2 examples/ddp_digits.py [--epochs 20] [--budget 0.6]

Needs `pip install "seta[torch]" scikit-learn`. Rank 0 prints the accuracy, about 0.95, and what was
saved. Runs as well with plain `python`, on one process.
"""

import argparse
import gc
import os

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import TensorDataset

import seta


def main(epochs: int, budget: float) -> None:
    """Trains, and tells what came of it."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32) / 16
    labels = torch.tensor(digits.target)
    train, test = slice(0, 1400), slice(1400, None)
    net: torch.nn.Module = torch.nn.Sequential(
        torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
    )
    together = "RANK" in os.environ
    if together:
        dist.init_process_group("gloo")
        net = DistributedDataParallel(net)
    loader = seta.PrunedDataLoader(
        TensorDataset(images[train], labels[train]),
        "SeTa",
        epochs=epochs,
        budget=budget,
        batch_size=16,
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.3, loader.total_steps)
    for _ in range(epochs):
        for inputs, targets in loader:
            loss = loader.update(cross_entropy(net(inputs), targets, reduction="none"))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        correct = (net(images[test]).argmax(1) == labels[test]).float().mean().item()
    if not together or dist.get_rank() == 0:
        saved = loader.pruner.saved
        print(f"accuracy {correct:.3f}, saved {saved:.1%} of the sample visits")
    if together:
        # A model that outlives its gloo group may abort the process at exit (torch 2.13).
        del net
        gc.collect()
        dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--budget", type=float, default=0.6)
    main(**vars(parser.parse_args()))
