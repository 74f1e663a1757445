"""Pruned streams over Ray Data, whose iterators hang in a data-loading worker: a Ray of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray.data")

RUN = Path(__file__).with_name("stream_ray.py")


@pytest.fixture(scope="module")
def run():
    done = subprocess.run([sys.executable, RUN], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-4000:]
    return dict(line.split(": ", 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize("source", ["iterator", "dataset", "partial"])
def test_workers_over_ray_data_are_refused_when_the_stream_is_made(run, source):
    assert run[source].startswith("ValueError num_workers must be 0 over Ray Data, ")
    assert "got 1: Ray reads ahead by itself; decode in collate_fn" in run[source]


def test_workers_over_ray_data_in_a_function_are_refused_where_they_begin(run):
    assert "num_workers must be 0 over Ray Data" in run["function"]


def test_without_workers_ray_data_is_a_source(run):
    assert run["trained"] == "20"
