"""What a state holds comes back as it was, type and all, or is refused when it is saved."""

import collections
import datetime
import decimal
import enum
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import seta

DTYPES = (
    hnp.boolean_dtypes()
    | hnp.integer_dtypes(endianness="?")
    | hnp.unsigned_integer_dtypes(endianness="?")
    | hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64))
    | hnp.complex_number_dtypes(endianness="?", sizes=(64, 128))
    | hnp.unicode_string_dtypes(endianness="?")
    | hnp.byte_string_dtypes()
)
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))


def through(value, tmp_path, mmap=False):
    seta.save({"x": value}, tmp_path / "state", sync=False)
    return seta.load(tmp_path / "state", mmap=mmap)["x"]


def same(a, b):
    """Of one type, and equal bit for bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (np.ndarray, np.generic)):
        return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return repr(a) == repr(b)
    return a == b


@given(ARRAYS, st.permutations(range(3)))
def test_arrays_of_any_layout_come_back(tmp_path_factory, array, order):
    folder = tmp_path_factory.mktemp("state")
    layouts = [array, array.T, np.asfortranarray(array)]
    if array.ndim == 3:
        layouts += [
            array.transpose(order),
            array[::-1, ::2],
            np.broadcast_to(array, (2, *array.shape)),
        ]
    for one in layouts:
        for mmap in (False, True):
            assert same(through(one, folder, mmap), one)


@pytest.mark.parametrize(
    "value",
    [
        np.float32(1.1), np.float64(1.1), np.int64(-3), np.uint8(7), np.bool_(True),
        np.complex64(1 + 2j), np.float16(np.nan), np.array(2.5),
        np.array("abc"), (), (1, [2, (3,)]), [], {}, {"": 0, "a.b": {"[0]": 1}}, True, 0, -0.0,
        math.nan, math.inf, -math.inf, 5e-324, 1.7976931348623157e308, 2**63, 2**64, -(2**128),
        2**4096 - 1, "", "\0", "\u2028 \U0001f600", ["array", 0], ["dict", {}], ["float", "nan"],
        np.random.PCG64(3).state, None,
    ],
)  # fmt: skip
def test_values_come_back_with_their_types(tmp_path, value):
    for mmap in (False, True):
        assert same(through(value, tmp_path, mmap), value)


class Colour(enum.IntEnum):
    RED = 1


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "kind", "way_out"),
    [
        (np.array([None]), "object", "save array.tolist()"),
        (np.zeros(2, "M8[s]"), r"datetime64\[s\]", "view(numpy.int64), and the unit"),
        (np.zeros(2, "m8[us]"), r"timedelta64\[us\]", "view(numpy.int64), and the unit"),
        (np.datetime64("2020-01-01"), r"datetime64\[D\]", "view(numpy.int64), and the unit"),
        (np.zeros(2, [("a", "i4")]), r"\[\('a', '<i4'\)", "save its fields one by one"),
        (np.zeros(2, "V3"), r"\|V3", "an array of numbers"),
        (np.str_("a\0"), "<U2", "save str(value)"),
        (np.ma.array([1, 2], mask=[0, 1]), "numpy.ma.*MaskedArray", "value.data and value.mask"),
        (np.zeros(2).view(np.matrix), "matrix", "save numpy.asarray(value)"),
        ({1, 2}, "set", "save sorted(value)"),
        (frozenset("a"), "frozenset", "save sorted(value)"),
        (1 + 2j, "complex", "save numpy.complex128(value)"),
        (b"abc", "bytes", "numpy.frombuffer"),
        (collections.OrderedDict(a=1), "OrderedDict", "save dict(value)"),
        (collections.defaultdict(int), "defaultdict", "save dict(value)"),
        (Point(1, 2), "Point", "save tuple(value)"),
        (Colour.RED, "Colour", "save int(value)"),
        (decimal.Decimal(1), "decimal.Decimal", "dicts, lists, tuples, strings, numbers"),
        (datetime.date(2020, 1, 1), "datetime.date", "dicts, lists, tuples, strings"),
        (range(3), "range", "dicts, lists, tuples"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_what_would_come_back_as_something_else_is_refused(tmp_path, value, kind, way_out):
    with pytest.raises(TypeError, match=rf"^net\.layers\[1\] is .*{kind}.*") as caught:
        seta.save({"net": {"layers": [0, value]}}, tmp_path / "state")
    assert way_out in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="it is float64 here")
def test_floats_that_other_machines_do_not_have_are_refused(tmp_path):
    with pytest.raises(TypeError, match=r"x is an array of type float.*: save array\.astype"):
        seta.save({"x": np.zeros(2, np.longdouble)}, tmp_path / "state")


def test_tensors_are_refused_with_the_way_out(tmp_path):
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"a is of type torch\.Tensor.*: save numpy\.asarray"):
        seta.save({"a": torch.zeros(2)}, tmp_path / "state")


@pytest.mark.parametrize("key", [1, 1.5, None, True, ("a",), np.str_("a")])
def test_keys_that_are_no_strings_are_refused(tmp_path, key):
    with pytest.raises(TypeError, match=r"keys of rows\[0\] must be strings, got .*: save str"):
        seta.save({"rows": [{key: 0}]}, tmp_path / "state")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (2**4096, r"a\.b is an integer of 4097 bits, more than the 4096 .*: save hex\(value\)"),
        ("\ud800", r"a\.b has text that is not Unicode .*: save ascii"),
        ({"\udc80": 0}, r"a key of a\.b has text that is not Unicode"),
    ],
    ids=["integer", "text", "key"],
)
def test_numbers_and_text_that_are_not_written_are_refused(tmp_path, value, message):
    with pytest.raises(ValueError, match=message):
        seta.save({"a": {"b": value}}, tmp_path / "state")


def test_a_state_that_holds_itself_is_refused(tmp_path):
    state = {"a": []}
    state["a"].append(state)
    with pytest.raises(ValueError, match=r"a\[0\]\.a\[0\].* is nested more than 100 deep: save a"):
        seta.save(state, tmp_path / "state")


@pytest.mark.parametrize("state", [[], None, np.zeros(3), collections.OrderedDict()])
def test_a_state_is_a_dict(tmp_path, state):
    with pytest.raises(TypeError, match="state must be a dict, got "):
        seta.save(state, tmp_path / "state")


def test_a_mapped_state_can_be_saved_again(tmp_path):
    seta.save({"x": np.arange(5.0)}, tmp_path / "state")
    mapped = seta.load(tmp_path / "state", mmap=True)["x"]
    np.save(tmp_path / "x.npy", mapped)
    for one in (mapped, mapped[1:], np.load(tmp_path / "x.npy", mmap_mode="r")):
        assert through(one, tmp_path).tolist() == one.tolist()
