"""Describes a policy by a string that identifies its method and settings in every process.

What `repr` says of a function holds its address, which is another in each process. So functions are
named by module and qualified name, arrays by a digest, and what has no description of its own by
its class.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import operator
import re
import sys
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LONG = 200  # characters of what is held, from which on a digest stands for it
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{4,}\b")


def describe(value: Any, *, held: bool = False) -> str:
    """Returns a string that tells policies and their settings apart, the same in each process.

    Args:
        value: A policy; and whatever it holds.
        held: Whether functions and objects without a `repr` of their own are told apart by what
            they hold, too: for a value that was just made, since what it holds may change. What
            cannot be looked into is described as without.

    Examples:
        >>> from functools import partial
        >>> describe(partial(max, 1, default=np.arange(3)))
        'partial(builtins.max, 1, default=int64 (3,) (ab25350e))'
    """
    try:
        return _describe(value, (), held)
    except Exception:  # a property that raises, data that never end
        if not held:
            raise
        return _describe(value, (), False)


def digest(values: NDArray[Any]) -> str:
    """Returns 8 characters that tell arrays apart, the same on machines of either byte order."""
    values = np.ascontiguousarray(values)
    if values.dtype.hasobject:
        return digest(np.array([describe(one) for one in values.flat], np.str_))
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return _short(little.tobytes())


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]


def _describe(value: Any, around: tuple[int, ...], held: bool) -> str:
    if id(value) in around:
        return "..."
    inside = functools.partial(_describe, around=(*around, id(value)), held=held)
    if value is None or type(value) in (bool, int, float, complex, str, bytes):
        return repr(value)
    if isinstance(value, np.generic):
        return inside(value.item())
    if isinstance(value, np.ndarray):
        return f"{value.dtype.name} {value.shape} ({digest(value)})"
    if isinstance(value, functools.partial):
        named = [inside(value.func), *map(inside, value.args)]
        return _call("partial", named, value.keywords, inside)
    if isinstance(value, Mapping):
        pairs = sorted(f"{inside(key)}: {inside(one)}" for key, one in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}({', '.join(map(inside, value))})"
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__}({', '.join(sorted(map(inside, value)))})"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            field.name: getattr(value, field.name)
            for field in dataclasses.fields(value)
            if field.compare
        }
        return _call(type(value).__qualname__, [], fields, inside)
    if held and _is_torch(value, "Tensor") and not value.is_meta:  # repr has some of its values
        of_any_dtype = value.detach().cpu().resolve_conj().resolve_neg().reshape(-1).contiguous()
        values = of_any_dtype.view(sys.modules["torch"].uint8).numpy()
        return f"{value.dtype} {tuple(value.shape)} ({digest(values)})"
    name, holds = _named(value, inside), _holds(value) if held else {}
    if not holds:
        return name
    text = _call("", [], holds, inside)
    return name + (text if len(text) <= _LONG else f"({_short(text.encode())})")


def _holds(value: Any) -> dict[str, Any]:
    """Returns what a function's text or an object's `repr` does not tell of it."""
    if isinstance(value, types.FunctionType):
        code, cells = value.__code__, value.__closure__ or ()
        closed = {
            name: cell.cell_contents
            for name, cell in zip(code.co_freevars, cells, strict=True)
            if cell != types.CellType()  # one that is not filled yet
        }
        defaults = {"defaults": value.__defaults__} if value.__defaults__ else {}
        return {**closed, **defaults, **(value.__kwdefaults__ or {})}
    if isinstance(value, (type, types.ModuleType)):
        return {}
    if not _ADDRESS.search(repr(value)) and not _is_torch(value, "nn.Module"):
        return {}  # the repr of a module has none of its values
    members = {name: one for kind in type(value).__mro__ for name, one in vars(kind).items()}
    slots = [name for name, one in members.items() if isinstance(one, types.MemberDescriptorType)]
    held = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return {**held, **getattr(value, "__dict__", {})}


def _is_torch(value: Any, name: str) -> bool:
    """Returns whether a value is of a class of torch, which need not be installed."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, operator.attrgetter(name)(torch))


def _call(name: str, parts: list[str], named: Mapping[str, Any], inside: Any) -> str:
    return f"{name}({', '.join([*parts, *(f'{key}={inside(one)}' for key, one in named.items())])})"


def _named(value: Any, inside: Any) -> str:
    """Returns what tells functions, classes and other objects apart."""
    owner = getattr(value, "__self__", None)
    name = getattr(value, "__qualname__", None)
    if isinstance(name, str) and owner is not None and not isinstance(owner, type(re)):
        return f"{inside(owner)}.{value.__name__}"  # a bound method
    if isinstance(name, str):
        return f"{value.__module__}.{name}"
    own = repr(value)
    if not _ADDRESS.search(own):
        return own
    return f"{type(value).__module__}.{type(value).__qualname__}"
