"""What `compare` was called with, checked before anything runs."""

from __future__ import annotations

import inspect
import os
import pickle
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seta import policies
from seta.comparison.contenders import (
    EQUAL_COST,
    FULL,
    METHODS,
    PUBLISHED,
    REFERENCES,
    Contender,
)
from seta.comparison.group import Group
from seta.comparison.trial import Job, Run
from seta.engine import Policy
from seta.engine.arguments import integer
from seta.engine.curves.policy import is_stratified
from seta.engine.numbers import real
from seta.engine.state.describe import describe
from seta.engine.steps import Steps

LOADING = (
    "num_workers", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context",
    "prefetch_factor", "persistent_workers", "pin_memory_device", "threads", "process_group",
    "collate_fn", "generator", "count_kept", "track", "with_indices",
)  # fmt: skip
"""Options of the loader that change no result, or that no text tells apart."""

OURS = ("drop_last", "on_epoch", "budget", "seed", "policy", "steps")
"""Options of the loader that a comparison sets itself."""


def contenders_of(
    methods: Sequence[str | Policy] | Mapping[str, str | Policy], budgets: Sequence[float]
) -> list[Contender]:
    """Returns the contenders in the order in which they run: Full, then by budget.

    Raises:
        TypeError, ValueError: A method or a budget is none, or is there twice.
    """
    if isinstance(methods, str) or not isinstance(methods, (Sequence, Mapping)):
        raise TypeError(
            f'methods must be a list of names or policies, ["SeTa", "RCAP"]; got {methods!r}'
        )
    named = _named(methods)
    if not isinstance(budgets, Sequence) or isinstance(budgets, str):
        raise TypeError(f"budgets must be a list of shares, [0.5, 0.7]; got {budgets!r}")
    shares = [
        float(real("budgets", share, 0, 1, "shares of full training's visits", ends="()"))
        for share in budgets
    ]
    if taken := sorted({name for name, _ in named} & {*REFERENCES, *PUBLISHED}):
        raise ValueError(f"methods must have other names than {taken[0]!r}, which is taken")
    for what, given in (("budgets", shares), ("methods", [name for name, _ in named])):
        if twice := [str(one) for one, times in Counter(given).items() if times > 1]:
            raise ValueError(f"{what} must be different, got {twice[0]} twice")
    found = [Contender(FULL, 1.0)]
    for share in shares:
        found.append(Contender(EQUAL_COST, share))
        found += [Contender(name, share, _set_for(name, method, share)) for name, method in named]
    return found


def _set_for(name: str, method: str | Policy, budget: float) -> Policy | None:
    """Returns the policy of a method at a budget; None for one that goes by its own name."""
    if not isinstance(method, str):
        return method
    return None if method == name else policies.get(method, budget=budget)


def _named(
    methods: Sequence[str | Policy] | Mapping[str, str | Policy],
) -> list[tuple[str, str | Policy]]:
    """Returns the methods by the name that they go by: names of methods, or policies."""
    pairs = methods.items() if isinstance(methods, Mapping) else ((None, one) for one in methods)
    found: list[tuple[str, str | Policy]] = []
    known = [name for name in METHODS if name not in REFERENCES and "published" not in name]
    by_name = {name.lower(): name for name in known}
    for name, method in pairs:
        if not isinstance(name, (str, type(None))):
            raise TypeError(f"methods must have names that are text, got {name!r}")
        if isinstance(method, str):
            if method in REFERENCES and name is None:
                continue  # always there
            if method.lower() not in by_name:
                raise ValueError(f"methods must be of {', '.join(known)}; got {method!r}")
            method = by_name[method.lower()]
            found.append((name or method, method))
        elif callable(method):
            found.append((name or describe(method), method))
        else:
            raise TypeError(f"methods must be names or policies, got {type(method).__name__}")
    return found


def seeds_of(seeds: int | Sequence[int]) -> list[int]:
    """Returns the seeds.

    Raises:
        TypeError, ValueError: There are none, or one is there twice.
    """
    if isinstance(seeds, Sequence) and not isinstance(seeds, str):
        found = [integer("seeds", seed, 0, "each of them") for seed in seeds]
    else:
        found = list(range(integer("seeds", seeds, 1, "how many runs of each method")))
    if found and max(found) >= 2**63:
        raise ValueError(f"seeds must be less than 2**63, got {max(found)}: torch takes no more")
    if not found or len(set(found)) < len(found):
        raise ValueError(f"seeds must be some, and different, got {seeds!r}")
    return found


def planned_runs(
    contenders: Sequence[Contender], seeds: Sequence[int], sizes: Steps, epochs: int
) -> list[Job]:
    """Returns all runs, seed by seed: whenever one stops, what there is compares equals.

    Raises:
        ValueError: The data set is too small for a batch, or a budget for the epochs.
    """
    if not sizes.most:
        raise ValueError(
            f"batch_size must be at most the samples of the data set, got {sizes.global_batch} of "
            f"{sizes.n}: no batch would be full"
        )
    found = []
    for seed in seeds:
        for contender in contenders:
            length = contender.length(sizes, epochs)
            shares = 1.0 if length["budget"] is None else length["budget"]
            if not length["epochs"]:
                raise ValueError(
                    f"budgets must leave at least one batch, got {contender.budget} of "
                    f"{epochs * sizes.batches(sizes.most)} batches"
                )
            visits = sum(sizes.lengths(shares, length["epochs"]))
            found.append(Job(contender, seed, length["epochs"], visits))
    return found


def check_classes(planned: Sequence[Job], classes: NDArray[Any] | None) -> None:
    """Sees that classes are known where a method cannot do without.

    Raises:
        ValueError: They are not; names the method.
    """
    for contender in {job.contender.method: job.contender for job in planned}.values():
        if classes is None and is_stratified(contender.policy()):
            raise ValueError(
                f"strata must be given for {contender.method}, which looks at classes: integers "
                "(N,), the class of each sample"
            )


def classes_of(strata: ArrayLike, n: int) -> NDArray[np.integer[Any]]:
    """Returns the classes of n samples as an array.

    Raises:
        ValueError: They are no integers, or not one for each sample.
    """
    found = np.asarray(strata)
    if found.shape != (n,) or not np.issubdtype(found.dtype, np.integer) or found.min() < 0:
        raise ValueError(
            f"strata must be integers from 0 on, one for each of the {n} samples, got an array of "
            f"{found.dtype} with shape {found.shape}"
        )
    if found.max() < n:
        return found
    numbered: NDArray[np.integer[Any]] = np.unique(found, return_inverse=True)[1]
    return numbered


def check_options(options: Mapping[str, Any], jobs: int) -> None:
    """Checks what is handed on to the loader, and the number of processes.

    Raises:
        TypeError, ValueError: An option is not the caller's to set; or there are several processes
            already.
    """
    if taken := [name for name in OURS if name in options]:
        raise ValueError(f"{taken[0]} is not for the caller of seta.compare to set")
    integer("jobs", jobs, 1, "runs at a time")
    if jobs > 1 and Group().size > 1:
        raise ValueError(f"jobs must be 1 where several processes train together, got {jobs}")


def check_sent(**sent: Any) -> None:
    """Sees that other processes can be given what makes a run.

    Raises:
        TypeError: They cannot; names what.
    """
    for name, value in sent.items():
        try:
            pickle.dumps(value)
        except Exception as error:
            raise TypeError(
                f"{name} must be something that other processes can import, for jobs > 1: define "
                f"it at the top of a module, not in a notebook or inside of a function ({error})"
            ) from error


def source_of(run: Run) -> str:
    """Returns what changes when the text of a function, or of an object's class, does.

    Empty where it has none. Of a `functools.partial` its arguments count, too.
    """
    if isinstance(run, partial):
        given = describe([list(run.args), run.keywords])
        return f"{source_of(run.func)} of {given}"
    told = run if hasattr(run, "__qualname__") else type(run)
    try:
        text = inspect.getsource(told)
    except (OSError, TypeError):
        return ""
    return f"{told.__qualname__} {zlib.crc32(text.encode()):08x}"


def refuse_ungrouped() -> None:
    """Refuses to run under torchrun before the process group is there.

    Raises:
        RuntimeError: Each process would take itself for the only one.
    """
    if int(os.environ.get("WORLD_SIZE") or 1) > 1 and Group().size == 1:
        raise RuntimeError(
            "seta.compare was called by one of several processes (WORLD_SIZE is "
            f"{os.environ['WORLD_SIZE']}) before torch.distributed.init_process_group(): call that "
            "first, in all of them"
        )


def plain(value: Any) -> Any:
    """Returns a setting as a JSON file gives it back, so that others are told from it."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return value if isinstance(value, float) and isfinite(value) else describe(value)
