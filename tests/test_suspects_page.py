"""docs/suspects.md: made of the committed lines; what it hands to other tools arrives there."""

import re

import numpy as np
import pytest

from benchmarks.suspects import report
from benchmarks.suspects.names import AVERAGED, NAMES
from tests.engine.test_tracked import EPOCHS, N, pruner_of, train

PAGE = report.PAGE.read_text(encoding="utf-8")
TEMPLATE = (report.HERE / "page.md.jinja").read_text(encoding="utf-8")


def block_with(text):
    (found,) = [
        block
        for block in re.findall(r"^```py\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
        if text in block
    ]
    return found


def line(seed, method="Full", **ap):
    scores = {name: dict.fromkeys(("ap", "auroc", "precision"), 0.5) for name in NAMES}
    for name, value in ap.items():
        scores[name.replace("_", " ")]["ap"] = value
    return {"method": method, "budget": 1.0, "seed": seed, "scores": scores}


def test_the_page_is_what_the_committed_lines_give():
    assert report.render() == PAGE, "python -m benchmarks.suspects report makes it anew"


def test_the_page_is_the_same_in_whichever_order_the_runs_were_made(tmp_path):
    for path in report.LINES.glob("*.jsonl"):
        made = path.read_text(encoding="utf-8").splitlines(keepends=True)
        (tmp_path / path.name).write_text("".join(reversed(made)), encoding="utf-8")
    assert report.render(tmp_path) == PAGE


def test_no_figure_of_a_run_is_typed_by_hand():
    prose = TEMPLATE.partition("## How many")[2].partition("## Handing")[0]
    assert re.findall(r"\d+\.\d+", re.sub(r"\{\{.*?\}\}", "", prose)) == []


def test_differences_are_paired_and_clear_ones_are_counted():
    lines = {
        seed: line(seed, suspicion=0.6 + seed / 10, last_loss=0.4 + seed / 10) for seed in (0, 1)
    }
    lines[1]["scores"]["suspicion"]["ap"] += 0.01
    cell = report.Cell("sst2", "wrong=0.1", "Full", lines)
    assert cell.to("suspicion", "last loss").mean == pytest.approx(20.5)
    assert report.tally([cell], "suspicion", ["last loss"]) == {
        "above": 1,
        "better": 1,
        "worse": 0,
    }
    assert "| SST-2 | 10 %  | Full     | **+20.5 ± 6.4** |" in report.differences([cell])


def test_the_best_of_several_scores_is_the_one_of_the_highest_mean():
    lines = {seed: line(seed) for seed in (0, 1)}
    lines[0]["scores"][AVERAGED[1]]["ap"] = 0.9
    assert report.Cell("sst2", "wrong=0.1", "Full", lines).best(AVERAGED) == AVERAGED[1]


def test_without_lines_there_is_a_page(tmp_path):
    assert "No runs yet." in report.render(tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_datalab_takes_the_suspects(capsys):
    pytest.importorskip("cleanlab")
    pytest.importorskip("datasets")
    pruner = train(pruner_of("SeTa"), EPOCHS)
    rng = np.random.default_rng(0)
    names = {
        "pruner": pruner,
        "labels": rng.integers(0, 3, N),
        "probabilities": rng.dirichlet(np.ones(3), N),
    }
    exec(block_with("cleanlab"), names)
    issues = names["lab"].get_issues("suspect")
    worst = pruner.suspects(50)["index"]
    assert sorted(issues.index[issues["is_suspect_issue"]]) == sorted(worst)
    assert issues["suspect_score"].sort_values().index[:50].tolist() == worst.tolist()
    assert "Number of examples with this issue: 50" in capsys.readouterr().out
    assert sorted(names["both"].index) == sorted(worst) and "label_score" in names["both"]


def test_the_code_for_fiftyone_is_python():
    compile(block_with("fiftyone"), "suspects.md", "exec")
