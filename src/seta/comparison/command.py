"""`seta compare`: finds what the command line names, compares, and prints what came of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.padding import Padding
from rich.text import Text

from seta.comparison.group import Group
from seta.comparison.make import compare
from seta.comparison.result import FILES, Comparison, Stopped
from seta.comparison.target import TargetError, own
from seta.terminal import console_of

STOPPED = 130


def run(
    training: str, data: str, strata: str | None, loader: str | None, *, out: Path, **options: Any
) -> int:
    """Compares, and returns the exit code: 1 if runs have failed, 130 after Ctrl-C.

    Raises:
        TargetError: Something that was asked for does not exist, or is not allowed.
    """
    if int(os.environ.get("WORLD_SIZE") or 1) > 1 and not dist.is_initialized():
        if torch.cuda.is_available():  # NCCL refuses two processes on one device
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK") or 0))
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        function = own("run", training, call=False)
        dataset = own("--data", data, beside=training)
        options["strata"] = own("--strata", strata, beside=training)
        if loader is not None:
            options["loader"] = own("--loader", loader, beside=training, call=False)
        found = compare(function, dataset, out=out, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TargetError(str(error)) from error
    except OSError as error:
        raise TargetError(
            f"--out {out}: cannot be used ({error}); give a folder that can be written to"
        ) from error
    except Stopped as error:
        show(error.comparison, out)
        return stopped()
    except KeyboardInterrupt:
        return stopped()
    show(found, out)
    Group().of_first(None)  # torchrun ends all processes when one has left with a failure
    return 1 if found.failures else 0


def show(found: Comparison, out: Path) -> None:
    """Prints what a comparison came to, and where its files are; on the first of the processes."""
    if not Group().first:
        return
    console = console_of()
    if found.lines:
        console.print(found.table(console), soft_wrap=not console.is_terminal)
    if console.is_terminal:
        console.print()
        for line in found.said().splitlines():
            text = line.lstrip()  # indented in whole, where it is folded
            indent = len(line) - len(text)
            console.print(Padding(Text(text), (0, 0, 0, indent), expand=False) if text else "")
    else:
        console.print(found.said(), markup=False, soft_wrap=True)
    for name in FILES if found.lines else ():
        console.print(f"{out / name}", markup=False, soft_wrap=True)


def stopped() -> int:
    """Says that the runs were stopped; returns the exit code of Ctrl-C."""
    console_of(stderr=True).print("stopped: the same command goes on")
    return STOPPED
