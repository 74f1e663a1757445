"""`seta inspect`: writes the page of the states in files, and again whenever these change."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from seta.comparison.target import TargetError, own
from seta.report.inspection.make import Inspection
from seta.report.inspection.states import file_of, read
from seta.report.units import in_bytes
from seta.terminal import waiting

_FAILS = (ValueError, TypeError, OSError)
_WAIT = 2.0  # seconds between two looks
_TITLE = "What the run knows of its samples"


def run(
    files: Sequence[Path],
    *,
    out: Path,
    data: str | None,
    classes: str | None,
    show: str | None,
    title: str | None,
    follow: bool,
    console: Console,
) -> None:
    """Writes the page; with `follow` until Ctrl-C.

    Raises:
        TargetError: Something that was asked for does not exist, or does not fit.
        KeyboardInterrupt: It was stopped.
    """
    _check_out(out, [*files, *_scripts(data, classes, show)])
    try:
        inspection = Inspection(
            own("--data", data),
            classes=own("--classes", classes, beside=data),
            show=own("--show", show, beside=data, call=False),
            title=title or _TITLE,
        )
        _await(files, console, follow=follow)
        before = _stamps(files)
        _write(inspection, files, out, console)
    except _FAILS as error:
        raise TargetError(str(error)) from error
    if follow:
        console.print("waiting for the next state; Ctrl-C ends it", markup=False)
        _follow(inspection, files, out, console, before)


def _follow(
    inspection: Inspection,
    files: Sequence[Path],
    out: Path,
    console: Console,
    before: list[tuple[int, int, int]],
) -> NoReturn:
    """Writes the page whenever the files have changed."""
    said = ""
    while True:
        time.sleep(_WAIT)
        try:
            now = _stamps(files)
            if now != before:
                before = now
                _write(inspection, files, out, console)
                said = ""
        except _FAILS as error:  # being written, or gone for a moment
            if str(error) != said:
                said = str(error)
                console.print(f"not now: {said}", markup=False, soft_wrap=True)


def _await(files: Sequence[Path], console: Console, *, follow: bool) -> None:
    """Waits until all files are there; without `follow` they have to be there at once."""
    missing = [path for path in files if not path.exists()]
    if not missing:
        return
    if not follow:
        raise TargetError(f"there is no file {missing[0]}: give what seta.save or torch.save wrote")
    console.print(f"waiting for {missing[0]}, which is not there yet; Ctrl-C ends it",
                  markup=False, soft_wrap=True)  # fmt: skip
    while not all(path.exists() for path in files):
        time.sleep(_WAIT)


def _check_out(out: Path, read: Sequence[Path]) -> None:
    """Refuses to write the page over what it is made from.

    Raises:
        TargetError: It would, or it is a folder.
    """
    if out.is_dir():
        raise TargetError(f"--out must be the name of a file, got the folder {out}")
    for path in read:
        inner = file_of(path)
        if out.exists() and inner.exists() and out.samefile(inner):
            raise TargetError(
                f"--out must be another file than those that are read, got {out}: the page would "
                "be written over it; give a name such as report.html"
            )


def _scripts(*targets: str | None) -> list[Path]:
    return [Path(target.partition(":")[0]) for target in targets if target]


def _write(inspection: Inspection, files: Sequence[Path], out: Path, console: Console) -> None:
    with waiting(console, f"reading {files[0]}"):
        saved = [read(path) for path in files]
        latest = max(file_of(path).stat().st_mtime for path in files)
        moment = datetime.fromtimestamp(latest).strftime("%Y-%m-%d %H:%M:%S")
        inspection.write(saved, out, moment=moment)
    console.print(f"{out} ({in_bytes(out.stat().st_size)}, state from {moment})", markup=False,
                  soft_wrap=True)  # fmt: skip


def _stamps(files: Sequence[Path]) -> list[tuple[int, int, int]]:
    found = [os.stat(file_of(path)) for path in files]
    return [(one.st_mtime_ns, one.st_size, one.st_ino) for one in found]
