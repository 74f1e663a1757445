"""`FastaiLoop`: the batches of a fastai `DataLoader`, with their indices, over the samples kept."""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from fastai.data.load import DataLoader  # type: ignore[import-not-found,import-untyped,unused-ignore]
from fastai.torch_core import to_device  # type: ignore[import-not-found,import-untyped,unused-ignore]

from seta.engine import Policy, Pruner
from seta.torch import Loop, PrunedSampler
from seta.torch.arguments import order_of


class FastaiLoop(Loop):
    """Passes over the training `DataLoader` of fastai, of which they leave samples out.

    It reads from a copy of that loader, so that the options and transforms of fastai apply.

    Args:
        loader: A fastai `DataLoader` over a map-style dataset.
        policy: The method.
        **options: Further arguments of `seta.Pruner`.

    Raises:
        TypeError, ValueError: The loader's batches are not samples of a dataset in any order.
    """

    def __init__(self, loader: Any, policy: Policy | str, **options: Any) -> None:
        _check(loader)
        reorder = order_of(bool(loader.shuffle), options.pop("reorder", None))
        pruner = Pruner(
            len(loader.dataset),
            policy,
            batch_size=loader.bs,
            drop_last=loader.drop_last,
            reorder=reorder,
            **options,
        )
        super().__init__(pruner)
        self._loader, self._order, indexed = loader, _Order(), _IndexedBatches()
        state = random.getstate()  # fastai seeds each loader from it
        self._source = loader.new(get_idxs=self._order, create_batches=indexed, device=None)
        random.setstate(state)
        self._source.after_batch = _unchanged
        indexed.loader = self._source

    def walk(self) -> Iterator[tuple[bytes, Any]]:
        """Returns the batches of the open epoch, as fastai's loader makes them."""
        loader, finish = self._loader, self._loader.after_batch
        if hasattr(finish, "split_idx"):  # as TfmdDL.before_iter sets it
            finish.split_idx = getattr(loader.dataset, "split_idx", None)
        self._order.indices = list(PrunedSampler(self._pruner))
        for packed, batch in self._source:
            if not packed:  # all of its samples raised SkipItemException
                self._given.fail(1)
                continue
            if loader.pin_memory and isinstance(batch, list):
                batch = tuple(batch)  # pinning made a list of it
            yield (
                packed,
                finish(batch if loader.device is None else to_device(batch, loader.device)),
            )


def _check(loader: Any) -> None:
    if not isinstance(loader, DataLoader):
        raise TypeError(
            "dls.train must be a DataLoader of fastai or torch, got "
            f"{type(loader).__name__}: make the data with DataBlock.dataloaders or DataLoaders"
        )
    if not loader.indexed or loader.bs is None or loader.n != len(loader.dataset):
        raise ValueError(
            "dls.train must batch all samples of a dataset with a length and __getitem__, got "
            f"indexed={loader.indexed}, bs={loader.bs}, n={loader.n}"
        )
    names = ["get_idxs", "shuffle_fn", "sample", "create_batches"]
    if len(set(getattr(loader, "wgts", ()))) == 1:
        names.remove("get_idxs")  # tabular data has equal weights by default
    own = any(
        getattr(type(loader), name) is not getattr(DataLoader, name) or name in vars(loader)
        for name in names
    )
    if own:
        raise ValueError(
            f"dls.train must leave the choice of samples to the policy, and {type(loader).__name__}"
            " makes its own: use dl_type=TfmdDL (TabDataLoader for tables, and reorder= to batch "
            "texts by length); in place of weighted_dataloaders use a policy that looks at "
            "classes (RCAP, with strata=)"
        )


class _Order:
    """The `get_idxs` of a fastai loader: the samples of the open epoch."""

    def __init__(self) -> None:
        self.indices: list[int] = []

    def __call__(self) -> list[int]:
        return self.indices


class _IndexedBatches:
    """The `create_batches` of a fastai loader: its batches, each after its packed indices.

    A sample that raises SkipItemException leaves its batch smaller; fastai would take one of the
    next batch.
    """

    loader: Any

    def __call__(self, samples: Iterable[int]) -> Iterator[tuple[bytes, Any]]:
        loader, rest = self.loader, iter(samples)
        while chosen := list(islice(rest, loader.bs)):
            items = [(index, loader.do_item(index)) for index in chosen]
            kept = [(index, item) for index, item in items if item is not None]
            indices = array("q", [index for index, _ in kept]).tobytes()
            yield indices, loader.do_batch([item for _, item in kept]) if kept else None


def _unchanged(batch: Any) -> Any:
    return batch
