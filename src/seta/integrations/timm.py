"""timm: a pruned loader below `PrefetchLoader`, which takes one batch ahead of the training step.

    loader_train = create_loader(dataset_train, ...)
    loader_train.loader = pruned = PrefetchedLoader.from_loader(
        loader_train.loader, "SeTa", epochs=300, budget=0.6
    )
    for input, target in loader_train:
        loss = pruned.update(criterion(model(input), target))  # criterion: one loss per sample

Any prefetcher will do that keeps the order of batches and takes one ahead. timm is not imported.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from seta.extras import require

require("seta.integrations.timm", "torch", extra="torch")

from numpy.typing import ArrayLike  # noqa: E402
from torch import Tensor  # noqa: E402

from seta.engine import Policy  # noqa: E402
from seta.torch import PrunedDataLoader  # noqa: E402
from seta.torch.eager import eager  # noqa: E402


class _HandedOn(Iterator[Any]):
    """The batches of a pass without their indices; no generator, which an error would end."""

    def __init__(
        self, batches: Iterator[Any], taken: deque[Tensor], end: Callable[[], None]
    ) -> None:
        self._batches, self._taken, self._end = batches, taken, end

    def __next__(self) -> Any:
        """Returns the next batch, and notes its samples."""
        try:
            indices, batch = next(self._batches)
        except StopIteration:
            self._end()
            raise
        self._taken.append(indices)
        return batch


class PrefetchedLoader(PrunedDataLoader):
    """A `PrunedDataLoader` that is read by a prefetcher, one batch ahead of the training step.

    `update`, `weights` and `skip` are for the batch that the prefetcher handed on last. The epoch
    ends with the answer to its last batch.

    Args:
        dataset: As for `PrunedDataLoader`.
        policy: As there.
        **options: All other arguments of `PrunedDataLoader`, except `with_indices`.

    Raises:
        TypeError, ValueError: An argument is invalid; the message names it.
    """

    def __init__(self, dataset: Any, policy: Policy | str, **options: Any) -> None:
        self._taken: deque[Tensor] = deque()  # the samples of batches without an answer, in order
        self._ended = False  # whether the prefetcher knows that no batch follows
        super().__init__(dataset, policy, with_indices=True, **options)

    def __iter__(self) -> Any:
        """Begins a pass, see `PrunedDataLoader`; yields batches without their indices."""
        self._taken.clear()
        self._ended = False
        return _HandedOn(super().__iter__(), self._taken, self._end)

    def _end(self) -> None:
        self._ended = True

    @eager
    def update(
        self,
        losses: Tensor,
        indices: ArrayLike | Tensor | None = None,
        mask: Tensor | None = None,
        counts: Tensor | None = None,
    ) -> Tensor:
        """Records the losses of the batch that is trained, and returns its loss; see `Loop.update`.

        Raises:
            RuntimeError: An earlier batch was not answered, or no prefetcher takes batches ahead.
            TypeError, ValueError, IndexError: `losses` or another argument is invalid.
        """
        if indices is not None:
            return super().update(losses, indices, mask, counts)
        loss = super().update(losses, self._current("update(losses)"), mask, counts)
        self._answered()
        return loss

    def weights(self, indices: ArrayLike | Tensor | None = None) -> Tensor:
        """Returns the loss weights of the batch that is trained; see `Loop.weights`."""
        return super().weights(self._current("weights()") if indices is None else indices)

    def skip(self) -> None:
        """Skips the batch that is trained: its samples keep their earlier losses."""
        self._given.answer(self._current("skip()").numpy())
        self._answered()

    def _current(self, call: str) -> Tensor:
        """Returns the samples of the batch that the prefetcher handed on last."""
        expected = 1 if self._ended else 2  # with the one that was taken ahead
        if len(self._taken) != expected:
            raise RuntimeError(
                f"{call} needs the batch that is trained and one that was taken ahead, and there "
                f"are {len(self._taken)} batches without an answer in place of {expected}: answer "
                "each batch once, by update or skip. Without a prefetcher that takes one batch "
                "ahead (use_prefetcher=False) use seta.PrunedDataLoader"
            )
        return self._taken[0]

    def _answered(self) -> None:
        self._taken.popleft()
        if self._ended:
            self.end_epoch()
