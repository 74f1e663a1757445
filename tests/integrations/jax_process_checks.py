"""Checks of JAX in several processes, run by two, of two devices each: FILE NUMBER PORT FOLDER.

What holds for a process is asserted in that process; see `checks.py`.
"""

import os
import sys
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import seta
from seta.engine.batches import batches
from seta.engine.rows import CLOCKED
from seta.integrations.jax import ProcessRanks, local_rows, ranks_of

PROCESSES, LOCAL = 2, 10
N, GLOBAL, EPOCHS = 203, PROCESSES * LOCAL, 6
DATA = np.arange(N, dtype=np.float32)  # each sample is its own index


def uneven(histogram, epoch, epochs):
    return seta.KeepCurve.constant(histogram, (0.9, 0.3, 0.7, 1.0, 0.2, 0.5)[epoch])


def rows_of(devices, axis="data"):
    return NamedSharding(Mesh(devices, axis), PartitionSpec("data"))


def bits(state):
    return [local_rows(leaf).tobytes() for leaf in jax.tree.leaves(state) if leaf.ndim]


def check_processes_have_found_each_other():
    assert jax.process_count() == PROCESSES and len(jax.devices()) == 4
    ranks = ranks_of()
    assert (ranks.rank, ranks.process) == (jax.process_index(),) * 2
    assert (ranks.size, ranks.processes) == (PROCESSES,) * 2


def check_trap_14_arrays_of_any_length_and_dtype_arrive_bit_for_bit():
    ranks = ProcessRanks()
    parts = {
        np.int64: ([2**40 + 1, -(2**63), 7], [2**63 - 1]),
        np.uint64: ([2**64 - 1], [2**32, 5, 6, 7, 8]),
        np.uint32: ([2**32 - 1, 2**24 + 1], []),
        np.float32: ([], [float("nan"), 1e-45, -0.0]),
        np.float64: ([1e300, 5e-324], [2.0**-1074]),
        np.uint8: ([1, 2, 3], [255]),
        np.bool_: ([True], [False, True]),
    }
    for dtype, both in parts.items():
        sent = [np.array(part, dtype) for part in both]
        got = ranks.gather(sent[ranks.process], f"gather of {dtype}")
        assert [part.dtype for part in got] == [dtype] * 2
        assert [part.tobytes() for part in got] == [part.tobytes() for part in sent]
    nothing = ranks.gather(np.empty(0, np.float32), "nothing")
    assert [(part.dtype, len(part)) for part in nothing] == [(np.float32, 0)] * 2
    assert not jax.config.jax_enable_x64


def check_sums_are_exact():
    ranks = ProcessRanks()
    counts = np.array([2**53 + ranks.process, 2**31, -1, 0])
    total = ranks.sum(counts, "counts")
    assert total.dtype == np.int64 and total.tolist() == [2**54 + 1, 2**32, -2, 0]


def check_processes_that_come_for_different_things_say_so():
    ranks = ProcessRanks()
    try:
        ranks.gather(np.arange(3), f"end_epoch() of epoch {ranks.process}")
    except RuntimeError as error:
        expected = f"process {ranks.process} came to end_epoch() of epoch {ranks.process}, "
        expected += f"process {1 - ranks.process} to end_epoch() of epoch {1 - ranks.process}: all "
        assert expected in str(error), error
    else:
        raise AssertionError("nothing was said")


def check_trap_3_each_process_trains_its_own_share_and_loses_none():
    rows = rows_of(jax.devices())
    step = jax.jit(lambda x, epoch: x + 1000 * epoch, out_shardings=rows)
    for policy, budget in (("SeTa", 0.5), ("InfoBatch", None), (uneven, None)):
        ranks, options = ranks_of(rows), {"seed": 4, "losses": DATA, "budget": budget}
        pruner = seta.Pruner(N, policy, epochs=EPOCHS, batch_size=LOCAL, ranks=ranks, **options)
        alone = seta.Pruner(N, policy, epochs=EPOCHS, batch_size=GLOBAL, **options)
        for epoch in range(EPOCHS):
            own = []
            for indices, _ in batches(pruner):
                # The devices need equally many rows: a smaller last batch is filled up.
                filled = np.resize(indices, -(-len(indices) // 2) * 2)
                x = jax.make_array_from_process_local_data(rows, DATA[filled])
                assert not x.is_fully_addressable
                losses = local_rows(step(x, epoch))[: len(indices)]
                assert (losses == DATA[indices] + 1000 * epoch).all()
                pruner.record(indices, losses)
                own += indices.tolist()
            plan = alone.begin_epoch().indices
            assert (plan == pruner.selection.indices).all()
            shares = ranks.gather(np.array(own), "shares")
            assert len(shares[0]) == len(shares[1]) == len(plan) // 2
            trained = np.concatenate(shares)
            usable = plan[: len(plan) - len(plan) % 2]
            assert sorted(trained) == sorted(usable)
            row = pruner.end_epoch()
            assert row["trained"] == len(usable) and row["kept"] == len(plan)
            assert (pruner.losses[trained] == DATA[trained] + 1000 * epoch).all()
            alone.record(trained, DATA[trained] + 1000 * epoch)
            alone.end_epoch()
            np.testing.assert_array_equal(pruner.losses, alone.losses)
        if budget:
            assert pruner.lengths == [row["trained"] for row in pruner.history]
        if policy is uneven:
            kept = [row["kept"] for row in pruner.history]
            assert kept[0] > kept[1] < kept[2] < kept[3] > kept[4] < kept[5]


def check_devices_in_another_order():
    backwards = jax.devices()[::-1]
    rows = rows_of(backwards)
    ranks = ranks_of(rows)
    assert (ranks.rank, ranks.process) == (1 - jax.process_index(), jax.process_index())
    pruner = seta.Pruner(N, "Full", epochs=1, batch_size=LOCAL, ranks=ranks)
    for indices, _ in batches(pruner):
        if len(indices) == LOCAL:
            x = jax.make_array_from_process_local_data(rows, DATA[indices])
            losses = jax.jit(lambda x: x * 3, out_shardings=rows)(x)
            pruner.record(indices, local_rows(losses))
    assert pruner.end_epoch()["trained"] == 200
    seen = ~np.isnan(pruner.losses)
    assert (pruner.losses[seen] == 3 * DATA[seen]).all() and seen.sum() == 200


def check_processes_that_train_one_share_together():
    devices = np.array(jax.devices()).reshape(2, 2).T  # "model" reaches over both processes
    rows = NamedSharding(Mesh(devices, ("data", "model")), PartitionSpec("data"))
    ranks = ranks_of(rows)
    assert (ranks.rank, ranks.size) == (0, 1)
    assert (ranks.process, ranks.processes) == (jax.process_index(), 2)
    options = {"losses": DATA, "ranks": ranks, "budget": 0.5, "batch_size": LOCAL}
    pruner = seta.Pruner(N, "InfoBatch", epochs=3, **options)
    while pruner.next_epoch < 3:
        for indices, _ in batches(pruner):
            x = jax.make_array_from_process_local_data(rows, DATA[indices])
            losses = local_rows(jax.jit(lambda x: x + 5, out_shardings=rows)(x))
            assert (losses == DATA[indices] + 5).all()
            pruner.record(indices, losses)
        trained = pruner.selection.indices
        assert pruner.end_epoch()["trained"] == len(trained)
        assert (pruner.losses[trained] == DATA[trained] + 5).all()


def check_rows_on_devices_of_one_process_alone_are_refused():
    try:
        ranks_of(rows_of(jax.devices()[:2]))
    except ValueError as error:
        assert "must lie over devices of all 2 processes, got a sharding without process 1" in str(
            error
        )
    else:
        raise AssertionError("was taken")


def train(file=None, stop_after=None):
    """Returns the order of the samples, the net and the history; stops after some steps."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(N, 5)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(np.int32)
    mesh = Mesh(jax.devices(), "data")
    rows, same = (NamedSharding(mesh, spec) for spec in (PartitionSpec("data"), PartitionSpec()))
    pruner = seta.Pruner(
        N, "InfoBatch", epochs=EPOCHS, seed=4, budget=0.5, batch_size=LOCAL, ranks=ranks_of(rows)
    )
    steps = sum(map(pruner.sizes.batches, pruner.lengths))
    optimizer = optax.adam(optax.linear_schedule(0.1, 0.0, steps))

    @jax.jit
    def train_step(state, x, y, weights):
        def objective(params):
            logits = x @ params
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
            return (weights * losses).mean(), jax.lax.with_sharding_constraint(losses, rows)

        gradient, losses = jax.grad(objective, has_aux=True)(state[0])
        updates, moments = optimizer.update(gradient, state[1])
        return (optax.apply_updates(state[0], updates), moments), losses

    def spread(state, sharding=same):
        leaves = map(np.asarray, state)
        return [jax.make_array_from_process_local_data(sharding, leaf) for leaf in leaves]

    params = np.zeros((5, 2), np.float32)
    state = params, optimizer.init(params)
    structure, step = jax.tree.structure(state), 0
    leaves = jax.tree.leaves(state)
    if file is not None and file.exists():
        saved = seta.load(file)
        leaves, step = saved["leaves"], saved["step"]
        pruner.load_state_dict(saved["pruner"])
    state = jax.tree.unflatten(structure, spread(leaves))
    order = []
    while pruner.next_epoch < EPOCHS:
        done = pruner.done
        for indices, weights in batches(pruner):
            if step == stop_after:
                pruner_state = pruner.state_dict(done=done)  # all processes call it, one writes
                if jax.process_index() == 0:
                    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
                    parts = {"leaves": leaves, "step": step, "pruner": pruner_state}
                    seta.save(parts, file)
                return order
            batch = spread((features[indices], labels[indices], weights), rows)
            state, losses = train_step(state, *batch)
            pruner.record(indices, local_rows(losses))
            order.append(indices.tolist())
            step, done = step + 1, done + GLOBAL
        pruner.end_epoch()
    assert step == steps
    history = [{k: v for k, v in row.items() if k not in CLOCKED} for row in pruner.history]
    return order, bits(state), history, pruner.losses.tobytes()


def check_trap_17_a_resumed_run_is_the_same_bit_for_bit():
    expected = train()
    steps = len(expected[0])
    assert steps * GLOBAL == sum(row["trained"] for row in expected[2])
    for stop in (0, 3, steps - 1):
        file = Path(sys.argv[4]) / f"{stop}.seta"
        before = train(file, stop)
        ProcessRanks().gather(np.empty(0), f"file {stop} is written")
        after, *same = train(file)
        assert before + after == expected[0]
        assert tuple(same) == expected[1:]


def check_one_process_goes_on_where_two_stopped():
    file = Path(sys.argv[4]) / "two.seta"
    train(file, 8)
    ProcessRanks().gather(np.empty(0), "the file is written")
    saved = seta.load(file)
    alone = seta.Pruner(N, "InfoBatch", epochs=EPOCHS, seed=4, budget=0.5, batch_size=GLOBAL)
    alone.load_state_dict(saved["pruner"])
    done, plan = alone.done, alone.begin_epoch().indices
    assert 0 < done < len(plan) and done % GLOBAL == 0
    rest = [indices for indices, _ in batches(alone)]
    assert (np.concatenate(rest) == plan[done:]).all()
    assert np.isfinite(alone.losses[plan[:done]]).all()
    for indices in rest:
        alone.record(indices, DATA[indices])
    assert alone.end_epoch()["trained"] == len(plan)


def check_torch_is_never_imported():
    assert "torch" not in sys.modules


if __name__ == "__main__":
    from checks import run_checks

    jax.distributed.initialize(
        f"127.0.0.1:{sys.argv[3]}", num_processes=PROCESSES, process_id=int(sys.argv[2])
    )
    run_checks(globals(), sys.argv[1])
