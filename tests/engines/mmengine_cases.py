"""A model, data and runners of mmengine, whose recorded losses are functions of the index alone."""

import os

os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"  # mmengine 0.10 reads its own checkpoints so

import torch
from mmengine.dist import get_rank
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner

from seta.integrations.mmengine import update

N = 60


def value_of(index):
    """The loss of a sample."""
    return 1 + index / 100


@DATASETS.register_module()
class Rows(torch.utils.data.Dataset):
    """Its samples are their own indices."""

    def __len__(self):
        return N

    def __getitem__(self, index):
        return {"inputs": torch.tensor([float(index)]), "index": index}


@MODELS.register_module()
class Known(BaseModel):
    """Its loss is `value_of(index)`, and its gradient a function of the samples of a batch."""

    def __init__(self, seen=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = [] if seen is None else seen  # of each batch, the samples

    def forward(self, inputs, index, mode):
        if mode != "loss":
            return [inputs]
        self.seen.append(index.tolist())
        assert (inputs[:, 0] == index).all()
        losses = value_of(inputs[:, 0]) + inputs[:, 0] * (self.weight - self.weight.detach())
        return {"loss": update(losses)}


class Counted(BaseMetric):
    default_prefix = "val"

    def process(self, batch, outputs):
        self.results.append(len(batch["index"]))

    def compute_metrics(self, results):
        return {"rows": sum(results)}


class StopAfter(Hook):
    """Raises after some iterations, where a checkpoint was just saved."""

    priority = "LOWEST"

    def __init__(self, iterations):
        self.iterations = iterations

    def after_train_iter(self, runner, **_):
        if runner.iter + 1 == self.iterations:
            raise KeyboardInterrupt


def data(*, workers=0, shuffle=True, batch_size=10, sampler="DefaultSampler"):
    return {
        "dataset": {"type": "Rows"},
        "sampler": {"type": sampler, "shuffle": shuffle},
        "batch_size": batch_size,
        "num_workers": workers,
        "collate_fn": {"type": "default_collate"},
    }


def epochs(count=4, **options):
    loop = {"type": "PrunedTrainLoop", "max_epochs": count, "policy": "InfoBatch", "budget": 0.5}
    return {**loop, **options}


def iterations(count=12, **options):
    loop = {"type": "PrunedIterTrainLoop", "max_iters": count, "policy": "SeTa", "budget": 0.5}
    return {**loop, **options}


def runner(folder, name, train_cfg, *, train=None, model=None, **options):
    return Runner(
        **{
            "model": {"type": "Known"} if model is None else model,
            "work_dir": str(folder),
            "train_dataloader": data() if train is None else train,
            "train_cfg": train_cfg,
            "optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9}},
            "experiment_name": f"{name}-{get_rank()}",
            "log_level": "ERROR",
            "default_hooks": {"checkpoint": None, "logger": None},
            **options,
        }
    )
