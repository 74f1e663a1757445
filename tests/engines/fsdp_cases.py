"""What `test_fsdp` lets some ranks do: FSDP2 in plain PyTorch, under Accelerate and `Trainer`."""

import os

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.optim.lr_scheduler import LinearLR

import seta
from tests.engines import shards
from tests.engines.shards import EPOCHS, Rows, evaluate, losses_of, network, rows_of

BATCH = 8  # samples of a global batch, whatever the number of ranks


def weights_of(model):
    whole = [weight.full_tensor() for weight in model.parameters()]
    return torch.cat([weight.detach().flatten() for weight in whole]).numpy()


class Run:
    """One run: its model in shards, its loader, and what was trained."""

    def __init__(self, policy="SeTa", workers=0, half=False, accumulation=1, sharding=None, seed=0):
        size = dist.get_world_size()
        precision = {"param_dtype": torch.bfloat16, "output_dtype": torch.float32} if half else {}
        options = {
            "mesh": init_device_mesh("cpu", (size,)),
            "mp_policy": MixedPrecisionPolicy(**precision),
        }
        self.model, self.accumulation, self.log = network(seed), accumulation, []
        self.sharded = sharding == "sharded"
        for layer in (self.model[0], self.model[2], self.model):
            fully_shard(layer, **options)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.02)
        self.loader = seta.PrunedDataLoader(
            Rows(),
            policy,
            epochs=EPOCHS,
            budget=0.6,
            seed=1,
            batch_size=BATCH // size,
            num_workers=workers,
            accumulation=accumulation,
            sharding=sharding,
        )
        self.schedule = LinearLR(self.optimizer, 1.0, 0.0, self.loader.total_steps)

    def parts(self, loader):
        weights, moments = get_state_dict(self.model, self.optimizer)
        parts = {"model": weights, "optimizer": moments, "schedule": self.schedule}
        return parts | {"loader": loader}

    def save(self, place):
        dcp.save(self.parts(self.own(self.loader.state_dict())), checkpoint_id=place)

    def own(self, state):
        """Of sharded losses, each rank's part under a key of its own."""
        return {str(dist.get_rank()): state} if self.sharded else state

    def load(self, place):
        state = self.parts(self.loader)
        if self.sharded:
            names = dcp.FileSystemReader(place).read_metadata().state_dict_metadata
            ranks = {name.split(".")[1] for name in names if name.startswith("loader.")}
            state["loader"] = {rank: {"format": None, "pruner": None} for rank in ranks}
        dcp.load(state, checkpoint_id=place)
        set_state_dict(
            self.model,
            self.optimizer,
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
        )
        if self.sharded:
            self.loader.load_state_dict(list(state["loader"].values()))

    def __call__(self, place=None, at=()):
        """Trains to the end, and saves after the batches `at`, (epoch, batches)."""
        loader = self.loader
        while loader.pruner.next_epoch < EPOCHS:
            for indices, inputs, targets in loader:
                here = (loader.epoch, loader.position + 1)
                step = here[1] % self.accumulation == 0 or here[1] == len(loader)
                self.model.set_requires_gradient_sync(step)
                losses = losses_of(self.model, inputs, targets)
                (loader.update(losses) / self.accumulation).backward()
                if step:
                    self.optimizer.step()
                    self.optimizer.zero_grad()
                    self.schedule.step()
                self.log.append((here, indices.tolist(), losses.tolist()))
                if here in at:
                    self.save(place / f"{here[0]}-{here[1]}")
            evaluate(self.model)
        return {
            "log": self.log,
            "table": None if self.sharded else loader.pruner.losses,
            "rows": rows_of(loader.pruner),
            "weights": weights_of(self.model),
            "rate": self.schedule.get_last_lr()[0],
        }


RUNS = {
    "plain": {},
    "workers": {"workers": 2, "policy": "InfoBatch"},
    "half": {"half": True},
    "accumulating": {"accumulation": 2},
    "sharded": {"sharding": "sharded"},
}
SAVED = {name: [(1, 2)] for name in RUNS} | {"plain": [(0, 4), (1, 2), (1, 8)]}


def whole(rank, folder, names=tuple(RUNS)):
    """Uninterrupted runs, which save, and what goes on from each of their checkpoints."""
    out = {}
    for name in names:
        place = folder / f"{dist.get_world_size()}" / name
        run = Run(**RUNS[name])(place, SAVED[name])
        out[name] = {"whole": run, "tails": [tail(name, place, saved) for saved in SAVED[name]]}
    return out


def tail(name, place, saved):
    run = Run(**RUNS[name], seed=9)  # other weights, which the checkpoint replaces
    run.load(place / f"{saved[0]}-{saved[1]}")
    return run()


def crossed(rank, folder, size, names=("plain", "sharded")):
    """What goes on from the checkpoints of another number of ranks."""
    return {
        name: [tail(name, folder / f"{size}" / name, at) for at in SAVED[name]] for name in names
    }


# Accelerate takes FSDP where it finds an accelerator: on CPUs it would train with DDP, silently.


def as_with_gpus():
    """Lets Accelerate set on CPUs what it sets on GPUs, in this process."""
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType

    AcceleratorState._reset_state(reset_partial_state=True)  # of tests before, which forked this
    begin = AcceleratorState.__init__

    def init(self, *args, fsdp_plugin=None, **options):
        begin(self, *args, fsdp_plugin=fsdp_plugin, **options)
        if fsdp_plugin is not None:
            self.fsdp_plugin = fsdp_plugin
            self.distributed_type = DistributedType.FSDP
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    AcceleratorState.__init__ = init
    rank, size = str(dist.get_rank()), str(dist.get_world_size())
    os.environ.update(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=size, LOCAL_WORLD_SIZE=size)
    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")


def accelerate_run(save=(), load=None):
    """A run under Accelerate, which saves {(epoch, batches): folder}."""
    from accelerate import Accelerator
    from accelerate.utils import FullyShardedDataParallelPlugin

    from seta.integrations.accelerate import PrunedAccelerateLoader

    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="size_based_wrap", min_num_params=10
    )
    accelerator = Accelerator(cpu=True, fsdp_plugin=plugin, gradient_accumulation_steps=2)
    loader = PrunedAccelerateLoader(
        accelerator, Rows(), "SeTa", epochs=EPOCHS, budget=0.6, seed=1, batch_size=BATCH // 2
    )
    return shards.accelerate_run(accelerator, loader, weights_of, save, load)[0]


ACCELERATED = [(1, 2), (1, 8)]


def accelerated(rank, folder):
    as_with_gpus()
    save = {at: str(folder / f"{at[0]}-{at[1]}") for at in ACCELERATED}
    run = accelerate_run(save)
    return {"whole": run, "tails": [accelerate_run(load=save[at]) for at in ACCELERATED]}


def trained(rank, folder):
    """A run of `PrunedTrainer` with `fsdp`, and what goes on from its checkpoints."""
    as_with_gpus()
    from tests.integrations.trainer_cases import halves, llama, trainer_of

    def run(name, checkpoint=None, policy="SeTa"):
        trainer = trainer_of(
            folder / name,
            0.6,
            policy,
            n=40,
            model=llama(dropout=0.3),
            gradient_accumulation_steps=2,
            save_strategy="steps",
            save_steps=1,
            fsdp=True,
            fsdp_config={"transformer_layer_cls_to_wrap": ["LlamaDecoderLayer"]},
        )
        trainer.train(checkpoint)
        return {
            "log": trainer.seen,
            "table": trainer.pruner.losses,
            "rows": rows_of(trainer.pruner),
            "weights": weights_of(trainer.model),
            "rate": trainer.lr_scheduler.get_last_lr()[0],
            "kind": str(trainer.accelerator.distributed_type.value),
        }

    first = run("whole")
    steps = {step: str(folder / "whole" / f"checkpoint-{step}") for step in (1, 4)}
    tails = {step: run("rest", place) for step, place in steps.items()}
    return {"whole": first, "tails": tails, "weighted": run("weighted", policy=halves)}
