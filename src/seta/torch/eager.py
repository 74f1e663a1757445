"""Excludes functions from `torch.compile`.

A training step that is compiled as a whole calls `PrunedDataLoader.update` from within. Its numpy
work on the loss table must neither become part of a graph nor be traced.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

_P = ParamSpec("_P")
_T = TypeVar("_T")


def eager(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Returns the function as one that runs eagerly, at a break of the graph around it.

    `torch.compiler.disable` does that, but imports the compiler, for a second or two, and an
    interrupt in the midst of that spoils the process. So it waits until something else has imported
    it: before, nothing is compiled. Costs 0.4 microseconds per call.
    """
    disabled: Callable[_P, _T] | None = None

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        nonlocal disabled
        if disabled is None:
            if "torch._dynamo" not in sys.modules:
                return function(*args, **kwargs)
            disabled = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
        return disabled(*args, **kwargs)

    return call
