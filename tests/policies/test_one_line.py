"""A method joins by one line of `seta.policies.methods`: a copy of the tree shows it everywhere."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import seta
from seta import policies

ROOT = Path(__file__).resolve().parents[2]
LINE = "from seta.policies.hard_half import HardHalf as HardHalf\n"
SHOW = """
import contextlib, io, json, sys
import seta, seta.policies
import benchmarks.methods
from benchmarks.accuracy import plan, suites
from seta.comparison import contenders
from seta.demo import settings
from seta.commands import app
from typer.testing import CliRunner

sys.path.insert(0, "examples/tasks")
import comparison

def shown(*arguments):
    result = CliRunner().invoke(app, [*arguments], env={"COLUMNS": "120"})
    assert result.exit_code == 0, (arguments, result.output, result.exception)
    return result.output

told = io.StringIO()
with contextlib.redirect_stderr(told), contextlib.suppress(SystemExit):
    comparison.options("A program.", comparison.Settings(9, 1, 1), ["--method", "nobody"])
asked = shown("plan", "--samples", "1000", "--epochs", "2", "--method", "hardhalf", "--json")
jobs = plan.jobs(suites.SUITES["digits"], plan.Choice(budgets=(0.5,)))
print(json.dumps({
    "seta": seta.__all__,
    "dir": dir(seta),
    "star": sorted(name for name in vars(seta) if name == "HardHalf"),
    "policies": seta.policies.__all__,
    "registry": list(seta.policies.REGISTRY),
    "at a budget": repr(seta.policies.get("hardhalf", budget=0.5)),
    "contenders": contenders.METHODS,
    "runs": [job.contender.method for job in jobs],
    "speeds": list(benchmarks.methods.REGISTRY),
    "demo": settings.METHODS,
    "demo help": shown("demo", "--help").replace("\\n", " "),
    "methods": shown("methods"),
    "plan": json.loads(asked)["run"]["policy"],
    "tasks": comparison.METHODS,
    "tasks help": told.getvalue(),
}))
"""


def tree(folder):
    """A copy of package, benchmarks and examples, in which CONTRIBUTING's method has its line."""
    without = shutil.ignore_patterns("__pycache__", "results", "*.npz", "*.jsonl")
    shutil.copytree(Path(seta.__file__).parent, folder / "src" / "seta", ignore=without)
    shutil.copytree(ROOT / "benchmarks", folder / "benchmarks", ignore=without)
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=without)
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (method,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    package = folder / "src" / "seta" / "policies"
    (package / "hard_half.py").write_text(method, encoding="utf-8")
    with (package / "methods.py").open("a", encoding="utf-8") as names:
        names.write(LINE)
    return folder


def python(folder, *arguments):
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=300,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder / "src"), str(folder)]),
             "MYPYPATH": str(folder / "src")},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.processes
def test_a_method_with_its_line_is_in_every_list(tmp_path):
    code, output, errors = python(tree(tmp_path), "-c", SHOW)
    assert code == 0, errors
    found = json.loads(output.splitlines()[-1])
    lacking = [name for name, where in found.items() if "hardhalf" not in str(where).lower()]
    assert lacking == []
    assert found["at a budget"] == "HardHalf(easy=0.5)"


@pytest.mark.slow
@pytest.mark.processes
def test_type_checkers_see_a_method_by_the_same_line(tmp_path):
    pytest.importorskip("mypy")
    use = "import seta\nfrom seta.policies import HardHalf\nseta.HardHalf(HardHalf().easy)\n"
    (tree(tmp_path) / "use.py").write_text(use + "seta.SoftHalf\n")
    _, output, errors = python(
        tmp_path, "-m", "mypy", "--strict", "--follow-imports=silent", "use.py"
    )
    told = [line for line in output.splitlines() if ": error:" in line]
    assert told == ['use.py:4: error: Module has no attribute "SoftHalf"  [attr-defined]'], errors


def test_every_class_of_the_package_of_methods_has_its_line():
    """A file of a method whose line is missing is named here."""
    defined = {
        name
        for path in Path(policies.__file__).parent.glob("*.py")
        for name in re.findall(r"^@dataclass\(frozen=True\)\nclass (\w+)", path.read_text(), re.M)
    }
    assert defined == set(policies.REGISTRY)


def test_the_table_of_the_methods_is_that_of_the_registry():
    page = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8")
    rows = {
        name: eval(f"dict({defaults})", {"SeTa": seta.SeTa})
        for name, defaults in re.findall(r"^\| `(\w+)` \| [^|]*\|(?: `([^|`]*)`)? \|", page, re.M)
    }
    made = {name: vars(method()) for name, method in policies.REGISTRY.items()}
    assert rows == made


def test_the_readme_names_every_method():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in policies.REGISTRY if f"`{name}`" not in readme] == []
