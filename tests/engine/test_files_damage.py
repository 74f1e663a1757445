"""A damaged or crafted state file is refused by name; none crashes or gives other values."""

import json
import re
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import seta
from seta.engine.files import chunks
from tests.engine.test_files import open_pruner, same

REFUSED = r"(is damaged|is incomplete|is not a state)"
STATE = {
    "losses": np.array([2.0, 0.5, np.nan], np.float32),
    "mask": np.array([True, False]),
    "table": {"last": np.arange(5, dtype=np.uint16), "names": np.array(["a", "bc"])},
    "rows": [{"loss": 0.25, "epoch": 3, "best": float("inf")}, None],
    "step": np.int32(7),
}


SMALL = {"losses": np.array([2.0, 0.5], np.float32), "step": 7}


def both_ways(path):
    for mmap in (False, True):
        yield lambda mmap=mmap: seta.load(path, mmap=mmap)


def parts(content):
    """The body and the head of a file, by the format's description and none of our code."""
    start, size = struct.unpack_from("<QQ", content, 12)
    return content[64:start], json.loads(content[start : start + size])


def built(body, head, version=2):
    """A file whose checksums of opening and head are right."""
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    fields = struct.pack(
        "<8sIQQI28x", b"\x89seta\r\n\x1a", version, 64 + len(body), len(text), zlib.crc32(text)
    )
    return fields + struct.pack("<I", zlib.crc32(fields)) + body + text


def crafted(dtype, shape, data=b"", sums=None):
    body = data + bytes(-len(data) % 64)
    sums = [zlib.crc32(data)] if sums is None else sums
    return built(body, ["dict", {"x": ["array", [dtype, shape, sums]]}])


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "run.seta"
    seta.save(STATE, path)
    return path, path.read_bytes()


def test_the_format_is_as_described(saved, tmp_path):
    _, content = saved
    body, head = parts(content)
    (tmp_path / "again").write_bytes(built(body, head))
    assert same(seta.load(tmp_path / "again")["table"], STATE["table"])


def test_every_flipped_bit_is_found(tmp_path):
    """With mmap all but those inside of an array, which is not read."""
    path = tmp_path / "run.seta"
    seta.save(SMALL, path)
    content = path.read_bytes()
    for at in range(8 * len(content)):
        wrong = bytearray(content)
        wrong[at // 8] ^= 1 << at % 8
        path.write_bytes(wrong)
        for mmap in (False, True):
            if mmap and 64 <= at // 8 < 64 + SMALL["losses"].nbytes:
                continue
            with pytest.raises(ValueError, match=rf"run\.seta {REFUSED}"):
                seta.load(path, mmap=mmap)


def test_every_cut_and_every_longer_file_is_refused(saved):
    path, content = saved
    for wrong in [content[:length] for length in range(len(content))] + [content + b"\0"]:
        path.write_bytes(wrong)
        for load in both_ways(path):
            with pytest.raises(ValueError, match=rf"run\.seta {REFUSED}"):
                load()


def test_a_damaged_array_is_named(tmp_path):
    path = tmp_path / "run.seta"
    seta.save({"runs": [{"table": {"losses": np.full(3 * chunks.CHUNK // 4, 2.0)}}]}, path)
    content = bytearray(path.read_bytes())
    content[64 + 5 * 10**6] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        ValueError,
        match=r"run\.seta is damaged, runs\[0\]\.table\.losses does not match its checksum: go "
        "back to an earlier one",
    ):
        seta.load(path)


def test_a_newer_format_is_refused_by_name_and_version(tmp_path):
    path = tmp_path / "run.seta"
    path.write_bytes(built(b"", b"whatever that may be", version=7))
    for load in both_ways(path):
        with pytest.raises(
            ValueError,
            match=r"run\.seta is a state of format 7, this seta reads format 2: upgrade seta",
        ):
            load()


# Crafted: checksums are right.


@pytest.mark.parametrize(
    "dtype",
    ["|O", "|O8", "O", "object", "<M8[ns]", "<m8[s]", "|V8", "[('a', '<i4')]", "<f16", "<f4,<f4",
     "<i4\n", "i4", "float32", "<U0", "<U999999999", "<U99999999999999999999", "|S0", "float8_",
     "float8_e9m9", "int4", "bool", "", "<f3", ["<f4"], None, 4, {"a": 1}],
)  # fmt: skip
def test_types_outside_the_list_are_refused(tmp_path, dtype):
    path = tmp_path / "run.seta"
    path.write_bytes(crafted(dtype, [8], bytes(64)))
    for load in both_ways(path):
        with pytest.raises(ValueError, match=r"run\.seta (is damaged|cannot be read here)"):
            load()


@pytest.mark.parametrize(
    "shape",
    [[-1], [2**31], [2**62], [2**63], [2**64], [2**32, 2**32], [2**62, 0], [2**70, 0], [-4, -4],
     [True], [16.0], ["16"], [None], [[16]], [17], [16] * 70, [1] * 70, 16, "16", None, {}],
)  # fmt: skip
def test_sizes_are_checked_before_anything_is_allocated(tmp_path, shape):
    path = tmp_path / "run.seta"
    for sums in ([0], [], [0] * 1024):
        path.write_bytes(crafted("<f4", shape, bytes(64), sums))
        for load in both_ways(path):
            with pytest.raises(ValueError, match=r"run\.seta is damaged"):
                load()


@pytest.mark.parametrize(
    "head",
    [
        b"", b"\xff", b"{", b"nul", b"[" * 100_000, b"[" * 900 + b"]" * 900, b"NaN", b"null", b"7",
        b'["dict", {"a": NaN}]', b'["dict", {"a": Infinity}]', b'["dict", {"a": 1e999}]',
        b'["dict", {"a": 1, "a": 2}]', b'["dict", {"a": {"b": 1}}]', b'["dict", {"a": [1, 2, 3]}]',
        b'["dict", {"a": []}]', b'["dict", {"a": ["array", 0]}]', b'["dict", {"a": ["array", []]}]',
        b'["dict", {"a": ["set", []]}]', b'["dict", {"a": ["list", "abc"]}]', b'["dict", []]',
        b'["dict", {"a": ["float", "1"]}]', b'["dict", {"a": ["float", []]}]', b'["list", []]',
        b'["dict", {"a": ["array", ["<f4", [16], [0]]]}]', b'["float", "nan"]', b'[["dict"], {}]',
        b'["dict", {"a": ["scalar", ["<f4", [0], []]]}]',
        b'["dict", {"a": ' + b'["list", [' * 200 + b"]]" * 200 + b"}]",
        b'["dict", {"a": ' + b"9" * 5000 + b"x}]",
    ],
)  # fmt: skip
def test_a_head_that_is_none_is_refused(tmp_path, head):
    path = tmp_path / "run.seta"
    path.write_bytes(built(b"", head))
    for load in both_ways(path):
        with pytest.raises(ValueError, match=r"run\.seta is damaged"):
            load()


def test_text_with_characters_that_there_are_not_is_refused(tmp_path):
    path = tmp_path / "run.seta"
    path.write_bytes(crafted("<U1", [2], b"\xff" * 8))
    for load in both_ways(path):
        with pytest.raises(ValueError, match="x has text that is not Unicode"):
            load()


@given(data=st.data())
def test_random_edits_of_a_head_are_refused_or_give_plain_values(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("state") / "run.seta"
    seta.save(STATE, path)
    body, head = parts(path.read_bytes())
    text = bytearray(json.dumps(head).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        new = data.draw(st.binary(max_size=3) | st.sampled_from([b"O", b"9", b"-", b"[", b">"]))
        text[at : at + data.draw(st.integers(0, 3))] = new
    path.write_bytes(built(body, bytes(text)))
    for load in both_ways(path):
        try:
            found = load()
        except ValueError as error:
            assert re.search(r"run\.seta (is damaged|cannot be read here)", str(error))
        else:
            repr(found)  # reads every value; none is a pointer
            assert not re.search("dtype=(object|datetime)", repr(found))


def test_a_mapped_array_is_read_only_and_survives_a_new_save(tmp_path):
    path = tmp_path / "run.seta"
    seta.save({"x": np.arange(10)}, path)
    mapped = seta.load(path, mmap=True)["x"]
    seta.save({"x": np.zeros(10)}, path)
    assert mapped.tolist() == list(range(10))
    with pytest.raises(ValueError, match="read-only"):
        mapped[0] = 1


def test_a_state_of_a_run_with_a_flipped_bit_is_refused(tmp_path):
    path = tmp_path / "run.seta"
    seta.save(open_pruner().state_dict(), path)
    content = path.read_bytes()
    for at in np.random.default_rng(0).integers(0, 8 * len(content), 300).tolist():
        wrong = bytearray(content)
        wrong[at // 8] ^= 1 << at % 8
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match=REFUSED):
            seta.load(path)
