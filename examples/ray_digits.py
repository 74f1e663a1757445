"""Ray Train with two workers: scikit-learn's digits on 60 % of the sample visits, with checkpoints.

    pip install "seta[ray]" scikit-learn
    python examples/ray_digits.py                           # half a minute on two CPU cores
    python examples/ray_digits.py --method Full --budget 1  # the same on all samples

Starts a Ray on this machine, or uses the one that RAY_ADDRESS names. A worker that fails makes Ray
start all of them again, from the last checkpoint. The last line is

    SeTa: 40% of the sample visits saved, ACCURACY of the test images right
"""

import argparse
import os
import tempfile
from typing import Any


def train(config: dict[str, Any]) -> None:
    """What each worker runs."""
    import ray.train.torch
    import torch
    from ray.train import Checkpoint
    from sklearn.datasets import load_digits
    from torch.nn.functional import cross_entropy
    from torch.utils.data import TensorDataset

    from seta.integrations.ray import PrunedRayLoader, restore, save

    torch.manual_seed(0)
    torch.set_num_threads(1)
    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(digits.data, dtype=torch.float32)[order] / 16
    labels = torch.tensor(digits.target)[order]
    dataset = TensorDataset(images[:1500], labels[:1500])
    epochs = config["epochs"]

    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    model = ray.train.torch.prepare_model(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    loader = PrunedRayLoader(
        dataset, config["method"], epochs=epochs, budget=config["budget"], batch_size=25
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=loader.total_steps)
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    first = ray.train.get_context().get_world_rank() == 0

    checkpoint = ray.train.get_checkpoint()  # where a failed worker makes Ray start again
    if restore(loader, checkpoint):
        with checkpoint.as_directory() as folder:
            saved = torch.load(os.path.join(folder, "parts.pt"), weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])

    for epoch in range(loader.pruner.next_epoch, epochs):
        for inputs, targets in loader:
            loss = loader.update(cross_entropy(model(inputs), targets, reduction="none"))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            right = model(images[1500:]).argmax(1) == labels[1500:]
        metrics = {"saved": loader.pruner.saved, "accuracy": right.float().mean().item()}
        with tempfile.TemporaryDirectory() as folder:
            save(loader, folder)  # in all workers
            if first:
                states = {name: part.state_dict() for name, part in parts.items()}
                torch.save(states, os.path.join(folder, "parts.pt"))
            report = metrics | {"epoch": epoch}
            ray.train.report(report, checkpoint=Checkpoint.from_directory(folder))


def main(settings: dict[str, Any]) -> None:
    """Trains, and says how it went."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    with tempfile.TemporaryDirectory() as results:
        trainer = TorchTrainer(
            train,
            train_loop_config=settings,
            scaling_config=ScalingConfig(num_workers=2),
            run_config=RunConfig(
                storage_path=results, failure_config=FailureConfig(max_failures=2)
            ),
        )
        got = trainer.fit().metrics
    print(
        f"{settings['method']}: {got['saved']:.0%} of the sample visits saved, "
        f"{got['accuracy']:.1%} of the test images right"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", default="SeTa")
    parser.add_argument("--budget", type=float, default=0.6)
    parser.add_argument("--epochs", type=int, default=20)
    main(vars(parser.parse_args()))
