"""Checks of loops in JAX, run in one process of four devices: FILE 0; see `checks.py`."""

import os
import sys
import tempfile
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import seta
from seta.engine.batches import batches
from seta.engine.rows import CLOCKED
from seta.integrations.jax import ProcessRanks, local_rows, ranks_of, shares_of

N, BATCH, EPOCHS = 203, 20, 6
DATA = np.arange(N, dtype=np.float32)  # each sample is its own index


def uneven(histogram, epoch, epochs):
    return seta.KeepCurve.constant(histogram, (0.9, 0.3, 0.7, 1.0, 0.2, 0.5)[epoch])


def runs():
    budgeted = {"budget": 0.5}
    for policy, options in (
        ("SeTa", budgeted),
        ("InfoBatch", budgeted),
        ("InfoBatch", {}),
        (uneven, {}),
    ):
        options |= {"batch_size": BATCH, "losses": DATA}
        yield seta.Pruner(N, policy, epochs=EPOCHS, seed=4, **options)


def check_each_loss_is_recorded_for_its_sample():
    for pruner in runs():
        step = jax.jit(lambda x, epoch: x + 1000 * epoch)
        for epoch in range(EPOCHS):
            seen = []
            for indices, _ in batches(pruner):
                pruner.record(indices, step(DATA[indices], epoch))
                seen += indices.tolist()
            plan = pruner.selection.indices.tolist()
            assert seen == plan and len(set(seen)) == len(seen)
            pruner.end_epoch()
            assert (pruner.losses[seen] == DATA[seen] + 1000 * epoch).all()
        kept = [row["kept"] for row in pruner.history]
        assert [row["trained"] for row in pruner.history] == kept
        if pruner.policy is uneven:
            assert kept[0] > kept[1] < kept[2] < kept[3] > kept[4] < kept[5]


def check_a_loss_recorded_later_is_recorded_alike():
    at_once, later = (list(runs())[2] for _ in range(2))
    for _ in range(EPOCHS):
        waiting = []
        for (indices, weights), (same, alike) in zip(batches(at_once), batches(later), strict=True):
            assert (indices == same).all() and (weights == alike).all()
            at_once.record(indices, jnp.sin(DATA[indices]))
            waiting.append((indices, jnp.sin(DATA[indices])))
        for indices, losses in waiting:
            later.record(indices, losses)
        at_once.end_epoch(), later.end_epoch()
        assert (at_once.losses == later.losses).all()


def check_trap_11_steps_are_exact_and_the_step_compiles_once():
    pruner = seta.Pruner(N, "SeTa", epochs=EPOCHS, budget=0.45, batch_size=BATCH)
    steps = sum(map(pruner.sizes.batches, pruner.lengths))
    schedule = optax.linear_schedule(1.0, 0.0, steps)
    optimizer = optax.sgd(schedule)
    state = optimizer.init(jnp.zeros(3))
    traced = []

    @jax.jit
    def step(state, x, weights):
        traced.append(x.shape)
        _, state = optimizer.update(jnp.ones(3), state)
        return state, x * weights

    taken = 0
    while pruner.next_epoch < EPOCHS:
        for indices, weights in batches(pruner):
            state, losses = step(state, DATA[indices], weights)
            pruner.record(indices, losses)
            taken += 1
        pruner.end_epoch()
    assert taken == steps == int(optax.tree_utils.tree_get(state, "count"))
    assert schedule(taken) == 0.0 < schedule(taken - 1)
    assert traced == [(BATCH,)]
    assert abs(BATCH * steps - 0.45 * EPOCHS * N) < BATCH


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, key):
        x = nn.relu(nn.Dense(16)(x))
        x = nn.Dropout(0.2, deterministic=False)(x, rng=key)
        return nn.Dense(2)(x)


def check_a_resumed_run_is_the_same_bit_for_bit():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(N, 5)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(np.int32)
    net, optimizer = Net(), optax.adam(0.01)

    @jax.jit
    def train_step(state, x, y, weights, step):
        key = jax.random.fold_in(jax.random.key(1), step)

        def objective(params):
            logits = net.apply(params, x, key)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
            return (weights * losses).mean(), losses

        gradient, losses = jax.grad(objective, has_aux=True)(state[0])
        updates, moments = optimizer.update(gradient, state[1])
        return (optax.apply_updates(state[0], updates), moments), losses

    params = net.init(jax.random.key(0), features[:1], jax.random.key(0))
    start = params, optimizer.init(params)

    def run(file, policy, stop_after=None):
        pruner = seta.Pruner(N, policy, epochs=EPOCHS, seed=4, budget=0.5, batch_size=BATCH)
        state = start
        step = 0
        if file.exists():
            saved = seta.load(file)
            state = jax.tree.unflatten(jax.tree.structure(state), saved["leaves"])
            step = saved["step"]
            pruner.load_state_dict(saved["pruner"])
        order = []
        while pruner.next_epoch < EPOCHS:
            done = pruner.done
            for indices, weights in batches(pruner):
                if step == stop_after:
                    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
                    parts = {"leaves": leaves, "step": step}
                    seta.save({**parts, "pruner": pruner.state_dict(done=done)}, file)
                    return order
                state, losses = train_step(state, features[indices], labels[indices], weights, step)
                pruner.record(indices, losses)
                order.append(indices.tolist())
                step, done = step + 1, done + len(indices)
            pruner.end_epoch()
        rows = [{k: v for k, v in row.items() if k not in CLOCKED} for row in pruner.history]
        return order, [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)], rows

    with tempfile.TemporaryDirectory() as folder:
        for policy in ("SeTa", "InfoBatch"):
            expected = run(Path(folder) / "never", policy)
            steps = len(expected[0])
            for stop in (0, 1, 7, steps // 2, steps - 1):
                file = Path(folder) / f"{policy}{stop}"
                before = run(file, policy, stop)
                after, leaves, rows = run(file, policy)
                assert before + after == expected[0]
                assert leaves == expected[1] and rows == expected[2]


def check_losses_in_bfloat16_are_recorded_as_float32():
    pruner = seta.Pruner(4, "Full", epochs=1)
    pruner.begin_epoch()
    losses = jnp.arange(4, dtype=jnp.bfloat16)
    try:
        pruner.record(np.arange(4), losses)
    except ValueError as error:
        assert "losses must be floats, got bfloat16" in str(error)
    pruner.record(np.arange(4), losses.astype(jnp.float32))
    assert pruner.losses.tolist() == [0, 1, 2, 3]


def check_several_devices_of_one_process():
    devices = jax.devices()
    assert len(devices) == 4
    for order in (devices, devices[::-1], [devices[i] for i in (2, 0, 3, 1)]):
        rows = NamedSharding(Mesh(order, "data"), PartitionSpec("data"))
        options = {"losses": DATA, "budget": 0.5, "batch_size": BATCH}
        pruner = seta.Pruner(N, "InfoBatch", epochs=3, **options)
        step = jax.jit(lambda x: x * 2, out_shardings=rows)
        assert ranks_of(rows) is None
        while pruner.next_epoch < 3:
            for number, (indices, _) in enumerate(batches(pruner)):
                losses = step(jax.make_array_from_process_local_data(rows, DATA[indices]))
                assert len(losses.addressable_shards) == 4
                assert (local_rows(losses) == 2 * DATA[indices]).all()
                pruner.record(indices, losses if number % 2 else local_rows(losses))
            trained = pruner.selection.indices
            pruner.end_epoch()
            assert (pruner.losses[trained] == 2 * DATA[trained]).all()


def check_rows_come_once_and_in_order_however_they_lie():
    mesh = Mesh(np.array(jax.devices()).reshape(2, 2), ("data", "model"))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    batch = jax.make_array_from_process_local_data(rows, DATA[:BATCH])
    assert (local_rows(batch) == DATA[:BATCH]).all()
    crosswise = NamedSharding(mesh, PartitionSpec(("model", "data")))
    batch = jax.make_array_from_process_local_data(crosswise, DATA[:BATCH])
    starts = [shard.index[0].start or 0 for shard in batch.addressable_shards]
    assert starts != sorted(starts)
    assert (local_rows(batch) == DATA[:BATCH]).all()
    everywhere = jax.device_put(DATA[:BATCH], NamedSharding(mesh, PartitionSpec()))
    assert (local_rows(everywhere) == DATA[:BATCH]).all()
    assert (local_rows(jnp.asarray(DATA[:BATCH])) == DATA[:BATCH]).all()


def check_processes_with_the_same_rows_train_one_share():
    a, b = frozenset({0, 1}), frozenset({2, 3})
    assert shares_of([a, b]) == [0, 1]
    assert shares_of([b, a]) == [1, 0]
    assert shares_of([b, a, a, b]) == [1, 0, 0, 1]
    assert shares_of([a | b, a | b]) == [0, 0]
    for uneven_rows in ([a, frozenset({1, 2})], [a, frozenset({2})], [a | b, b]):
        try:
            shares_of(uneven_rows)
        except ValueError as error:
            message = str(error)
            assert "rows must give each process equally many rows of a batch, the same" in message
            assert f"got [{sorted(uneven_rows[0])}, " in message
            assert "order the devices of the mesh" in message
        else:
            raise AssertionError(uneven_rows)


def check_one_process_is_a_group_of_its_own():
    ranks = ProcessRanks()
    assert (ranks.rank, ranks.size, ranks.process, ranks.processes) == (0, 1, 0, 1)
    values = np.array([2**40 + 1, -1])
    (gathered,) = ranks.gather(values, "now")
    assert gathered.dtype == np.int64 and (gathered == values).all()
    assert (ranks.sum(values, "now") == values).all()


def check_torch_is_never_imported():
    assert "torch" not in sys.modules


def check_an_array_of_jax_is_refused_when_it_is_saved():
    with tempfile.TemporaryDirectory() as folder:
        try:
            seta.save({"a": jnp.zeros(2)}, Path(folder) / "state")
        except TypeError as error:
            assert "save numpy.asarray" in str(error), error
        else:
            raise AssertionError("it was saved")


if __name__ == "__main__":
    from checks import run_checks

    run_checks(globals(), sys.argv[1])
