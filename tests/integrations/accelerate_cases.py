"""What `test_accelerate` lets one process, or two, do under Accelerate: FOLDER, then torchrun's.

Each function is one case: it takes a folder and returns what its process saw. Run as a script, all
of them run, one after another, and `FOLDER/{processes}-{process}.pkl` holds what they returned, or
the text of what they raised.
"""

import pickle
import sys
import time
import traceback
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import GradientAccumulationPlugin, InitProcessGroupKwargs
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

import seta
from seta.integrations.accelerate import PrunedAccelerateLoader
from seta.torch import IndexedCollate, IndexedDataset, PrunedSampler, indices_of
from seta.torch.ranks import ranks_of

TIMEOUT = timedelta(seconds=90)


@dataclass(frozen=True)
class Waves:
    """Keeps another share in each epoch: lengths grow and shrink."""

    shares: tuple = (1.0, 0.55, 0.85, 0.3)

    def __call__(self, histogram, epoch, epochs):
        return seta.KeepCurve.constant(histogram, self.shares[epoch])


class Numbers(Dataset):
    """Rows (index, a float of it), so that every batch tells which samples it holds."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return torch.tensor(index), torch.tensor([float(index % 97), 1.0]) / 97


class Named(Numbers):
    """Rows {"sample": index}."""

    def __getitem__(self, index):
        return {"sample": index}


def largest_first(rows):
    """Sorts its list of rows."""
    rows.sort(key=lambda row: -row["sample"])
    return default_collate(rows)


def copied_largest_first(rows):
    """Sorts a list of its own."""
    return default_collate(sorted(rows, key=lambda row: -row["sample"]))


class Seeded(Numbers):
    """Rows (index, what a worker has said of itself)."""

    worker = 0

    def say(self, worker):
        self.worker = worker

    def __getitem__(self, index):
        return index, self.worker


def seed_dataset(worker):
    """A `worker_init_fn` as torch's documentation has it."""
    get_worker_info().dataset.say(1 + worker)


def accelerator_of(gas=1, plugin=None, **config):
    group = InitProcessGroupKwargs(timeout=TIMEOUT)
    return Accelerator(
        cpu=True,
        kwargs_handlers=[group],
        gradient_accumulation_steps=1 if plugin else gas,
        gradient_accumulation_plugin=plugin,
        dataloader_config=DataLoaderConfiguration(**config),
    )


def row_of(row):
    return {key: row[key] for key in ("epoch", "kept", "trained", "saved")}


# Right loss on right sample.

WALKS = {
    "plain": ({}, {}),
    "workers": ({}, {"num_workers": 2}),
    "persistent": ({}, {"num_workers": 2, "persistent_workers": True, "pin_memory": False}),
    "drop last": ({}, {"drop_last": True}),
    "split": ({"split_batches": True}, {}),
    "dispatch": ({"dispatch_batches": True}, {}),
    "dispatch, split": ({"dispatch_batches": True, "split_batches": True}, {}),
    "budget": ({}, {"budget": 0.6}),
    "budget, workers": ({}, {"budget": [0.9, 0.4, 0.8, 0.5], "num_workers": 2}),
    "budget, split": ({"split_batches": True}, {"budget": 0.6}),
    "budget, dispatch": ({"dispatch_batches": True}, {"budget": 0.6}),
    "budget, uneven allowed": ({"even_batches": False}, {"budget": 0.6}),
    "uneven allowed": ({"even_batches": False}, {}),
}


def loss_of(samples, epoch, process, step):
    """A loss that tells all four, exact in float32 for some hundred samples."""
    return samples + epoch / 8 + process / 16 + step / 2048


def walk(name, n=101, batch_size=10):
    """Four epochs, the losses made of what is in the batches."""
    config, options = WALKS[name]
    accelerator = accelerator_of(**config)
    options = {"budget": None, "batch_size": batch_size, **options}
    policy = "SeTa" if options["budget"] else Waves()
    loader = PrunedAccelerateLoader(accelerator, Numbers(n), policy, epochs=4, seed=1, **options)
    epochs = []
    for epoch in range(4):
        before = [len(loader) for _ in range(3)]  # asked for ahead of the pass: this epoch's
        batches, remainders = [], []
        for samples, _ in loader:
            step = len(batches)
            if not step:
                plan = loader.pruner.begin_epoch().indices.tolist()
            losses = loss_of(samples.double(), epoch, accelerator.process_index, step)
            loss = loader.update(losses)
            remainders.append((loss - losses.mean()).item())
            batches.append(samples.tolist())
        epochs.append(
            {
                "plan": plan,
                "batches": batches,
                "len": before,
                "weighted": remainders,
                "row": row_of(loader.pruner.history[-1]),
            }
        )
    lengths = loader.pruner.lengths
    return {
        "epochs": epochs,
        "losses": loader.pruner.losses.tolist(),
        "lengths": lengths,
        "total_batches": loader.total_batches if lengths else None,
        "global_batch": loader.pruner.sizes.global_batch,
    }


def walks(folder):
    return {name: walk(name) for name in WALKS}


def large_index(folder):
    """A sample beyond the integers of float32, through a batch of tensors."""
    n, odd = 2**24 + 30, 2**24 + 1
    accelerator = accelerator_of(dispatch_batches=True)
    loader = PrunedAccelerateLoader(
        accelerator,
        Numbers(n),
        "Random",
        epochs=1,
        budget=60 / n,
        batch_size=10,
        always_keep=[odd],
    )
    seen = []
    for samples, _ in loader:
        loader.update(torch.full((len(samples),), 3.0) + (samples == odd))
        seen += samples.tolist()
    table = loader.pruner.losses
    return {"seen": seen, "recorded": np.flatnonzero(table == 4).tolist(), "odd": odd}


@dataclass(frozen=True)
class OneClass:
    """Keeps the samples of class 1."""

    stratified = True

    def __call__(self, histogram, epoch, epochs):
        keep = np.zeros((len(histogram.by_stratum), histogram.bins))
        keep[1] = 1.0
        return seta.KeepCurve(keep, keep[:, 0])


def classes(folder):
    """A policy that looks at classes is given them."""
    loader = PrunedAccelerateLoader(
        accelerator_of(),
        Numbers(100),
        OneClass(),
        epochs=2,
        budget=0.4,
        batch_size=10,
        strata=np.arange(100) % 2,
    )
    seen = []
    for _ in range(2):
        for samples, _ in loader:
            loader.update(samples.float())
            seen += samples.tolist()
    return seen


def metrics(folder):
    """`gather_for_metrics` in a training loop: every sample of every epoch."""
    out = []
    for config in ({}, {"split_batches": True}):
        accelerator = accelerator_of(**config)
        loader = PrunedAccelerateLoader(
            accelerator, Numbers(101), Waves(), epochs=4, budget=None, batch_size=10, seed=1
        )
        for _ in range(4):
            plan = set(loader.pruner.begin_epoch().indices.tolist())
            seen = []
            for samples, _ in loader:
                loader.update(samples.float())
                seen += accelerator.gather_for_metrics(samples).tolist()
            out.append({"kept": len(plan), "seen": len(seen), "equal": set(seen) == plan})
    return out


def repeated_reads(folder):
    """len, iter and set_epoch as often as one likes; a break ends an epoch."""
    accelerator = accelerator_of()
    loader = PrunedAccelerateLoader(
        accelerator, Numbers(101), Waves(), epochs=4, budget=None, batch_size=10, seed=1
    )
    plans = []
    for _ in range(3):
        loader.set_epoch(0)
        len(loader)
        iter(loader)
        plans.append(loader.pruner.begin_epoch().indices.tolist())
    epochs = []
    for epoch in range(4):
        for step, (samples, _) in enumerate(loader):
            loader.update(samples.float())
            epochs.append(loader.epoch)
            if step == epoch:
                break
    last = loader.end_epoch()
    again = loader.end_epoch()
    trained = [row["trained"] for row in loader.pruner.history]
    try:
        next(iter(loader))
    except RuntimeError as error:
        over = str(error)
    return {
        "plans": plans,
        "epochs": epochs,
        "trained": trained,
        "over": over,
        "again": last == again,
        "len": len(loader),
    }


def prepared(folder):
    """What `accelerator.prepare` does with a loader of ours, and with a PrunedDataLoader."""
    accelerator = accelerator_of()
    ours = PrunedAccelerateLoader(accelerator, Numbers(100), "SeTa", epochs=1, batch_size=10)
    loader = seta.PrunedDataLoader(Numbers(100), "SeTa", epochs=2, batch_size=10, seed=1)
    same = accelerator.prepare(ours) is ours
    try:
        next(iter(accelerator.prepare(loader)))
    except RuntimeError as error:
        refused = str(error)
    plan, seen = loader.pruner.begin_epoch().indices.tolist(), []
    for samples, _ in loader:  # as it is, it shares its epochs out itself
        loader.update(samples.float())
        seen += samples.tolist()
    return {"same": same, "refused": refused, "plan": plan, "seen": seen}


def peeked(folder):
    """A look at a batch, at one of the processes alone, and then a run."""
    accelerator = accelerator_of()
    loader = PrunedAccelerateLoader(
        accelerator, Numbers(101), "InfoBatch", epochs=3, batch_size=10, num_workers=1
    )
    looks = []
    for _ in range(3):
        if accelerator.process_index == 0:
            looks.append(next(iter(loader))[0].tolist())
            looks.append(next(iter(loader))[0].tolist())
        for step, (samples, _) in enumerate(loader):
            if step == 0:
                looks.append(samples.tolist())
            loader.update(samples.float() % 7)
    return {"looks": looks, "rows": [row_of(row) for row in loader.pruner.history]}


def forgotten(folder):
    """A pass of which no batch is answered."""
    accelerator = accelerator_of()
    loader = PrunedAccelerateLoader(accelerator, Numbers(40), "SeTa", epochs=2, batch_size=10)
    try:
        for _ in loader:
            pass
    except RuntimeError as error:
        return {"error": str(error)}
    return {"error": "none"}


def small(folder):
    """A data set that is smaller than a batch of all processes."""
    accelerator = accelerator_of()
    loader = PrunedAccelerateLoader(accelerator, Numbers(15), "Full", epochs=1, batch_size=10)
    seen = []
    for samples, _ in loader:
        loader.update(samples.float())
        seen.append(samples.tolist())
    return {"seen": seen, "row": row_of(loader.pruner.history[-1])}


def sharded_twice(folder):
    """One process's share given to `prepare`, which deals it out again."""
    accelerator = accelerator_of()
    pruner = seta.Pruner(101, "Full", epochs=2, ranks=ranks_of(None))
    loader = accelerator.prepare(
        DataLoader(
            IndexedDataset(Numbers(101)),
            batch_size=10,
            sampler=PrunedSampler(pruner, share=True),
            collate_fn=IndexedCollate(default_collate),
        )
    )
    for packed, (samples, _) in loader:
        pruner.record(indices_of(packed), samples.float().numpy())
    try:
        return {"trained": pruner.end_epoch()["trained"]}
    except RuntimeError as error:
        return {"error": str(error)}


# Learning rates and accumulation.


def schedules(folder):
    out = {}
    for gas in (1, 4):
        for split in (False, True):
            accelerator = accelerator_of(gas, split_batches=split)
            model, optimizer = small_model()
            loader = PrunedAccelerateLoader(
                accelerator, Numbers(101), "SeTa", epochs=4, budget=0.6, batch_size=10, seed=1
            )
            schedule = torch.optim.lr_scheduler.LinearLR(
                optimizer, 1.0, 0.25, total_iters=loader.schedule_steps
            )
            half = torch.optim.lr_scheduler.LinearLR(
                optimizer, 1.0, 1.0, total_iters=loader.schedule_steps
            )
            model, optimizer, schedule, half = accelerator.prepare(model, optimizer, schedule, half)
            steps = batches = 0
            unsynced = []
            for _ in range(4):
                for samples, features in loader:
                    batches += 1
                    with accelerator.accumulate(model):
                        loss = loader.update((model(features)[:, 0] - samples / 97) ** 2)
                        accelerator.backward(loss)
                        optimizer.step()
                        schedule.step()
                        optimizer.zero_grad()
                        steps += accelerator.sync_gradients
                grads = [p.grad for p in model.parameters() if p.grad is not None]
                unsynced.append(sum(float(grad.abs().sum()) for grad in grads))
            out[gas, split] = {
                "rate": schedule.get_last_lr()[0],
                "moved": schedule.scheduler.last_epoch,
                "schedule_steps": loader.schedule_steps,
                "steps": steps,
                "total_steps": loader.total_steps,
                "batches": (batches, loader.total_batches),
                "left": unsynced,
            }
    return out


def other_schedule_steps(folder):
    """The two switches that change how schedules move."""
    plugin = GradientAccumulationPlugin(num_steps=4, sync_with_dataloader=False)
    across, apart = (
        {"gradient_accumulation_plugin": plugin},
        {"step_scheduler_with_optimizer": False},
    )
    out = []
    for options in (across, apart):
        accelerator = Accelerator(cpu=True, **options)
        loader = PrunedAccelerateLoader(
            accelerator, Numbers(101), "SeTa", epochs=4, budget=0.6, batch_size=10, seed=1
        )
        model, optimizer = small_model()
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        model, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)
        for _ in range(4):
            for _, features in loader:
                with accelerator.accumulate(model):
                    accelerator.backward(loader.update(model(features)[:, 0] ** 2))
                    optimizer.step()
                    schedule.step()
                    optimizer.zero_grad()
        out.append((schedule.scheduler.last_epoch, loader.schedule_steps))
    return out


def one_cycle(folder):
    """OneCycleLR under accumulation, with and without Accelerate's `adjust_scheduler`."""
    out = {}
    for adjust in (True, False):
        plugin = GradientAccumulationPlugin(num_steps=4, adjust_scheduler=adjust)
        accelerator = accelerator_of(plugin=plugin)
        loader = PrunedAccelerateLoader(
            accelerator, Numbers(101), "SeTa", epochs=4, budget=0.6, batch_size=10, seed=1
        )
        model, optimizer = small_model()
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 1.0, total_steps=loader.schedule_steps + 1
        )
        model, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)
        for _ in range(4):
            for _, features in loader:
                with accelerator.accumulate(model):
                    accelerator.backward(0 * loader.update(model(features)[:, 0] ** 2))
                    optimizer.step()
                    schedule.step()
                    optimizer.zero_grad()
        out[adjust] = (schedule.get_last_lr()[0], 1.0 / 25 / 1e4)
    return out


def progress_schedules(folder):
    """Varying lengths: a schedule that is driven by the share of the run that is done."""
    out = {}
    for shares in ((1.0, 0.55, 0.85, 0.3), (0.3, 0.55, 0.85, 1.0)):
        for gas in (1, 4):
            accelerator = accelerator_of(gas)
            model, optimizer = small_model()
            loader = PrunedAccelerateLoader(
                accelerator,
                Numbers(101),
                Waves(shares),
                epochs=4,
                budget=None,
                batch_size=10,
                seed=1,
            )
            cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=60)
            schedule = seta.ProgressSchedule(cosine, steps=60, loader=loader)
            model, optimizer = accelerator.prepare(model, optimizer)
            rates, left = [], []
            for _ in range(4):
                for samples, features in loader:
                    with accelerator.accumulate(model):
                        loss = loader.update((model(features)[:, 0] - samples / 97) ** 2)
                        accelerator.backward(loss)
                        optimizer.step()
                        optimizer.zero_grad()
                        if accelerator.sync_gradients:
                            schedule.step()
                rates.append(schedule.get_last_lr()[0])
                grads = [p.grad for p in model.parameters() if p.grad is not None]
                left.append(sum(float(grad.abs().sum()) for grad in grads))
            out[shares, gas] = {"rates": rates, "left": left}
    return out


# Resume.


def small_model():
    torch.manual_seed(3)
    model = torch.nn.Sequential(
        torch.nn.Linear(2, 8), torch.nn.Dropout(0.3), torch.nn.Tanh(), torch.nn.Linear(8, 1)
    )
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


RESUMES = {
    "varying": ({}, {"budget": None}),
    "budget": ({}, {"budget": 0.6, "num_workers": 2}),
    "dispatch": ({"dispatch_batches": True}, {"budget": None}),
    "split": ({"split_batches": True}, {"budget": None}),
}


class Run:
    """A run of four epochs, as a script would make it."""

    def __init__(self, name, gas=1, n=101, policy="InfoBatch"):
        config, options = RESUMES[name]
        self.accelerator = accelerator_of(gas, **config)
        model, optimizer = small_model()
        self.loader = PrunedAccelerateLoader(
            self.accelerator, Numbers(n), policy, epochs=4, seed=1, batch_size=10, **options
        )
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 7, 0.9)
        self.model, self.optimizer, self.schedule = self.accelerator.prepare(
            model, optimizer, schedule
        )
        self.log = []

    def __call__(self, save=None):
        """Trains from where it stands; `save(epoch, step)` is called after each step."""
        for epoch in range(self.loader.pruner.next_epoch, 4):
            for step, (samples, features) in enumerate(self.loader):
                with self.accelerator.accumulate(self.model):
                    losses = (self.model(features)[:, 0] - samples / 97) ** 2
                    loss = self.loader.update(losses)
                    self.accelerator.backward(loss)
                    self.optimizer.step()
                    self.schedule.step()
                    self.optimizer.zero_grad()
                rate = self.schedule.get_last_lr()[0]
                self.log.append((epoch, samples.tolist(), loss.item(), rate))
                if save:
                    save(epoch, step)
            if save:
                save(epoch, "end")
        model = self.accelerator.unwrap_model(self.model)
        weights = torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()
        rows = [row_of(row) for row in self.loader.pruner.history]
        return {"log": self.log, "weights": weights, "rows": rows}


def resumes(folder):
    """An uninterrupted run that saves on its way, and what goes on from each of its states."""
    out = {}
    for name in RESUMES:
        points = [(0, 2), (1, 0), (1, 2), (1, "end"), (2, 1)]
        run = Run(name)
        size = run.accelerator.num_processes
        place = folder / f"{size}" / name.replace(" ", "_")
        positions, last = {}, {}

        def save(epoch, step, run=run, place=place, positions=positions, points=points, last=last):
            last[epoch] = step if step != "end" else last[epoch]
            whole = step == len(run.loader) - 1
            if (epoch, step) in points or (epoch == 2 and whole):
                key = (epoch, "last" if whole else step)
                run.accelerator.save_state(str(place / f"{key[0]}-{key[1]}"))
                positions[key] = len(run.log)

        whole = run(save)
        tails = {}
        for key in positions:
            again = Run(name)
            again.accelerator.load_state(str(place / f"{key[0]}-{key[1]}"))
            tails[key] = again()
        out[name] = {"whole": whole, "positions": positions, "tails": tails}
    return out


def resume_accumulating(folder):
    """Saved at a step of the optimizer, with gradients accumulated over 2 batches."""
    run = Run("budget", gas=2)
    place = folder / f"{run.accelerator.num_processes}" / "accumulating"
    positions = []

    def save(epoch, step):
        if (epoch, step) == (1, 1):
            run.accelerator.save_state(str(place))
            positions.append(len(run.log))

    whole = run(save)
    again = Run("budget", gas=2)
    again.accelerator.load_state(str(place))
    return {"whole": whole, "tail": again(), "position": positions[0]}


def other_processes(folder):
    """The rest of an epoch that another number of processes began, if there is one."""
    out = {}
    for name, options in CROSSED.items():
        accelerator = accelerator_of()
        size = accelerator.num_processes
        loader = crossed(accelerator, options)
        start = folder / "crossed" / f"{3 - size}-{name}.pt"
        if start.exists():
            loader.load_state_dict(torch.load(start, weights_only=True))
            resumed = {"plan": None, "batches": []}
            done = loader.pruner.done
            for samples, _ in loader:
                resumed["plan"] = loader.pruner.begin_epoch().indices.tolist()[done:]
                loader.update(samples.float() + 0.5)
                resumed["batches"].append(samples.tolist())
            resumed["losses"] = loader.pruner.losses.tolist()
            resumed["row"] = row_of(loader.pruner.history[-1])
            resumed["next"] = loader.pruner.begin_epoch().indices.tolist()
            out[name] = resumed
    return out


CROSSED = {"budget": {"budget": 0.9}, "varying": {"budget": None}}


def crossed(accelerator, options):
    return PrunedAccelerateLoader(
        accelerator, Numbers(101), Waves(), epochs=4, seed=1, batch_size=10, **options
    )


def save_crossed(folder):
    """Two steps into the second epoch, for `other_processes` of the other number."""
    (folder / "crossed").mkdir(exist_ok=True)
    for name, options in CROSSED.items():
        accelerator = accelerator_of()
        loader = crossed(accelerator, options)
        for epoch in range(2):
            for step, (samples, _) in enumerate(loader):
                loader.update(samples.float() + epoch / 4)
                if epoch and step == 1:
                    break
        state = loader.state_dict()
        if accelerator.is_main_process:
            torch.save(state, folder / "crossed" / f"{accelerator.num_processes}-{name}.pt")


# What is refused.


def refused(folder):
    def message(function):
        try:
            return repr(function())
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    def make(config=None, n=40, accelerator=None, **options):
        options = {"epochs": 2, "budget": None, "batch_size": 10, **options}
        return PrunedAccelerateLoader(
            accelerator or accelerator_of(**config or {}), Numbers(n), "SeTa", **options
        )

    def tensor_parallel():
        from accelerate.utils import ParallelismConfig  # not in the oldest versions

        accelerator = accelerator_of()
        accelerator.state.parallelism_config = ParallelismConfig(tp_size=2)
        try:
            return make(accelerator=accelerator)
        finally:
            accelerator.state.parallelism_config = None

    def alone():
        accelerator = accelerator_of()
        before = accelerator.state.num_processes
        accelerator.state.num_processes = 1  # what Accelerator() finds under torchrun on CPUs
        try:
            return make(accelerator=accelerator)
        finally:
            accelerator.state.num_processes = before

    def disordered():
        made = make(in_order=False)
        for samples, _ in made:
            made.update(samples.float())
            break
        return made.state_dict()

    accelerator = accelerator_of()
    return {
        "stateful": message(lambda: make({"use_stateful_dataloader": True})),
        "split": message(lambda: make({"split_batches": True}, batch_size=5)),
        "tensor parallel": message(tensor_parallel),
        "disordered": message(disordered),
        "alone": message(alone),
        "short": message(lambda: make(n=15, budget=0.5)),
        "skip": message(lambda: accelerator.skip_first_batches(make(), 2)),
    }


CASES = [
    walks,
    large_index,
    classes,
    metrics,
    repeated_reads,
    prepared,
    peeked,
    forgotten,
    small,
    sharded_twice,
    schedules,
    other_schedule_steps,
    one_cycle,
    progress_schedules,
    resumes,
    resume_accumulating,
    other_processes,
    save_crossed,
    refused,
]


def main(folder):
    torch.set_num_threads(1)
    accelerator = accelerator_of()
    results = {}
    for case in CASES:
        started = time.perf_counter()
        try:
            results[case.__name__] = case(folder)
        except Exception:
            results[case.__name__] = traceback.format_exc()
        results[f"{case.__name__} seconds"] = time.perf_counter() - started
    name = f"{accelerator.num_processes}-{accelerator.process_index}.pkl"
    (folder / name).write_bytes(pickle.dumps(results))
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
