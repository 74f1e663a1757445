"""States that `torch.save` writes and `torch.load(..., weights_only=True)` reads.

That loader takes tensors, but no numpy arrays; the engine takes arrays, but knows no tensors.
Nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor


def with_tensors(state: Any) -> Any:
    """Returns a state with each array as a tensor that shares its memory."""
    return _replace(state, np.ndarray, torch.from_numpy)


def with_arrays(state: Any) -> Any:
    """Returns a state with each tensor as an array; inverse of `with_tensors`."""
    return _replace(state, Tensor, lambda tensor: tensor.cpu().numpy())


def _replace(value: Any, kind: type, function: Callable[[Any], Any]) -> Any:
    if isinstance(value, kind):
        return function(value)
    if isinstance(value, dict):
        return {key: _replace(item, kind, function) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace(item, kind, function) for item in value]
    return value
