"""`prune(dataset, args)`: reads and checks the method in the attributes of `args`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset

from seta.compat.dataset import PublishedDataset
from seta.compat.order import Run
from seta.engine import KeepCurve, LossHistogram, Policy, Pruner
from seta.engine.steps import Steps
from seta.policies import Full, InfoBatch, SeTa, Static
from seta.torch.ranks import ranks_of

_METHODS = ("SeTa", "InfoBatch", "Static", "none")
_REQUIRED = object()


def prune(dataset: Any, args: Any) -> PublishedDataset:
    """Wraps a dataset for pruned training, with the interface of the published SeTa package.

    For new scripts use `seta.PrunedDataLoader`. With several processes, initialise
    `torch.distributed` first; each process then trains its share.

    Args:
        dataset: Map-style dataset of N >= 1 samples.
        args: Object with the attributes `prune_type` ("SeTa", "InfoBatch", "Static"; "none", "" or
            None for the baseline) and `epochs`. Optional: `prune_ratio`, `num_group`,
            `window_scale`, `delta` (default: as in the published package), `seed` (default: 0) and
            `batch_size`, samples per batch and rank, which makes every batch full (default: an
            epoch may end in a smaller batch).

    Returns:
        The dataset, for `DataLoader(train_data, sampler=train_data.sampler, ...)`. It has
        `sampler`, `update(losses)`, `pruner`, `get_pruned_count()` and `get_saved_ratio()`.

    Raises:
        AttributeError: `args` lacks an attribute without a default.
        TypeError: The dataset is not map-style.
        ValueError: The dataset is empty, the method is unknown, or a value is out of range.
    """
    total = _size(dataset)
    method, epochs = _method(args), _count("epochs", _get(args, "epochs"))
    batch_size, ranks = _get(args, "batch_size", None), ranks_of(None)
    batch_size = 1 if batch_size is None else _count("batch_size", batch_size)
    sizes = Steps(total, batch_size, 1 if ranks is None else ranks.size)
    try:
        policy, rows, longest = _policy(method, args, sizes)
    except (TypeError, ValueError) as error:
        names = "prune_ratio; groups = num_group; window = window_scale; delta"
        raise type(error)(f"args of prune_type={method!r} ({names}): {error}") from error
    seed = _get(args, "seed", None)
    pruner = Pruner(
        rows,
        policy,
        epochs=epochs,
        seed=0 if seed is None else seed,
        batch_size=batch_size,
        ranks=ranks,
        sharding="replicated",
    )
    return PublishedDataset(dataset, Run(pruner, total, longest))


@dataclass(frozen=True)
class _ExactSeTa:
    """SeTa with random pruning by count, as published; `Run` cuts every plan to (1 - r) N.

    Where the window leaves nothing out (first epoch, annealing, one group) all samples are drawn
    and then cut. So no epoch is longer than the first: a learning-rate schedule made of
    `len(loader)` before training never runs out of steps.
    """

    seta: SeTa

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        curve = self.seta(histogram, epoch, epochs)
        whole = curve.groups is not None and curve.window == (0, len(curve.groups))
        return KeepCurve.constant(histogram, 1.0) if curve.window is None or whole else curve


def _policy(method: str, args: Any, sizes: Steps) -> tuple[Policy, int, int]:
    """Returns the policy, the rows it chooses from, and the most samples of an epoch."""
    total = sizes.n
    if method == "InfoBatch":
        ratio, delta = _get(args, "prune_ratio", 0.5), _get(args, "delta", 0.875)
        return InfoBatch(prune_ratio=ratio, delta=delta), total, total
    if method == "SeTa":
        seta = SeTa(
            prune_ratio=_get(args, "prune_ratio", 0.0),
            groups=_get(args, "num_group", 10),
            window=_get(args, "window_scale", 0.5),
            delta=_get(args, "delta", 0.875),
        )
        return _ExactSeTa(seta), total, _whole(sizes, int((1 - seta.prune_ratio) * total))
    if method == "Static":
        ratio = _get(args, "prune_ratio", 0.5)
        kept = int((1 - Static(prune_ratio=ratio).prune_ratio) * total)
        if not kept:
            raise ValueError(
                f"prune_ratio={ratio} leaves none of the {total} samples: use a smaller one"
            )
        rows = _whole(sizes, kept)
        return Full(), rows, rows
    return Full(), total, total


def _whole(sizes: Steps, samples: int) -> int:
    """Returns the whole global batches in so many samples, at least one."""
    return sizes.cut(samples) or sizes.nearest(samples)


def _method(args: Any) -> str:
    """Returns `args.prune_type`, one of `_METHODS`."""
    method = _get(args, "prune_type")
    if method is None or (isinstance(method, str) and method.lower() in ("", "none")):
        return "none"
    if method not in _METHODS:
        raise ValueError(
            f"args.prune_type must be one of {', '.join(_METHODS)}, got {method!r}: for random "
            "pruning in each epoch, give SeTa with num_group=1, window_scale=1"
        )
    return str(method)


def _get(args: Any, name: str, default: Any = _REQUIRED) -> Any:
    """Returns an attribute of `args`, or the default."""
    value = getattr(args, name, default)
    if value is _REQUIRED:
        raise AttributeError(
            f"prune(dataset, args) needs args.{name}, and {type(args).__name__} has none: "
            f"set it, as in args.{name} = ..."
        )
    return value


def _count(name: str, value: Any) -> int:
    """Returns a number of `args` that must be at least 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"args.{name} must be an integer >= 1, got {value!r}: set args.{name}")
    return int(value)


def _size(dataset: Any) -> int:
    """Returns the length of a map-style dataset."""
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise TypeError(
            f"dataset must have a length and samples by index, got {type(dataset).__name__}: "
            "prune() needs a map-style dataset, with __len__ and __getitem__"
        )
    if not len(dataset):
        raise ValueError(
            f"dataset must have at least one sample, got an empty {type(dataset).__name__}"
        )
    return len(dataset)
