"""A Ray of its own, on this machine, with two workers: for `test_ray`. FOLDER.

The second worker kills itself in the middle of the second epoch; what all workers saw is written to
the folder, a file for each worker of each attempt.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

N, BATCH, EPOCHS = 96, 4, 4
EXAMPLE = Path(__file__).parents[2] / "examples" / "ray_digits.py"


def train(config):
    """The training function: checks that need a worker, then a run that is killed once."""
    import ray.train
    import torch
    import torch.distributed as dist
    from torch.utils.data import TensorDataset

    from seta.integrations.ray import PrunedRayLoader, restore, save

    torch.set_num_threads(1)
    folder = Path(config["folder"])
    rank = ray.train.get_context().get_world_rank()
    checkpoint = ray.train.get_checkpoint()
    attempt = 0 if checkpoint is None else 1
    dataset = TensorDataset(torch.arange(N), torch.arange(N) / 10)
    found = {"checks": {}, "seen": [], "pid": os.getpid()}
    if attempt == 0:
        found["checks"] = checks(dataset)
        found["streams"] = streams(rank)

    def write():
        (folder / f"{attempt}-{rank}.json").write_text(json.dumps(found))

    model = ray.train.torch.prepare_model(torch.nn.Linear(1, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    loader = PrunedRayLoader(
        dataset, "SeTa", epochs=EPOCHS, budget=[0.6, 0.9, 0.5, 1.0], batch_size=BATCH,
        num_workers=1, persistent_workers=True,
    )  # fmt: skip
    found["restored"] = restore(loader, checkpoint)
    found["total_steps"] = loader.total_steps
    for epoch in range(loader.pruner.next_epoch, EPOCHS):
        plan = loader.pruner.begin_epoch(epoch).indices.tolist()
        for step, (indices, values) in enumerate(loader):
            assert torch.equal(indices / 10, values), "a sample with another's data"
            losses = values + epoch + 0 * model(torch.ones(1, 1)).sum()
            loss = loader.update(losses)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found["seen"].append([epoch, indices.tolist(), plan])
            write()
            if (attempt, rank, epoch, step) == (0, 1, 1, 5):
                ray.train.get_all_reported_checkpoints()  # waits until the last one counts
                os.kill(os.getpid(), signal.SIGKILL)
            if step == 2:
                report(loader, save, epoch)
        report(loader, save, epoch)
    found["losses"] = loader.pruner.losses.tolist()
    found["trained"] = [row["trained"] for row in loader.pruner.history]
    write()
    dist.barrier()


def report(loader, save, epoch):
    """Saves in all workers, and reports."""
    import ray.train

    with tempfile.TemporaryDirectory() as folder:
        save(loader, folder)
        checkpoint = ray.train.Checkpoint.from_directory(folder)
        ray.train.report({"epoch": epoch, "saved": loader.pruner.saved}, checkpoint=checkpoint)


def checks(dataset):
    """What Ray's own `prepare_data_loader` does to loaders, and what ours does."""
    import ray.train.torch
    import torch
    from torch.utils.data import DataLoader

    import seta
    from seta.integrations import ray as seta_ray
    from seta.torch import IndexedCollate, IndexedDataset, PrunedSampler, indices_of
    from seta.torch.ranks import ranks_of

    def error_of(function, *args, **options):
        try:
            function(*args, **options)
        except (RuntimeError, TypeError, ValueError) as error:
            return f"{type(error).__name__}: {error}"
        return "nothing was raised"

    found = {}
    theirs = ray.train.torch.prepare_data_loader
    options = {"epochs": 2, "budget": 0.5, "batch_size": BATCH}
    loader = seta_ray.PrunedRayLoader(dataset, "SeTa", **options)
    found["ours on a PrunedRayLoader"] = error_of(seta_ray.prepare_data_loader, loader)

    def look_ahead(loader):
        for indices, _ in theirs(loader):
            loader.update(torch.ones(len(indices)))

    found["theirs"] = error_of(look_ahead, loader)
    found["trained"] = int((~torch.tensor(loader.pruner.losses).isnan()).sum())
    found["theirs, on a PrunedDataLoader"] = error_of(
        look_ahead, seta.PrunedDataLoader(dataset, "SeTa", **options)
    )
    named = seta_ray.PrunedRayLoader(dataset, "SeTa", with_indices=True, **options)
    for indices, (samples, values) in theirs(named):
        assert torch.equal(indices, samples), "a sample with another's index"
        named.update(values, indices=indices)
    named.end_epoch()
    found["named"] = int((~torch.tensor(named.pruner.losses).isnan()).sum())

    ranks = ranks_of(None)
    pruner = seta.Pruner(len(dataset), "SeTa", ranks=ranks, **options)

    def own(share):
        return DataLoader(
            IndexedDataset(dataset),
            batch_size=BATCH,
            sampler=PrunedSampler(pruner, share=share),
            collate_fn=IndexedCollate(torch.utils.data.default_collate),
        )

    replaced = theirs(own(True))
    found["type after theirs"] = type(replaced.sampler).__name__
    found["ours after theirs"] = error_of(seta_ray.prepare_data_loader, replaced)
    found["ours, not shared"] = error_of(seta_ray.prepare_data_loader, own(False))
    prepared = seta_ray.prepare_data_loader(own(True))
    found["type after ours"] = type(prepared.sampler).__name__
    found["plan"] = pruner.begin_epoch(0).indices.tolist()
    found["rows"] = []
    for packed, (samples, values) in prepared:
        indices = indices_of(packed)
        assert torch.equal(torch.from_numpy(indices.copy()), samples), "another's index"
        pruner.record(indices, values.numpy())
        found["rows"] += indices.tolist()
    pruner.end_epoch()
    return found


def streams(rank):
    """Ray Data by an id column."""
    import ray.train
    import torch

    from seta.integrations.streams import KeepSet, PrunedStream

    found = {"epochs": []}
    keep = KeepSet("id", n=N)
    options = {"keep": keep, "epochs": 2, "budget": 0.5, "batch_size": BATCH}
    try:
        PrunedStream(ray.train.get_dataset_shard("split").iter_rows, "SeTa", split=True, **options)
    except ValueError as error:
        found["split"] = str(error)
    rows = ray.train.get_dataset_shard("whole").iter_rows
    stream = PrunedStream(rows, "SeTa", split=False, **options)
    for _ in range(2):
        plan, seen = stream.pruner.begin_epoch().indices.tolist(), []
        for batch in stream:
            stream.update(batch["id"] / 10)
            seen += batch["id"].tolist()
        found["epochs"].append([plan, seen])
    losses = torch.tensor(stream.pruner.losses)
    known = ~losses.isnan()
    found["wrong"] = int((losses[known] != (torch.arange(N) / 10)[known]).sum())
    return found


def main(folder):
    """Runs it, and then the example, in the same Ray."""
    os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.5"
    import ray
    import ray.data
    from ray.train import DataConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.init(num_cpus=2, include_dashboard=False)
    trainer = TorchTrainer(
        train,
        train_loop_config={"folder": str(folder)},
        scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 0.5}),
        run_config=RunConfig(
            storage_path=str(folder / "results"), failure_config=FailureConfig(max_failures=1)
        ),
        datasets={name: ray.data.range(N) for name in ("whole", "split")},
        dataset_config=DataConfig(datasets_to_split=["split"]),
    )
    result = trainer.fit()
    (folder / "result.json").write_text(json.dumps(result.metrics))
    example = subprocess.run(
        [sys.executable, EXAMPLE, "--epochs", "2"],
        env={**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address},
        stdout=subprocess.PIPE, text=True, timeout=300, check=True,
    )  # fmt: skip
    (folder / "example.txt").write_text(example.stdout)
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
