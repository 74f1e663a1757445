"""Whatever a script does with the loader, in any order, losses end up where they belong."""

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from seta.torch import PrunedDataLoader
from tests.examples import examples
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
        self.rows = []
        self.table = np.full(N, np.nan, np.float32)
        self.epoch, self.next_epoch = None, 0
        self.begun = False  # any of the open epoch was answered
        self.again = False  # set_epoch has named it
        self.batches, self.stale = None, []
        self.late = []  # batches of the epoch before that were never answered
        self.turn_over()

    def turn_over(self):
        """The batches of the pass before are forgotten."""
        if self.batches is not None:
            self.stale.append((self.batches, self.given == self.length))
        self.batches, self.again = None, False
        self.given, self.length, self.answered, self.whole = 0, None, 0, False
        self.unanswered = []

    def close(self):
        """The open epoch ends; one of which nothing was answered has not begun."""
        if self.begun:
            self.rows.append(self.epoch)
            self.next_epoch = self.epoch + 1
        self.late = self.unanswered if self.answered else []
        self.turn_over()
        self.epoch = None

    def open(self, epoch):
        self.turn_over()
        self.epoch, self.begun = epoch, False

    def answer(self, samples, losses):
        """A batch is answered when it was answered, in part or whole."""
        self.table[samples] = losses
        self.begun = True
        rest = [batch for batch in self.unanswered if not set(batch) & set(samples)]
        self.answered += len(self.unanswered) - len(rest)
        self.unanswered = rest

    @property
    def forgotten(self):
        every = self.whole or self.given == self.length != 1  # one batch may be a look
        return every and not self.answered

    def refused_once(self, call):
        """A pass without an answer is an error that says so; then the epoch can be walked again."""
        with pytest.raises(RuntimeError, match=f"none of the {self.given} batches of epoch"):
            call()
        self.turn_over()

    def new_losses(self, count):
        return torch.tensor([float(next(self.losses)) for _ in range(count)])

    def unanswered_as_told(self):
        return f"there are {len(self.unanswered)}:" if self.unanswered else "there is none"

    @rule()
    def ask_for_the_length(self):
        length = len(self.loader)
        if self.epoch is None and self.next_epoch < EPOCHS:
            self.open(self.next_epoch)
        kept = self.loader.pruner.selection
        assert kept is None or length == -(-len(kept) // BATCH)

    @rule()
    def begin_a_pass(self):
        if self.epoch is not None and not self.again:
            if self.forgotten:
                self.refused_once(lambda: iter(self.loader))
                return
            if self.answered:
                self.close()
        if self.epoch is None and self.next_epoch == EPOCHS:
            with pytest.raises(RuntimeError, match="are over"):
                next(iter(self.loader))
            return
        if self.epoch is None:
            self.open(self.next_epoch)
        self.turn_over()
        self.batches = iter(self.loader)
        self.length = len(self.loader)

    @precondition(lambda self: self.batches is not None)
    @rule()
    def take_a_batch(self):
        if self.given < self.length:
            indices, batch = next(self.batches)
            assert indices.tolist() == samples_of(batch).tolist()
            self.unanswered.append(indices.tolist())
            self.given += 1
            return
        with pytest.raises(StopIteration):
            next(self.batches)
        self.batches, self.whole = None, True
        if not self.unanswered:
            self.close()

    @precondition(lambda self: self.stale)
    @rule()
    def pull_a_pass_that_is_over(self):
        batches, whole = self.stale[-1]
        with pytest.raises(
            StopIteration if whole else RuntimeError, match=None if whole else "has ended"
        ):
            next(batches)

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
        try:
            self.loader.update(losses, indices=list(samples))
        except ValueError as error:  # some are not of this epoch, and none is recorded
            assert f"that epoch {self.epoch} left out" in str(error)
        except RuntimeError as error:  # they may be meant as those of a batch that is over
            assert "those of a batch of the pass before" in str(error)
            assert any(samples <= set(batch) for batch in self.late)
        else:
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
            self.answered += 1
            self.begun = True
            return
        with pytest.raises(RuntimeError, match=self.unanswered_as_told()):
            self.loader.skip()

    @rule(epoch=st.integers(0, EPOCHS))
    def set_epoch(self, epoch):
        if epoch != self.epoch and (epoch == EPOCHS or epoch < self.first_allowed()):
            with pytest.raises(ValueError, match="epoch"):
                self.loader.set_epoch(epoch)
            return
        if epoch != self.epoch and self.epoch is not None and self.forgotten:
            self.refused_once(lambda: self.loader.set_epoch(epoch))
            return
        self.loader.set_epoch(epoch)
        if epoch != self.epoch:
            if self.epoch is not None:
                self.close()
            self.open(epoch)
        self.again = True

    def first_allowed(self):
        return self.next_epoch if self.epoch is None else self.epoch + 1

    @rule()
    def end_the_epoch(self):
        if self.epoch is not None and self.forgotten:
            self.refused_once(self.loader.end_epoch)
            return
        if self.epoch is not None:
            self.close()
        if self.rows:
            assert self.loader.end_epoch()["epoch"] == self.rows[-1]
            return
        with pytest.raises(RuntimeError, match="none has begun"):
            self.loader.end_epoch()

    @precondition(lambda self: self.epoch is not None and self.begun)
    @rule()
    def end_the_epoch_behind_the_loaders_back(self):
        self.loader.pruner.end_epoch()
        self.close()

    @rule()
    def copy(self):
        """A copy knows what this one does."""
        copied = copy.deepcopy(self.loader)
        assert copied.epoch == self.loader.epoch
        np.testing.assert_array_equal(copied.pruner.losses, self.table)

    @invariant()
    def the_table_holds_each_samples_own_loss(self):
        np.testing.assert_array_equal(self.loader.pruner.losses, self.table)

    @invariant()
    def the_epoch_is_the_expected_one(self):
        if self.epoch == EPOCHS - 1 and self.answered == self.given == self.length:
            assert self.loader.pruner.epoch is None  # all of the last epoch: it ends there
            self.close()
        assert [row["epoch"] for row in self.loader.pruner.history] == self.rows
        assert self.loader.pruner.epoch == self.epoch
        assert self.loader.epoch == (
            min(self.next_epoch, EPOCHS - 1) if self.epoch is None else self.epoch
        )


TestScript = Script.TestCase
TestScript.settings = examples(
    60, stateful_step_count=40, derandomize=True, suppress_health_check=list(HealthCheck)
)
