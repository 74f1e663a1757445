"""What `test_deepspeed` lets one process, or two, do under DeepSpeed: FOLDER CASES, by torchrun.

Each `case_...` takes a folder and returns what its process saw. `FOLDER/{processes}-{process}.pkl`
gets what the named cases returned, or an error with the text of what they raised.
"""

import logging
import pickle
import sys
import traceback
from datetime import timedelta
from pathlib import Path

import deepspeed
import torch
import torch.distributed as dist
from torch.optim.lr_scheduler import LinearLR

import seta
from tests.engines import shards
from tests.engines.shards import EPOCHS, Rows, evaluate, losses_of, network, rows_of

TIMEOUT = timedelta(seconds=200)


def config_of(stage=0, gas=1, bf16=False, batch_size=8):
    return {
        "train_micro_batch_size_per_gpu": batch_size // dist.get_world_size(),
        "gradient_accumulation_steps": gas,
        "zero_optimization": {"stage": stage},
        "bf16": {"enabled": bf16},
        "gradient_clipping": 1.0,
        "steps_per_print": 10**9,
    }


def loader_of(policy="SeTa", batch_size=8, workers=0):
    return seta.PrunedDataLoader(
        Rows(),
        policy,
        epochs=EPOCHS,
        budget=0.6,
        seed=1,
        batch_size=batch_size // dist.get_world_size(),
        num_workers=workers,
    )


def weights_of(model):
    with deepspeed.zero.GatheredParameters(list(model.parameters())):
        weights = [weight.detach().flatten() for weight in model.parameters()]
        return torch.cat(weights).float().numpy()


class Run:
    """One run: its engine, its loader, and what was trained."""

    def __init__(self, stage=0, gas=1, bf16=False, seed=0, **options):
        net = network(seed)
        self.loader = loader_of(**options)
        steps = self.loader.total_batches // gas
        self.engine, _, _, self.schedule = deepspeed.initialize(
            model=net,
            optimizer=torch.optim.AdamW(net.parameters(), lr=0.02),
            lr_scheduler=lambda optimizer: LinearLR(optimizer, 1.0, 0.0, steps),
            config=config_of(stage, gas, bf16),
        )
        self.log = []

    def resume(self, place, tag):
        _, client = self.engine.load_checkpoint(str(place), tag)
        self.loader.load_state_dict(client["loader"])

    def __call__(self, place=None, at=()):
        """Trains to the end, and saves after the batches `at`, (epoch, batches)."""
        engine, loader = self.engine, self.loader
        while loader.pruner.next_epoch < EPOCHS:
            for indices, inputs, targets in loader:
                losses = losses_of(engine, inputs, targets)
                engine.backward(loader.update(losses))
                engine.step()
                here = (loader.epoch, loader.position)
                self.log.append((here, indices.tolist(), losses.tolist()))
                if here in at:
                    client = {"loader": loader.state_dict(), "trained": len(self.log)}
                    engine.save_checkpoint(str(place), f"{here[0]}-{here[1]}", client)
            engine.eval()
            evaluate(engine)
            engine.train()
        return self.seen()

    def seen(self):
        found = {
            "log": self.log,
            "table": self.loader.pruner.losses,
            "rows": rows_of(self.loader.pruner),
            "weights": weights_of(self.engine.module),
            "rate": self.schedule.get_last_lr()[0],
            "steps": self.engine.global_steps,
            "batches": self.loader.total_batches,
        }
        self.engine.destroy()
        return found


STAGES = {
    "stage 0": {},
    "stage 1": {"stage": 1, "gas": 2},
    "stage 2": {"stage": 2, "policy": "InfoBatch"},
    "stage 3": {"stage": 3, "workers": 2},
    "stage 1, bf16": {"stage": 1, "bf16": True},
}
SAVED = {1: [(0, 4), (1, 2)], 2: [(1, 3), (2, 3)]}  # by gas, at optimizer steps


def case_resume(folder):
    """Uninterrupted runs, and what goes on from each of their checkpoints."""
    out = {}
    for name in STAGES if dist.get_world_size() > 1 else ("stage 0", "stage 1"):
        options = STAGES[name]
        place = folder / f"{dist.get_world_size()}" / name.replace(" ", "-").replace(",", "")
        at = SAVED[options.get("gas", 1)]
        whole = Run(**options)(place, at)
        tails = {}
        for epoch, batches in at:
            again = Run(**options, seed=9)  # other weights, which the checkpoint replaces
            again.resume(place, f"{epoch}-{batches}")
            tails[epoch, batches] = again()
        out[name] = {"whole": whole, "tails": tails}
    return out


def case_other_processes(folder):
    """The run of stage 0 from the checkpoint of another number of processes."""
    place = folder / f"{3 - dist.get_world_size()}" / "stage-0"
    again = Run(seed=9)
    again.resume(place, "1-2")
    return again()


def case_plain(folder):
    """What plain PyTorch makes of stages 0 and 1 on one process."""
    out = {}
    for name, gas in (("stage 0", 1), ("stage 1", 2)):
        net, loader = network(), loader_of()
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.02)
        schedule = LinearLR(optimizer, 1.0, 0.0, loader.total_batches // gas)
        log = []
        for _ in range(EPOCHS):
            for indices, inputs, targets in loader:
                losses = losses_of(net, inputs, targets)
                (loader.update(losses) / gas).backward()
                log.append((indices.tolist(), losses.tolist()))
                if len(log) % gas == 0:  # across epochs, as the engine counts
                    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                    optimizer.step()
                    optimizer.zero_grad()
                    schedule.step()
        out[name] = log
    return out


def case_mistakes(folder):
    """The loader as `training_data`, DeepSpeed's own loader, and a loop that forgets `update`."""

    def message(function):
        try:
            function()
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return None

    def engine_with(data):
        net = network()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        return deepspeed.initialize(
            model=net, optimizer=optimizer, training_data=data, config=config_of()
        )

    def other_loader():
        loader, (engine, _, batches, _) = loader_of(), engine_with(Rows())
        for _, inputs, targets in batches:
            loader.update(losses_of(engine, inputs, targets))

    def forgotten():
        run = Run()
        for _, inputs, targets in run.loader:
            run.engine.backward(losses_of(run.engine, inputs, targets).mean())
            run.engine.step()

    return {
        "given": message(lambda: engine_with(loader_of())),
        "other loader": message(other_loader),
        "forgotten": message(forgotten),
    }


# Accelerate takes DeepSpeed where it finds an accelerator, or for one process.


def as_with_gpus():
    """Lets Accelerate count the processes on CPUs as it does on GPUs; forgets earlier ones."""
    import tests.engines.vision_operators  # noqa: F401, I001

    from accelerate.state import AcceleratorState, GradientState, PartialState
    from accelerate.utils import DistributedType

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    PartialState._prepare_backend = lambda self, *_: ("gloo", DistributedType.NO)


def accelerator_of(gas=2, in_config="auto"):
    from accelerate import Accelerator, DeepSpeedPlugin

    as_with_gpus()
    config = config_of(stage=2) | {"gradient_accumulation_steps": in_config}
    plugin = DeepSpeedPlugin(hf_ds_config=config)
    return Accelerator(deepspeed_plugin=plugin, gradient_accumulation_steps=gas)


def accelerate_loader(accelerator):
    from seta.integrations.accelerate import PrunedAccelerateLoader

    batch_size = 8 // dist.get_world_size()
    options = {"epochs": EPOCHS, "budget": 0.6, "seed": 1, "batch_size": batch_size}
    return PrunedAccelerateLoader(accelerator, Rows(), "SeTa", **options)


def accelerate_run(place, load=False):
    """A run under Accelerate, saved or loaded at its step after two batches of epoch 1."""
    accelerator = accelerator_of()
    loader = accelerate_loader(accelerator)
    where = {"load": place} if load else {"save": {(1, 2): place}}
    run, model = shards.accelerate_run(accelerator, loader, weights_of, **where)
    return run | {"steps": model.global_steps, "total": loader.total_steps}


def case_accelerate(folder):
    place = folder / f"accelerate-{dist.get_world_size()}"
    return {"whole": accelerate_run(place), "tails": {(1, 2): accelerate_run(place, load=True)}}


def case_accumulation_in_the_config_alone(folder):
    """Lengths are asked for before `prepare`, where Accelerate reads DeepSpeed's number."""
    try:
        accelerate_loader(accelerator_of(gas=1, in_config=2))
    except ValueError as error:
        return str(error)
    return None


def trainer(place, budget=0.6, policy="SeTa", **config):
    from tests.integrations.trainer_cases import llama, trainer_of

    as_with_gpus()
    return trainer_of(
        place,
        budget,
        policy,
        n=40,
        model=llama(dropout=0.3),
        use_cpu=False,
        gradient_accumulation_steps=2,
        save_strategy="steps",
        save_steps=1,
        deepspeed={
            "train_micro_batch_size_per_gpu": "auto",
            "gradient_accumulation_steps": "auto",
            "zero_optimization": {"stage": 2},
            "zero_allow_untested_optimizer": True,
            **config,
        },
    )


def trainer_run(place, checkpoint=None, policy="SeTa"):
    made = trainer(place, policy=policy)
    made.train(checkpoint)
    return {
        "log": made.seen,
        "table": made.pruner.losses,
        "rows": rows_of(made.pruner),
        "weights": weights_of(made.model),
        "rate": made.lr_scheduler.get_last_lr()[0],
        "kind": str(made.accelerator.distributed_type.value),
        "engine": type(made.model_wrapped).__name__,
    }


def case_trainer(folder):
    from tests.integrations.trainer_cases import halves

    place = folder / f"trainer-{dist.get_world_size()}"
    whole = trainer_run(place)
    tails = {
        step: trainer_run(folder / "rest", str(place / f"checkpoint-{step}")) for step in (1, 4)
    }
    return {"whole": whole, "tails": tails, "weighted": trainer_run(folder / "rest", policy=halves)}


def case_schedule_of_the_config_without_a_budget(folder):
    schedule = {"type": "WarmupLR", "params": {"warmup_num_steps": "auto"}}
    try:
        trainer(folder / "rest", budget=None, scheduler=schedule)
    except ValueError as error:
        return str(error)
    return None


def main(folder, names):
    torch.set_num_threads(1)
    deepspeed.logger.setLevel(logging.ERROR)
    # Else an operator is compiled, which takes minutes; gloo does the same.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("gloo", timeout=TIMEOUT)
    results = {}
    for name in names:
        try:
            results[name] = globals()[f"case_{name}"](folder)
        except Exception:
            results[name] = RuntimeError(traceback.format_exc())
    size, rank = dist.get_world_size(), dist.get_rank()
    (folder / f"{size}-{rank}.pkl").write_bytes(pickle.dumps(results))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
