"""Hugging Face `datasets`, map-style: keep losses across `filter`, `shuffle` and `select`.

`PrunedDataLoader` accepts a `datasets.Dataset` directly, and fetches rows a batch at a time. A loss
belongs to a row number of the dataset that the loader was given; another version of the data has
other row numbers. With a column of ids, losses can be carried over to another version:

    saved = losses_by_id(dataset, loader.pruner.losses, id_column="id")
    loader = PrunedDataLoader(
        other, "SeTa", losses=losses_for(other, saved, id_column="id"), ...
    )

Cost: a sort of the ids, and the memory of the column.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seta.extras import require

require("seta.integrations.datasets", "datasets", extra="datasets")

import datasets  # type: ignore[import-untyped, unused-ignore]  # noqa: E402

ById = dict[str, NDArray[Any]]


def losses_by_id(
    dataset: datasets.Dataset,
    losses: ArrayLike,
    *,
    id_column: str,
    onto: Mapping[str, NDArray[Any]] | None = None,
) -> ById:
    """Returns losses by the ids of their samples; `seta.save` can write the result.

    `losses_for` assigns them to the rows of another version of the dataset.

    Args:
        dataset: The dataset that the loader was made with.
        losses: Floats (len(dataset),), NaN = unseen: `loader.pruner.losses`.
        id_column: Name of a column of unique integers or strings.
        onto: Result of an earlier call, for example for a larger version of the data; its losses
            are kept for ids without a newer loss.

    Returns:
        A dict of `ids` (M,), sorted, and `losses`, float32 (M,), of the samples with a loss.

    Raises:
        TypeError, ValueError: `dataset` is not a map-style `datasets.Dataset`, the ids are missing
            or not unique, or `losses` has another length.
    """
    ids, values = _ids(dataset, id_column), np.asarray(losses)
    if values.shape != ids.shape or values.dtype.kind != "f":
        raise ValueError(
            f"losses must be floats, one for each of the {len(ids)} rows of dataset, got "
            f"{values.dtype} of shape {values.shape}: give the dataset that the loader was made "
            "with, not a version from before or after a filter"
        )
    seen = np.isfinite(values)
    ids, values = ids[seen], values[seen].astype(np.float32)
    if onto is not None:
        older, known = _saved(onto, ids)
        stay = ~np.isin(older, ids)
        ids, values = np.concatenate([older[stay], ids]), np.concatenate([known[stay], values])
    order = np.argsort(ids)
    return {"ids": ids[order], "losses": values[order]}


def losses_for(
    dataset: datasets.Dataset, saved: Mapping[str, NDArray[Any]], *, id_column: str
) -> NDArray[np.float32]:
    """Returns saved losses in the order of a dataset's rows, for `PrunedDataLoader(losses=)`.

    Args:
        dataset: The dataset that the next loader is made with; any version of the data.
        saved: Result of `losses_by_id`.
        id_column: Name of a column of unique integers or strings.

    Returns:
        float32 (len(dataset),), NaN for ids without a loss.

    Raises:
        TypeError, ValueError: `dataset` is not a map-style `datasets.Dataset`, the ids are missing,
            not unique or of another type, or `saved` is invalid.
    """
    ids = _ids(dataset, id_column)
    known, values = _saved(saved, ids)
    losses = np.full(len(ids), np.nan, np.float32)
    if len(known):
        order = np.argsort(known)
        at = order[np.searchsorted(known, ids, sorter=order).clip(max=len(known) - 1)]
        found = known[at] == ids
        losses[found] = values[at[found]]
    return losses


def _saved(
    saved: Mapping[str, NDArray[Any]], ids: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Returns the two arrays of `losses_by_id`.

    Raises:
        ValueError: It is something else.
        TypeError: The ids are of another kind than those of the dataset.
    """
    if not isinstance(saved, Mapping) or not {"ids", "losses"} <= saved.keys():
        found = sorted(saved) if isinstance(saved, Mapping) else type(saved).__name__
        raise ValueError(f"saved losses must be what losses_by_id() returned, got {found}")
    known = np.asarray(saved["ids"])
    if len(known) and len(ids) and (known.dtype.kind == "U") != (ids.dtype.kind == "U"):
        raise TypeError(
            f"the ids of dataset must be of the kind of those saved, got {ids.dtype} for "
            f"{known.dtype}: give the id_column that the losses were saved with"
        )
    return known, np.asarray(saved["losses"], np.float32)


def _ids(dataset: datasets.Dataset, id_column: str) -> NDArray[Any]:
    """Returns the ids of a dataset's rows, in their order.

    Raises:
        TypeError: It is no map-style dataset, or the ids are neither integers nor strings.
        ValueError: It has no such column, or the ids are not unique.
    """
    if not isinstance(dataset, datasets.Dataset):
        raise TypeError(
            f"dataset must be a datasets.Dataset, got {type(dataset).__name__}: of a DatasetDict "
            'give one split, dataset["train"]; for a stream, seta.integrations.streams keeps '
            "losses by id"
        )
    if id_column not in dataset.column_names:
        raise ValueError(
            f"id_column must be one of the columns {dataset.column_names}, got {id_column!r}: "
            'if there is none, number the original rows, add_column("id", range(n))'
        )
    ids = np.asarray(dataset.select_columns([id_column]).with_format("numpy")[:][id_column])
    if ids.dtype.kind == "O" and all(isinstance(one, str) for one in ids):
        ids = ids.astype(np.str_)
    if len(ids) and (ids.dtype.kind not in "iuU" or ids.ndim != 1):
        raise TypeError(
            f"the column {id_column!r} must hold integers or strings, got {ids.dtype} of shape "
            f"{ids.shape}: ids name a sample each"
        )
    known, counts = np.unique(ids, return_counts=True)
    if len(known) < len(ids):
        raise ValueError(
            f"the column {id_column!r} must name each row once, got "
            f"{known[counts > 1][0].item()!r} {counts.max()} times: losses cannot be told apart"
        )
    return ids
