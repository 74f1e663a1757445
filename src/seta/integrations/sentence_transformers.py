"""sentence-transformers: embedding models and rerankers, trained on the rows that a policy keeps.

    trainer = PrunedSentenceTransformerTrainer(
        model, args, train_dataset=dataset, loss=loss, pruning=PruningArguments(budget=0.6)
    )
    trainer.train()

It works like `seta.integrations.transformers`. Losses that take the mean of one number per row are
the engine's own, and the numbers are read while it computes them. `CoSENTLoss` and `AnglELoss` rank
all pairs of a batch against each other: a pair's loss is here what it has to do with the ranking,
which serves policies without weights.

The trainer builds its loaders from batch samplers, which know the whole dataset. Here the loader is
that of `Trainer`, over the selection of the epoch; a sampler without duplicates is an order of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from seta.extras import require

require(
    "seta.integrations.sentence_transformers",
    "torch",
    "sentence_transformers",
    extra="sentence-transformers",
)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from sentence_transformers import SentenceTransformerTrainer  # noqa: E402
from sentence_transformers.base.sampler import BatchSamplers  # noqa: E402
from sentence_transformers.cross_encoder import CrossEncoderTrainer  # noqa: E402
from sentence_transformers.sentence_transformer.losses import CoSENTLoss  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from transformers import Trainer  # noqa: E402

from seta.engine.arguments import Reorder  # noqa: E402
from seta.integrations.transformers.arguments import PruningArguments  # noqa: E402
from seta.integrations.transformers.check import LossCheck  # noqa: E402
from seta.integrations.transformers.means import PrunedMeansMixin, Seen  # noqa: E402

__all__ = [
    "PrunedCrossEncoderTrainer",
    "PrunedSentenceTransformerMixin",
    "PrunedSentenceTransformerTrainer",
    "PruningArguments",
]

_RANKING = (
    "it ranks the pairs of a batch against each other, so that a policy's weights have no terms "
    "to go to. Take a policy without weights (SeTa, Random), or CosineSimilarityLoss"
)
_PACKAGE = "sentence_transformers."
_UNIQUE = (BatchSamplers.NO_DUPLICATES, BatchSamplers.NO_DUPLICATES_HASHED)


class PrunedSentenceTransformerMixin(PrunedMeansMixin):
    """Adds pruning to a trainer of sentence-transformers of your own.

    `class Mine(PrunedSentenceTransformerMixin, SentenceTransformerTrainer)`. See
    `PrunedTrainerMixin`, which has the methods `update` and `skip`, for a `compute_loss` of your
    own, and `pruner`. A function `sample_losses` gets the embeddings, a list of (B, D), one per
    column of text, and the batch; for a reranker, what the model returned.

    Args:
        *args: Arguments of the trainer.
        pruning: How to prune.
        **kwargs: Keyword arguments of the trainer.

    Raises:
        TypeError, ValueError: A setting is not possible with pruning; the message names it.
    """

    loss: Any
    args: Any

    def __init__(self, *args: Any, pruning: PruningArguments, **kwargs: Any) -> None:
        super().__init__(*args, pruning=pruning, **kwargs)
        self._check_batches()

    # The loader.

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Returns `Trainer`'s own loader, over the selections of a new run."""
        self._check_batches()
        return super().get_train_dataloader()

    def _check_batches(self) -> None:
        sampler = self.args.batch_sampler
        if sampler not in (BatchSamplers.BATCH_SAMPLER, *_UNIQUE):
            raise ValueError(
                f"batch_sampler does not go with pruning, got {sampler!r}: it selects the rows of "
                "a batch itself. Leave it out or use BatchSamplers.NO_DUPLICATES; for an order of "
                "your own give PruningArguments(reorder=...)"
            )
        if sampler in _UNIQUE and self.pruning.reorder is not None:
            raise ValueError(
                f"reorder= together with batch_sampler={sampler!r} is not possible: both set the "
                "order. Leave one of them out"
            )

    def _stock_train_dataloader(self) -> Any:
        return Trainer.get_train_dataloader(self)

    def _remove_unused_columns(self, dataset: Any, description: str | None = None) -> Any:
        return dataset  # the columns are texts, which no model has as arguments

    def _order_of(self, dataset: Any, group: int) -> Reorder | None:
        if self.args.batch_sampler not in _UNIQUE:
            return super()._order_of(dataset, group)
        return without_duplicates(
            _codes(dataset, self.data_collator.valid_label_columns), self._train_batch_size
        )

    # The losses.

    def _watch(
        self, model: nn.Module, given: dict[str, Any], count: int
    ) -> AbstractContextManager[list[Any]]:
        return self._embedded(model, given, count)

    @contextmanager
    def _embedded(self, model: nn.Module, given: dict[str, Any], count: int) -> Iterator[list[Any]]:
        embeddings: list[list[Tensor]] = []
        modules = [one for one in _losses_in(self.loss) if hasattr(one, _FROM_EMBEDDINGS)]
        for module in modules:
            setattr(module, _FROM_EMBEDDINGS, _noted(module, embeddings))
        try:
            with super()._watch(model, given, count) as seen:
                yield seen
        finally:
            for module in modules:
                delattr(module, _FROM_EMBEDDINGS)
        if embeddings:
            seen[0].outputs = embeddings

    def _any_score(self) -> bool:
        return super()._any_score() or self._ranking is not None

    def _per_sample(self, seen: Seen, batch: dict[str, Any]) -> Tensor:
        if self._ranking is None:
            losses = super()._per_sample(seen, batch)
            self._check_width(len(losses))
            return losses
        return ranking_losses(self._ranking, seen.outputs[0], batch["label"])

    def _check_width(self, rows: int) -> None:
        """Raises if a mean over the dimensions cannot be told from one over the rows."""
        own = any(not type(one).__module__.startswith(_PACKAGE) for one in _losses_in(self.loss))
        width = getattr(self._plain_model(), "get_embedding_dimension", lambda: None)()
        if own and rows == width:
            raise ValueError(
                f"a loss of your own needs a batch size other than {width}, the dimension of the "
                "embeddings: a mean over the dimensions cannot be told from one over the rows. Or "
                "give PruningArguments(sample_losses=...), a function (embeddings, batch) -> "
                "losses (B,)"
            )

    def _new_check(self) -> LossCheck:
        if self._ranking is None or self.pruning.sample_losses is not None:
            return super()._new_check()
        return LossCheck((False,), half=self._in_half(), why=_RANKING)

    @property
    def _ranking(self) -> CoSENTLoss | None:
        """The loss, or the one inside a `MatryoshkaLoss`, if it ranks the pairs of a batch."""
        return next((one for one in _losses_in(self.loss) if isinstance(one, CoSENTLoss)), None)


class PrunedSentenceTransformerTrainer(PrunedSentenceTransformerMixin, SentenceTransformerTrainer):
    """A `SentenceTransformerTrainer` that trains, in each epoch, on the rows that a policy keeps.

    Use it like `SentenceTransformerTrainer`; `pruner` has the history and the losses. For a trainer
    of your own, see `PrunedSentenceTransformerMixin`.

    Args:
        *args: Arguments of `SentenceTransformerTrainer`.
        pruning: How to prune.
        **kwargs: Keyword arguments of `SentenceTransformerTrainer`.

    Raises:
        TypeError, ValueError: A setting is not possible with pruning; the message names it.
    """


class PrunedCrossEncoderTrainer(PrunedSentenceTransformerMixin, CrossEncoderTrainer):
    """A `CrossEncoderTrainer` that trains, in each epoch, on the rows that a policy keeps.

    Use it like `CrossEncoderTrainer`; see `PrunedSentenceTransformerTrainer`.

    Args:
        *args: Arguments of `CrossEncoderTrainer`.
        pruning: How to prune.
        **kwargs: Keyword arguments of `CrossEncoderTrainer`.

    Raises:
        TypeError, ValueError: A setting is not possible with pruning; the message names it.
    """


_FROM_EMBEDDINGS = "compute_loss_from_embeddings"


def _losses_in(loss: Any) -> Iterator[nn.Module]:
    """Yields a loss, and those that it is made of, such as that of a `MatryoshkaLoss`."""
    while loss is not None:
        yield loss
        loss = getattr(loss, "loss", None)


def _noted(module: nn.Module, calls: list[list[Tensor]]) -> Any:
    """Returns a loss's method that notes the embeddings of each call."""
    method = getattr(module, _FROM_EMBEDDINGS)

    def noted(embeddings: list[Tensor], *args: Any, **kwargs: Any) -> Any:
        calls.append(embeddings)
        return method(embeddings, *args, **kwargs)

    return noted


def ranking_losses(loss: CoSENTLoss, embeddings: list[Tensor], labels: Tensor) -> Tensor:
    """Returns what each pair has to do with a batch's ranking, float32 (B,).

    The loss of a batch is log(1 + sum of exp(s_i - s_j)) over all i, j with a label of i below that
    of j. That of one pair is the same over the terms that it is part of.

    Args:
        loss: With the similarity and the scale of the scores s.
        embeddings: Of the two columns, (B, D) each.
        labels: (B,).
    """
    scores = loss.similarity_fct(*embeddings[:2]).float() * loss.scale
    above = torch.sign(labels.view(-1) - labels.view(-1, 1))  # (B, B): 1 if j has to be above i
    terms = above * (scores.view(-1, 1) - scores)
    terms = terms.masked_fill(above == 0, -torch.inf)
    return torch.cat([terms.new_zeros(len(terms), 1), terms], 1).logsumexp(1)


def _codes(dataset: Any, labels: list[str]) -> NDArray[np.int64]:
    """Returns a number for each text of each row, (N, columns): the same for the same text."""
    numbers: dict[str, int] = {}
    names = [name for name in dataset.column_names if name not in labels]
    columns = [
        [numbers.setdefault(str(value), len(numbers)) for value in dataset[name]] for name in names
    ]
    return np.array(columns, dtype=np.int64).T


def without_duplicates(codes: NDArray[np.int64], size: int) -> Reorder:
    """Returns what moves rows so that no batch has a text twice.

    As `NoDuplicatesBatchSampler`: rows are taken in order, and one with a text of the batch waits
    for the next. No row is left out; where all that wait have a text of the last batches, those
    batches have it twice.

    Args:
        codes: Integers (N, columns), the texts of each row.
        size: Rows of a batch.
    """

    def reorder(indices: NDArray[Any]) -> NDArray[Any]:
        waiting = deque(range(len(indices)))
        order: list[int] = []
        while waiting:
            batch: list[int] = []
            texts: set[int] = set()
            later: list[int] = []
            while waiting and len(batch) < size:
                at = waiting.popleft()
                own = set(codes[indices[at]].tolist())
                if texts & own:
                    later.append(at)
                else:
                    batch.append(at)
                    texts |= own
            waiting.extendleft(reversed(later))
            if len(batch) < size:  # all that wait have a text of the batch
                return indices[[*order, *batch, *waiting]]
            order += batch
        return indices[order]

    return reorder
