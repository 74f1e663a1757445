"""The README of the programs: its figures are those of the committed run, none is missing."""

import json
import re
from pathlib import Path

import page

TASKS = Path(page.__file__).parent


def test_the_tables_are_those_of_the_committed_run():
    readme = (TASKS / "README.md").read_text("utf-8")
    assert page.page(readme) == readme, "run examples/tasks/page.py"


def test_every_program_has_a_result_of_all_four_methods_with_its_defaults():
    for name in page.NAMES:
        result = json.loads((TASKS / "results" / f"{name}.json").read_text("utf-8"))
        assert [row["method"] for row in result["rows"]] == [
            "Full",
            "Full at equal cost",
            "InfoBatch",
            "SeTa",
        ]
        full, *pruned = result["rows"]
        left_out = result["settings"]["epochs"] * result["settings"]["batch_size"]
        assert 0 <= full["full_visits"] - full["visits"] < left_out  # incomplete batches
        for row in pruned:
            assert abs(row["visits"] / full["visits"] - 0.6) < 0.01


def test_every_program_is_in_the_page():
    programs = {
        path.stem for path in TASKS.glob("*.py") if "\nDEFAULTS = " in path.read_text("utf-8")
    }
    assert programs == set(page.NAMES)


def test_links_of_the_page_lead_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", (TASKS / "README.md").read_text("utf-8")):
        assert (TASKS / target).exists(), target
