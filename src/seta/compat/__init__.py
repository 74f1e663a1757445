"""The published package's three lines: `prune(dataset, args)`, `.sampler`, `.update(loss)`.

Scripts written for it run with nothing changed but the installed package, with the plain torch
`DataLoader`, which is not patched. `PrunedDataLoader` is the stronger way: there the index travels
with its batch. Here it cannot, so losses are matched to the epoch's plan by order (`order.py`).
What does not add up raises, and that epoch's losses are discarded before they reach the table.
"""

from seta.extras import require

require("seta.prune", "torch", extra="torch")

from seta.compat.arguments import prune  # noqa: E402
from seta.compat.dataset import PublishedDataset  # noqa: E402
from seta.compat.log import Log  # noqa: E402
from seta.compat.sampler import PublishedSampler  # noqa: E402

__all__ = ["Log", "PublishedDataset", "PublishedSampler", "prune"]
