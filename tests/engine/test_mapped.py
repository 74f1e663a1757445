"""Rows that are copied out of a mapped file, whose pages are let go of."""

import mmap
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seta
from seta.engine import mapped
from seta.engine.mapped import copy_rows, let_go

N = 300_000


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(mapped, "_BLOCK", 10_000)


@given(st.integers(0, N), st.integers(0, N), st.sampled_from(["f4", "u2", "i8"]))
def test_rows_are_copied_whatever_lies_where(tmp_path_factory, first, last, dtype):
    rows = slice(*sorted((first, last)))
    values = np.arange(N).astype(dtype)
    path = tmp_path_factory.mktemp("state") / "state"
    seta.save({"odd": np.zeros(3, np.uint8), "x": values}, path, sync=False)
    for mmap_ in (False, True):
        source = seta.load(path, mmap=mmap_)["x"]
        target = np.zeros(rows.stop - rows.start)  # of another type
        copy_rows(target, source[rows])
        assert np.array_equal(target, values[rows])
        assert np.array_equal(source, values)


@pytest.mark.usefixtures("small_blocks")
def test_rows_with_several_axes_and_strides_are_copied(tmp_path):
    values = np.arange(N).reshape(-1, 3, 2)
    seta.save({"x": values}, tmp_path / "state")
    source = seta.load(tmp_path / "state", mmap=True)["x"]
    for view in (source, source[::-2], source[:, 1], source[:0]):
        target = np.zeros_like(view)
        copy_rows(target, view)
        assert np.array_equal(target, view)


@pytest.mark.parametrize("shape", [(3,), (4, 1), ()])
def test_rows_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"source must have the target's shape \(4,\), got"):
        copy_rows(np.zeros(4), np.zeros(shape))


@pytest.mark.parametrize("mode", ["c", "r+"])
def test_changes_of_a_map_that_can_be_written_to_stay(tmp_path, mode):
    np.zeros(N).tofile(tmp_path / "x")
    array = np.memmap(tmp_path / "x", np.float64, mode)
    array[:] = 7
    let_go(array)
    assert (array == 7).all()


def test_changes_of_private_memory_stay():
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    array = np.frombuffer(mmap.mmap(-1, 8 * N, flags=flags), np.float64)
    array[:] = 7
    let_go(array[100:])
    let_go(memoryview(array).obj)
    assert (array == 7).all()


PEAK = """
import sys, numpy as np, seta
from seta.engine.mapped import copy_rows
def status(name):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) << 10
source = seta.load(sys.argv[1], mmap=True)["x"]
target = np.zeros(len(source), source.dtype)
before = status("VmHWM")
copy_rows(target, source)
print(status("VmHWM") - before - target.nbytes)
assert int(target.sum()) == int(sys.argv[2])
"""


@pytest.mark.processes
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_taking_up_a_file_needs_no_more_memory_than_what_it_is_copied_to(tmp_path):
    values = np.arange(8 << 20)  # 64 MiB
    seta.save({"x": values}, tmp_path / "state", sync=False)
    command = [sys.executable, "-c", PEAK, str(tmp_path / "state"), str(values.sum())]
    over = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert over < 24 << 20
