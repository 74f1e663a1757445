"""Checks of loops with Grain, run in a process of their own: FILE 0; see `tests/integrations`."""

import json
import os
import sys
import tempfile
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"

import flax.linen as nn
import grain
import jax
import numpy as np
import optax
from absl import flags

import seta
from seta.engine.rows import CLOCKED
from seta.integrations.grain import Kept, batches

N, BATCH, EPOCHS = 203, 20, 5


class Source:
    """Each record is its own index."""

    def __len__(self):
        return N

    def __getitem__(self, index):
        return {"x": np.float32(index)}


class Noise(grain.transforms.RandomMap):
    def random_map(self, record, rng):
        return {**record, "noise": rng.random(dtype=np.float32)}


class Doubled(grain.transforms.Map):
    def map(self, record):
        return {**record, "double": 2 * record["x"]}


RECORDS = grain.MapDataset.source(Source()).seed(3).apply([Doubled(), Noise()])


def uneven(histogram, epoch, epochs):
    return seta.KeepCurve.constant(histogram, (0.9, 0.3, 0.7, 1.0, 0.2)[epoch])


def pruner_of(policy="SeTa", epochs=EPOCHS, budget=0.5, **options):
    options = {"batch_size": BATCH, "losses": np.arange(N, dtype=float), **options}
    return seta.Pruner(N, policy, epochs=epochs, seed=4, budget=budget, **options)


def pipeline_of(pruner, records=RECORDS, **options):
    return grain.MapDataset.source(Kept(pruner, records)).batch(BATCH, **options).to_iter_dataset()


def loader_of(pruner, workers=0):
    kept = Kept(pruner, RECORDS)
    return grain.DataLoader(
        data_source=kept,
        sampler=grain.samplers.SequentialSampler(len(kept), grain.sharding.NoSharding()),
        operations=[grain.transforms.Batch(BATCH)],
        worker_count=workers,
    )


@jax.jit
def step(x, epoch):
    return x + 1000 * epoch


def train(pruner, make=pipeline_of):
    """Returns the noise that each sample had in each epoch: (epochs, N), NaN = not trained."""
    noise = np.full((pruner.epochs, N), np.nan, np.float32)
    while pruner.next_epoch < pruner.epochs:
        seen = []
        for indices, weights, batch in batches(pruner, make(pruner)):
            assert (batch["x"] == indices).all() and (batch["double"] == 2 * indices).all()
            expected = pruner.weights_of(indices)
            assert (weights == (1 if expected is None else expected)).all()
            noise[pruner.epoch, indices] = batch["noise"]
            pruner.record(indices, step(batch["x"], pruner.epoch))
            seen += indices.tolist()
        assert seen == pruner.selection.indices.tolist()
        row = pruner.end_epoch()
        assert row["trained"] == row["kept"] == len(set(seen))
        assert (pruner.losses[seen] == np.array(seen) + 1000 * row["epoch"]).all()
    return noise


def check_each_loss_is_recorded_for_its_sample():
    for policy, budget in (("SeTa", 0.5), ("InfoBatch", 0.5), ("InfoBatch", None), (uneven, None)):
        for make in (pipeline_of, loader_of):
            train(pruner_of(policy, budget=budget), make)


def check_a_random_transform_depends_on_the_epoch_and_the_index_alone():
    first, other = train(pruner_of("Random")), train(pruner_of("RS2", budget=0.8), loader_of)
    both = np.isfinite(first) & np.isfinite(other)
    assert both.sum() > N and (first[both] == other[both]).all()
    again = np.isfinite(first[:-1]) & np.isfinite(first[1:])
    assert again.any() and (first[:-1][again] != first[1:][again]).all()


def check_plain_records_need_no_grain():
    pruner = pruner_of("Random", epochs=2)
    for indices, _, values in batches(pruner, pipeline_of(pruner, np.arange(N) * 3.0)):
        assert (values == 3 * indices).all()
        pruner.record(indices, values)
    assert pruner.end_epoch()["trained"] == len(Kept(pruner, list(range(N))))


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.relu(nn.Dense(8)(x)))


def check_a_resumed_run_is_the_same_bit_for_bit():
    """By a position in the pruner's state, or by that of Grain's iterator, but not by both."""
    net, optimizer = Net(), optax.adam(0.01)
    params = net.init(jax.random.key(0), np.zeros((1, 2), np.float32))
    start = params, optimizer.init(params)

    @jax.jit
    def train_step(state, x, weights):
        def objective(params):
            labels = (x[:, 0] % 2).astype(int)
            losses = optax.softmax_cross_entropy_with_integer_labels(
                net.apply(params, x / N), labels
            )
            return (weights * losses).mean(), losses

        gradient, losses = jax.grad(objective, has_aux=True)(state[0])
        updates, moments = optimizer.update(gradient, state[1])
        return (optax.apply_updates(state[0], updates), moments), losses

    def run(file, make=pipeline_of, stop_after=None, by="done"):
        pruner = pruner_of("InfoBatch", budget=0.6, losses=None)
        state, at, saved = start, 0, None
        if file.exists():
            saved = seta.load(file)
            state = jax.tree.unflatten(jax.tree.structure(start), saved["leaves"])
            pruner.load_state_dict(saved["pruner"])
            at = saved["at"]
        while pruner.next_epoch < EPOCHS:
            iterator, done = iter(make(pruner)), pruner.done
            if saved is not None and saved["grain"] is not None:
                text = saved["grain"]
                iterator.set_state(json.loads(text) if make is pipeline_of else text.encode())
            saved = None
            for indices, weights, batch in batches(pruner, iterator):
                x = np.stack([batch["x"], batch["noise"]], 1)
                state, losses = train_step(state, x, weights)
                pruner.record(indices, losses)
                at, done = at + 1, done + len(indices)
                if at == stop_after:
                    position = iterator.get_state()
                    text = json.dumps(position) if make is pipeline_of else position.decode()
                    parts = {
                        "leaves": [np.asarray(leaf) for leaf in jax.tree.leaves(state)],
                        "pruner": pruner.state_dict(done=0 if by == "grain" else done),
                        "grain": None if by == "done" else text,
                        "at": at,
                    }
                    seta.save(parts, file)
                    return None
            pruner.end_epoch()
        leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]
        rows = [{k: v for k, v in row.items() if k not in CLOCKED} for row in pruner.history]
        return leaves, rows, pruner.losses.tobytes()

    with tempfile.TemporaryDirectory() as folder:
        for make in (pipeline_of, loader_of):
            whole = run(Path(folder) / "none", make)
            for by in ("done", "grain"):
                for stop_after in (1, 10, 29):
                    file = Path(folder) / f"{make.__name__}{by}{stop_after}"
                    run(file, make, stop_after, by)
                    assert run(file, make) == whole, (make, by, stop_after)
        file = Path(folder) / "both"
        run(file, pipeline_of, 8, "both")
        refused(RuntimeError, "not both", lambda: run(file))
        file = Path(folder) / "both of a loader"
        run(file, loader_of, 8, "both")
        refused(ValueError, "in checkpoint does not match", lambda: run(file, loader_of))


def check_a_state_from_after_the_last_batch_ends_the_epoch():
    """Grain's iterator has no batch left then, and the pruner's state no position."""
    pruner = pruner_of("SeTa", budget=0.6, losses=None)
    pipeline = iter(pipeline_of(pruner))
    for indices, _, _ in batches(pruner, pipeline):
        pruner.record(indices, np.ones(len(indices), np.float32))
        saved = pruner.state_dict(), pipeline.get_state()
    resumed = pruner_of("SeTa", budget=0.6, losses=None)
    resumed.load_state_dict(saved[0])
    pipeline = iter(pipeline_of(resumed))
    pipeline.set_state(saved[1])
    assert not [*batches(resumed, pipeline)]
    assert resumed.end_epoch()["trained"] == pruner.end_epoch()["trained"]


def check_orbax_saves_the_iterator_beside_the_pruner():
    import orbax.checkpoint as ocp

    pruner, seen = pruner_of(), []
    iterator = iter(pipeline_of(pruner))
    with tempfile.TemporaryDirectory() as folder, ocp.CheckpointManager(folder) as manager:
        for at, (indices, _, batch) in enumerate(batches(pruner, iterator)):
            pruner.record(indices, batch["x"])
            seen.append(indices.tolist())
            if at == 1:
                saving = grain.checkpoint.CheckpointSave(iterator)
                manager.save(0, args=ocp.args.Composite(data=saving))
                manager.wait_until_finished()
                seta.save(pruner.state_dict(), Path(folder) / "0" / "pruner.seta")
        again = pruner_of()
        again.load_state_dict(seta.load(Path(folder) / "0" / "pruner.seta"))
        iterator = iter(pipeline_of(again))
        loading = grain.checkpoint.CheckpointRestore(iterator)
        manager.restore(0, args=ocp.args.Composite(data=loading))
        rest = [indices.tolist() for indices, _, _ in batches(again, iterator)]
    assert rest == seen[2:] and rest


def refused(kind, text, call):
    try:
        call()
    except kind as error:
        assert text in str(error), error
    else:
        raise AssertionError(f"not refused: {text}")


def taken(make):
    def call():
        pruner = pruner_of(budget=None, policy="Full")
        for indices, _, batch in batches(pruner, make(pruner)):
            pruner.record(indices, batch["x"])

    return call


def check_pipelines_that_are_not_the_plan_are_refused():
    def source_of(pruner):
        return grain.MapDataset.source(Kept(pruner, RECORDS))

    wrong = "must yield the next batch of the plan, sample"
    over = "must yield the next batch of the plan, no more samples"
    shuffled = taken(lambda p: source_of(p).shuffle(seed=0).batch(BATCH).to_iter_dataset())
    refused(RuntimeError, f"after 0 of the 203 samples of epoch 0, the pipeline {wrong}", shuffled)
    sharded = taken(lambda p: source_of(p)[0::2].batch(BATCH).to_iter_dataset())
    refused(RuntimeError, wrong, sharded)
    smaller = taken(lambda p: source_of(p).batch(BATCH // 2).to_iter_dataset())
    refused(RuntimeError, wrong, smaller)
    twice = taken(lambda p: source_of(p).repeat(2).batch(BATCH).to_iter_dataset())
    refused(RuntimeError, wrong, twice)
    whole = taken(lambda p: source_of(p).batch(BATCH).repeat(2).to_iter_dataset())
    refused(RuntimeError, over, whole)
    cut = taken(lambda p: pipeline_of(p, drop_remainder=True))
    refused(RuntimeError, "the pipeline ended after 200 of the 203 samples of epoch 0", cut)
    single = taken(lambda p: source_of(p).to_iter_dataset())
    refused(TypeError, "must yield pairs (indices, batch), with integers (B,), got tuple", single)
    bare = taken(lambda p: pipeline_of(p).map(lambda pair: pair[1]))
    refused(TypeError, "with integers (B,), got dict", bare)


def check_a_pipeline_serves_one_epoch():
    pruner = pruner_of("Random", budget=0.5)
    pipeline = pipeline_of(pruner)
    for indices, _, batch in batches(pruner, pipeline):
        pruner.record(indices, batch["x"])
    pruner.end_epoch()
    refused(RuntimeError, "of epoch 1, the pipeline", lambda: next(batches(pruner, pipeline)))
    left = batches(pruner, pipeline_of(pruner))
    indices, _, batch = next(left)
    pruner.record(indices, batch["x"])
    pruner.end_epoch()
    refused(RuntimeError, "the batches of epoch 1, which has ended", lambda: next(left))


def check_records_that_are_not_the_samples_are_refused():
    pruner = pruner_of()
    plain = grain.MapDataset.range(N)
    Kept(pruner, grain.MapDataset.concatenate([plain[:100], plain[100:]]))
    changing = "records must have the same sample at an index in each epoch, got "
    for records, name in (
        (plain.shuffle(seed=1).map(str), "ShuffleMapDataset"),
        (plain.repeat(1), "RepeatMapDataset"),
        (grain.MapDataset.mix([plain, plain])[:N].map(str), "MixedMapDataset"),
    ):
        refused(ValueError, changing + name, lambda records=records: Kept(pruner, records))
    for records in (plain.repeat(3), plain[::2], plain.batch(BATCH)):
        text = f"records must be the 203 samples that the pruner was made for, got {type(records)}"
        text = text.replace(str(type(records)), f"{type(records).__name__} of {len(records)}")
        refused(ValueError, text, lambda records=records: Kept(pruner, records))
    stream = plain.to_iter_dataset()
    refused(TypeError, "records must have len() and records[i], got ", lambda: Kept(pruner, stream))
    odd = plain.filter(lambda x: x % 2 == 1)
    refused(ValueError, "is None, as a record that a filter leaves out", lambda: read(pruner, odd))


def read(pruner, records):
    return list(batches(pruner, pipeline_of(pruner, records)))


def check_workers_of_grain():
    two = grain.multiprocessing.MultiprocessingOptions(num_workers=2)
    train(pruner_of("Full", 1, budget=0.5), lambda pruner: pipeline_of(pruner).mp_prefetch(two))
    loaded = taken(lambda pruner: loader_of(pruner, workers=2))
    refused(RuntimeError, "with worker processes, call batch() before to_iter_dataset()", loaded)


def check_torch_is_never_imported():
    assert "torch" not in sys.modules


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[2]))
    from tests.integrations.checks import run_checks

    flags.FLAGS.mark_as_parsed()  # as absl.app.run does; Grain's workers need it
    run_checks(globals(), sys.argv[1])
