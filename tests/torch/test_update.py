"""`update`: the loss that comes back, the losses that are recorded, and when it refuses."""

import copy
import pickle
import re

import numpy as np
import pytest
import torch

import seta
from seta.torch import PrunedDataLoader, PrunedSampler
from tests.torch.helpers import DeviceBuffer, Tuples

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
HALVE = seta.InfoBatch(prune_ratio=0.5, delta=1.0)
cuda = pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="no CUDA device here: waits of the GPU are looked for on a machine that has one",
)


def weighted_epoch(n=64, batch_size=16):
    """A loader in an epoch whose samples below n/2 (those that are kept) weigh 2, the others 1."""
    return PrunedDataLoader(
        Tuples(n),
        HALVE,
        epochs=2,
        batch_size=batch_size,
        losses=np.arange(n, dtype=float),
        with_indices=True,
    )


def plain(n=12, batch_size=4, **options):
    return PrunedDataLoader(Tuples(n), "Full", epochs=2, batch_size=batch_size, **options)


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_weights_it_returns_exactly_the_mean(dtype):
    loader = plain(130, 13)
    for _ in loader:
        losses = torch.rand(13).to(dtype)
        assert torch.equal(loader.update(losses), losses.mean())


def test_without_weights_gradients_are_exactly_those_of_the_mean():
    torch.manual_seed(0)
    loader = plain(130, 13)
    for _ in loader:
        outputs = torch.randn(13, 5, requires_grad=True)
        losses = torch.nn.functional.cross_entropy(
            outputs, torch.zeros(13).long(), reduction="none"
        )
        (expected,) = torch.autograd.grad(losses.mean(), outputs, retain_graph=True)
        loader.update(losses).backward()
        assert torch.equal(outputs.grad, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_multiply_losses_and_the_batch_size_divides(dtype):
    loader = weighted_epoch()
    seen = set()
    for indices, _ in loader:
        weights = np.where(indices.numpy() < 31.5, 2.0, 1.0)
        seen.update(weights.tolist())
        losses = torch.rand(len(indices)).to(dtype).requires_grad_()
        loss = loader.update(losses)
        assert loss.dtype == dtype
        expected = (weights * losses.detach().double().numpy()).sum() / len(indices)
        assert loss.item() == pytest.approx(expected, rel=4 * torch.finfo(dtype).eps)
        loss.backward()
        np.testing.assert_allclose(
            losses.grad.double(), weights / len(indices), rtol=torch.finfo(dtype).eps
        )
    assert seen == {1.0, 2.0}


def test_weights_are_those_of_the_losses_before_this_batch():
    loader = weighted_epoch()
    for indices, _ in loader:
        weights = torch.where(indices < 32, 2.0, 1.0)
        loss = loader.update(100 - indices.float())  # from now on these would weigh otherwise
        assert loss.item() == pytest.approx((weights * (100 - indices)).mean().item())


@pytest.mark.parametrize("dtype", DTYPES)
def test_losses_are_recorded_as_float32(dtype):
    loader = plain()
    for batch in loader:
        loader.update(batch[0].to(dtype) + 0.5)
    assert loader.pruner.losses.tolist() == [i + 0.5 for i in range(12)]


def test_the_losses_recorded_are_those_handed_in_and_stay_untouched():
    loader = weighted_epoch()
    for indices, _ in loader:
        losses = indices.float().requires_grad_()
        before = losses.detach().clone()
        loader.update(losses)
        assert torch.equal(losses, before)
        with torch.no_grad():
            losses.fill_(-1)
    row = loader.pruner.history[0]
    assert row["trained"] == row["kept"]
    np.testing.assert_array_equal(loader.pruner.losses, np.arange(64))


def test_losses_of_more_dimensions_are_reduced():
    loader = plain()
    for batch in loader:
        losses = batch[0].float()[:, None, None].expand(4, 3, 2) + torch.tensor([-0.5, 0.5])
        mask = torch.ones(4, 3, 2)
        assert torch.equal(loader.update(losses, mask=mask), losses.mean((1, 2)).mean())
    assert loader.pruner.losses.tolist() == list(range(12))


def test_masked_elements_do_not_count():
    loader = plain()
    for batch in loader:
        losses = torch.stack([batch[0].float(), torch.full((4,), 99.0)], 1)
        mask = torch.tensor([[True, False]] * 4)
        loader.update(losses, mask=mask)
    assert loader.pruner.losses.tolist() == list(range(12))


def test_losses_that_are_not_finite_are_counted():
    loader = plain()
    for batch in loader:
        losses = batch[0].float()
        losses[0] = float("nan")
        loss = loader.update(losses)
        assert loss.isnan()
    row = loader.pruner.history[0]
    assert (row["nonfinite"], row["trained"]) == (3, 12)
    assert np.isnan(loader.pruner.losses).sum() == 3


def test_losses_beyond_float32_are_not_finite():
    loader = plain()
    for batch in loader:
        loader.update(batch[0].double() + 1e300)
    assert loader.pruner.history[0]["nonfinite"] == 12


def test_updates_without_gradients_are_fine():
    loader = plain()
    with torch.inference_mode():
        for batch in loader:
            loader.update(batch[0].float())
    assert loader.pruner.losses.tolist() == list(range(12))


def pending():
    """A loader in epoch 0 with losses of a first batch that are not in the table yet."""
    loader = plain(with_indices=True)
    loader._buffer = DeviceBuffer(loader.pruner)
    indices, batch = next(iter(loader))
    loader.update(batch[0].float())
    assert len(loader._buffer) == 4
    return loader, indices


@pytest.mark.parametrize(
    "come",
    [
        lambda loader: loader.flush(),
        lambda loader: loader.pruner.losses,
        lambda loader: loader.pruner.left_out,
        lambda loader: loader.pruner.saved,
        lambda loader: loader.pruner.begin_epoch(1),
        lambda loader: PrunedSampler(loader.pruner).set_epoch(1),
        lambda loader: copy.deepcopy(loader),
        lambda loader: pickle.dumps(loader),
        lambda loader: loader.end_epoch(),
        lambda loader: loader.set_epoch(1),
        lambda loader: loader.sampler.set_epoch(1),
        lambda loader: iter(loader),
        lambda loader: loader.state_dict(),
    ],
)
def test_losses_on_a_device_come_before_anything_depends_on_them(come):
    loader, indices = pending()
    come(loader)
    assert len(loader._buffer) == 0
    pruner = loader.pruner
    np.testing.assert_array_equal(pruner.losses[indices], indices)
    if pruner.epoch == 0:
        loader.end_epoch()
    assert pruner.history[0]["trained"] == 4


def test_losses_on_a_device_come_before_a_whole_pass_ends():
    loader, _ = pending()
    loader.set_epoch(1)
    for _, batch in loader:
        loader.update(batch[0].float())
    rows = loader.pruner.history
    assert [row["trained"] for row in rows] == [4, 12]


def test_losses_on_a_device_are_forgotten_with_the_run_that_they_belong_to():
    loader, _ = pending()
    loader.load_state_dict(plain().state_dict())
    assert np.isnan(loader.pruner.losses).all()


def test_indices_may_change_after_they_were_handed_in():
    loader, _ = pending()
    indices = np.array([8, 9, 10])
    loader.update(torch.tensor([1.0, 2.0, 3.0]), indices=indices)
    indices[:] = 0
    assert loader.pruner.losses[8:11].tolist() == [1, 2, 3]


def test_no_value_is_read_from_the_device():
    # A meta tensor has no values: whatever reads one, to wait for it or to look at it, fails.
    loader = weighted_epoch()
    batches = iter(loader)
    for _ in range(3):
        indices, _ = next(batches)
        losses = torch.rand(len(indices), 5, device="meta", dtype=torch.float16, requires_grad=True)
        loss = loader.update(losses, mask=torch.ones(losses.shape, device="meta"))
        assert (loss.device.type, loss.dtype, loss.shape) == ("meta", torch.float16, ())
        loss.backward()
    with pytest.raises(NotImplementedError, match="meta"):
        loader.flush()


@cuda
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_call_waits_for_the_gpu(dtype):
    loader = weighted_epoch(4096, 64)
    plan = loader.pruner.begin_epoch()
    weights = torch.zeros(4096)
    weights[plan.indices.astype(np.int64)] = torch.from_numpy(plan.weights)
    expected = np.arange(4096, dtype=np.float32)
    for indices, _ in loader:
        losses = (-indices.float()).to("cuda", dtype).requires_grad_()
        expected[indices] = losses.detach().float().cpu()
        torch.cuda.set_sync_debug_mode("error")
        try:
            loss = loader.update(losses)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        loss.backward()
        gradients = losses.grad.cpu().float() * len(indices)
        np.testing.assert_allclose(gradients, weights[indices], rtol=torch.finfo(dtype).eps)
    assert loader.pruner.history[0]["trained"] == loader.pruner.history[0]["kept"]
    np.testing.assert_array_equal(loader.pruner.losses, expected)


@cuda
def test_losses_on_the_gpu_are_seen_by_who_asks_for_them():
    loader = plain()
    for batch in loader:
        loader.update(batch[0].float().cuda())
        assert (loader.pruner.losses[batch[0]] == batch[0].numpy()).all()
    assert loader.pruner.history[0]["trained"] == 12


def test_parts_of_a_batch_may_be_answered_one_by_one():
    loader = plain(with_indices=True)
    batches = iter(loader)
    indices, _ = next(batches)
    loader.update(torch.full((1,), 1.0), indices=indices[:1])
    loader.update(torch.full((2,), 2.0), indices=indices[[3, 1]].numpy())
    with pytest.raises(RuntimeError, match="was answered already"):  # by a part of it
        loader.update(torch.ones(1))
    loader.update(torch.full((1,), 3.0), indices=indices[[2]])
    assert loader.pruner.losses[indices].tolist() == [1, 2, 3, 2]
    assert loader.end_epoch()["trained"] == 4


@pytest.mark.parametrize("kind", [list, tuple, np.asarray, torch.tensor, np.uint8, np.uint64])
def test_indices_may_be_any_integers(kind):
    loader = plain(with_indices=True)
    indices = next(iter(loader))[0].tolist()
    loader.update(torch.arange(4.0), indices=kind(indices))
    assert loader.pruner.losses[indices].tolist() == [0, 1, 2, 3]
    with pytest.raises(RuntimeError, match="there is none"):
        loader.skip()


@pytest.mark.parametrize(
    "indices, error, message",
    [
        (torch.arange(4.0), ValueError, r"indices must be integers, got torch.float32: large ones"),
        (torch.arange(4).bfloat16(), ValueError, r"indices must be integers, got torch.bfloat16"),
        ([0.0, 1.0, 2.0, 3.0], ValueError, "indices must be .* integers, got float64"),
        (torch.ones(4) > 0, ValueError, "indices must be .* integers, got bool"),
        ([[0, 1, 2, 3]], ValueError, r"indices must be a one-dimensional .* shape \(1, 4\)"),
        ([0, 1, 2], ValueError, "one entry for each loss, got 3 indices for 4 losses"),
        ([0, 1, 2, 12], IndexError, r"indices must lie in 0..11 .* 12 samples, got 12"),
        ([0, -1, 2, 3], IndexError, r"indices must lie in 0..11 .* got -1"),
    ],
)
def test_indices_that_do_not_fit_are_refused(indices, error, message):
    loader = plain()
    next(iter(loader))
    with pytest.raises(error, match=message):
        loader.update(torch.rand(4), indices=indices)
    assert np.isnan(loader.pruner.losses).all()
    loader.update(torch.rand(4))


def test_named_samples_need_an_open_epoch():
    with pytest.raises(RuntimeError, match="update needs an open epoch.*take a batch first"):
        plain().update(torch.rand(1), indices=[0])


WAYS_OUT = r".*with_indices=True and call update\(losses, indices=...\)"


def test_losses_without_a_batch_are_refused():
    with pytest.raises(RuntimeError, match=r"no batch was taken yet" + WAYS_OUT):
        plain().update(torch.rand(4))


def test_losses_of_a_batch_already_answered_are_refused():
    loader = plain()
    next(iter(loader))
    loader.update(torch.rand(4))
    with pytest.raises(RuntimeError, match=r"was answered already" + WAYS_OUT):
        loader.update(torch.rand(4))


def test_losses_with_two_batches_unanswered_are_refused():
    loader = plain()
    batches = iter(loader)
    next(batches)
    next(batches)
    message = r"exactly one unanswered batch, and there are 2.*skip\(\) before the next" + WAYS_OUT
    with pytest.raises(RuntimeError, match="update.losses. needs " + message):
        loader.update(torch.rand(4))
    with pytest.raises(RuntimeError, match=re.escape("skip()") + " needs " + message):
        loader.skip()


def test_a_skipped_batch_is_not_trained():
    loader = plain()
    batches = iter(loader)
    skipped = next(batches)[0]
    loader.skip()
    for batch in batches:
        loader.update(batch[0].float())
    assert np.isnan(loader.pruner.losses[skipped]).all()
    assert loader.pruner.history[0]["trained"] == 8


def test_nothing_to_skip_is_refused():
    with pytest.raises(RuntimeError, match=r"skip\(\) needs an unanswered batch.*there is none"):
        plain().skip()


@pytest.mark.parametrize("count", [3, 5])
def test_a_wrong_number_of_losses_is_refused(count):
    loader = plain()
    next(iter(loader))
    message = rf"got {count} losses for a batch of 4: .*reduction='none'.*indices="
    with pytest.raises(ValueError, match=message):
        loader.update(torch.rand(count))
    loader.update(torch.rand(4))


def test_a_reduced_loss_is_refused():
    loader = plain()
    next(iter(loader))
    with pytest.raises(ValueError, match=r'losses is a scalar.*reduction="none"'):
        loader.update(torch.rand(4).mean())
    loader.update(torch.rand(4))


# One batch, several calls.


def seen_weights(loader, indices, losses=None):
    """The weights that an update of a batch uses."""
    ones = torch.ones(len(indices)) if losses is None else losses
    ones.requires_grad_()
    loader.update(ones, indices=indices).backward()
    return (ones.grad * len(indices)).tolist()


def test_a_second_update_of_a_batch_has_the_weights_of_the_first():
    """Sharpness-aware minimisation: the losses of one batch at two points."""
    loader = weighted_epoch()
    for indices, _ in loader:
        expected = torch.where(indices < 32, 2.0, 1.0).tolist()
        assert seen_weights(loader, indices, 100 - indices.float()) == expected
        assert seen_weights(loader, indices, 200 - indices.float()) == expected
    row = loader.pruner.history[0]
    assert row["trained"] == row["kept"]
    assert loader.pruner.saved == pytest.approx(1 - row["kept"] / 64)


def test_the_closure_of_lbfgs_may_ask_for_a_batch_many_times():
    loader = weighted_epoch()
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=6, line_search_fn="strong_wolfe")
    calls, totals = [], set()
    for indices, _ in loader:
        targets = indices.float()

        def closure(indices=indices, targets=targets):
            optimizer.zero_grad()
            losses = (weight - targets / 64) ** 2
            loss = loader.update(losses, indices=indices)
            weights = torch.where(indices < 32, 2.0, 1.0)
            torch.testing.assert_close(loss, (weights * losses).mean())
            loss.backward()
            calls.append(len(indices))
            return loss

        optimizer.step(closure)
        totals.add(loader.pruner.history[-1]["trained"] if loader.pruner.history else 0)
    assert len(calls) > 2 * len(loader)
    row = loader.pruner.history[0]
    assert row["trained"] == row["kept"]


def test_a_batch_retried_in_halves_is_trained_once():
    """As after running out of memory: the first try has told its losses already."""
    loader = plain(with_indices=True)
    for indices, batch in loader:
        loader.update(batch[0].float())
        for half in indices.split(2):
            loader.update(torch.full((2,), 7.0), indices=half)
    row = loader.pruner.history[0]
    assert (row["trained"], row["saved"], loader.pruner.saved) == (12, 0, 0)
    assert set(loader.pruner.losses.tolist()) == {7.0}


def test_two_updates_of_halves_count_each_sample_once():
    loader = plain(with_indices=True)
    for indices, batch in loader:
        for half in (slice(0, 2), slice(2, 4)):
            loader.update(batch[0][half].float(), indices=indices[half])
    assert loader.pruner.history[0]["trained"] == loader.pruner.history[0]["kept"] == 12


def test_the_weights_of_a_batch_can_be_asked_for():
    loader = weighted_epoch()
    for indices, _ in loader:
        expected = torch.where(indices < 32, 2.0, 1.0)
        weights = loader.weights()
        assert weights.dtype == torch.float32
        losses = 100 - indices.float()
        torch.testing.assert_close(loader.update(losses), (weights * losses).mean())
        assert torch.equal(weights, expected) and torch.equal(loader.weights(indices), expected)
        with pytest.raises(RuntimeError, match=r"weights\(\) \(before update\) needs an unan"):
            loader.weights()
    with pytest.raises(RuntimeError, match="no epoch is open"):
        loader.weights([0])


def test_without_weights_those_of_a_batch_are_ones():
    loader = plain()
    next(iter(loader))
    assert torch.equal(loader.weights(), torch.ones(4))


def test_losses_that_could_not_be_averaged_are_not_recorded():
    loader = plain()
    batch = next(iter(loader))
    with pytest.raises(ValueError, match="counts must have one entry for each of the 4 losses"):
        loader.update(batch[0].float(), counts=torch.ones(3))
    assert np.isnan(loader.pruner.losses).all()
    loader.update(batch[0].float(), counts=torch.ones(4))


def test_a_collate_function_that_drops_rows_is_told_where_its_losses_go():
    loader = plain(collate_fn=lambda rows: torch.stack([row[0] for row in rows[:3]]))
    batch = next(iter(loader))
    with pytest.raises(ValueError, match=r"got 3 losses for a batch of 4.*index_key="):
        loader.update(batch.float())


def test_losses_of_tokens_that_were_flattened_are_told_so():
    loader = plain()
    next(iter(loader))
    with pytest.raises(ValueError, match=r"12 = 4 x 3: reshape losses of tokens .* to \(4, 3\)"):
        loader.update(torch.rand(12))
    with pytest.raises(ValueError, match=r"losses\.view\(3, 4\)\.mean\(0\) if the views follow"):
        loader.update(torch.rand(12))
    with pytest.raises(ValueError, match=r"a batch of 4: compute them with reduction='none'"):
        loader.update(torch.rand(13))


def test_a_position_tells_which_batches_are_done():
    loader = plain(40, 4)
    assert loader.position == 0
    batches = iter(loader)
    for _ in range(3):
        loader.update(next(batches)[0].float())
    next(batches)
    assert loader.position == 3
    other = plain(40, 4)
    other.load_state_dict(loader.state_dict())
    assert other.position == 3 and len(other) == 10
    assert [at for at, batch in enumerate(answered(other), other.position)] == list(range(3, 10))
    assert other.position == 0


def answered(loader):
    for batch in loader:
        loader.update(batch[0].float())
        yield batch


def test_a_late_answer_names_its_batch_among_many_that_wait():
    loader = plain(400, 4, with_indices=True)
    given = [indices for indices, _ in loader]
    for at in (97, 3, 50):
        loader.update(torch.full((4,), float(at)), indices=given[at].clone())
        assert (loader.pruner.losses[given[at]] == at).all()
    assert loader.position == 98
    for at in {*range(100)} - {97, 3, 50}:  # the others still wait
        loader.update(torch.full((4,), float(at)), indices=given[at])
    assert [loader.pruner.losses[given[at]].tolist() for at in range(100)] == [
        [at] * 4 for at in range(100)
    ]


def test_losses_of_samples_that_the_epoch_left_out_are_refused():
    loader = PrunedDataLoader(Tuples(12), "Random", epochs=2, batch_size=4)
    batch = next(iter(loader))
    (other, *_) = set(range(12)) - set(loader.pruner.selection)
    with pytest.raises(
        ValueError, match=rf"1 that epoch 0 left out, such as {other}: give positions"
    ):
        loader.update(torch.rand(4), indices=[*batch[0][:3].tolist(), other])
    assert np.isnan(loader.pruner.losses).all()
    loader.update(torch.rand(4))


def test_losses_of_a_pass_that_is_over_are_refused():
    """A batch taken ahead over the end of a pass: its epoch is over, and has its losses no more."""
    loader = plain(with_indices=True)
    first = iter(loader)
    for _ in range(2):
        loader.update(torch.ones(4), indices=next(first)[0])
    held, _ = next(first)
    ahead, _ = next(iter(loader))
    for call in (lambda: loader.update(torch.ones(4), indices=held), lambda: loader.weights(held)):
        with pytest.raises(RuntimeError, match=r"batch of the pass before, and epoch 1 has begun"):
            call()
    assert loader.position == 0  # the batch in hand, which has some of the same samples
    loader.update(torch.ones(4), indices=ahead)
    assert loader.position == 1
    assert loader.pruner.history[0]["trained"] == 8


def test_the_parts_of_a_batch_are_in_time_though_one_in_hand_held_the_same_samples():
    """The limit of a loop leaves a batch in hand; its samples come again, named in parts."""
    loader = PrunedDataLoader(Tuples(32), "Full", epochs=6, batch_size=8, with_indices=True)
    for _ in range(6):
        for step, (indices, _) in enumerate(loader):
            if step == 3:
                break
            for sample in indices:
                loader.update(torch.ones(1), indices=sample[None])
    loader.end_epoch()
    assert [row["trained"] for row in loader.pruner.history] == [24] * 6


def test_the_rest_of_a_batch_whose_first_part_came_in_time_is_refused_when_it_is_late():
    loader = plain(32, 8, with_indices=True)
    batches = [indices for indices, _ in loader]
    for indices in [*batches[:3], batches[3][:2], batches[3][2:4]]:
        loader.update(torch.ones(len(indices)), indices=indices)
    first, _ = next(iter(loader))
    with pytest.raises(RuntimeError, match=r"batch of the pass before, and epoch 1 has begun"):
        loader.update(torch.ones(4), indices=batches[3][4:])
    assert loader.position == 0
    for part in first[:3], first[3:]:
        loader.update(torch.ones(len(part)), indices=part)
    assert loader.position == 1
    assert loader.pruner.history[0]["trained"] == 28


@pytest.mark.parametrize("overtaken", [0, 1])
def test_an_overtaken_batch_is_refused_when_it_is_late(overtaken):
    """Losses out of order, as of steps that run side by side: one comes after the next pass."""
    loader = plain(with_indices=True)
    batches = [indices for indices, _ in loader]
    held = batches.pop(overtaken)
    for indices in batches:
        loader.update(torch.ones(4), indices=indices)
    ahead, _ = next(iter(loader))
    with pytest.raises(RuntimeError, match=r"batch of the pass before, and epoch 1 has begun"):
        loader.update(torch.ones(4), indices=held)
    loader.update(torch.ones(4), indices=ahead)
    assert loader.pruner.history[0]["trained"] == 8


def test_the_last_batch_of_a_pass_may_be_answered_when_no_other_was_taken():
    loader = plain(with_indices=True)
    held = [indices for indices, _ in loader]
    for indices in held:
        loader.update(torch.ones(4), indices=indices)
    loader.end_epoch()
    assert loader.pruner.history[0]["trained"] == 12


@pytest.mark.parametrize("left_after", [None, 6])
def test_the_position_counts_the_batches_of_a_pass_after_a_break_too(left_after):
    loader = plain(60, 4)
    for at, _ in enumerate(loader, 1):
        loader.update(torch.ones(4))
        if at == left_after:
            break
    positions = []
    for _ in loader:
        loader.update(torch.ones(4))
        positions.append(loader.position)
    assert positions == list(range(1, 16))


@pytest.mark.parametrize("left", [0, 2])
def test_a_batch_that_was_left_out_may_be_named_twice_when_it_comes_again(left):
    """As a closure of LBFGS does; left out at the beginning of a pass, or at its end."""
    loader = plain(with_indices=True, shuffle=False)
    for at, (indices, _) in enumerate(loader):
        if at != left:
            loader.update(torch.ones(4), indices=indices)
    for indices, _ in loader:
        for value in (1.0, 2.0):
            loader.update(torch.full((4,), value), indices=indices)
    assert (loader.pruner.losses == 2).all()
    assert [row["trained"] for row in loader.pruner.history] == [8, 12]


def test_a_sample_that_came_again_may_be_named_alone_though_a_late_batch_held_it():
    """Epoch 0 is left with a batch in hand; in epoch 1 the hardest sample is trained once more."""
    loader = PrunedDataLoader(Tuples(40), "Full", epochs=2, batch_size=10, with_indices=True)
    batches = iter(loader)
    held = next(batches)
    for _ in range(2):
        (indices, _), held = held, next(batches)
        loader.update(indices.float(), indices=indices)
    late, _ = held
    for at, (indices, _) in enumerate(loader):
        if at == 0:
            with pytest.raises(RuntimeError, match="batch of the pass before, and epoch 1 has beg"):
                loader.update(late.float(), indices=late)
        loader.update(indices.float(), indices=indices)
        for sample in indices:
            loader.update(sample[None].float(), indices=sample[None])
    assert [row["trained"] for row in loader.pruner.history] == [20, 40]
    np.testing.assert_array_equal(loader.pruner.losses, np.arange(40))


def test_own_indices_answered_after_the_end_of_a_pass_are_told_what_they_need():
    loader = plain()
    batches = [batch[0] for batch in loader if loader.update(torch.ones(4)) is not None]
    with pytest.raises(RuntimeError, match=r"there is none: .* prefetcher, .* with_indices=True"):
        loader.update(torch.ones(4), indices=batches[-1])
