"""The site has a reference of every public name, and every page of the docs in its tabs."""

import ast
import importlib
from pathlib import Path

import pytest
import yaml

import seta

ROOT = Path(__file__).resolve().parent.parent


def reference():
    """The names of the reference by module, read from docs/site.py without importing mkdocs."""
    tree = ast.parse((ROOT / "docs/site.py").read_text())
    (pages,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "REFERENCE"
    )
    found = {}
    for _, *entries in pages.values():
        for entry in entries:
            module, names = entry.split(": ")
            found.setdefault(module, set()).update(names.split())
    return found


FOUND = reference()


def test_the_reference_has_all_public_names_of_the_package():
    assert FOUND["seta"] == set(dir(seta))


@pytest.mark.parametrize("module", sorted(set(FOUND) - {"seta"}))
def test_what_the_reference_names_is_there(module):
    if "integrations" in module:
        path = Path(seta.__file__).parent / Path(*module.split(".")[1:])
        texts = [path.with_suffix(".py")] if path.with_suffix(".py").exists() else path.glob("*.py")
        defined = {
            node.name
            for text in texts
            for node in ast.parse(text.read_text()).body
            if isinstance(node, (ast.ClassDef, ast.FunctionDef))
        }
        imported = (path / "__init__.py").read_text() if path.is_dir() else ""
        assert all(name in defined or name in imported for name in FOUND[module])
    else:
        assert all(hasattr(importlib.import_module(module), name) for name in FOUND[module])


def leaves(nav):
    """The pages of a part of the navigation, be it nested or not."""
    for one in [nav] if isinstance(nav, str) else nav:
        if isinstance(one, str):
            yield one
        else:
            for part in one.values():
                yield from leaves(part)


def test_every_page_is_in_a_tab():
    text = (ROOT / "mkdocs.yml").read_text()
    pages = set(leaves(yaml.safe_load(text)["nav"]))
    docs = ROOT / "docs"
    assert pages == {str(path.relative_to(docs)) for path in docs.rglob("*.md")}
