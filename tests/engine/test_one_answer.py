"""Ranks on unlike CPUs agree: the same choices under any BLAS, vector instructions and threads."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from seta.engine.curves import sums
from seta.engine.steps import Steps

SCRIPT = Path(__file__).with_name("one_answer.py")


def vector_instructions():
    """Returns the names of those that numpy uses here and can be told not to."""
    core = getattr(np, "_core", None) or np.core
    found = core._multiarray_umath
    return [name for name in found.__cpu_dispatch__ if found.__cpu_features__.get(name)]


# A processor without vector instructions, and one with some; another machine's threads.
OLD = {
    "OPENBLAS_CORETYPE": "Prescott",
    "OPENBLAS_NUM_THREADS": "1",
    "NPY_DISABLE_CPU_FEATURES": " ".join(vector_instructions()),
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F",
}
NEWER = {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_NUM_THREADS": "4"}


def answers(environment, threads, block):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(threads), str(block)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def here():
    return answers({}, 2, 17)


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize(
    "environment, threads, block", [(OLD, 1, 12), (NEWER, 3, 14)], ids=["old", "newer"]
)
def test_all_methods_choose_the_same_on_any_cpu(here, environment, threads, block):
    there = answers(environment, threads, block)
    assert [what for what in here if here[what] != there[what]] == []


WIDE = st.floats(allow_nan=False, allow_infinity=False, max_value=1e280, min_value=-1e280)


@given(hnp.arrays(np.float64, st.integers(0, 60), elements=WIDE))
def test_a_total_is_rounded_once(values):
    assert sums.total(values) == math.fsum(values)


@given(st.lists(st.tuples(st.integers(0, 2**40), st.sampled_from([0.1, 0.3, 0.7, 5e-324, 1.0]))))
def test_a_dot_product_counts_runs_of_equal_values_once(cells):
    counts = np.array([count for count, _ in cells], np.int64)
    values = np.array([value for _, value in cells])
    merged = []
    for count, value in cells:
        if not count:
            continue
        if merged and merged[-1][1] == value:
            merged[-1][0] += count
        else:
            merged.append([count, value])
    assert sums.dot(counts, values) == math.fsum(count * value for count, value in merged)


def test_a_constant_over_many_bins_gives_one_product():
    counts = np.random.default_rng(0).integers(0, 9, 1 << 17)
    assert sums.dot(counts, np.full(len(counts), 0.7)) == 0.7 * int(counts.sum())


@given(st.floats(-745, 700))
def test_exponentials_are_right_to_a_few_last_places(value):
    found = float(sums.exp(np.array([value]))[0])
    assert found == pytest.approx(math.exp(value), rel=1e-15, abs=1e-323)


def test_exponentials_come_to_zero():
    assert sums.exp(np.array([-np.inf, -1e300, 0.0])).tolist() == [0.0, 0.0, 1.0]


@given(st.integers(1, 10**6), st.integers(1, 100), st.floats(-1, 1))
def test_half_a_batch_is_rounded_to_even_whatever_the_last_bits_say(whole, batch, noise):
    steps = Steps(10**12, batch)
    half = (whole + 0.5) * batch
    even = (whole + whole % 2) * batch
    assert steps.nearest(half) == steps.nearest(half * (1 + noise * 2.0**-52)) == even
