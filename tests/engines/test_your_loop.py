"""What loops do, on samples whose content is their own index: each loss reaches its sample."""

import logging
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, default_collate

import seta
from tests.engines.pages import python_of

N, BATCH = 120, 10


class Numbers(Dataset):
    """Sample i is i."""

    def __init__(self, n=N, first=0):
        self.n, self.first = n, first

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return torch.tensor(float(self.first + index))


class Numbered(Numbers):
    """Sample i is (i, i)."""

    def __getitem__(self, index):
        return index, super().__getitem__(index)


@pytest.fixture(scope="module")
def page():
    """The names that the page defines; running it is a test of it."""
    names = {"__name__": "page"}
    exec(compile(python_of("your-loop"), "your-loop.md", "exec"), names)
    return names


def loader_of(data=None, policy="InfoBatch", **options):
    options = {"epochs": 3, "batch_size": BATCH, "seed": 5, **options}
    return seta.PrunedDataLoader(Numbers() if data is None else data, policy, **options)


def check(loader, expected=None):
    """Each sample that was trained has the loss that is its index, and as many were as planned."""
    pruner = loader.pruner
    losses = pruner.losses
    seen = np.flatnonzero(~np.isnan(losses))
    assert len(seen) > N // 3
    wanted = np.arange(pruner.n) if expected is None else expected
    np.testing.assert_array_equal(losses[seen], wanted[seen])
    assert all(row["trained"] == row["kept"] for row in pruner.history)
    assert len(pruner.history) == pruner.epochs


def test_the_page_runs(page):
    assert page["loader"].pruner.n == 480  # its last entry


@pytest.mark.parametrize("workers", [0, 2])
def test_indices_of_the_users_own_survive_a_sorted_copy(workers):
    def backwards(rows):
        rows = sorted(rows, key=lambda row: -row[0])
        return torch.tensor([row[0] for row in rows]), torch.stack([row[1] for row in rows])

    loader = loader_of(Numbered(), collate_fn=backwards, num_workers=workers)
    for _ in range(3):
        for indices, values in loader:
            loader.update(values, indices=indices)
    check(loader)


@pytest.mark.parametrize(
    ("data", "shift"), [(Subset(Numbered(), range(N // 2, N)), 0), (Numbered(), 1)]
)
def test_indices_of_something_else_are_refused(data, shift):
    loader = loader_of(data, "Random")
    with pytest.raises((IndexError, ValueError), match="indices must (lie|be samples of this ep)"):
        for indices, values in loader:
            loader.update(values, indices=(indices + shift) % N)


def test_rows_that_are_left_out_of_a_batch_leave_the_others_with_their_samples():
    class Broken(Numbered):
        def __getitem__(self, index):
            return None if index % 7 == 0 else super().__getitem__(index)

    def present(rows):
        return default_collate([row for row in rows if row is not None])

    loader = loader_of(Broken(), "Full", collate_fn=present)
    for _ in range(3):
        for indices, values in loader:
            loader.update(values, indices=indices)
    losses = loader.pruner.losses
    assert np.isnan(losses[::7]).all() and len(loader.pruner.history) == 3
    seen = np.flatnonzero(np.arange(N) % 7)
    assert (losses[seen] == seen).all()


def test_a_sample_in_place_of_another_is_not_recorded_for_it():
    class Repaired(Numbered):
        def __getitem__(self, index):
            return super().__getitem__(index if index % 7 else index + 1)

    loader = loader_of(Repaired(), with_indices=True)
    for _ in range(3):
        for indices, (found, values) in loader:
            right = found == indices
            loader.update(values[right], indices=indices[right])
    losses = loader.pruner.losses
    assert np.isnan(losses[::7]).all()
    seen = np.flatnonzero(~np.isnan(losses))
    assert len(seen) > N // 3 and (losses[seen] == seen).all()


def test_samples_that_a_collate_function_merges_have_a_loss_each(page):
    rows = [torch.full((1 + i % 4,), float(i)) for i in range(N)]
    loader = loader_of(rows, collate_fn=page["packed"])
    for _ in range(3):
        for tokens, lengths in loader:
            losses = torch.stack([part.mean() for part in tokens.split(lengths.tolist())])
            plain = bool((loader.weights() == 1).all())
            loss = loader.update(losses, counts=lengths)
            if plain:
                torch.testing.assert_close(loss, tokens.mean())
    check(loader)


def test_samples_without_a_label_stay_unseen():
    loader = loader_of(policy="Full", with_indices=True)
    for _ in range(3):
        for indices, values in loader:
            known = values % 3 != 0
            loss = loader.update(values[known], indices=indices[known])
            assert loss == values[known].mean()
    losses = loader.pruner.losses
    assert np.isnan(losses[::3]).all()
    assert (losses[1::3] == np.arange(1, N, 3)).all()
    assert (losses[2::3] == np.arange(2, N, 3)).all()
    assert len(loader.pruner.history) == 3


@pytest.mark.parametrize("adjacent", [False, True])
def test_views_of_a_sample_are_averaged(adjacent):
    loader = loader_of()
    for _ in range(3):
        for values in loader:
            views = [values - 0.25, values + 0.25]
            if adjacent:
                losses = torch.stack(views, 1).flatten().view(-1, 2)
            else:
                losses = torch.cat(views).view(2, -1).mean(0)
            loader.update(losses)
    check(loader)


def test_the_message_for_views_says_how_to_average_those_that_follow_one_another():
    loader = loader_of()
    values = next(iter(loader))
    views = torch.cat([values - 0.5, values, values + 0.5])
    with pytest.raises(ValueError, match=r"losses\.view\(3, 10\)\.mean\(0\) if the views follow"):
        loader.update(views)
    assert torch.equal(views.view(3, 10).mean(0), values)


def test_an_index_may_repeat_within_a_batch():
    loader = loader_of(with_indices=True)
    for _ in range(3):
        for indices, values in loader:
            loader.update(torch.cat([values + 1, values]), indices=torch.cat([indices, indices]))
    check(loader)


def test_the_weights_of_a_batch_serve_a_loss_that_is_not_recorded():
    loader, factors = loader_of(), set()
    for _ in range(3):
        for values in loader:
            weights = loader.weights()
            factors.update(weights.tolist())
            # A second pass, or a mixed loss, is weighted as `update` weights the one recorded.
            assert torch.equal((weights * values).mean(), loader.update(values))
    check(loader)
    assert len(factors) > 1


def test_copies_of_a_sample_have_losses_of_their_own():
    drawn = torch.randint(N, (N,), generator=torch.Generator().manual_seed(0))
    loader = loader_of(Subset(Numbers(), drawn.tolist()))
    for _ in range(3):
        for values in loader:
            loader.update(values)
    check(loader, drawn.numpy())


def test_classes_are_spread_over_the_batches(page, monkeypatch):
    monkeypatch.setitem(page, "labels", (torch.arange(N) % 6 == 0).long())  # 1 in 6
    loader = loader_of(policy="Random", budget=0.5, reorder=page["spread"], batch_size=12)
    for _ in range(3):
        rare = [int((values % 6 == 0).sum()) for values in map(answered(loader), loader)]
        assert max(rare) - min(rare) <= 1 and sum(rare) > 0
    check(loader)


def answered(loader):
    def answer(values):
        loader.update(values)
        return values

    return answer


def test_indices_count_through_joined_datasets():
    loader = loader_of(ConcatDataset([Numbers(80), Numbers(40, first=80)]), always_keep=[80, 119])
    for _ in range(3):
        for values in loader:
            loader.update(values)
    check(loader)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_endless_loader_beside_cuts_no_epoch(page, workers, caplog):
    loader = loader_of(num_workers=workers)
    beside = DataLoader(Numbers(30), batch_size=BATCH)
    with caplog.at_level(logging.WARNING, "seta"):
        for _ in range(3):
            for values, _ in zip(loader, page["endless"](beside), strict=False):
                loader.update(values)
    check(loader)
    assert not caplog.records


def test_a_closure_names_its_samples():
    loader = loader_of(with_indices=True)
    for _ in range(3):
        for indices, values in loader:
            for attempt in (2, 1, 0):
                loader.update(values + attempt, indices=indices)
    check(loader)


def test_skipped_batches_leave_the_others_with_their_samples():
    loader = loader_of()
    skipped = 0
    for _ in range(3):
        for values in loader:
            if 7 in values:
                loader.skip()
                skipped += 1
                continue
            loader.update(values)
    assert skipped and np.isnan(loader.pruner.losses[7])
    seen = np.flatnonzero(~np.isnan(loader.pruner.losses))
    assert (loader.pruner.losses[seen] == seen).all() and len(loader.pruner.history) == 3


def test_a_batch_that_is_left_without_a_word_is_noticed_with_the_next():
    loader = loader_of()
    with pytest.raises(RuntimeError, match=r"there are 2: to leave one out, call skip\(\)"):
        for at, values in enumerate(loader):
            if at == 1:
                continue
            loader.update(values)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loop_that_looks_ahead_names_its_samples(page, workers):
    loader = loader_of(with_indices=True, num_workers=workers)
    for _ in range(3):
        for indices, values in page["ahead"](loader):
            loader.update(values, indices=indices)
    assert loader.end_epoch()["epoch"] == 2
    check(loader)
    loader = loader_of()
    with pytest.raises(RuntimeError, match=r"with_indices=True and call update\(losses, indices="):
        for values in page["ahead"](loader):
            loader.update(values)


def test_a_measuring_pass_over_the_pruned_loader_is_refused():
    loader = loader_of()
    for values in loader:
        loader.update(values)
    with pytest.raises(RuntimeError, match="To read all batches without training, iterate over a"):
        for _ in loader:
            pass
    for _ in range(2):  # nothing was used up
        for values in loader:
            loader.update(values)
    check(loader)


@pytest.mark.parametrize(("n", "batch", "batches"), [(120, 10, 7), (125, 10, 7), (1003, 32, 11)])
def test_a_share_of_whole_batches_makes_epochs_of_one_length(n, batch, batches):
    share = Fraction(batches * batch, n)
    loader = loader_of(Numbers(n), batch_size=batch, epochs=9, budget=share)
    assert loader.pruner.lengths == [batches * batch] * 9


def test_the_easy_ones_come_first_and_a_state_from_within_such_an_epoch_is_refused(
    page, monkeypatch
):
    def make():
        loader = loader_of(policy="Full", reorder=page["easy_first"])
        monkeypatch.setitem(page, "loader", loader)
        return loader

    loader = make()
    for values in loader:
        loader.update(values)
    between, seen = loader.state_dict(), []
    for at, values in enumerate(loader):
        loader.update(N - values)
        seen += values.tolist()
        if at == 2:
            within = loader.state_dict()
    assert seen == sorted(seen)
    with pytest.raises(ValueError, match="load a state from between two epochs"):
        make().load_state_dict(within)
    resumed = make()
    resumed.load_state_dict(between)
    again = [value for values in map(answered(resumed), resumed) for value in values.tolist()]
    assert again == seen


@pytest.mark.parametrize("workers", [0, 2])
def test_data_that_grow_are_trained_once_the_pruner_knows(workers):
    rows = list(torch.arange(float(N)))
    loader = loader_of(rows, "Full", num_workers=workers, persistent_workers=workers > 0)
    for epoch in range(3):
        for values in loader:
            loader.update(values)
        assert loader.pruner.history[-1]["trained"] == len(rows)
        if epoch < 2:
            rows += list(torch.arange(float(len(rows)), len(rows) + 20.0))
            with pytest.raises(RuntimeError, match=r"dataset has \d+ samples, and had \d+ before"):
                iter(loader)
            loader.pruner.resize(len(rows))
            loader.close()
    check(loader)
    assert loader.pruner.n == N + 40
