"""Describes a policy by a string that identifies its method and settings in every process.

What `repr` says of a function holds its address, which is another in each process. So functions are
named by module and qualified name, arrays by a digest, and what has no description of its own by
its class.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import operator
import re
import sys
import types
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LONG = 200  # characters of what is held, from which on a digest stands for it
_LONGEST = 1_000_000  # the same for any value: [[x, x], [x, x]] doubles at each level
_DEEP = 80  # values inside each other, from which on they are left out: Python's stack is limited
_HANDLE = "utils.hooks.RemovableHandle"  # holds the number of a hook
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{4,}\b")


def describe(value: Any, *, held: bool = False) -> str:
    """Returns a string that tells policies and their settings apart, the same in each process.

    Args:
        value: A policy; and whatever it holds.
        held: Whether functions and objects without a `repr` of their own are told apart by what
            they hold, too: for a value that was just made, since what it holds may change. A
            value that cannot be looked into is described by its class, alone of those around it.

    Examples:
        >>> from functools import partial
        >>> describe(partial(max, 1, default=np.arange(3)))
        'partial(builtins.max, 1, default=int64 (3,) (ab25350e))'
    """
    return _Walk(held)(value)


def digest(values: NDArray[Any]) -> str:
    """Returns 8 characters that tell arrays apart, the same on machines of either byte order."""
    values = np.ascontiguousarray(values)
    if values.dtype.hasobject:
        return digest(np.array([describe(one) for one in values.flat], np.str_))
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return _short(little.tobytes())


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]


class _Walk:
    """Describes a value and what it holds; what is held more than once is looked at once.

    The description of an object in a cycle depends on where the cycle was entered. So if the
    objects of one set hold each other, it depends on their order in the set.
    """

    def __init__(self, held: bool) -> None:
        self.held = held
        self.around: set[int] = set()
        self.told: dict[int, tuple[Any, str]] = {}  # by id, which is a value's while it is kept

    def __call__(self, value: Any) -> str:
        if value is None or type(value) in (bool, int, float, complex, str, bytes):
            return repr(value)
        if id(value) in self.told:
            return self.told[id(value)][1]
        if id(value) in self.around or (self.held and len(self.around) >= _DEEP):
            return "..."
        self.around.add(id(value))
        try:
            text = self._text(value)
        except Exception:  # a property that raises, a tensor without values
            if not self.held:
                raise
            text = _class(value)
        finally:
            self.around.discard(id(value))
        if self.held:  # otherwise texts stay as they are in saved states
            if len(text) > _LONGEST:
                text = f"{_class(value)}({_short(text.encode())})"
            self.told[id(value)] = value, text
        return text

    def _text(self, value: Any) -> str:
        if isinstance(value, np.generic) and not isinstance(value, (np.longdouble, np.clongdouble)):
            return self(value.item())  # of the long ones, the item is of the same type
        if isinstance(value, np.ndarray):
            return f"{value.dtype.name} {value.shape} ({digest(value)})"
        if isinstance(value, functools.partial):
            named = [self(value.func), *map(self, value.args)]
            return _call("partial", named, value.keywords, self)
        if isinstance(value, Mapping):
            pairs = sorted(f"{self(key)}: {self(one)}" for key, one in value.items())
            return f"{{{', '.join(pairs)}}}"
        if isinstance(value, (list, tuple)):
            return f"{type(value).__name__}({', '.join(map(self, value))})"
        if isinstance(value, (set, frozenset)):
            return f"{type(value).__name__}({', '.join(sorted(map(self, value)))})"
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {
                field.name: getattr(value, field.name)
                for field in dataclasses.fields(value)
                if field.compare
            }
            return _call(type(value).__qualname__, [], fields, self)
        if self.held and _is_torch(value, "Tensor") and not value.is_meta:
            return _tensor(value, self)  # its repr has some of its values
        name, holds = _named(value, self), _holds(value) if self.held else {}
        if not holds:
            return name
        text = _call("", [], holds, self)
        return name + (text if len(text) <= _LONG else f"({_short(text.encode())})")


def _tensor(value: Any, inside: Callable[[Any], str]) -> str:
    torch = sys.modules["torch"]
    value = value.detach()
    if value.is_nested:
        return f"nested({', '.join(map(inside, value.unbind()))})"
    kind = f"{value.dtype} {tuple(value.shape)}"
    if value.layout is not torch.strided:
        sparse = value.to_sparse().coalesce()
        return f"{value.layout} {kind} ({inside(sparse.indices())}, {inside(sparse.values())})"
    of_any_dtype = value.cpu().resolve_conj().resolve_neg().reshape(-1).contiguous()
    return f"{kind} ({digest(of_any_dtype.view(torch.uint8).numpy())})"


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
    if isinstance(value, (type, types.ModuleType)) or _is_torch(value, _HANDLE):
        return {}
    if isinstance(value, np.random.Generator) or _is_torch(value, "Generator"):
        return _seeds(value)
    if not _ADDRESS.search(repr(value)) and not _is_torch(value, "nn.Module"):
        return {}  # the repr of a module has none of its values
    members = {name: one for kind in type(value).__mro__ for name, one in vars(kind).items()}
    slots = [name for name, one in members.items() if isinstance(one, types.MemberDescriptorType)]
    held = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    held.update(getattr(value, "__dict__", {}))
    return _with_hooks_numbered(held) if _is_torch(value, "nn.Module") else held


def _seeds(generator: Any) -> dict[str, Any]:
    """Returns what a generator was made from: how far it has drawn since then is no setting."""
    if not isinstance(generator, np.random.Generator):
        return {"seed": generator.initial_seed()}
    seeds: Any = generator.bit_generator.seed_seq
    if isinstance(seeds.entropy, int) and seeds.entropy >= 1 << 64:
        return {}  # drawn by numpy, since no seed was given
    return {"seed": seeds.entropy, "spawned": seeds.spawn_key}


def _with_hooks_numbered(held: dict[str, Any]) -> dict[str, Any]:
    """Numbers the hooks of a module in their order: torch does so across the process."""
    numbers: dict[int, int] = defaultdict(itertools.count().__next__)
    return {
        name: {numbers[key]: hook for key, hook in one.items()}
        if "_hooks" in name and isinstance(one, OrderedDict)
        else one
        for name, one in held.items()
    }


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
    return _class(value)


def _class(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
