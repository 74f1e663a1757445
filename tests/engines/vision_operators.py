"""Lets transformers import where torchvision does not fit torch, as that of PyPI beside CPU torch.

It looks for two operators of its own, which are declared here without an implementation. Processes
of their own read this file as text.
"""

import torch

try:
    import torchvision  # noqa: F401
except ImportError:
    pass
except RuntimeError:
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
