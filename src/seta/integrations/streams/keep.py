"""`KeepSet`: the set of samples that a pass over a stream keeps, as a filter for its pipeline.

It has one bit per sample in shared memory. The training process rewrites it before every pass, and
its data-loading workers, forked or spawned earlier, read the new set. It also maps the ids of a
stream to indices 0 .. n-1.

Cost: n / 8 bytes, plus the ids and 8 bytes each if they are not the indices; about 0.3
microseconds per row, or 2 if the id has to be looked up.
"""

from __future__ import annotations

import gc
import operator
import weakref
from collections.abc import Callable, Iterable, Mapping
from multiprocessing.context import get_spawning_popen
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from seta.engine.table.exchange import digest_of


class KeepSet:
    """Filter for a stream: returns for each row whether the current pass keeps it.

    Use it as a filter before rows are decoded, and pass it to the `PrunedStream`:

        keep = KeepSet("id", n=50_000)
        rows = dataset.filter(keep, input_columns=["id"]).map(decode)     # Hugging Face datasets
        rows = webdataset.WebDataset(...).select(keep).decode()           # webdataset
        stream = PrunedStream(rows, "SeTa", keep=keep, ...)

    Call it with a row; `has` takes an index. `index_of` and `indices_of` map ids to indices. A
    `KeepSet` serves one `PrunedStream` at a time.

    Args:
        id_column: Key of the id in a row: "__key__" in webdataset.
        n: Number of samples, if their ids are the integers 0 .. n-1.
        ids: The ids of all samples, integers or strings (n,), unique; the id at position i belongs
            to index i. Give either `n` or `ids`.

    Raises:
        ValueError, TypeError: Both or none of `n` and `ids` are given, or the ids are not unique.
    """

    def __init__(
        self, id_column: str, *, n: int | None = None, ids: ArrayLike | None = None
    ) -> None:
        if (n is None) == (ids is None):
            raise ValueError(
                "KeepSet needs n=, the number of samples with the ids 0 to n-1, or ids=, the ids "
                f"of all samples, got {'none' if n is None else 'both'} of them"
            )
        self.id_column = id_column
        self._order: NDArray[np.int64] | None = None
        if n is None:
            self._sorted, self._order = _sorted(np.asarray(ids))
            n = len(self._order)
        elif isinstance(n, bool) or not hasattr(n, "__index__") or operator.index(n) < 1:
            raise ValueError(f"n must be an integer of at least 1, got {n!r}: the stream's samples")
        self.n = operator.index(n)
        self._bits = torch.zeros(-(-self.n // 8), dtype=torch.uint8, device="cpu")
        self._bits.share_memory_()  # type: ignore[no-untyped-call]
        self._view = self._bits.numpy().data
        self._stream: Callable[[], object | None] = _nobody

    def __call__(self, row: Any) -> bool:
        """Returns whether the current pass keeps a row.

        Args:
            row: The row, a mapping, or its id.
        """
        return self.has(self.index_of(row[self.id_column] if isinstance(row, Mapping) else row))

    def has(self, index: int) -> bool:
        """Returns whether the current pass keeps a sample, by its index."""
        return bool(self._view[index >> 3] & (0x80 >> (index & 7)))

    def index_of(self, identity: Any) -> int:
        """Returns the index of an id.

        Raises:
            TypeError: The id has another type than the ids of this set.
            KeyError: The id is not in this set.
        """
        if self._order is None:
            index = _integer(identity)
            if index is None:
                raise TypeError(
                    f"the {self.id_column!r} of a row must be an integer in 0..{self.n - 1}, got "
                    f"{identity!r}: give the ids of all samples to KeepSet, as ids="
                )
            if 0 <= index < self.n:
                return index
            raise KeyError(
                f"the {self.id_column!r} of a row must lie in 0..{self.n - 1}, got {index}: "
                "give n= so that all ids lie below it, or the ids of all samples as ids="
            )
        known, strings = self._sorted, self._sorted.dtype.kind == "U"
        value = (identity if isinstance(identity, str) else None) if strings else _integer(identity)
        if value is None:
            raise TypeError(
                f"the {self.id_column!r} of a row must be of the kind of ids=, which are "
                f"{'strings' if strings else 'integers'}, got {identity!r}"
            )
        try:  # of their type, or numpy converts all of them
            at = int(known.searchsorted(known.dtype.type(value)))
        except OverflowError:
            at = self.n
        if at == self.n or known.item(at) != value:
            raise KeyError(
                f"the {self.id_column!r} of a row must be one of the {self.n} ids= that KeepSet "
                f"was given, got {identity!r}: give it those of all samples"
            )
        return int(self._order[at])

    def indices_of(self, identities: Iterable[Any]) -> NDArray[np.int64]:
        """Returns the indices of several ids: int64 (B,)."""
        return np.array([self.index_of(one) for one in identities], np.int64)

    def digest(self, count: int | None = None) -> str:
        """Returns a digest of all ids and their order, or of the first `count`."""
        if self._order is None:
            return "integers from 0 on"
        ids = np.empty_like(self._sorted)
        ids[self._order] = self._sorted
        ids = ids[:count]
        kind = "integers"
        if ids.dtype.kind == "U":  # whose width may be that of others
            kind, ids = "strings", ids.astype(f"<U{max(1, int(np.char.str_len(ids).max()))}")
        return f"{len(ids)} {kind} ({digest_of(ids.tobytes()):016x})"

    def serve(self, stream: object) -> None:
        """Binds this set to a stream, for as long as the stream exists.

        Raises:
            ValueError: It serves another stream, which still exists.
        """
        if self._stream() is not None:
            gc.collect()  # it may hang in a cycle of references alone
        if self._stream() is not None:
            raise ValueError(
                "keep must be a KeepSet of this stream alone, and an earlier PrunedStream with it "
                "still exists: each would train on what the other selected. Make a KeepSet for "
                "each stream, or delete the earlier stream first (del stream)"
            )
        self._stream = weakref.ref(stream)

    def rewrite(self, bits: NDArray[np.uint8]) -> None:
        """Replaces the set in all processes: one bit per sample, in `numpy.packbits` order."""
        self._bits.numpy()[:] = bits

    def __deepcopy__(self, memo: dict[int, Any]) -> KeepSet:
        """Returns itself, so that a copied pipeline uses the same set."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        if get_spawning_popen() is None:
            raise RuntimeError(
                "a KeepSet must not be pickled, since a copy would not change any more: it is "
                "shared with the DataLoader workers that this process starts, and with no others. "
                "Leave it out of a pipeline that runs elsewhere (Ray Data's map and filter): "
                "PrunedStream filters the rows when they arrive"
            )
        return {**vars(self), "_view": None, "_stream": _nobody}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._view = self._bits.numpy().data


def _nobody() -> None:
    """Stands for a reference to a stream where there is none."""


def _integer(identity: Any) -> int | None:
    """Returns an id as an integer; None where it is none, be it one for Python."""
    if isinstance(identity, bool):
        return None
    try:
        return operator.index(identity)
    except TypeError:
        return None


def _sorted(ids: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Returns ids in order, and the position of each.

    Raises:
        TypeError: They are neither integers nor strings.
        ValueError: They are not unique, or there is none.
    """
    if ids.dtype.kind not in "iuU" or ids.ndim != 1:
        raise TypeError(
            "ids must be a one-dimensional array of integers or of strings, got "
            f"{ids.dtype} of shape {ids.shape}: give numpy.array(ids)"
        )
    if ids.dtype.kind != "U" and ids.dtype != np.uint64:
        ids = ids.astype(np.int64)
    order = np.argsort(ids, kind="stable")
    known = ids[order]
    twice = np.flatnonzero(known[1:] == known[:-1])
    if len(twice) or not len(ids):
        raise ValueError(
            "ids must name each sample once, got "
            + (f"{known[twice[0]].item()!r} twice" if len(twice) else "none")
            + ": losses are kept by id; webdataset keys must be unique over all shards"
        )
    return known, order
