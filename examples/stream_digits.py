"""A stream: scikit-learn's digits as a shuffled Hugging Face stream, on 60 % of the sample visits.

    pip install "seta[datasets]" scikit-learn
    python examples/stream_digits.py                           # seconds, on two CPU cores
    python examples/stream_digits.py --method Full --budget 1  # the same on all samples

Images come as PNG files, as streams of images do. All of them are read in each epoch; those that
are pruned are dropped before they are decoded, in the worker. Two lines are printed,

    decoded 8640 images of 14400 that were read
    SeTa: 40% of the sample visits saved, ACCURACY of the test images right
"""

import argparse
import io
from typing import Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from seta.integrations.streams import KeepSet, PrunedStream

TRAIN = 1440  # of 1,797


def png(pixels: Any) -> bytes:
    """Returns an image as a file."""
    file = io.BytesIO()
    Image.fromarray((pixels * 15).astype(np.uint8)).save(file, "png")
    return file.getvalue()


def stream_of(images: Any, labels: Any) -> IterableDataset:
    """Returns the images as a stream: rows in shards, each with its id."""
    rows = {
        "id": list(range(len(labels))),
        "image": [png(image) for image in images],
        "label": labels.tolist(),
    }
    return Dataset.from_dict(rows).to_iterable_dataset(num_shards=8)


def collate(rows: list[dict[str, Any]]) -> tuple[Tensor, Tensor]:
    """Decodes the rows that are kept, and makes a batch of them."""
    images = [np.asarray(Image.open(io.BytesIO(row["image"]))) for row in rows]
    batch = torch.from_numpy(np.stack(images)).float()[:, None] / 240
    return batch, torch.tensor([row["label"] for row in rows])


def net() -> nn.Sequential:
    """Returns two convolutions and a dense layer."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(128, 10)),
    )


def main(method: str, budget: float, epochs: int) -> None:
    """Trains, and says how it went."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images, labels = digits.images[order], digits.target[order]

    keep = KeepSet("id", n=TRAIN)
    rows = stream_of(images[:TRAIN], labels[:TRAIN]).shuffle(seed=0, buffer_size=256)
    stream = PrunedStream(
        rows.filter(keep, input_columns=["id"]),
        method,
        keep=keep,
        epochs=epochs,
        budget=budget,
        batch_size=24,
        collate_fn=collate,
        num_workers=1,
        persistent_workers=True,
    )
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=stream.total_steps)
    for _ in range(epochs):
        for inputs, targets in stream:
            loss = stream.update(cross_entropy(model(inputs), targets, reduction="none"))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

    history = stream.pruner.history
    decoded = sum(row["trained"] for row in history)
    with torch.no_grad():
        test = torch.from_numpy(images[TRAIN:]).float()[:, None] / 16
        right = model(test).argmax(1) == torch.from_numpy(labels[TRAIN:])
    print(f"decoded {decoded} images of {epochs * TRAIN} that were read")
    print(
        f"{method}: {stream.pruner.saved:.0%} of the sample visits saved, "
        f"{right.float().mean():.1%} of the test images right"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", default="SeTa")
    parser.add_argument("--budget", type=float, default=0.6)
    parser.add_argument("--epochs", type=int, default=10)
    main(**vars(parser.parse_args()))
