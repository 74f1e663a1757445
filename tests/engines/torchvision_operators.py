"""Lets torchvision of PyPI be imported beside a torch for CPUs.

The wheel has operators for CUDA and does not find them there. To declare two of them is enough for
an import. Users have a torchvision that matches their torch, and need none of this.
"""

import torch

DECLARE = """
import torch

library = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""

if not hasattr(torch.ops.torchvision, "nms"):
    exec(DECLARE)
