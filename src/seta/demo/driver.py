"""The demo from beginning to end: data, training, `seta.compare`, and what came of it.

Top of `seta.demo`. All that compares is `seta.compare`'s: the runs, their lines, the progress, the
table, the verdict, and that Ctrl-C ends the runs and not the reporting.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from seta.comparison.command import show, stopped
from seta.comparison.make import compare
from seta.comparison.result import Comparison, Stopped
from seta.comparison.runs import RUNS
from seta.demo.cases import planted
from seta.demo.data import ImageData, load_digits, load_file
from seta.demo.settings import CASES, DemoError, DemoSettings
from seta.demo.snapshots import KeepCurves
from seta.demo.train import ImageTraining, Recipe, batch_as_is, tensors
from seta.engine import Pruner
from seta.extras import MissingExtra
from seta.report import page
from seta.report.units import many
from seta.terminal import is_live

__all__ = ["CURVES", "PAGE", "run_demo"]

CURVES, PAGE = "keep-curves.png", "samples.html"
_SMALL = 32 * 32  # pixels; nets on such images gain little from threads and suffer from neighbours
_FEWEST_BATCHES = 8  # of an epoch, where there are few images


def run_demo(settings: DemoSettings, console: Console) -> int:
    """Run the demo and leave its results in `settings.out`, in a folder for each case.

    Returns:
        The exit code: 0; 1 if runs have failed; 130 if they were stopped by Ctrl-C.

    Raises:
        DemoError: Something that was asked for cannot be done.
    """
    recipe = Recipe(device=_device(settings.device))
    folders = [_folder(settings.out / case) for case in settings.shown]
    images = _load(settings, recipe, console)
    console.print("Ctrl-C ends the runs and shows what there is; the same command goes on.")
    made, code = [], 0
    for case, out in zip(settings.shown, folders, strict=True):
        data = planted(case, images)
        curves = KeepCurves(settings.methods or CASES[case].methods)
        for line in _announced(data, recipe):
            console.print(line, markup=False, soft_wrap=not console.is_terminal)
        try:
            found = _compare(settings, case, data, recipe, curves, out)
        except Stopped as error:
            found, code = error.comparison, stopped()
            found = replace(found, notes=("Stopped before all runs were made.", *found.notes))
        except (ValueError, RuntimeError, OSError) as error:
            raise DemoError(f"{out}: {error}") from error
        made.append((found, out, data, curves))
        if code:
            break
    for one in made:
        console.print()
        _report(*one, console)
    return code or int(any(found.failures for found, *_ in made))


def _compare(
    settings: DemoSettings,
    case: str,
    data: ImageData,
    recipe: Recipe,
    curves: KeepCurves,
    out: Path,
) -> Comparison:
    """Make the runs that are missing; return all."""
    recipe = replace(recipe, batch_size=_batch_size(len(data.train), recipe.batch_size))
    images, held_out = tensors(data, recipe.device)
    training = ImageTraining(data.shape, data.classes, held_out, recipe, curves.look)
    methods = settings.methods or CASES[case].methods
    with _threads(data):
        training.warm_up()
        return compare(
            training,
            images,
            epochs=settings.epochs or CASES[case].epochs or data.epochs,
            batch_size=recipe.batch_size,
            methods=[name for name in methods if name != "Full"],  # always there
            budgets=settings.budgets,
            seeds=settings.seeds or data.seeds,
            strata=np.unique(data.train_labels, return_inverse=True)[1],
            out=out,
            settings=_identity(data, recipe),
            collate_fn=batch_as_is,
            track=True,
        )


def _identity(data: ImageData, recipe: Recipe) -> dict[str, Any]:
    """What makes the runs of a folder comparable, beside what `compare` looks at itself."""
    checksum = 0
    for part in (data.train, data.train_labels, data.test, data.test_labels):
        checksum = crc32(np.ascontiguousarray(part).data, checksum)
    of_data = {"data": data.name, "held_out": len(data.test), "checksum": f"{checksum:08x}"}
    made = asdict(recipe)
    del made["batch_size"]  # which `compare` looks at itself
    return {**of_data, **made}


def _report(
    found: Comparison, out: Path, data: ImageData, curves: KeepCurves, console: Console
) -> None:
    """Write and print what there is."""
    count = len(data.test)
    measured = (
        f"Accuracy is that after the last epoch, on {count:,} held-out images: one image is "
        f"{100 / count:.2g} %."
    )
    found = replace(
        found,
        title=f"seta demo: {data.name}, {found.title}",
        notes=(measured, *data.notes, *found.notes),
    )
    if found.lines:
        found.save(out)
        if curves.pruner is not None:
            curves.save(out / CURVES)
            _page(curves.pruner, data, out / PAGE)
    show(found, out)
    for name in (CURVES, PAGE):
        if (out / name).exists():
            console.print(f"{out / name}", markup=False, highlight=False, soft_wrap=True)


def _page(pruner: Pruner, data: ImageData, path: Path) -> None:
    """Write what a run knows of its samples, where the packages for that are installed."""
    images, _ = tensors(data, "cpu")
    title = f"seta demo: what a run of {type(pruner.policy).__name__} knows of its samples"
    with suppress(MissingExtra):
        page(pruner, images, path=path, title=title)


def _announced(data: ImageData, recipe: Recipe) -> tuple[str, ...]:
    """What is going to happen."""
    channels, height, width = data.shape
    return (
        f"{data.name}: {many(len(data.train), 'image')} to train on, {len(data.test):,} held out, "
        f"{height} x {width} x {channels}, {data.classes} labels, on {recipe.device}",
        *data.notes,
    )


def _load(settings: DemoSettings, recipe: Recipe, console: Console) -> ImageData:
    """The images."""
    if settings.data is None:
        return load_digits()
    with decoding(console, settings.data.name) as progress:
        here = recipe.batch_size if torch.device(recipe.device).type == "cpu" else 0
        return load_file(settings.data, settings.test, settings.limit, progress, batch_size=here)


@contextmanager
def decoding(console: Console, name: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far the decoding of a file is; yields what to call with (done, total)."""
    if not is_live(console):
        console.print(f"decoding {name} ...", markup=False, highlight=False)
        yield lambda done, total: None
        return
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(f"decoding {name}", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _batch_size(images: int, usual: int) -> int:
    """The images of a step: fewer where there are few, so that a share of an epoch is some."""
    return max(1, min(usual, images // _FEWEST_BATCHES))


def _folder(out: Path) -> Path:
    """Make the folder of a case, and see that it can be written to."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".lock").open("a", encoding="utf-8").close()
        for name in () if (out / RUNS).exists() else (CURVES, PAGE):  # of other runs
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise DemoError(
            f"--out {out.parent}: cannot be written to ({error.strerror}); give a folder that can"
        ) from error
    return out


def _device(name: str | None) -> str:
    """The device to train on."""
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).tolist()
    except (RuntimeError, AssertionError, ImportError) as error:
        reason, *_ = str(error).splitlines()
        raise DemoError(
            f"--device {name}: torch cannot use it ({reason}); give cpu, or cuda if there is one"
        ) from error
    return name


@contextmanager
def _threads(data: ImageData) -> Iterator[None]:
    """One thread for small images, torch's own choice for others; restored afterwards."""
    before = torch.get_num_threads()
    _, height, width = data.shape
    torch.set_num_threads(1 if height * width <= _SMALL else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
