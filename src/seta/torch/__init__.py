"""The PyTorch layer: from a dataset to batches, and from a batch's losses back to the engine.

    Pruner --PrunedSampler--> indices --IndexedDataset, IndexedCollate--> (indices, batch)
    (indices, losses) --LossBuffer--> Pruner

`Loop` is the base class of all loaders, `PrunedDataLoader` the one for an ordinary training loop.
The other classes serve where a framework builds the loader.
Importing this package imports torch.
"""

from seta.extras import require

require("seta.torch", "torch", extra="torch")

from seta.torch.buffer import LossBuffer  # noqa: E402
from seta.torch.dataset import IndexedCollate, IndexedDataset, IndexedRows, indices_of  # noqa: E402
from seta.torch.loader import PrunedDataLoader  # noqa: E402
from seta.torch.loop import Loop  # noqa: E402
from seta.torch.losses import per_sample, token_counts, token_losses, weighted_mean  # noqa: E402
from seta.torch.ranks import ranks_of  # noqa: E402
from seta.torch.sampler import PrunedSampler  # noqa: E402
from seta.torch.schedule import ProgressSchedule  # noqa: E402

__all__ = [
    "IndexedCollate",
    "IndexedDataset",
    "IndexedRows",
    "Loop",
    "LossBuffer",
    "ProgressSchedule",
    "PrunedDataLoader",
    "PrunedSampler",
    "indices_of",
    "per_sample",
    "ranks_of",
    "token_counts",
    "token_losses",
    "weighted_mean",
]
