"""What is published: metadata, the README as PyPI shows it, and files that repeat the metadata."""

import re
from pathlib import Path

import pytest
import yaml
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

import seta

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def project():
    return ProjectMetadata(str(ROOT), PluginManager()).core


def test_links_of_the_published_readme_are_absolute_and_lead_to_files_of_this_version(project):
    here = f"{project.urls['Repository']}/(blob|raw)/v{seta.__version__}/"
    links = re.findall(r'(?:\]\(|(?:src|href)=")([^)"]+)', project.readme)
    assert len(links) > 20
    for link in links:
        assert re.match("https?://|#", link), link
        if found := re.match(here, link):
            path = link[found.end() :].partition("#")[0]
            assert (ROOT / path).exists(), link
            assert (found[1] == "raw") == path.endswith(".png"), link


def test_the_published_readme_differs_in_links_alone(project):
    here = f"{project.urls['Repository']}/(blob|raw)/v{seta.__version__}/"
    assert re.sub(here, "", project.readme) == (ROOT / "README.md").read_text("utf-8")


def test_the_citation_has_the_version_and_the_repository_of_the_package(project):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == seta.__version__
    assert citation["repository-code"] == project.urls["Repository"]


def test_the_workflow_tests_every_python_that_the_metadata_name(project):
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
    tested = [job["python"] for job in workflow["jobs"]["tests"]["strategy"]["matrix"]["include"]]
    named = re.findall(r":: (3\.\d+)$", "\n".join(project.classifiers), re.MULTILINE)
    assert tested == named
