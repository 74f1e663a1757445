"""torchdata's StatefulDataLoader over our sampler: training, and resuming in mid-epoch."""

import io

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset, default_collate

import seta
from seta.torch import (
    IndexedCollate,
    IndexedDataset,
    LossBuffer,
    PrunedDataLoader,
    PrunedSampler,
    indices_of,
    ranks_of,
    weighted_mean,
)
from tests.engines.data_runs import flat
from tests.engines.pages import run_page
from tests.torch.processes import run_ranks

stateful = pytest.importorskip("torchdata.stateful_dataloader")
# torchdata 0.11 calls what torch 2.13 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")

N, BATCH, EPOCHS = 61, 4, 3


class OwnIndex(Dataset):
    """Sample i is (i, noise of a generator that has a state)."""

    def __init__(self):
        self.generator = torch.Generator().manual_seed(7)

    def __len__(self):
        return N

    def __getitem__(self, index):
        return index, torch.rand(1, generator=self.generator)

    def state_dict(self):
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state):
        self.generator.set_state(state["generator"])


class Run:
    """A training run with all that a checkpoint has to hold."""

    def __init__(self, workers=0, *, every=1, policy="InfoBatch"):
        self.model = torch.nn.Linear(2, 2)
        torch.nn.init.constant_(self.model.weight, 0.1)
        torch.nn.init.zeros_(self.model.bias)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        ranks = ranks_of()
        self.pruner = seta.Pruner(
            N, policy, epochs=EPOCHS, seed=3, budget=0.7, batch_size=BATCH, ranks=ranks
        )
        self.buffer = LossBuffer(self.pruner)
        self.recorded = {}  # loss, by what the sample says of itself
        self.loader = stateful.StatefulDataLoader(
            IndexedDataset(OwnIndex()),
            batch_size=BATCH,
            sampler=PrunedSampler(self.pruner, share=True),
            collate_fn=IndexedCollate(default_collate),
            num_workers=workers,
            snapshot_every_n_steps=every,
        )

    def train(self, stop=None):
        """Returns the samples of each batch; ends after `stop`, (epoch, batches)."""
        seen = []
        for epoch in range(self.pruner.next_epoch, EPOCHS):
            self.loader.sampler.set_epoch(epoch)
            for at, (packed, (own, noise)) in enumerate(self.loader, 1):
                self.step(indices_of(packed), own, noise)
                seen.append(own.tolist())
                if stop == (epoch, at):
                    return seen
            self.pruner.end_epoch()
            if stop == (epoch, "end"):
                return seen
        return seen

    def step(self, indices, own, noise):
        x = torch.cat([own[:, None] / N, noise], 1)
        losses = cross_entropy(self.model(x), own % 2, reduction="none")
        self.recorded |= dict(zip(own.tolist(), losses.tolist(), strict=True))
        self.buffer.add(indices, losses)
        self.optimizer.zero_grad()
        weighted_mean(losses, self.pruner.weights_of(indices)).backward()
        self.optimizer.step()

    def parts(self):
        return self.model, self.optimizer, self.pruner, self.loader

    def save(self):
        torch.save([part.state_dict() for part in self.parts()], file := io.BytesIO())
        return file.getvalue()

    def load(self, saved):
        states = torch.load(io.BytesIO(saved), weights_only=False)
        for part, state in zip(self.parts(), states, strict=True):
            part.load_state_dict(state)
        return self

    @property
    def weights(self):
        return self.model.weight.flatten().tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_losses_are_those_of_the_samples_that_were_trained(workers):
    run = Run(workers, every=2)
    seen = run.train()
    assert [len(batch) for batch in seen] == [BATCH] * len(seen)
    assert len(seen) * BATCH == sum(run.pruner.lengths)
    known = sorted(run.recorded)
    assert np.array_equal(
        run.pruner.losses[known], np.array([run.recorded[i] for i in known], np.float32)
    )
    assert np.isnan(np.delete(run.pruner.losses, known)).all()


@pytest.mark.parametrize("workers, every", [(0, 1), (0, 3), (2, 1), (2, 3)])
def test_a_checkpoint_in_mid_epoch_continues_bit_for_bit(workers, every):
    whole = Run(workers, every=every)
    seen = whole.train()
    for stop in [(0, 2), (1, 5), (1, whole.pruner.lengths[1] // BATCH), (1, "end")]:
        head = Run(workers, every=every)
        before = head.train(stop)
        tail = Run(workers, every=every).load(head.save())
        assert before + tail.train() == seen, stop
        assert tail.weights == whole.weights
        assert np.array_equal(tail.pruner.losses, whole.pruner.losses, equal_nan=True)
        assert [row["trained"] for row in tail.pruner.history] == list(whole.pruner.lengths)


@pytest.mark.processes
def test_two_processes_train_their_shares_and_resume(tmp_path):
    (seen, weights, losses), other = run_ranks(2, _uninterrupted, tmp_path)
    resumed = run_ranks(2, _resumed, tmp_path)
    assert resumed == [(seen, weights, losses), other]
    for epoch in range(EPOCHS):
        part = slice(epoch * len(seen) // EPOCHS, (epoch + 1) * len(seen) // EPOCHS)
        taken = flat(seen[part] + other[0][part])
        assert len(taken) == len(set(taken))
    assert losses == other[2]


def _uninterrupted(rank):
    run = Run(workers=0)
    seen = run.train()
    return seen, run.weights, np.nan_to_num(run.pruner.losses, nan=-1).tolist()


def _resumed(rank):
    head = Run(workers=0)
    before = head.train(stop=(1, 3))
    tail = Run(workers=0).load(head.save())
    seen = before + tail.train()
    return seen, tail.weights, np.nan_to_num(tail.pruner.losses, nan=-1).tolist()


def test_evaluation_in_between_records_nothing():
    run = Run()
    run.train(stop=(0, "end"))
    before = run.pruner.losses.copy()
    for own, noise in stateful.StatefulDataLoader(OwnIndex(), batch_size=BATCH):
        run.model(torch.cat([own[:, None] / N, noise], 1))
    assert np.array_equal(before, run.pruner.losses, equal_nan=True)
    run.train()
    assert [row["trained"] for row in run.pruner.history] == list(run.pruner.lengths)


def test_a_state_from_before_the_end_of_an_epoch_repeats_it():
    head = Run()
    head.loader.sampler.set_epoch(0)
    for packed, (own, noise) in head.loader:
        head.step(indices_of(packed), own, noise)
    tail = Run().load(head.save())
    assert len(tail.train()) * BATCH == sum(tail.pruner.lengths)


def test_two_positions_leave_samples_out_and_the_row_tells():
    head = Run()
    head.train(stop=(1, 3))
    tail = Run()
    tail.pruner.load_state_dict(head.pruner.state_dict(done=3 * BATCH))
    tail.loader.load_state_dict(head.loader.state_dict())
    tail.train()
    row = tail.pruner.history[1]
    assert row["trained"] == row["kept"] - 3 * BATCH


def test_a_stateful_loader_becomes_a_pruned_one():
    stock = stateful.StatefulDataLoader(OwnIndex(), batch_size=BATCH, shuffle=True)
    loader = PrunedDataLoader.from_loader(stock, "SeTa", epochs=1, with_indices=True)
    for indices, (own, _) in loader:
        assert indices.tolist() == own.tolist()
        loader.update(own.float())
    assert loader.pruner.history[0]["trained"] > 0


def test_batches_without_indices_are_refused():
    plain = stateful.StatefulDataLoader(OwnIndex(), batch_size=BATCH)
    first, _ = next(iter(plain))
    assert indices_of(first).tolist() == [0, 1, 2, 3]  # content that looks like indices is taken
    _, noise = next(iter(plain))
    with pytest.raises(TypeError, match="has to come after the indices of its samples"):
        indices_of(noise)


@pytest.mark.processes
def test_the_page(tmp_path):
    run_page("stateful-dataloader", tmp_path)
