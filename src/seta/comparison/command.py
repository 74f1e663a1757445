"""`seta compare`: finds what the command line names, compares, and prints what came of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console

from seta.comparison.group import Group
from seta.comparison.make import compare
from seta.comparison.result import FILES
from seta.comparison.target import TargetError, find, made

STOPPED = 130


def run(
    training: str, data: str, strata: str | None, loader: str | None, *, out: Path, **options: Any
) -> int:
    """Compares, and returns the exit code: 1 if runs have failed, 130 after Ctrl-C.

    Raises:
        TargetError: Something that was asked for does not exist, or is not allowed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        if torch.cuda.is_available():  # NCCL refuses two processes on one device
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        function = find(training, option="run")
        dataset = made(find(data, option="--data", beside=training))
        if strata is not None:
            options["strata"] = made(find(strata, option="--strata", beside=training))
        if loader is not None:
            options["loader"] = find(loader, option="--loader", beside=training)
        found = compare(function, dataset, out=out, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TargetError(str(error)) from error
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped: the same command goes on", highlight=False)
        return STOPPED
    group = Group()
    if group.first:
        console = Console(highlight=False)
        if found.lines:
            console.print(found.table(console), soft_wrap=not console.is_terminal)
        console.print(found.said(), markup=False, soft_wrap=not console.is_terminal)
        for name in FILES if found.lines else ():
            console.print(f"{out / name}", markup=False, soft_wrap=True)
    group.of_first(None)  # torchrun ends all processes when one has left with a failure
    return 1 if found.failures else 0
