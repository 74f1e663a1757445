"""Checks of a source of rows before it is read.

Looks at Hugging Face `IterableDataset`s, webdataset pipelines, Ray Data iterators and datasets of
mosaicml-streaming by the shape of their parts, without importing them; what it does not know it
lets pass. Costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch.utils.data import get_worker_info

Source = Iterable[Any] | Callable[[], Iterable[Any]]


def rows_of(source: Source) -> Iterator[Any]:
    """Returns the rows of a source from its beginning.

    Raises:
        ValueError: They are Ray Data's, in a data-loading worker.
    """
    rows = source if isinstance(source, Iterable) else source()
    worker = get_worker_info()
    _refuse_ray(rows, 0 if worker is None else worker.num_workers)
    return iter(rows)


def check_source(source: Source, id_column: str, ranks: int, workers: int) -> None:
    """Refuses a source that cannot be read again, or whose ids are positions.

    Raises:
        TypeError: It is no source of rows, or can be read once.
        ValueError: Its ids count rows; or it would make the ranks wait for each other, or hang.
    """
    kind = type(source).__name__
    if not isinstance(source, Iterable) and not callable(source):
        raise TypeError(
            f"source must be iterable, or a function that returns something iterable, got {kind}"
            + (": pass its iter_rows" if hasattr(source, "iter_rows") else "")
        )
    if isinstance(source, Iterator) and not hasattr(source, "set_epoch"):  # litdata's begins anew
        raise TypeError(
            f"source must be one that can be read again in each epoch, got an iterator ({kind}): "
            "pass what made it, the dataset or the function"
        )
    for stage in _stages(source):
        counts_rows = getattr(stage, "with_indices", False) and not hasattr(stage, "mask_function")
        if counts_rows and id_column not in (getattr(stage.ex_iterable, "features", None) or ()):
            raise ValueError(
                f"the column {id_column!r} of source must not come from map(with_indices=True) or "
                "add_column, which count rows from 0 in every shard and worker, so that ids change "
                "after a shuffle. Write the ids into the data; or, if the data has them already, "
                "declare them in the stage before: cast(Features(...)) or features="
            )
    owner = getattr(getattr(source, "func", source), "__self__", source)
    _refuse_ray(owner, workers)
    if ranks > 1 and type(owner).__name__ == "StreamSplitDataIterator":
        raise ValueError(
            "source must not be a split shard of Ray Data, whose ranks wait for each other to "
            "begin a pass: give TorchTrainer dataset_config=DataConfig(datasets_to_split=[]), and "
            "PrunedStream split=False"
        )
    if ranks > 1 and _is_mosaic(owner):
        raise ValueError(
            "source must not be a StreamingDataset of mosaicml-streaming on several ranks, which "
            "wait for each other whenever one begins to read: one that has to read again would "
            "wait forever. Give PrunedDataLoader RandomAccess(dataset), of seta.integrations.shards"
        )


def _is_mosaic(source: Any) -> bool:
    made_of = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(source).mro()}
    return ("streaming", "StreamingDataset") in made_of


def _refuse_ray(rows: Any, workers: int) -> None:
    if workers and type(rows).__module__.startswith("ray.data."):
        raise ValueError(
            f"num_workers must be 0 over Ray Data, whose iterators hang in a data-loading worker, "
            f"got {workers}: Ray reads ahead by itself; decode in collate_fn, or in its map_batches"
        )


def shuffles(source: Source) -> bool:
    """Whether a source is known to have a shuffle buffer, whose order may not come again."""
    return any(_is_buffer(stage) for stage in _stages(source))


def _is_buffer(stage: Any) -> bool:
    name = getattr(getattr(stage, "f", stage), "__name__", type(stage).__name__)
    sizes = [*getattr(stage, "args", ()), getattr(stage, "buffer_size", 2)]
    return "shuffle" in name.lower() and getattr(stage, "bufsize", sizes[0]) > 1


def _stages(source: Any) -> list[Any]:
    """Returns the stages of a Hugging Face IterableDataset or a webdataset pipeline, if it is."""
    pipeline = getattr(source, "pipeline", None)
    if isinstance(pipeline, list):
        return pipeline
    found, open_ends = [], [getattr(source, "_ex_iterable", None)]
    while open_ends:
        stage = open_ends.pop()
        if stage is not None:
            found.append(stage)
            open_ends += [getattr(stage, "ex_iterable", None), *getattr(stage, "ex_iterables", [])]
    return found
