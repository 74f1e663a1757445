"""One of two processes that train with timm's loader, and writes what it saw."""

import json
import sys
from pathlib import Path

import tests.engines.vision_operators  # noqa: F401

# isort: split
import torch.distributed as dist

from tests.engines.timm_cases import index_of, loader_of, value_of

folder = Path(sys.argv[1])
dist.init_process_group("gloo")
loader, pruned = loader_of(folder, batch_size=5, distributed=True, epochs=3)
seen = []
for epoch in range(3):
    loader.sampler.set_epoch(epoch)  # as train.py does
    for images, _ in loader:
        seen.append(index_of(images).tolist())
        pruned.update(value_of(index_of(images)))
losses = pruned.pruner.losses
report = {"seen": seen, "losses": [None if loss != loss else float(loss) for loss in losses]}
(folder / f"{dist.get_rank()}.json").write_text(json.dumps(report))
dist.destroy_process_group()
