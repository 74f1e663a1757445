"""The benchmarks run at tiny sizes and write what they promise. No test asserts a time."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import readme, scale, scale_table
from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.measure import Bar, child, median_ratio, source
from benchmarks.published import epoch_start, numpy_epoch_start
from seta.plan import model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    assert main(["--quick", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def written(folder):
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


@pytest.mark.slow
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


@pytest.mark.slow
def test_epoch_starts_keep_every_raw_repeat_beside_the_medians(written):
    rows = written["epoch_start"]["rows"]
    beside, alone = (row for row in rows if row["kind"] == "time")
    assert len(beside["raw"]["odd"]) == len(beside["raw"]["even"]) == 5
    assert len(beside["raw"]["published"]) == len(beside["raw"]["published_numpy"]) == 3
    assert beside["times_faster"] > 0 and "times_faster" not in alone
    for row in rows:
        if row["kind"] == "memory":
            assert row["table"] == 6 and row["process_gib"] > 0


@pytest.mark.slow
def test_steps_and_loading_are_measured_for_each_policy_and_worker_count(written):
    rows = written["batch"]["rows"]
    assert [row["policy"] for row in rows if row["kind"] == "step"] == ["SeTa", "InfoBatch"]
    tracked = [row for row in rows if row["kind"] == "tracked"]
    assert [row["policy"] for row in tracked] == ["SeTa", "UCB"]
    assert all(min(row["ratio"], row["record_ratio"]) > 0 for row in tracked)
    loading = [row for row in rows if row["kind"] == "loading"]
    assert [row["workers"] for row in loading] == [0, 2]
    for row in loading:
        assert [len(row["raw"][name]) for name in ("before", "pruned", "after")] == [2, 2, 2]
        assert row["control"] > 0


@pytest.mark.slow
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


@pytest.mark.slow
def test_each_step_of_a_large_run_is_measured_and_a_checkpoint_changes_nothing(written):
    rows = written["scale"]["rows"]
    steps = ["opening start", "record", "end", "epoch start", "copy", "save"]
    steps += ["reading the file", "resume"]
    assert [row["step"] for row in rows if row["n"] == 2_000] == steps
    assert [row["step"] for row in rows if row["n"] == 20_000] == steps
    for row in rows:
        assert row["seconds"] > 0 and row["gib"] > 0
        assert len(row["raw"]) == {"epoch start": 4, "end": 4, "copy": 3}.get(row["step"], 1)
    bars = {bar["what"]: bar for bar in written["scale"]["bars"]}
    assert bars["selections changed by a checkpoint"]["met"]


def test_a_checkpoint_that_the_disk_has_no_room_for_is_refused(monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=10_000))
    with pytest.raises(RuntimeError, match=r"which has 0\.0 GB free: make room, or set TMPDIR"):
        scale.run(True, lambda text: None)


@pytest.mark.slow
def test_the_bytes_and_calls_of_ranks_are_those_of_the_cost_model(written):
    rows = {(row["way"], row["ranks"]): row for row in written["ranks"]["rows"]}
    for ranks in (2, 4):
        replicated, sharded, published = (
            rows[way, ranks] for way in ("replicated", "sharded", "published")
        )
        trained = published["raw"]["trained"]
        assert replicated["raw"]["trained"] == trained and len(trained) == 2
        for turn, own in enumerate(trained):
            for row, computed in (
                (replicated, model.replicated_exchange(20_000, ranks, own * ranks)),
                (published, model.published_exchange(ranks, 64, own * ranks)),
            ):
                found = {name: values[turn] for name, values in row["raw"].items()}
                assert (found["told"], found["received"]) == (computed.own, computed.received)
            assert published["raw"]["collectives"][turn] == computed.collectives
        most = model.sharded_exchange(ranks)
        assert most.own / 2 < sharded["told"] <= most.own  # as many bins as the losses need
        assert most.received / 2 < sharded["received"] <= most.received


@pytest.mark.slow
def test_ranks_exchange_once_per_epoch(written):
    for row in written["ranks"]["rows"]:
        if row["way"] != "published":
            assert row["raw"]["exchanges"] == [1, 1]
            assert row["collectives"] < 10
            assert row["times_faster"] > 0 and row["times_faster_than_end"] > 0


@pytest.mark.slow
def test_what_ranks_took_stands_under_what_is_computed_for_them(folder, written):
    ours = [row for row in written["ranks"]["rows"] if "run" in row]
    assert len(ours) == 4
    for row in ours:
        planned = scale_table.planned(row["run"])
        assert row["table"] == planned.memory.table
        assert row["peak"] > 0 and row["resident"] > 0
    lines = scale_table.measured(folder).splitlines()
    rows = len(ours) + 2  # and the epoch starts of `scale`, at two sizes
    assert sum(line.endswith("| computed |") for line in lines) == rows
    assert sum(line.endswith("| measured |") for line in lines) == rows


@pytest.mark.slow
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
    names = "epoch_start, methods, budget, batch, import_time, scale, ranks"
    assert f"NAME must be one of {names}; got speed" in capsys.readouterr().err


def test_the_page_of_figures_is_made_of_the_results():
    assert (readme.FOLDER / "README.md").read_text() == readme.render(readme.stored())


@pytest.mark.slow
def test_the_page_of_figures_shows_the_results_that_there_are(folder, tmp_path):
    assert readme.render(readme.stored(tmp_path)) == readme.HEAD
    page = readme.render(readme.stored(folder))
    assert [line[3:] for line in page.splitlines() if line.startswith("## ")] == list(readme.ORDER)
    assert set(readme.ORDER) == set(BENCHMARKS)
    assert page.count("| 20,000 | 4 | published | ") == 1
    assert page.count("| 20,000 | 2 | sharded | ") == 1
    assert page.count("| 20,000 | opening start | ") == 1
