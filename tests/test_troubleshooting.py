"""Each message of docs/troubleshooting.md comes as it is quoted, from the code shown there."""

import logging
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "troubleshooting.md"
TEXT = PAGE.read_text()
SETUP = re.search(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)[1]
SECTIONS = dict(re.findall(r"^### `([^\n]*)`\n(.*?)(?=^##|\Z)", TEXT, re.DOTALL | re.MULTILINE))


def code_of(body):
    (code,) = re.findall(r"^```py\n(.*?)^```", body, re.DOTALL | re.MULTILINE)
    return code


def cases(kind):
    """The messages that come on one process, on two, or of a framework, each with its name."""
    found = []
    for quote, body in SECTIONS.items():
        needs = re.search(r"<!-- needs: (\w+) -->", body)
        its = "two" if "<!-- on two processes -->" in body else "framework" if needs else "one"
        if its == kind:
            found.append(pytest.param(quote, needs and needs[1], id=quote[:60]))
    return found


def come(quote, caplog, folder, monkeypatch):
    """Runs the code of a section; asserts that the message comes, and as it is quoted."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("seta.torch.losses._looks_left", 1)  # as in a process of its own
    names = {"__name__": "page"}
    exec(compile(SETUP, str(PAGE), "exec"), names)
    code = compile(code_of(SECTIONS[quote]), str(PAGE), "exec")
    if quote.startswith("WARNING"):
        with caplog.at_level(logging.WARNING, "seta"):
            exec(code, names)
        said = [f"{record.levelname}: {record.getMessage()}" for record in caplog.records]
        assert any(text.startswith(quote) for text in said), said
        return
    with pytest.raises(Exception) as caught:
        exec(code, names)
    said = f"{caught.type.__name__}: {caught.value}"
    assert said.startswith(quote), said


def test_the_page_has_the_messages_that_it_is_for():
    assert len(SECTIONS) >= 20
    assert all(re.match(r"(\w+Error|WARNING): \S", quote) for quote in SECTIONS)


@pytest.mark.parametrize(("quote", "_"), cases("one"))
def test_a_message_comes_as_it_is_quoted(quote, _, caplog, tmp_path, monkeypatch):
    come(quote, caplog, tmp_path, monkeypatch)


@pytest.mark.frameworks
@pytest.mark.filterwarnings("ignore")  # those of the framework
@pytest.mark.parametrize(("quote", "framework"), cases("framework"))
def test_a_message_of_a_framework_comes_as_it_is_quoted(
    quote, framework, caplog, tmp_path, monkeypatch
):
    if find_spec(framework) is None:
        pytest.skip(f"{framework} not installed: make test-integrations installs it")
    come(quote, caplog, tmp_path, monkeypatch)


@pytest.mark.processes
@pytest.mark.parametrize(("quote", "_"), cases("two"))
def test_a_message_of_two_processes_comes_as_it_is_quoted(quote, _, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SETUP + code_of(SECTIONS[quote]))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc-per-node", "2", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert quote in done.stderr, done.stderr
