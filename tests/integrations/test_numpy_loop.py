"""A training loop of numpy alone: the pruner without any framework."""

import re

import numpy as np
import pytest

import seta
from seta.engine.batches import batches
from seta.engine.rows import CLOCKED
from tests.integrations.checks import ROOT, python

N, BATCH, EPOCHS = 203, 20, 6
DATA = np.arange(N, dtype=np.float32)  # each sample is its own index
BUDGETED = {"budget": 0.45}


def uneven(histogram, epoch, epochs):
    return seta.KeepCurve.constant(histogram, (0.9, 0.3, 0.7, 1.0, 0.2, 0.5)[epoch])


@pytest.mark.parametrize(
    "policy, options",
    [("SeTa", BUDGETED), ("InfoBatch", BUDGETED), ("InfoBatch", {}), (uneven, {})],
)
def test_each_loss_is_recorded_for_its_sample(policy, options):
    options = {"losses": DATA, "batch_size": BATCH, **options}
    pruner = seta.Pruner(N, policy, epochs=EPOCHS, seed=4, **options)
    for epoch in range(EPOCHS):
        seen = []
        for indices, _ in batches(pruner):
            x = DATA[indices]
            pruner.record(indices, x + 1000 * epoch)
            seen += x.astype(int).tolist()
        assert seen == pruner.selection.indices.tolist()
        assert len(set(seen)) == len(seen) == pruner.end_epoch()["trained"]
        assert (pruner.losses[seen] == DATA[seen] + 1000 * epoch).all()
    kept = [row["kept"] for row in pruner.history]
    if policy is uneven:
        assert kept[0] > kept[1] < kept[2] < kept[3] > kept[4] < kept[5]


def train(policy="SeTa", options=BUDGETED, file=None, stop_after=None):
    """Logistic regression; returns the samples of each step, the weights and the history."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(N, 5))
    labels = features[:, 0] > 0
    net, velocity = np.zeros(5), np.zeros(5)
    pruner = seta.Pruner(N, policy, epochs=EPOCHS, seed=4, batch_size=BATCH, **options)
    step = 0
    if file is not None and file.exists():
        saved = seta.load(file)
        net, velocity, step = (saved[name] for name in ("net", "velocity", "step"))
        pruner.load_state_dict(saved["pruner"])
    order = []
    while pruner.next_epoch < EPOCHS:
        done = pruner.done
        for indices, weights in batches(pruner):
            if step == stop_after:
                state = {"net": net, "velocity": velocity, "step": step}
                seta.save({**state, "pruner": pruner.state_dict(done=done)}, file)
                return order
            x, y = features[indices], labels[indices]
            logits = x @ net
            pruner.record(indices, np.logaddexp(0, np.where(y, -logits, logits)))
            velocity = 0.9 * velocity + x.T @ (weights * (1 / (1 + np.exp(-logits)) - y)) / len(y)
            net = net - 0.1 * velocity
            order.append(indices.tolist())
            step, done = step + 1, done + len(indices)
        pruner.end_epoch()
    history = [{k: v for k, v in row.items() if k not in CLOCKED} for row in pruner.history]
    return order, net.tobytes(), history, pruner


def test_trap_11_the_number_of_steps_is_known_before_the_first():
    order, _, history, pruner = train()
    assert len(order) == sum(map(pruner.sizes.batches, pruner.lengths))
    assert {len(part) for part in order} == {BATCH}
    assert [row["trained"] for row in history] == pruner.lengths
    assert abs(sum(pruner.lengths) - 0.45 * EPOCHS * N) < BATCH


@pytest.mark.parametrize("policy, options", [("SeTa", BUDGETED), ("InfoBatch", {})])
def test_a_resumed_run_is_the_same_bit_for_bit(tmp_path, policy, options):
    order, net, history, _ = train(policy, options)
    for stop in (0, 1, 7, len(order) // 2, len(order) - 1):
        file = tmp_path / f"{stop}.seta"
        before = train(policy, options, file, stop)
        after, same_net, same_history, _ = train(policy, options, file)
        assert before + after == order
        assert same_net == net and same_history == history


def test_torch_is_never_imported():
    code = (
        "import sys, numpy as np, seta\n"
        "from seta.engine.batches import batches\n"
        "pruner = seta.Pruner(50, 'SeTa', epochs=2, budget=0.6, batch_size=10)\n"
        "for epoch in range(2):\n"
        "    for indices, weights in batches(pruner):\n"
        "        pruner.record(indices, indices / 50)\n"
        "    pruner.end_epoch()\n"
        "pruner.load_state_dict(pruner.state_dict())\n"
        "assert not {'torch', 'jax', 'sklearn'} & set(sys.modules)\n"
    )
    process = python("-c", code)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0, printed


def test_the_example_learns_and_goes_on_from_its_file(tmp_path):
    pytest.importorskip("sklearn")
    example = ROOT / "examples" / "numpy_digits.py"
    printed = []
    for _ in range(2):
        process = python(example, "--epochs", "8", "--checkpoint", tmp_path / "digits.seta")
        printed.append(process.communicate(timeout=120)[0])
        assert process.returncode == 0, printed[-1]
    assert printed[0] == printed[1]  # nothing was left to do
    right = re.fullmatch(r"(\d+\.\d)% right after 240 of 240 steps; 40% saved\n", printed[0])
    assert right and float(right[1]) > 90, printed[0]
    assert len(example.read_text().splitlines()) <= 60
