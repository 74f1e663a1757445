"""Images that are their own indices, in a folder, and timm's loaders over them."""

import torch
from PIL import Image
from timm.data import create_dataset, create_loader

import seta
from seta.integrations.timm import PrefetchedLoader

N = 60
MEAN, STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def write_images(folder):
    """Writes image i in the grey level i, of class i % 2."""
    for index in range(N):
        place = folder / "images" / f"class{index % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (index, index, index)).save(place / f"{index:03}.png")


def index_of(images):
    """Returns the samples of a batch of images, by their position in timm's dataset."""
    level = (images[:, 0, 0, 0] * 255).round().int()
    return (level % 2) * (N // 2) + level // 2  # one class after another


def value_of(index):
    """The loss of a sample."""
    return 1 + index / 100


def loader_of(
    folder, *, prefetcher=True, epochs=4, batch_size=10, policy="SeTa", budget=0.5, **options
):
    """Returns timm's loader, and the pruned one in it."""
    dataset = create_dataset("", root=str(folder / "images"), is_training=True)
    loader = create_loader(
        dataset,
        (3, 8, 8),
        batch_size,
        is_training=True,
        no_aug=True,
        mean=MEAN,
        std=STD,
        use_prefetcher=prefetcher,
        device=torch.device("cpu"),
        **{"num_workers": 0, **options},
    )
    arguments = {"epochs": epochs, "budget": budget}
    if not prefetcher:
        loader = seta.PrunedDataLoader.from_loader(loader, policy, **arguments)
        return loader, loader
    loader.loader = PrefetchedLoader.from_loader(loader.loader, policy, **arguments)
    return loader, loader.loader
