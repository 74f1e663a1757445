"""Loops in JAX, in one process and in two. Nothing here imports jax: after that no worker may be
forked (JAX warns of deadlocks), and other tests of this suite fork some."""

import re
import socket
from importlib.util import find_spec

import pytest

from tests.integrations.checks import ROOT, names_of, outcomes, python

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("jax", "flax", "optax")),
    reason="needs jax, flax and optax",
)


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def one_process():
    return outcomes("jax_checks.py", 1, JAX_PLATFORMS="cpu")


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    return outcomes("jax_process_checks.py", 2, free_port(), folder, JAX_PLATFORMS="cpu")


def agree(outcome):
    __tracebackhide__ = True
    for number, problem in enumerate(outcome):
        assert problem is None, f"process {number}: {problem}"


@pytest.mark.parametrize("name", names_of("jax_checks.py"))
def test_in_one_process(one_process, name):
    agree(one_process(name))


@pytest.mark.parametrize("name", names_of("jax_process_checks.py"))
def test_in_two_processes(two_processes, name):
    agree(two_processes(name))


def run(*arguments, cwd=None):
    process = python(*arguments, cwd=cwd, JAX_PLATFORMS="cpu")
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    return printed


def test_the_example_goes_on_where_it_was_stopped(tmp_path):
    options = ("--epochs", "3", "--checkpoint", tmp_path / "digits.seta")
    example = ROOT / "examples" / "jax_digits.py"
    stopped = run(example, *options, "--stop-after", "40")
    assert stopped == "stopped after step 40 of 90, in epoch 1\n"
    last = run(example, *options).splitlines()[-1]
    (right,) = re.fullmatch(r"(\d+\.\d)% right after 90 of 90 steps; 40% saved", last).groups()
    assert float(right) > 70


def test_the_page_runs(tmp_path):
    page = (ROOT / "docs" / "jax.md").read_text()
    blocks = re.findall(r"^```(?:py|python)\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 2
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks))
    run(script, cwd=tmp_path)
    assert (tmp_path / "run.seta").exists()


def test_without_jax_the_missing_package_is_named(tmp_path):
    code = (
        "import sys, importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'jax' else find(name, *rest)\n"
        "import seta.integrations.jax\n"
    )
    printed, _ = python("-c", code).communicate(timeout=60)
    assert 'seta.integrations.jax needs jax, which is not installed: pip install "seta[jax]"' in (
        printed
    )
