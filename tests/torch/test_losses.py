"""One loss per sample, from losses of any shape."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from seta.torch import per_sample, token_losses
from seta.torch.losses import token_counts, weighted_mean

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def test_one_loss_per_sample_stays_as_it_is():
    losses = torch.rand(5)
    assert per_sample(losses) is losses


@pytest.mark.parametrize("shape", [(5, 1), (5, 7), (5, 2, 3, 4)])
def test_more_dimensions_are_averaged(shape):
    losses = torch.rand(shape, dtype=torch.float64)
    expected = [row.mean().item() for row in losses]
    np.testing.assert_allclose(per_sample(losses), expected)


def test_masked_elements_do_not_count():
    losses = torch.tensor([[1.0, 2.0, float("nan")], [3.0, float("inf"), 5.0], [7.0, 8.0, 9.0]])
    mask = torch.tensor([[1, 1, 0], [1, 0, 1], [0, 0, 0]])
    for one in (mask, mask.bool(), mask.float()):
        assert per_sample(losses, one).tolist() == [1.5, 4.0, 0.0]


def test_masked_elements_get_no_gradient():
    losses = torch.rand(2, 3, requires_grad=True)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    per_sample(losses, mask).sum().backward()
    np.testing.assert_allclose(losses.grad, [[0.5, 0.5, 0], [1 / 3] * 3], rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_are_kept(dtype):
    losses = torch.rand(3, 4).to(dtype)
    assert per_sample(losses).dtype == dtype
    assert per_sample(losses, torch.ones(3, 4)).dtype == dtype


def test_long_rows_of_halves_do_not_overflow():
    losses = torch.full((2, 20_000), 10.0, dtype=torch.float16)
    assert per_sample(losses).tolist() == [10, 10]
    assert per_sample(losses, torch.ones_like(losses)).tolist() == [10, 10]


@pytest.mark.parametrize("loss", [torch.tensor(1.0), torch.rand(3).mean()])
def test_a_reduced_loss_is_refused_with_the_remedy(loss):
    with pytest.raises(ValueError, match=r'losses is a scalar, already reduced.*reduction="none"'):
        per_sample(loss)


def test_no_losses_are_refused():
    with pytest.raises(ValueError, match=r"losses is empty, its shape is \(3, 0\)"):
        per_sample(torch.empty(3, 0))


@pytest.mark.parametrize("losses", [torch.arange(3), torch.ones(3) > 0, torch.rand(3) * 1j])
def test_losses_that_are_no_floats_are_refused(losses):
    with pytest.raises(TypeError, match=f"losses must be floating-point, got {losses.dtype}"):
        per_sample(losses)


@pytest.mark.parametrize("losses, kind", [(0.5, "float"), (np.ones(3), "ndarray"), ([1.0], "list")])
def test_losses_that_are_no_tensor_are_refused(losses, kind):
    with pytest.raises(TypeError, match=rf"must be a torch.Tensor, got {kind}: .*reduction"):
        per_sample(losses)


@pytest.mark.parametrize("losses, mask", [((3, 2), (3,)), ((3,), (3,)), ((3, 2), (2, 3))])
def test_a_mask_of_another_shape_is_refused(losses, mask):
    with pytest.raises(ValueError, match=r"mask must have the shape of losses.*got a mask of"):
        per_sample(torch.rand(losses), torch.ones(mask))


def token_reference(logits, labels, ignore_index):
    """One sequence at a time, by torch's own mean."""
    return torch.stack(
        [
            cross_entropy(row, label, ignore_index=ignore_index)
            if (label != ignore_index).any()
            else row.sum() * 0
            for row, label in zip(logits, labels, strict=True)
        ]
    )


@pytest.mark.parametrize("ignore_index", [-100, 0])
def test_token_losses_are_torchs_own(ignore_index):
    torch.manual_seed(0)
    logits = torch.randn(4, 6, 9, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(1, 9, (4, 6))
    labels[0, 3:] = ignore_index
    labels[2] = ignore_index
    expected = token_reference(logits, labels, ignore_index)
    losses = token_losses(logits, labels, ignore_index=ignore_index)
    torch.testing.assert_close(losses, expected)
    assert losses[2] == 0
    (theirs,) = torch.autograd.grad(expected.sum(), logits)
    (ours,) = torch.autograd.grad(losses.sum(), logits)
    torch.testing.assert_close(ours, theirs)


def test_token_losses_shift_labels_for_causal_models():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 5, 7), torch.randint(7, (3, 5))
    labels[1, 2:] = -100
    expected = token_reference(logits[:, :-1], labels[:, 1:], -100)
    torch.testing.assert_close(token_losses(logits, labels, shift=True), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_token_losses_of_halves_are_computed_in_float32(dtype):
    logits, labels = torch.randn(2, 4, 8).to(dtype), torch.randint(8, (2, 4))
    losses = token_losses(logits, labels)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, token_reference(logits.float(), labels, -100))


@pytest.mark.parametrize("logits, labels", [((2, 3), (2,)), ((2, 3, 4), (2, 4)), ((2, 3, 4), (6,))])
def test_token_losses_refuse_shapes_that_do_not_fit(logits, labels):
    with pytest.raises(ValueError, match=r"\(B, T, V\) and labels \(B, T\), got \(2, 3"):
        token_losses(torch.rand(logits), torch.zeros(labels, dtype=torch.int64))


def test_token_losses_refuse_labels_that_are_no_int64():
    with pytest.raises(
        TypeError, match=r"labels must be int64, got torch.int32: .*labels.long\(\)"
    ):
        token_losses(torch.rand(2, 3, 4), torch.zeros(2, 3, dtype=torch.int32))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weights", [None, np.ones(9, np.float32)])
def test_equal_weights_give_torchs_own_mean(dtype, weights):
    losses = torch.rand(9).to(dtype)
    mean = weighted_mean(losses, weights)
    assert mean.dtype == dtype
    assert torch.equal(mean, losses.mean())


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_scale_losses_and_the_sum_is_divided_by_their_number(dtype):
    losses, weights = torch.rand(9).to(dtype), np.float32([2, 1, 1, 2, 2, 1, 1, 1, 4])
    mean = weighted_mean(losses, weights)
    assert mean.dtype == dtype
    expected = (losses.double().numpy() * weights).sum() / 9
    assert mean.item() == pytest.approx(expected, rel=3 * torch.finfo(dtype).eps)


def test_large_batches_of_halves_do_not_overflow():
    losses = torch.full((20_000,), 10.0, dtype=torch.float16)
    assert weighted_mean(losses, np.full(20_000, 2, np.float32)) == 20


@pytest.fixture
def looks(monkeypatch, caplog):
    """A process that has not looked for padding yet; returns what it warns of."""
    monkeypatch.setattr("seta.torch.losses._looks_left", 8)
    return caplog


def padded_batch(lengths=(2, 20), side="right"):
    """Returns logits and labels of sequences of some lengths, padded to the longest."""
    torch.manual_seed(0)
    logits = torch.randn(len(lengths), max(lengths), 3)
    labels = torch.randint(3, logits.shape[:2])
    for row, length in zip(labels, lengths, strict=True):
        row[length:] = -100
    if side == "left":
        labels = labels.flip(1)
    return logits, labels


def unreduced(logits, labels):
    return cross_entropy(logits.transpose(1, 2), labels, reduction="none")


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_without_a_mask_is_warned_of_once(looks, side):
    logits, labels = padded_batch(side=side)
    losses = unreduced(logits, labels)
    for _ in range(3):
        wrong = per_sample(losses)
    right = per_sample(losses, labels != -100)
    assert wrong[0] == pytest.approx(0.1 * right[0]) and wrong[1] == right[1]
    torch.testing.assert_close(right, token_losses(logits, labels))
    (record,) = looks.records
    assert (record.name, record.levelname) == ("seta.torch.losses", "WARNING")
    assert "1 of 2 rows begin or end in exact zeros" in record.message
    assert "pass mask=, such as labels != -100, or use seta.token_losses" in record.message


@pytest.mark.parametrize("shape", [(4, 1), (4, 7), (4, 3, 5)])
def test_losses_that_are_not_padded_are_not_warned_of(looks, shape):
    losses = torch.rand(shape) + 0.1
    losses[1] = 0  # a sample that is learned, or of padding alone: its loss is 0 either way
    per_sample(losses)
    losses[0, -1] = 0
    per_sample(losses[0].flatten())  # one loss per sample
    per_sample(losses, torch.ones(shape))
    assert not looks.records


def test_padding_is_looked_for_in_the_first_batches_only(looks):
    losses = torch.rand(4, 7) + 0.1
    for _ in range(8):
        per_sample(losses)
    losses[0, -1] = 0
    per_sample(losses)
    assert not looks.records


def test_padding_is_not_looked_for_where_there_are_no_values(looks):
    padded = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert per_sample(padded.to("meta")).shape == (2,)
    assert torch.func.vmap(per_sample)(padded[None]).tolist() == [[0.5, 1]]
    compiled = torch.compile(per_sample, backend="eager", fullgraph=True)
    assert compiled(padded).tolist() == [0.5, 1]
    assert not [record for record in looks.records if record.name == "seta.torch.losses"]


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("lengths", [(2, 20), (5, 5), (20, 1, 0, 7)])
def test_with_counts_the_loss_is_that_of_all_tokens(lengths, shift):
    logits, labels = padded_batch(lengths)
    logits = logits.double().requires_grad_()
    kept, goal = (logits[:, :-1], labels[:, 1:]) if shift else (logits, labels)
    stock = cross_entropy(kept.flatten(0, 1), goal.flatten())
    losses = token_losses(logits, labels, shift=shift)
    counts = token_counts(labels, shift=shift)
    assert counts.tolist() == [max(0, length - shift) for length in lengths]
    loss = weighted_mean(losses, None, counts)
    torch.testing.assert_close(loss, stock, rtol=1e-12, atol=0)
    (theirs,) = torch.autograd.grad(stock, logits)
    (ours,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_scale_what_all_elements_of_a_sample_add(dtype):
    losses, weights = torch.rand(3).to(dtype), np.float32([2, 1, 4])
    counts = torch.tensor([60_000, 1, 30_000])
    mean = weighted_mean(losses, weights, counts)
    assert mean.dtype == dtype
    expected = (losses.double() * torch.tensor(weights) * counts).sum() / counts.sum()
    assert mean.item() == pytest.approx(expected.item(), rel=4 * torch.finfo(dtype).eps)


def test_a_batch_without_any_element_has_the_loss_0():
    assert weighted_mean(torch.zeros(2), None, torch.tensor([0, 0])) == 0


def test_counts_that_are_not_one_for_each_loss_are_refused():
    with pytest.raises(ValueError, match=r"counts must have one entry for each of the 3 losses"):
        weighted_mean(torch.rand(3), None, torch.ones(2))


@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_with_class_weights_for_counts_the_loss_is_torchs_weighted_mean(scale):
    logits, labels = torch.randn(9, 3), torch.arange(9) % 3
    weight = scale * torch.tensor([1.0, 0.1, 4.0])
    losses = cross_entropy(logits, labels, reduction="none")
    stock = cross_entropy(logits, labels, weight=weight)
    torch.testing.assert_close(weighted_mean(losses, None, weight[labels]), stock)
