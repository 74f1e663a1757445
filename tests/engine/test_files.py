"""State files: whole or not at all, on a full disk and after a kill too."""

import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import seta
from seta import Pruner

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.floats(-1e9, 1e9)
    | hnp.arrays(st.sampled_from([np.float32, np.uint8, np.uint16, np.int64]), st.integers(0, 9)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def same(a, b):
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def open_pruner(n=1000):
    """A pruner in the middle of its second epoch."""
    pruner = Pruner(n, "InfoBatch", epochs=4)
    for epoch in range(2):
        indices = pruner.begin_epoch(epoch).indices[: n - 10 - 300 * epoch]
        pruner.record(indices, (indices % 17 + 0.5).astype(np.float32))
    return pruner


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_what_is_saved_is_loaded(tmp_path_factory, state):
    path = tmp_path_factory.mktemp("state") / "run.seta"
    seta.save(state, path)
    assert same(seta.load(path), state)
    assert same(seta.load(path, mmap=True), state)


def test_a_run_goes_on_from_a_file(tmp_path):
    pruner = open_pruner()
    seta.save(pruner.state_dict(), tmp_path / "run.seta")
    other = Pruner(1000, "InfoBatch", epochs=4)
    other.load_state_dict(seta.load(tmp_path / "run.seta"))
    assert np.array_equal(other.begin_epoch().indices, pruner.begin_epoch().indices)
    assert np.array_equal(other.losses, pruner.losses, equal_nan=True)
    assert os.listdir(tmp_path) == ["run.seta"]


def test_a_state_takes_less_than_seven_bytes_per_sample(tmp_path):
    path = tmp_path / "run.seta"
    seta.save(open_pruner(1_000_000).state_dict(), path)
    assert path.stat().st_size < 7 * 1_000_000


@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY\x01\x00", b'{"magic": "seta"}'])
def test_a_foreign_file_is_refused(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"other is not a state written by seta\.save"):
        seta.load(path)


def test_an_array_of_another_program_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(3))
    with pytest.raises(ValueError, match="is not a state written by"):
        seta.load(tmp_path / "x.npy")


def test_a_torn_file_is_refused_wherever_it_is_torn(tmp_path):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    seta.save(open_pruner().state_dict(), whole)
    content = whole.read_bytes()
    for length in np.linspace(0, len(content) - 1, 60).astype(int):
        torn.write_bytes(content[:length])
        for mmap in (False, True):
            with pytest.raises(ValueError, match=r"torn is (incomplete|not a state)"):
                seta.load(torn, mmap=mmap)


def test_a_full_disk_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "run.seta"
    seta.save({"epoch": 1}, path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError):
            seta.save({"losses": np.zeros(1_000_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert seta.load(path) == {"epoch": 1}
    assert os.listdir(tmp_path) == ["run.seta"]


SAVER = """
import sys, numpy as np, seta
for value in range(10**6):
    seta.save({"value": value, "array": np.full(300_000, value)}, sys.argv[1])
    print(value, flush=True)
"""


@pytest.mark.processes
def test_a_kill_while_saving_leaves_a_whole_file(tmp_path):
    path = tmp_path / "run.seta"
    for delay in (3, 7, 12):
        process = subprocess.Popen([sys.executable, "-c", SAVER, path], stdout=subprocess.PIPE)
        for _ in range(delay):
            last = int(process.stdout.readline())
        process.kill()
        process.wait()
        process.stdout.close()
        state = seta.load(path)
        assert state["value"] >= last
        assert np.all(state["array"] == state["value"])
