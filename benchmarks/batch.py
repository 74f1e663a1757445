"""What a training step pays: `record` and `update` on a batch, and loading alone.

Losses of a batch of 128 lie on the CPU with a graph behind them, as a model's would. Loading alone
compares whole epochs, their start included, of `PrunedDataLoader` keeping everything (each batch is
skipped, or it would ask for the losses) with those of a plain shuffling `DataLoader` over the same
dataset: each stands between two of the plain one's and is divided by their mean. The median of
these ratios counts; that of the two plain ones to each other, the `control`, stands beside it and
tells how far the machine can be trusted with workers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from benchmarks.measure import Bar, Result, child, median_ratio, seconds

BATCH = 128
WORKERS = (0, 2)
DATASETS = ("tensors", "rows", "images", "batched")


def run(quick: bool, tell: Callable[[str], None]) -> Result:
    """Measures a step with and without weights, then loading for each dataset and worker count."""
    result = Result("batch")
    for policy in ("SeTa", "InfoBatch"):
        tell(f"record and update, {policy}")
        task = {"kind": "step", "policy": policy, "n": 2_000 if quick else 1_000_000}
        result.rows.append(child(__spec__.name, task | {"rounds": 2 if quick else 11}))
    for policy in ("SeTa", "UCB"):
        tell(f"record, tracked, {policy}")
        task = {"kind": "tracked", "policy": policy, "n": 2_000 if quick else 1_000_000}
        result.rows.append(child(__spec__.name, task | {"rounds": 2 if quick else 11}))
    for dataset in DATASETS[:1] if quick else DATASETS:
        for workers in WORKERS:
            tell(f"loading {dataset}, {workers} workers")
            size = {"n": 512, "rounds": 2} if quick else {"n": 50_000, "rounds": 21}
            task = {"kind": "loading", "dataset": dataset, "workers": workers}
            result.rows.append(child(__spec__.name, task | size))
    result.bars = _bars(result.rows)
    return result


def _bars(rows: list[dict[str, Any]]) -> list[Bar]:
    """One bar per measurement."""
    bars = []
    for row in rows:
        if row["kind"] == "step":
            what = f"record + update of {BATCH}, {row['policy']}"
            bars.append(Bar(what, row["microseconds"], 100, "us"))
        elif row["kind"] == "tracked":
            what = f"of {BATCH}, {row['policy']}, tracked beside untracked"
            bars.append(Bar(f"record {what}", row["record_ratio"], 1.5, "x"))
            bars.append(Bar(f"record + update {what}", row["ratio"], 1.5, "x"))
        else:
            what = f"loading {row['dataset']}, {row['workers']} workers, beside a plain loader"
            bars.append(Bar(what, row["ratio"], 1.05, "x"))
    return bars


def _step(policy: str, n: int, rounds: int) -> dict[str, Any]:
    """Microseconds of `loader.update` (which records), and of `pruner.record` alone."""
    loader = _loader(policy, n, rounds + 1)
    raw: dict[str, list[float]] = {"update": [], "record": []}
    for _ in range(rounds):
        update, record = _one_round(loader, batches=200)
        raw["update"].append(update)
        raw["record"].append(record)
    total = [a + b for a, b in zip(raw["update"], raw["record"], strict=True)]
    return {
        "kind": "step",
        "policy": policy,
        "n": n,
        "microseconds": median(total),
        "update_microseconds": median(raw["update"]),
        "record_microseconds": median(raw["record"]),
        "raw": raw,
    }


def _tracked(policy: str, n: int, rounds: int) -> dict[str, Any]:
    """What tracking adds to the same, in turns."""
    loaders = {track: _loader(policy, n, rounds + 1, track=track) for track in (False, True)}
    raw: dict[str, list[float]] = {"record": [], "both": []}
    for _ in range(rounds):
        (update, record), (more, tracked) = (_one_round(one, 200) for one in loaders.values())
        raw["record"].append(tracked / record)
        raw["both"].append((more + tracked) / (update + record))
    ratios = {"ratio": median(raw["both"]), "record_ratio": median(raw["record"])}
    return {"kind": "tracked", "policy": policy, "n": n, **ratios, "raw": raw}


def _loader(policy: str, n: int, epochs: int, *, track: bool = False) -> Any:
    """A loader over n samples that all have a loss."""
    import torch

    import seta

    dataset = torch.utils.data.TensorDataset(torch.arange(n))
    losses = np.random.default_rng(0).standard_gamma(2.0, n).astype(np.float32)
    method = getattr(seta, policy)()
    return seta.PrunedDataLoader(
        dataset, method, epochs=epochs, batch_size=BATCH, losses=losses, track=track
    )


def _one_round(loader: Any, batches: int) -> tuple[float, float]:
    """Median microseconds of one `update` and one `record`, over an epoch's first batches."""
    import torch

    rng = np.random.default_rng(0)
    scale = torch.ones((), requires_grad=True)
    updates, records = [], []
    for number, (rows,) in enumerate(loader):
        values = rng.standard_gamma(2.0, len(rows)).astype(np.float32)
        losses = scale * torch.from_numpy(values)
        updates.append(seconds(partial(loader.update, losses)))
        record = partial(loader.pruner.record, rows.numpy(), values)
        records.append(seconds(record))
        if number + 1 == batches:
            break
    return 1e6 * median(updates), 1e6 * median(records)


def _loading(dataset: str, workers: int, n: int, rounds: int) -> dict[str, Any]:
    """Seconds of whole epochs of loading, plain, pruned, plain again, and their ratios."""
    import torch

    import seta

    data = _dataset(dataset, n)
    options: dict[str, Any] = {
        "batch_size": BATCH,
        "num_workers": workers,
        "persistent_workers": workers > 0,
    }
    plain = torch.utils.data.DataLoader(data, shuffle=True, **options)
    loaders: dict[str, Iterable[Any]] = {
        "before": plain,
        "pruned": seta.PrunedDataLoader(data, seta.Full(), epochs=rounds + 1, **options),
        "after": plain,
    }
    raw: dict[str, list[float]] = {name: [] for name in loaders}
    for number in range(rounds + 1):
        for name, loader in loaders.items():
            elapsed = seconds(partial(_exhaust, loader))
            if number:  # the first round starts the workers
                raw[name].append(elapsed)
    around = [(a + b) / 2 for a, b in zip(raw["before"], raw["after"], strict=True)]
    return {
        "kind": "loading",
        "dataset": dataset,
        "workers": workers,
        "n": n,
        "ratio": median_ratio(raw["pruned"], around),
        "control": median_ratio(raw["after"], raw["before"]),
        "plain_seconds": median(around),
        "pruned_seconds": median(raw["pruned"]),
        "raw": raw,
    }


def _exhaust(batches: Iterable[Any]) -> None:
    skip = getattr(batches, "skip", None)
    for _ in batches:
        if skip is not None:
            skip()


class Rows:
    """The lightest dataset of one's own: a row of an array and its label, `__getitem__` alone."""

    def __init__(self, n: int) -> None:
        self.x = np.random.default_rng(0).random((n, 64), dtype=np.float32)
        self.y = np.arange(n) % 10

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Any:
        """One sample: float32 (64,) and an integer."""
        return self.x[index], int(self.y[index])


class Images(Rows):
    """Samples as dicts, with the usual work on an image: flip, crop and normalise."""

    def __getitem__(self, index: int) -> Any:
        """One sample: a dict of a float32 (8, 8) tensor and an integer."""
        import torch

        image = torch.from_numpy(self.x[index]).view(8, 8)
        image = image.flip(1) if index % 2 else image
        image = torch.nn.functional.pad(image, (1, 1, 1, 1))[1:9, :8]
        return {"image": (image - 0.5) / 0.25, "label": int(self.y[index])}


class Batched(Rows):
    """A dataset that fetches a whole batch at once, so that hardly anything hides our own cost."""

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """The samples of a batch."""
        return list(zip(self.x[indices], self.y[indices].tolist(), strict=True))


def _dataset(name: str, n: int) -> Any:
    """One of `DATASETS`, with n samples."""
    import torch

    if name == "tensors":
        rows = Rows(n)
        return torch.utils.data.TensorDataset(torch.from_numpy(rows.x), torch.from_numpy(rows.y))
    return {"rows": Rows, "images": Images, "batched": Batched}[name](n)


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    kinds: dict[str, Callable[..., dict[str, Any]]]
    kinds = {"step": _step, "tracked": _tracked, "loading": _loading}
    measured = kinds[asked.pop("kind")](**asked)
    print(json.dumps(measured))
