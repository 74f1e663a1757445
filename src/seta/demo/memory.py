"""What a demo will hold in memory, beside what is free: told before anything is unpacked.

Between the labels of a file and its images. Estimates: the images as float32, and one step of the
net, of which the first stage decides (measured: six times what that puts out, with the later stages
and all gradients).
"""

import os
from bisect import bisect_right
from contextlib import suppress
from pathlib import Path

from seta.demo.files import FEWEST, Layout
from seta.demo.settings import DemoError
from seta.report.units import in_bytes

__all__ = ["free_memory", "require_images", "require_memory"]

_STEP = 6
_CONTROL_GROUP = Path("/sys/fs/cgroup")  # of a container


def require_images(path: Path, layout: Layout, train: int, test: int, batch_size: int) -> None:
    """Refuses images that will not fit, and names how many would.

    Args:
        path: Their file, for the message.
        layout: What they are brought to.
        train: How many are trained on.
        test: How many are measured on.
        batch_size: Images of a step in this memory; 0: steps are made elsewhere.

    Raises:
        DemoError: They do not fit.
    """

    def needed(images: int) -> int:
        held = images + max(1, round(images * test / train))
        return held * _image(layout) + min(images, batch_size) * _step(layout)

    free = free_memory()
    if free is None or needed(train) <= free:
        return
    fit = bisect_right(range(1, train + 1), free, key=needed)
    size = f"{layout.height} x {layout.width} x {layout.channels}"
    what = f"{path}: {train:,} images of {size}, {test:,} to measure on, and a step of training"
    way_out = f"give --limit {fit}, or scale the images down" if fit >= FEWEST else ""
    require_memory(needed(train), what, way_out or "scale the images down")


def require_memory(needed: int, what: str, way_out: str) -> None:
    """Refuses what needs more bytes than are free.

    Raises:
        DemoError: It does.
    """
    free = free_memory()
    if free is not None and needed > free:
        raise DemoError(
            f"{what} need about {in_bytes(needed)} of memory, and {in_bytes(free)} are free; "
            f"{way_out}"
        )


def free_memory() -> int | None:
    """Returns the bytes that this process may still take; None where that is not known."""
    found = [_of_machine(), _of_control_group()]
    return min((free for free in found if free is not None), default=None)


def _of_machine() -> int | None:
    """What Linux says is available; all there is where the system does not say that."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with suppress(AttributeError, OSError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _of_control_group() -> int | None:
    """What the limit of a container leaves."""
    with suppress(OSError, ValueError):
        most, used = ((_CONTROL_GROUP / f"memory.{key}").read_text() for key in ("max", "current"))
        return max(0, int(most) - int(used))
    return None


def _image(layout: Layout) -> int:
    """Bytes of an image."""
    return 4 * layout.channels * layout.height * layout.width


def _step(layout: Layout) -> int:
    """Bytes of an image in a step, about: see `net` for what its first stage puts out."""
    halved = min(layout.height, layout.width) >= 16
    channels, places = (32, 4) if halved else (16, 1)
    return _STEP * 4 * channels * layout.height * layout.width // places
