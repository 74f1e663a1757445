"""The benchmarks run at tiny sizes and write what they promise. No test asserts a time."""

import json

import numpy as np
import pytest
import torch

from benchmarks import readme
from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.measure import Bar, child, median_ratio, source
from benchmarks.published import epoch_start, numpy_epoch_start


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    assert main(["--quick", "--out", str(folder)]) == 0
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def test_each_benchmark_writes_a_file_that_says_where_its_figures_come_from(written):
    assert set(written) == set(BENCHMARKS)
    for name, content in written.items():
        assert content["name"] == name
        assert content["command"] == "python -m benchmarks --quick"
        assert content["machine"]["cores"] >= 1
        assert content["source"] == source()
        assert {"python", "seta", "numpy", "scikit-learn", "torch"} <= set(content["versions"])
        assert content["bars"] and content["rows"]
        for bar in content["bars"]:
            assert set(bar) == {"what", "figure", "sense", "limit", "unit", "met"}


def test_epoch_starts_keep_every_raw_repeat_beside_the_medians(written):
    rows = written["epoch_start"]["rows"]
    beside, alone = (row for row in rows if row["kind"] == "time")
    assert len(beside["raw"]["odd"]) == len(beside["raw"]["even"]) == 5
    assert len(beside["raw"]["published"]) == len(beside["raw"]["published_numpy"]) == 3
    assert beside["times_faster"] > 0 and "times_faster" not in alone
    for row in rows:
        if row["kind"] == "memory":
            assert row["table"] == 6 and row["process_gib"] > 0


def test_steps_and_loading_are_measured_for_each_policy_and_worker_count(written):
    rows = written["batch"]["rows"]
    assert [row["policy"] for row in rows if row["kind"] == "step"] == ["SeTa", "InfoBatch"]
    loading = [row for row in rows if row["kind"] == "loading"]
    assert [row["workers"] for row in loading] == [0, 2]
    for row in loading:
        assert [len(row["raw"][name]) for name in ("before", "pruned", "after")] == [2, 2, 2]
        assert row["control"] > 0


def test_budgets_and_saving_are_measured(written):
    rows = written["budget"]["rows"]
    assert {row["method"] for row in rows if row["kind"] == "start"} == {
        "SeTa",
        "InfoBatch",
        "Random",
    }
    bars = {bar["what"]: bar for bar in written["budget"]["bars"]}
    assert bars["off the budget at 20,000"]["met"]
    assert bars["state of 10,000 in mid-epoch"]["met"]


def test_importing_seta_does_not_load_torch(written):
    (bar,) = (b for b in written["import_time"]["bars"] if "torch" in b["what"])
    assert bar["figure"] == 0


@pytest.mark.parametrize("way", ["tensor", "numpy"])
def test_the_published_way_keeps_distinct_samples_of_the_epochs_window(way):
    losses = np.repeat(np.arange(5, dtype=np.float32), 100)
    rng = np.random.default_rng(0)

    def start(epoch):
        if way == "tensor":
            return epoch_start(torch.from_numpy(losses), epoch, rng)
        return numpy_epoch_start(losses, epoch, rng)

    for epoch, groups in ((0, range(5)), (1, range(1, 5)), (2, range(4))):
        indices = start(epoch)
        assert len(np.unique(indices)) == len(indices)
        assert set(losses[indices]) == set(groups)
    assert len(start(0)) == 450


def test_a_bar_is_met_on_its_side_of_the_limit():
    assert Bar("time", 59.0, 60, "copies").met
    assert not Bar("time", 61.0, 60, "copies").met
    assert Bar("speed", 501.0, 500, "x", at_least=True).met
    assert not Bar("speed", 499.0, 500, "x", at_least=True).met


def test_ratios_are_taken_pair_by_pair():
    assert median_ratio([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == 2.0


def test_a_child_that_fails_tells_why():
    with pytest.raises(RuntimeError, match=r"benchmarks\.batch .* failed:\n[\s\S]*AttributeError"):
        child("benchmarks.batch", {"kind": "step", "policy": "None", "n": 10, "rounds": 1})


def test_figures_of_code_that_changed_meanwhile_are_not_written(monkeypatch, tmp_path, capsys):
    digests = iter(["before", "after"])
    monkeypatch.setattr("benchmarks.__main__.source", lambda: next(digests))
    assert main(["import_time", "--quick", "--out", str(tmp_path)]) == 1
    assert "seta was changed while import_time ran: nothing written" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_an_unknown_benchmark_is_refused_with_the_names(capsys):
    with pytest.raises(SystemExit):
        main(["speed"])
    expected = "NAME must be one of epoch_start, budget, batch, import_time; got speed"
    assert expected in capsys.readouterr().err


def test_the_page_of_figures_is_made_of_the_results():
    assert (readme.FOLDER / "README.md").read_text() == readme.render(readme.stored())
