"""Checks of Grain in two processes of JAX: FILE PROCESS PORT; see `tests/integrations`."""

import os
import sys
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"

import grain
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import seta
from seta.integrations.grain import Kept, batches
from seta.integrations.jax import local_rows, ranks_of

N, LOCAL, EPOCHS = 203, 10, 4
RECORDS = grain.MapDataset.range(N).map(np.float32)  # each record is its own index


def pruner_of(rows, policy="InfoBatch", budget=0.5):
    options = {"seed": 4, "losses": np.arange(N, dtype=float), "budget": budget}
    ranks = ranks_of(rows)
    return seta.Pruner(N, policy, epochs=EPOCHS, batch_size=LOCAL, ranks=ranks, **options)


def pipeline_of(pruner, shard=slice(None)):
    return grain.MapDataset.source(Kept(pruner, RECORDS))[shard].batch(LOCAL).to_iter_dataset()


def sharding():
    return NamedSharding(Mesh(jax.devices(), "data"), PartitionSpec("data"))


def check_each_process_reads_its_own_share_and_none_is_lost():
    rows = sharding()
    step = jax.jit(lambda x, epoch: x + 1000 * epoch, out_shardings=rows)
    pruner = pruner_of(rows)
    while pruner.next_epoch < EPOCHS:
        own = []
        for indices, _, batch in batches(pruner, pipeline_of(pruner)):
            assert (batch == indices).all()
            x = jax.make_array_from_process_local_data(rows, batch)
            pruner.record(indices, local_rows(step(x, pruner.epoch)))
            own += indices.tolist()
        plan, epoch = pruner.selection.indices, pruner.epoch
        shares = np.concatenate(pruner.ranks.gather(np.array(own), "shares"))
        assert sorted(shares) == sorted(plan) and len(own) == len(plan) // 2
        assert pruner.end_epoch()["trained"] == len(plan)
        assert (pruner.losses[plan] == plan + np.float32(1000 * epoch)).all()


def check_a_resumed_epoch_goes_on_where_it_stopped():
    whole, rows = pruner_of(sharding()), sharding()
    order = [i.tolist() for i, _, _ in batches(whole, pipeline_of(whole))]
    pruner = pruner_of(rows)
    for step, (indices, _, batch) in enumerate(batches(pruner, pipeline_of(pruner)), 1):
        pruner.record(indices, batch)
        if step == 2:
            break
    state = pruner.state_dict(done=2 * LOCAL * 2)
    again = pruner_of(rows)
    again.load_state_dict(state)
    assert [i.tolist() for i, _, _ in batches(again, pipeline_of(again))] == order[2:]


def check_a_share_that_is_sharded_again_is_refused():
    pruner = pruner_of(sharding())
    try:
        next(batches(pruner, pipeline_of(pruner, slice(jax.process_index(), None, 2))))
    except RuntimeError as error:
        assert "let it neither shuffle nor shard (NoSharding())" in str(error)
    else:
        raise AssertionError("was taken")


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[2]))
    from tests.integrations.checks import run_checks

    jax.distributed.initialize(
        f"127.0.0.1:{sys.argv[3]}", num_processes=2, process_id=int(sys.argv[2])
    )
    run_checks(globals(), sys.argv[1])
