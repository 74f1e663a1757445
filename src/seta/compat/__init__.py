"""The interface of the published SeTa package: `prune(dataset, args)`, `.sampler`, `.update(loss)`.

Scripts for that package run unchanged, with a plain torch `DataLoader`, which is not patched.
`PrunedDataLoader` is the safer interface: its batches carry the indices of their samples. Here they
cannot, so losses are matched to samples by order (`order.py`). If the numbers do not add up, an
error is raised and the losses of that epoch are discarded.
"""

from seta.extras import require

require("seta.prune", "torch", extra="torch")

from seta.compat.arguments import prune  # noqa: E402
from seta.compat.dataset import PublishedDataset  # noqa: E402
from seta.compat.log import Log  # noqa: E402
from seta.compat.sampler import PublishedSampler  # noqa: E402

__all__ = ["Log", "PublishedDataset", "PublishedSampler", "prune"]
