"""Docs run: the doctests of every module of the installed package, and CONTRIBUTING's example."""

import doctest
import importlib
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import seta

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(seta.__file__).parent
FILES = [path.relative_to(PACKAGE.parent) for path in sorted(PACKAGE.rglob("*.py"))]
MODULES = [
    ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    for path in FILES
    if path.stem != "__main__" and "integrations" not in path.parts
]
FRAMEWORKS = {  # by page, and mostly module of `seta.integrations`: what it imports
    "accelerate": ["accelerate"],
    "datasets": ["datasets"],
    "jax": ["jax", "flax", "optax"],
    "language-model": ["transformers"],
    "lightning": ["lightning"],
    "ray": ["ray"],
    "streams": ["datasets", "webdataset"],
    "trackers": ["tensorboard", "mlflow", "wandb"],
    "transformers": ["transformers"],
    "trl": ["trl"],
}


def skip_without(name):
    """Skips where a framework is not installed; `make test-integrations` installs them all."""
    missing = [module for module in FRAMEWORKS.get(name, []) if find_spec(module) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: make test-integrations installs them")


@pytest.mark.frameworks
@pytest.mark.processes
@pytest.mark.parametrize("name", sorted(FRAMEWORKS.keys() - {"trackers", "language-model"}))
def test_the_doctests_of_an_integration_pass(name):
    """In a process of its own, which its framework may do to what it likes."""
    skip_without(name)
    code = (
        "import doctest, importlib, pkgutil, sys\n"
        f"top = importlib.import_module('seta.integrations.{name}')\n"
        "parts = pkgutil.iter_modules(getattr(top, '__path__', []), top.__name__ + '.')\n"
        "modules = [top, *(importlib.import_module(part.name) for part in parts)]\n"
        "sys.exit(sum(doctest.testmod(module).failed for module in modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", MODULES)
def test_the_doctests_of_a_module_pass(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_contributings_method_of_ten_lines_trains():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    names = {"__name__": "contributing"}
    for block in blocks:
        exec(block, names)
    losses = [float(i) for i in range(1000)]
    pruner = seta.Pruner(1000, names["HardHalf"](), epochs=10, losses=losses)
    kept = pruner.begin_epoch().indices
    assert (kept >= 500).sum() == 500
    assert 150 < (kept < 500).sum() < 350


PAGES = ["README.md", *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("docs/**/*.md")))]
RUN_HERE = [page for page in PAGES if "docs/engines/" not in page]  # those: tests/engines


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.frameworks if Path(page).stem in FRAMEWORKS else [])
        for page in RUN_HERE
    ],
)
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    """All blocks of a page, one after another, as a reader would type them."""
    skip_without(Path(page).stem)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE
    )
    names = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, page, "exec"), names)


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page):
    folder = (ROOT / page).parent
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / page).read_text()):
        assert target.startswith("http") or (folder / target).exists(), target


def diffs(page):
    """The two sides of each diff of a page, by their sign."""
    blocks = re.findall(r"```diff\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    return [
        {side: "\n".join(line[1:] for line in block.splitlines() if line[0] in (" ", side))
         for side in "-+"}
        for block in blocks
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("page", "number", "side"),
    [
        ("docs/quickstart.md", 0, "-"),
        ("docs/quickstart.md", 0, "+"),
        ("docs/coming-from.md", 0, "+"),
        ("docs/coming-from.md", 1, "+"),
    ],
)
def test_the_sides_of_a_diff_train(page, number, side):
    import torch
    from torch.nn.functional import cross_entropy
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(0)
    images = torch.randn(400, 4)
    model = torch.nn.Linear(4, 2)
    dataset = TensorDataset(images, images[:, 0].gt(0).long())
    names = {
        "dataset": dataset,
        "train_data": dataset,
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.5),
        "epochs": 3,
        "DataLoader": DataLoader,
        "cross_entropy": cross_entropy,
        "seta": seta,
    }
    exec(diffs(page)[number][side], names)
    assert (model(images).argmax(1) == images[:, 0].gt(0)).float().mean() > 0.9
