"""`PrunedTrainer` and `PrunedTrainerMixin`: a `Trainer` that prunes.

The loss, the optimizer and the loop are those of `Trainer`. Per-sample losses are computed from the
outputs of the model, which a forward hook records during the trainer's own `compute_loss`. So they
belong to the current batch, whatever loss the trainer computes.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from transformers import Trainer
from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss

from seta.engine.rows import Row
from seta.integrations.transformers.arguments import (
    PruningArguments,
    check_arguments,
    check_trainer,
)
from seta.integrations.transformers.batches import TrainedBatch, parts_of, reordered, taken
from seta.integrations.transformers.check import LossCheck
from seta.integrations.transformers.epochs import PrunedEpochs
from seta.integrations.transformers.losses import (
    OVERRIDE,
    Shares,
    given_terms,
    output_terms,
    scales_of,
    shares_of,
    weighted,
)
from seta.integrations.transformers.run import Run
from seta.torch.arguments import sample_indices
from seta.torch.eager import eager
from seta.torch.losses import per_sample, weighted_mean

logger = logging.getLogger(__name__)

GIVEN = (
    "the policy gives weights other than 1, so sample_losses has to return the very terms that the "
    "loss is the mean of. Return them, or take a policy without weights (SeTa, Random); a loss of "
    "your own is given by update() in compute_loss"
)
_OTHER = (
    "this model's loss, compute_loss or compute_loss_func is not the cross-entropy or squared "
    f"error of logits and labels. {OVERRIDE[0].upper()}{OVERRIDE[1:]}"
)

LOGGED = ("kept", "kept_share", "saved", "unseen", "nonfinite", "longest_left_out", "never_trained")


def figures_of(row: Row) -> dict[str, float]:
    """Returns the figures of an epoch's row for the trainer's logs."""
    return {f"seta/{name}": row[name] for name in LOGGED}


class PrunedTrainerMixin(PrunedEpochs):
    """Adds pruning to a trainer of your own: `class Mine(PrunedTrainerMixin, Trainer)`.

    After each epoch, `seta/kept`, `seta/kept_share`, `seta/saved` and other figures are logged.
    Checkpoints get an additional file, `seta_state.bin`.

    - In a `compute_loss` of your own: `update`, `as_batch`, `skip`.
    - The run: `pruner`.
    - Overridden methods of `Trainer`: `compute_loss`, `training_step`, and those that make loaders,
      steps and checkpoints.

    Args:
        *args: Arguments of the trainer.
        pruning: How to prune.
        **kwargs: Keyword arguments of the trainer.

    Raises:
        TypeError, ValueError: A setting is not possible with pruning; the message names it.
    """

    _seta_batch: TrainedBatch | None = None
    _seta_last_labels: Sequence[Tensor] = ()

    def __init__(self, *args: Any, pruning: PruningArguments, **kwargs: Any) -> None:
        self.pruning = check_arguments(pruning)
        super().__init__(*args, **kwargs)
        check_trainer(self, self.pruning)

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Tensor:
        """Performs the trainer's step on a batch, and checks that its losses were recorded.

        Raises:
            RuntimeError: The batch has lost its indices or is not of the epoch's selection, or no
                batch of the run was answered yet.
        """
        run = self._seta_run
        if run is None or not self.is_in_train:
            return super().training_step(model, inputs, *args, **kwargs)
        self._seta_batch, inputs = taken(inputs, self.label_names, self._seta_last_labels)
        self._seta_last_labels = self._seta_batch.labels
        _check_planned(run, self._seta_batch)
        try:
            with _returned(self) as results:
                loss = super().training_step(model, inputs, *args, **kwargs)
            _warn_of_replaced(run, self._seta_batch, results)
            _record(run, self._seta_batch)
            if not self._seta_batch.answered:
                run.missed += 1
                if not run.answered and not run.pruner.history:
                    raise RuntimeError(self._forgotten(run))
        finally:
            self._seta_batch = None
        return loss

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        prepared: dict[str, Any] = super()._prepare_inputs(inputs)
        if self._seta_batch is not None:
            self._seta_batch.moved(inputs, prepared)
        return prepared

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluates as the trainer does; within a training step, too, nothing is recorded."""
        batch, self._seta_batch = self._seta_batch, None
        model: Any = self.model
        training = model.training
        try:
            return super().evaluation_loop(*args, **kwargs)
        finally:
            self._seta_batch = batch
            if batch is not None:
                model.train(training)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Computes the loss of a batch as the trainer does, and records its per-sample losses.

        Raises:
            RuntimeError: The model was not called, or the batch has lost its indices.
            ValueError: The per-sample losses do not add up to the loss of the batch.
        """
        run = self._seta_run
        options: Any = {"return_outputs": return_outputs, "num_items_in_batch": num_items_in_batch}
        if run is None or not self.is_in_train or not model.training:
            return super().compute_loss(model, inputs, **options)
        batch = self._seta_batch
        if batch is None:  # the training_step is not ours
            batch, inputs = taken(inputs, self.label_names)
        given = dict(inputs)  # the trainer may take labels out
        if not batch.takes(given):
            return super().compute_loss(model, inputs, **options)
        batch.answered = False
        with self._watch(model, given, len(batch.indices)) as outputs:
            result: Any = super().compute_loss(model, inputs, **options)
        if batch.answered:  # by update() or skip()
            return result
        if not outputs:
            raise RuntimeError(
                "compute_loss did not call the model that it was given, so its outputs are not "
                "known: call model(**inputs), not a part of it, or pass per-sample losses to "
                "self.update(losses)"
            )
        loss = result[0] if return_outputs else result
        loss = self._answer(run, batch, loss, outputs[0], given, num_items_in_batch)
        if self._seta_batch is None:
            _record(run, batch)
        return (loss, result[1]) if return_outputs else loss

    @eager
    def update(
        self,
        losses: Tensor,
        indices: ArrayLike | Tensor | None = None,
        mask: Tensor | None = None,
        counts: Tensor | None = None,
    ) -> Tensor:
        """Records per-sample losses in a `compute_loss` of your own, and returns the loss.

        Like `PrunedDataLoader.update`. In evaluation it records nothing.

        Args:
            losses: Floats (B,), one per sample, or (B, ...), which is averaged per sample.
            indices: Integers (B,), the samples of the losses. None: those of the current batch.
            mask: Bool or numbers, same shape as `losses` (B, ...): elements that are 0 or False do
                not count.
            counts: Integers (B,), the number of terms that each loss is the mean of, such as
                `seta.token_counts(labels)`, for the mean over all terms of the batch.

        Returns:
            Scalar, sum(weight x loss) / B; exactly `losses.mean()` if all weights are 1. With
            `counts`, sum(weight x count x loss) / sum(count).

        Raises:
            TypeError, ValueError, IndexError: `losses` or another argument is invalid.
        """
        losses = per_sample(losses, mask)
        run, batch = self._seta_run, self._seta_batch
        if run is None or batch is None:
            return weighted_mean(losses, None, counts)
        samples = batch.indices
        if indices is not None:
            samples = sample_indices(indices, len(losses), run.pruner.n)
        elif len(samples) != len(losses):
            raise ValueError(
                f"losses must have one entry for each sample of the batch, got {len(losses)} for a "
                f"batch of {len(samples)}: compute them with reduction='none'. For losses of a "
                "part of a batch call update(losses, indices=...)"
            )
        elif batch.updated:
            raise RuntimeError(
                "update(losses) needs a batch that was not answered yet: it is called once for "
                "each batch. For losses of other samples call update(losses, indices=...); losses "
                "of rows that are not in the data set are not recorded"
            )
        weights = run.pruner.weights_of(samples)
        run.buffer.add(samples, losses)
        batch.updated.append(samples)
        if indices is None:
            batch.losses, batch.done = None, True
        run.answered = True
        return batch.answer(weighted_mean(losses, weights, counts), weights)

    def as_batch(self, inputs: Any) -> Any:
        """Says that inputs are rows of the current batch, where it cannot be told from them.

        For `super().compute_loss(model, self.as_batch(inputs))`, if both labels and all else were
        copied or computed anew. Their loss is weighted as that of the batch, and recorded if that
        of the batch as it came is not computed.

        Args:
            inputs: The rows of the batch, in their order.

        Returns:
            The inputs as they are.
        """
        if self._seta_batch is not None:
            self._seta_batch.is_seen_as(inputs)
        return inputs

    def skip(self) -> None:
        """Skips the current batch: its samples keep their earlier losses."""
        if self._seta_run is not None and self._seta_batch is not None:
            self._seta_batch.answered = self._seta_run.answered = True
            self._seta_batch.losses, self._seta_batch.done = None, True
            self._seta_batch.weighted.clear()

    def _answer(
        self,
        run: Run,
        batch: TrainedBatch,
        loss: Tensor,
        outputs: Any,
        given: dict[str, Any],
        items: Tensor | int | None,
    ) -> Tensor:
        """Records the losses of a batch's samples and returns its loss, weighted."""
        weights = run.pruner.weights_of(batch.indices)
        processes = self._loss_factor(items)

        def shares(shift: bool) -> Shares:
            terms, mask = self._sample_terms(outputs, given, shift)
            return shares_of(terms, mask, len(batch.indices), batch.lengths)

        if run.check is None:
            run.check = self._new_check()
        own = self._any_score() and weights is None  # need not add up
        extra = getattr(outputs, "aux_loss", None) is not None  # is in the loss as well
        if not own and not extra and run.check.due():
            with torch.no_grad():
                found = {shift: shares(shift) for shift in run.check.readings}
            run.check.look(loss, found, items, processes)
        with torch.set_grad_enabled(weights is not None):
            parts = shares(run.check.readings[0])
        if batch.losses is None:
            batch.losses = parts.losses.detach()
        run.answered = True
        if weights is not None:
            scales = scales_of(parts, items, processes)
            if extra and items is not None:  # which of them is nearest would not tell
                del scales[1:]
            loss = weighted(loss, parts, weights, scales)
        return batch.answer(loss, weights)

    def _watch(
        self, model: nn.Module, given: dict[str, Any], count: int
    ) -> AbstractContextManager[list[Any]]:
        """Collects what `_sample_terms` needs of the loss of a batch with so many samples."""
        return _watched(model, given)

    def _any_score(self) -> bool:
        """Whether per-sample losses are any score, and add up to the loss only by chance."""
        return self.pruning.sample_losses is not None

    def _sample_terms(
        self, outputs: Any, batch: dict[str, Any], shift: bool
    ) -> tuple[Tensor, Tensor]:
        """Returns the terms of the loss, by sample, and which of them count."""
        if self.pruning.sample_losses is not None:
            return given_terms(self.pruning.sample_losses(outputs, batch))
        return output_terms(
            outputs,
            batch,
            shift=shift,
            smoothing=self.args.label_smoothing_factor,
            problem=getattr(getattr(self._plain_model(), "config", None), "problem_type", None),
        )

    def _new_check(self) -> LossCheck:
        model = self._plain_model()
        kind = getattr(model, "loss_type", None) or "ForCausalLM"  # as `PreTrainedModel` has it
        decoder = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
        shift = LOSS_MAPPING.get(kind) is ForCausalLMLoss and not decoder
        if self.pruning.sample_losses is not None:
            return LossCheck((False,), half=self._in_half(), why=GIVEN)
        return LossCheck((shift, not shift), half=self._in_half(), why=_OTHER)

    def _plain_model(self) -> Any:
        """Returns the model without what wraps it."""
        model: Any = self.accelerator.unwrap_model(self.model)
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    def _in_half(self) -> bool:
        """Whether the loss may be rounded to half precision."""
        model: Any = self.model
        kinds = {parameter.dtype for parameter in model.parameters()}
        return self.accelerator.mixed_precision != "no" or any(kind.itemsize < 4 for kind in kinds)

    def _loss_factor(self, items: Tensor | int | None) -> int:
        """Returns what the trainer multiplies a loss with."""
        if items is None or not self.args.average_tokens_across_devices:
            return 1
        return int(self.accelerator.num_processes)

    def _forgotten(self, run: Run) -> str:
        return (
            f"no batch of {type(self).__name__} was answered in epoch {run.pruner.epoch}: its "
            "compute_loss or training_step does not pass on per-sample losses, and nothing can be "
            "pruned without them. Call super().compute_loss with the batch, its labels or all else "
            "unchanged; with self.as_batch(inputs), if you computed both anew for its rows; or "
            "return self.update(losses), with one loss per sample; with further rows behind the "
            "batch's, self.update(losses[:count]) + losses[count:].mean(). Call self.skip() for a "
            "batch that is left out"
        )

    def _end_epoch(self) -> None:
        run = self._running(self._seta_run)
        epoch, missed = run.pruner.epoch, run.missed
        if not run.answered:
            raise RuntimeError(self._forgotten(run))
        super()._end_epoch()
        if missed:
            warnings.warn(
                f"{missed} batches of epoch {epoch} were not answered, and their samples keep "
                "their earlier losses: compute_loss must call self.update(losses), or "
                "super().compute_loss with the batch (its labels or all else unchanged, or "
                "self.as_batch(inputs)), for each batch, or self.skip() to leave one out",
                stacklevel=2,
            )

    def _log_figures(self, row: Row) -> None:
        self.log(figures_of(row))


class PrunedTrainer(PrunedTrainerMixin, Trainer):
    """A `transformers.Trainer` that trains, in each epoch, on the samples that a policy keeps.

    Use it like `Trainer`: `train`, `evaluate`, `save_model` and all other methods are the same, and
    `pruner` has the history and the losses. For a trainer of your own, see `PrunedTrainerMixin`.

    Args:
        *args: Arguments of `Trainer`.
        pruning: How to prune.
        **kwargs: Keyword arguments of `Trainer`.

    Raises:
        TypeError, ValueError: A setting is not possible with pruning; the message names it.
    """


@contextmanager
def _watched(model: nn.Module, given: dict[str, Any]) -> Iterator[list[Any]]:
    """Collects what a model returns: first of calls with tensors that are given, with gradients."""
    own = {id(one) for _, one in parts_of(given) if isinstance(one, Tensor)}
    calls: list[tuple[bool, bool, Any, Any]] = []

    def note(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        other = all(id(one) not in own for _, one in parts_of((args, kwargs)))
        calls.append((other, not torch.is_grad_enabled(), (args, kwargs), output))

    outputs: list[Any] = []
    handle = model.register_forward_hook(note, with_kwargs=True)
    try:
        yield outputs
    finally:
        handle.remove()
    calls.sort(key=lambda call: call[:2])
    if calls and calls[0][0] and reordered(given, calls[0][2]):
        raise RuntimeError(
            "compute_loss gave the model the rows of the batch in another order, so that it is not "
            "known which loss is whose: keep their order (a collate function may change it, with "
            "index_key=), or call self.update(losses, indices=...)"
        )
    outputs += [output for *_, output in calls]


@contextmanager
def _returned(trainer: Any) -> Iterator[list[Any]]:
    """Collects what a trainer's `compute_loss` returns, whichever class it is of."""
    seen: list[Any] = []
    own, compute_loss = vars(trainer).get("compute_loss"), trainer.compute_loss

    def noted(*args: Any, **kwargs: Any) -> Any:
        seen.append(compute_loss(*args, **kwargs))
        return seen[-1]

    trainer.compute_loss = noted
    try:
        yield seen
    finally:
        if own is None:
            del trainer.compute_loss
        else:
            trainer.compute_loss = own


def _check_planned(run: Run, batch: TrainedBatch) -> None:
    """Raises if a batch has samples that the open epoch leaves out."""
    others = batch.indices[~run.pruner.selects(batch.indices)]
    if len(others):
        raise RuntimeError(
            f"a batch has {len(others)} samples that epoch {run.pruner.epoch} leaves out, such as "
            f"{others[0]}: the training loader goes through others than those selected. "
            "get_train_dataloader of a subclass must return what super() returns"
        )


def _record(run: Run, batch: TrainedBatch) -> None:
    """Records the losses of a batch, if there are any."""
    found = batch.pending()
    if found is not None:
        run.buffer.add(*found)


def _warn_of_replaced(run: Run, batch: TrainedBatch, results: list[Any]) -> None:
    """Warns, once a run, of a loss that is made of none of those with the policy's weights."""
    if run.warned or not batch.weighted or not results:
        return
    loss = results[-1][0] if isinstance(results[-1], tuple) else results[-1]
    if not _made_of(loss, batch.weighted):
        run.warned = True
        logger.warning(
            "the loss that compute_loss returned is not computed from the one with the policy's "
            "weights, so that it trains without them. Use self.update(losses) for a loss of your "
            "own, and add further terms to its result. This is logged once"
        )


def _made_of(loss: Tensor, others: list[Tensor], nodes: int = 100) -> bool:
    """Whether a loss is one of the others, or their graph lies among the last nodes of its own."""
    wanted, waiting = {other.grad_fn for other in others}, [loss.grad_fn]
    for _ in range(nodes):
        if not waiting:
            break
        node = waiting.pop(0)
        if node in wanted:
            return True
        waiting += [before for before, _ in getattr(node, "next_functions", ()) if before]
    return False
