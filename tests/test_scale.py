"""`docs/scale.md` is made of the model and the results, and virtual ranks bear the model out."""

import json

import numpy as np
import pytest

from benchmarks import scale_table, simulate
from seta.plan.lengths import gamma_losses


@pytest.fixture(scope="module")
def simulation():
    return simulate.Simulation(300_000)


def test_the_page_is_made_of_the_model_and_the_results():
    page = scale_table.PAGE.read_text(encoding="utf-8")
    assert page == scale_table.render(page)


def test_every_row_says_where_its_figures_come_from():
    page = scale_table.PAGE.read_text(encoding="utf-8")
    tables = [part.split("<!-- end:")[0] for part in page.split("<!-- table:")[1:]]
    assert len(tables) == 4
    for text in tables:
        heads = ("| samples |", "| ---:")  # of one table or, of what was measured, of several
        lines = [line for line in text.splitlines() if line.startswith("|")]
        rows = [line for line in lines if not line.startswith(heads)]
        assert len(rows) > 1
        for line in rows:
            assert line.rstrip("| ").split("| ")[-1].strip() in (
                "computed",
                "measured",
                "simulated / computed",
            )


def test_a_page_without_its_markers_is_refused():
    with pytest.raises(ValueError, match=r"scale.md must have one <!-- table: by default -->"):
        scale_table.render("# Scale\n")


def test_measured_figures_stand_under_what_is_computed_for_the_same_run(tmp_path):
    assert scale_table.measured(tmp_path) == "Nothing has been measured yet.\n"
    result = {
        "name": "ranks",
        "command": "python -m benchmarks ranks",
        "date": "2026-01-01",
        "machine": {"processor": "abacus", "cores": 4, "memory_gib": 8},
        "versions": {"seta": "0.1.0"},
        "rows": [
            {
                "run": {"samples": 10**6, "ranks": 4, "sharding": "sharded"},
                "received": 1_500_000,
                "choose_seconds": 0.02,
                "raw": [1, 2],
            },
            {"kind": "something else"},
        ],
    }
    (tmp_path / "ranks.json").write_text(json.dumps(result))
    lines = scale_table.measured(tmp_path).splitlines()
    assert lines[0] == (
        "`python -m benchmarks ranks`: 2026-01-01, abacus, 4 cores, 8 GiB; seta 0.1.0."
    )
    computed, measured = ([cell.strip() for cell in line.split("|")] for line in lines[4:])
    assert computed[1:4] == measured[1:4] == ["1,000,000", "4", "sharded"]
    assert computed[-2:] == ["computed", ""] and measured[-2:] == ["measured", ""]
    assert computed[7] == "1.57 MB"
    assert measured[4:9] == ["", "", "", "1.5 MB", "20 ms"]


@pytest.mark.parametrize("ranks", [1, 7, 240, 512])
def test_virtual_ranks_have_what_the_plan_says(simulation, ranks):
    row = simulate.simulate(simulation, ranks)
    planned = row["planned"]
    assert row["rows_of_rank"][1] == planned["rows"]
    assert row["chosen"] == planned["chosen"]
    assert row["share_of_rank"] == planned["share"]
    assert row["steps_of_rank"] == planned["steps"]
    assert row["merged_is_whole"] and row["same_as_one_rank"]


def test_virtual_ranks_that_divide_the_shards_have_equal_parts(simulation):
    row = simulate.simulate(simulation, 240)
    assert row["shards"] % 240 == 0
    least, most = row["samples_of_rank"]
    assert most - least <= row["shards"] // 240
    assert row["chosen_of_rank"][0] == row["chosen_of_rank"][1]
    assert row["left_over"] == 0


@pytest.mark.slow
def test_every_sample_belongs_to_one_virtual_rank(simulation):
    drawn = [simulation.drawn(rank, 512, 200_000, simulation.curve(200_000)) for rank in range(512)]
    together = np.concatenate(drawn)
    assert len(np.unique(together)) == len(together) == 200_000
    assert together.min() >= 0 and together.max() < 300_000


def test_virtual_ranks_count_losses_that_are_partly_unseen():
    losses = gamma_losses(50_000)
    losses[::3] = np.nan
    simulation = simulate.Simulation(50_000, losses)
    merged = simulation.counted(100)
    assert merged.unseen == np.isnan(losses).sum()
    assert np.array_equal(merged.counts, simulation.whole.counts)


def test_the_quick_simulation_prints_a_line_for_each_number_of_ranks(capsys, monkeypatch):
    monkeypatch.setattr(simulate, "QUICK", (20_000, (2, 3)))
    assert simulate.main(["--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(", ")[1] for line in lines] == ["ranks 2", "ranks 3"]
