"""Whatever a script does with the loader, in any order, losses end up where they belong."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from seta.torch import PrunedDataLoader
from tests.torch.helpers import Tuples, samples_of

N, EPOCHS, BATCH = 23, 6, 4


class Script(RuleBasedStateMachine):
    """A loader, and beside it what it must know."""

    def __init__(self):
        super().__init__()
        self.loader = PrunedDataLoader(
            Tuples(N), "InfoBatch", epochs=EPOCHS, batch_size=BATCH, with_indices=True
        )
        self.losses = itertools.count(1)
        self.table = np.full(N, np.nan, np.float32)
        self.epoch, self.next_epoch, self.fresh = None, 0, True
        self.unanswered = []
        self.batches, self.stale = None, []
        self.left = 0

    def turn_over(self):
        self.unanswered.clear()
        if self.batches is not None:
            self.stale.append(self.batches)
        self.batches = None

    def end(self):
        self.turn_over()
        self.next_epoch, self.epoch = self.epoch + 1, None

    def begin(self, epoch):
        if self.epoch is not None:
            self.end()
        self.turn_over()
        self.epoch, self.fresh = epoch, True

    def answer(self, samples, losses):
        self.table[samples] = losses
        rest = [[s for s in batch if s not in samples] for batch in self.unanswered]
        self.unanswered = [batch for batch in rest if batch]

    def new_losses(self, count):
        return torch.tensor([float(next(self.losses)) for _ in range(count)])

    def unanswered_as_told(self):
        return f"there are {len(self.unanswered)}:" if self.unanswered else "there is none"

    @rule()
    def ask_for_the_length(self):
        length = len(self.loader)
        if self.epoch is None and self.next_epoch < EPOCHS:
            self.begin(self.next_epoch)
        kept = self.loader.pruner.selection
        assert kept is None or length == -(-len(kept) // BATCH)

    @rule()
    def begin_a_pass(self):
        if self.epoch is not None and not self.fresh:
            self.end()
        if self.epoch is None and self.next_epoch == EPOCHS:
            with pytest.raises(RuntimeError, match="are over"):
                iter(self.loader)
            return
        if self.epoch is None:
            self.begin(self.next_epoch)
        self.turn_over()
        self.batches = iter(self.loader)
        self.left = len(self.loader)

    @precondition(lambda self: self.batches is not None)
    @rule()
    def take_a_batch(self):
        if self.left:
            indices, batch = next(self.batches)
            assert indices.tolist() == samples_of(batch).tolist()
            self.unanswered.append(indices.tolist())
            self.fresh = False
            self.left -= 1
            return
        with pytest.raises(StopIteration):
            next(self.batches)
        self.batches = None
        if not self.unanswered:
            self.end()

    @precondition(lambda self: self.stale)
    @rule()
    def pull_a_pass_that_is_over(self):
        with pytest.raises(RuntimeError, match="has ended"):
            next(self.stale[-1])

    @rule()
    def update(self):
        count = len(self.unanswered[0]) if self.unanswered else 1
        losses = self.new_losses(count)
        if len(self.unanswered) != 1:
            with pytest.raises(RuntimeError, match=self.unanswered_as_told()):
                self.loader.update(losses)
            return
        self.loader.update(losses)
        self.answer(self.unanswered[0], losses)

    @precondition(lambda self: len(self.unanswered) == 1)
    @rule()
    def update_with_a_wrong_count(self):
        with pytest.raises(ValueError, match="one entry for each sample"):
            self.loader.update(self.new_losses(len(self.unanswered[0]) + 1))

    @precondition(lambda self: self.epoch is not None)
    @rule(samples=st.sets(st.integers(0, N - 1), min_size=1, max_size=6))
    def update_any_samples(self, samples):
        losses = self.new_losses(len(samples))
        self.loader.update(losses, indices=list(samples))
        self.answer(list(samples), losses)

    @precondition(lambda self: self.unanswered)
    @rule(data=st.data())
    def update_a_batch_or_a_part_of_it(self, data):
        batch = data.draw(st.sampled_from(self.unanswered))
        samples = list(batch[: data.draw(st.integers(1, len(batch)))])
        losses = self.new_losses(len(samples))
        self.loader.update(losses, indices=torch.tensor(samples))
        self.answer(samples, losses)

    @precondition(lambda self: self.unanswered)
    @rule()
    def update_all_at_once(self):
        samples = list(itertools.chain(*self.unanswered))
        losses = self.new_losses(len(samples))
        self.loader.update(losses, indices=np.array(samples))
        self.answer(samples, losses)

    @rule()
    def skip(self):
        if len(self.unanswered) == 1:
            self.loader.skip()
            self.unanswered.clear()
            return
        with pytest.raises(RuntimeError, match=self.unanswered_as_told()):
            self.loader.skip()

    @rule(epoch=st.integers(0, EPOCHS))
    def set_epoch(self, epoch):
        if epoch != self.epoch and (epoch == EPOCHS or epoch < self.first_allowed()):
            with pytest.raises(ValueError, match="epoch"):
                self.loader.set_epoch(epoch)
            return
        self.loader.set_epoch(epoch)
        if epoch != self.epoch:
            self.begin(epoch)
        self.fresh = True

    def first_allowed(self):
        return self.next_epoch if self.epoch is None else self.epoch + 1

    @precondition(lambda self: self.epoch is not None or self.next_epoch)
    @rule()
    def end_the_epoch(self):
        if self.epoch is not None:
            self.end()
        assert self.loader.end_epoch()["epoch"] == self.next_epoch - 1

    @invariant()
    def the_table_holds_each_samples_own_loss(self):
        np.testing.assert_array_equal(self.loader.pruner.losses, self.table)

    @invariant()
    def the_epoch_is_the_expected_one(self):
        assert self.loader.pruner.epoch == self.epoch
        assert self.loader.epoch == (
            min(self.next_epoch, EPOCHS - 1) if self.epoch is None else self.epoch
        )


TestScript = Script.TestCase
TestScript.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
