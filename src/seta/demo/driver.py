"""The demo from beginning to end: data, runs, rows, table, plot.

Top of `seta.demo`. Ctrl-C ends the runs, not the reporting: the rows are on disk already, and table
and plot are made of what there is.
"""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from rich.console import Console

import seta
from seta.demo.comparison import Comparison
from seta.demo.data import ImageData, load_digits, load_file
from seta.demo.display import decoding, make_display
from seta.demo.outcome import report
from seta.demo.rows import RowWriter
from seta.demo.settings import EQUAL_COST, DemoError, DemoSettings
from seta.demo.train import Recipe, warm_up
from seta.report.units import many

__all__ = ["INTERRUPTED", "run_demo"]

INTERRUPTED = 130
_SMALL = 32 * 32  # pixels; nets on such images gain little from threads and suffer from neighbours


def run_demo(settings: DemoSettings, console: Console) -> int:
    """Run the demo and leave its results in `settings.out`.

    Returns:
        The exit code: 0, or 130 if the runs were stopped by Ctrl-C.

    Raises:
        DemoError: Something that was asked for cannot be done.
    """
    recipe = Recipe(device=_device(settings.device))
    _make_folder(settings)
    comparison = Comparison(settings, _load(settings, recipe, console), recipe)
    warm_up(comparison.data, recipe)
    stopped = _make_runs(comparison, console)
    report(comparison, console, stopped=stopped)
    return INTERRUPTED if stopped else 0


def _make_runs(comparison: Comparison, console: Console) -> bool:
    """Make the runs; returns whether Ctrl-C ended them."""
    path = comparison.settings.out / "rows.jsonl"
    with RowWriter(path) as rows, _threads(comparison.data):
        try:
            rows.write("setup", _setup(comparison))
            _announce(comparison, console)
            with make_display(console, comparison.runs) as display:
                comparison.make_all(rows, display)
        except KeyboardInterrupt:
            rows.write("stopped", {"finished_runs": comparison.finished})
            return True
    return False


def _setup(comparison: Comparison) -> dict[str, Any]:
    """What is run on what: the first line of the rows."""
    data, settings = comparison.data, comparison.settings
    return {
        "seta": seta.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "data": data.name,
        "train_images": len(data.train),
        "held_out_images": len(data.test),
        "image_shape": data.shape,
        "classes": data.classes,
        "methods": settings.methods,
        "seeds": settings.seeds,
        "epochs": comparison.epochs,
        "prune_ratio": settings.prune_ratio,
        "recipe": asdict(comparison.recipe),
    }


def _announce(comparison: Comparison, console: Console) -> None:
    """Say what is going to happen."""
    data = comparison.data
    channels, height, width = data.shape
    plan = f"{many(len(comparison.runs), 'run')} of {many(comparison.epochs, 'epoch')}"
    if EQUAL_COST in comparison.settings.methods:
        plan += f" ({EQUAL_COST.lower()}: fewer)"
    lines = (
        f"{data.name}: {many(len(data.train), 'image')} to train on, {len(data.test):,} held out, "
        f"{height} x {width} x {channels}, {data.classes} labels",
        *data.notes,
        f"{plan} on {comparison.recipe.device}, threads: {torch.get_num_threads()}; Ctrl-C ends "
        "them and keeps what was measured",
    )
    for line in lines:
        console.print(line, markup=False, highlight=False)


def _load(settings: DemoSettings, recipe: Recipe, console: Console) -> ImageData:
    """The images."""
    if settings.data is None:
        return load_digits()
    with decoding(console, settings.data.name) as progress:
        here = recipe.batch_size if torch.device(recipe.device).type == "cpu" else 0
        return load_file(settings.data, settings.test, settings.limit, progress, batch_size=here)


def _make_folder(settings: DemoSettings) -> None:
    """Make the folder of the results, and see that it can be written to."""
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
        (settings.out / "rows.jsonl").open("a", encoding="utf-8").close()
    except OSError as error:
        raise DemoError(
            f"--out {settings.out}: cannot be written to ({error.strerror}); give a folder that can"
        ) from error


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
