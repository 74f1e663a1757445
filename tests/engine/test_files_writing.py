"""The file that is written: its mode, its name, links, and interrupts at any line."""

import os
import socket
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

import seta
from seta.engine.files import chunks

OLD = {"epoch": 1}
NEW = {"epoch": 2, "losses": np.zeros(100_000)}


@pytest.fixture
def umask():
    before = os.umask(0)
    yield os.umask
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022, 0o077])
def test_a_new_file_has_the_mode_of_the_umask(tmp_path, umask, mask):
    umask(mask)
    seta.save(NEW, tmp_path / "state")
    assert mode(tmp_path / "state") == 0o666 & ~mask


@pytest.mark.parametrize("old", [0o600, 0o640, 0o664, 0o444])
def test_a_replaced_file_keeps_its_mode(tmp_path, umask, old):
    umask(0o027)
    path = tmp_path / "state"
    seta.save(OLD, path)
    path.chmod(old)
    seta.save(NEW, path)
    assert mode(path) == old
    assert seta.load(path)["epoch"] == 2


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_a_replaced_file_keeps_its_owner(tmp_path):
    path = tmp_path / "state"
    seta.save(OLD, path)
    os.chown(path, 1234, 2345)
    seta.save(NEW, path)
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 2345)


def test_a_link_is_followed(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    link, chain = tmp_path / "link", tmp_path / "chain"
    link.symlink_to("disk/state")
    chain.symlink_to(link)
    for state in (OLD, NEW):  # a target that is not there yet, and one that is
        seta.save(state, chain)
        assert seta.load(folder / "state")["epoch"] == state["epoch"]
    assert link.is_symlink()
    assert chain.is_symlink()
    assert os.listdir(folder) == ["state"]
    assert sorted(os.listdir(tmp_path)) == ["chain", "disk", "link"]


def make_device(path):
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.fspath(path))


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkfifo, "a pipe"),
        (make_device, "a character device"),
        (make_socket, "a socket"),
        (os.mkdir, "a directory"),
    ],
)
def test_what_is_no_regular_file_is_refused_and_left(tmp_path, monkeypatch, make, kind):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    make("it")
    before = os.lstat("it")
    os.symlink("it", "link")
    for path in ("it", "link", Path("it")):
        with pytest.raises(OSError, match=f"it is {kind}"):
            seta.save(NEW, path)
        with pytest.raises(OSError, match=rf"(it|link) is {kind}"):
            seta.load(path)
    assert os.lstat("it").st_ino == before.st_ino
    assert sorted(os.listdir()) == ["it", "link"]


@pytest.mark.parametrize("name", ["x" * 255, "\u00e9" * 127, ".x"], ids=len)
def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path, name):
    for state in (OLD, NEW):
        seta.save(state, tmp_path / name)
    assert os.listdir(tmp_path) == [name]


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        seta.save(NEW, tmp_path / "none" / "state")


def interrupted_at(count, path):
    """Saves, interrupted at the given line of the engine; returns whether it was."""
    left = count

    def trace(frame, event, _):
        nonlocal left
        if "seta/engine" not in frame.f_code.co_filename:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        seta.save(NEW, path)
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


# Interrupted before it closes the file, the with statement leaves that to the file itself.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("earlier", [True, False])
def test_an_interrupt_at_any_line_leaves_one_whole_file(tmp_path, earlier, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", 1 << 18)  # several, for the threads
    path = tmp_path / "state"
    count, epochs = 0, []
    while True:
        path.unlink(missing_ok=True)
        if earlier:
            seta.save(OLD, path, sync=False)
        count += 1
        interrupted = interrupted_at(count, path)
        names = os.listdir(tmp_path)
        assert names in ([["state"]] if earlier else [["state"], []])
        epochs.append(seta.load(path)["epoch"] if names else None)
        if not interrupted:
            break
    assert count > 50
    assert set(epochs) == {OLD["epoch"] if earlier else None, NEW["epoch"]}


def test_the_folder_is_flushed_too(tmp_path, monkeypatch):
    flushed = []
    real = os.fsync

    def fsync(handle):
        flushed.append(stat.S_IFMT(os.fstat(handle).st_mode))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    seta.save(NEW, tmp_path / "state", sync=False)
    assert flushed == []
    seta.save(NEW, tmp_path / "state")
    assert flushed == [stat.S_IFREG, stat.S_IFDIR]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone, the folder of state, is not there"):
        seta.save({"a": 1}, tmp_path / "gone" / "state")


def test_a_path_of_bytes_serves(tmp_path):
    path = bytes(tmp_path / "state")
    seta.save({"a": 1}, path)
    assert seta.load(path) == {"a": 1}
