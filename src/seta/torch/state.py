"""Converts states so that every way of saving in torch restores them unchanged.

`torch.load(..., weights_only=True)` takes tensors, but no numpy arrays; the engine takes arrays,
but knows no tensors. Pickle fails on torch's unsigned integers of several bytes, so that they
travel as signed ones, `{"numpy.uint16": tensor}`. `torch.distributed.checkpoint` loads into a state
of the same keys and shapes, which a fresh loader and one in mid-epoch do not have; but it takes a
tuple for one value, whatever is inside. So a state is a tuple of one item. Nothing is copied.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

_PREFIX = "numpy."
_SIGNED = {"uint16": np.int16, "uint32": np.int32, "uint64": np.int64}


def with_tensors(state: Any) -> tuple[Any]:
    """Returns a state with each array as a tensor that shares its memory, in a tuple."""
    return (_with_tensors(state),)


def with_arrays(state: Any) -> Any:
    """Returns a state with each tensor as an array; inverse of `with_tensors`.

    One that numpy has no type for stays, and is refused by whoever takes the state. What makes
    lists of tuples may have been at it; what is no tuple is taken for the state itself.
    """
    if isinstance(state, (tuple, list)) and len(state) == 1:
        return _with_arrays(state[0])
    return _with_arrays(state)


def _with_tensors(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        signed = _SIGNED.get(value.dtype.name)
        if signed is not None:
            return {_PREFIX + value.dtype.name: torch.from_numpy(value.view(signed))}
        return torch.from_numpy(value)
    if isinstance(value, dict):
        return {key: _with_tensors(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_with_tensors(item) for item in value)
    return value


def _with_arrays(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _array(value)
    if isinstance(value, dict):
        for name, signed in _SIGNED.items():
            if value.keys() == {_PREFIX + name} and isinstance(value[_PREFIX + name], Tensor):
                array = _array(value[_PREFIX + name])
                # Of another type it is refused by whoever takes the state.
                return array.view(name) if array.dtype == signed else array
        return {key: _with_arrays(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_with_arrays(item) for item in value)
    return value


def _array(tensor: Tensor) -> Any:
    try:
        return tensor.detach().cpu().numpy()
    except (TypeError, RuntimeError):
        return tensor
