"""The small types of JAX, of ml_dtypes: saved bit for bit, or refused."""

import re
import sys

import numpy as np
import pytest

import seta
from tests.engine.test_files_values import same, through

ml_dtypes = pytest.importorskip("ml_dtypes")
NAMES = [
    name
    for name, value in vars(ml_dtypes).items()
    if re.fullmatch(r"bfloat16|float8_\w+", name) and isinstance(value, type)
]


@pytest.mark.parametrize("name", NAMES)
def test_small_floats_come_back(tmp_path, name):
    array = np.arange(256, dtype=np.uint8).view(getattr(ml_dtypes, name))
    for mmap in (False, True):
        assert same(through(array, tmp_path, mmap), array)
        assert same(through(array[3], tmp_path, mmap), array[3])


@pytest.mark.parametrize("name", ["int4", "uint4", "float4_e2m1fn", "float6_e3m2fn"])
def test_types_of_less_than_a_byte_are_refused(tmp_path, name):
    array = np.zeros(2, getattr(ml_dtypes, name))
    message = rf"net\[0\] is an array of type {name}, which .*astype\(numpy\.float32\)"
    with pytest.raises(TypeError, match=message):
        seta.save({"net": [array]}, tmp_path / "state")


def test_small_floats_need_ml_dtypes_to_be_read(tmp_path, monkeypatch):
    seta.save({"x": np.zeros(3, ml_dtypes.bfloat16)}, tmp_path / "state")
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ValueError, match=r"state cannot be read here: .*bfloat16.* -U ml_dtypes"):
        seta.load(tmp_path / "state")
