"""The report says what the lines say: figures against independent references, and no crash."""

import json
import re
from dataclasses import replace
from itertools import pairwise
from statistics import mean, stdev

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from PIL import Image
from scipy.stats import ttest_1samp, ttest_rel

from benchmarks.accuracy.report import check, write
from benchmarks.accuracy.report.figures import ABSENT, Figures
from benchmarks.accuracy.report.measures import ACCURACY, Measure
from benchmarks.accuracy.report.plots import OTHER, STYLES
from benchmarks.accuracy.report.statistics import (
    Difference,
    between,
    mean_and_spread,
    paired_difference,
    saved_time,
    time_ratios,
    to_curve,
    to_full,
)
from benchmarks.accuracy.report.studies import Study, missing, studies
from benchmarks.accuracy.report.tables import (
    at_budget,
    difference,
    full_curve,
    level,
    methods_table,
    number,
    overview,
    short,
    table,
)
from benchmarks.accuracy.report.topics import times, wrong_labels
from benchmarks.accuracy.suites import Suite, Variant
from tests.accuracy.synthetic import BUDGETS, METHODS, every_suite, line, lines, store

SHARES = st.floats(0.0, 1.0, allow_nan=False)
BY_SEED = st.dictionaries(st.integers(0, 9), SHARES, min_size=2)
VARIANTS = {name: Variant("nothing:here", 12, 40_000) for name in ("improving", "saturated")}
PLANNED = Suite("cifar10-small", VARIANTS, curve=(0.1, 0.2, 0.85, 1.5))


def one(some):
    (study,) = studies(some)
    return study


@pytest.fixture(scope="module")
def study():
    return one(lines(seeds=5))


@pytest.fixture(scope="module")
def every():
    return studies(every_suite())


def written(folder, some, summary="", suites=()):
    """The page that some lines give, and the folder of its pictures."""
    store(folder / "lines", some)
    (folder / "summary.md").write_text(summary)
    where = (folder / "lines", folder / "results.md")
    options = {"summary_file": folder / "summary.md", "suites": {s.name: s for s in suites}}
    write(*where, **options)
    assert check(*where, **options) == []
    return (folder / "results.md").read_text()


# Statistics


@given(BY_SEED, st.integers(0, 2**32 - 1))
def test_a_paired_difference_is_that_of_scipys_paired_test(values, seed):
    noise = np.random.default_rng(seed).normal(0, 0.1, len(values))
    reference = {s: float(v + e) for (s, v), e in zip(values.items(), noise, strict=True)}
    found = paired_difference(values, reference)
    expected = ttest_rel(list(values.values()), list(reference.values())).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert found.seeds == len(values)


def test_a_paired_difference_by_hand():
    # Differences 1, 2, 3: mean 2, deviation 1, t(0.975, 2) = 4.3027.
    found = paired_difference({0: 2.0, 1: 4.0, 2: 6.0}, {0: 1.0, 1: 2.0, 2: 3.0})
    assert found.mean == 2.0
    assert found.half == pytest.approx(4.302652729911275 / 3**0.5)
    assert found.sign == 0


@given(BY_SEED, BY_SEED, st.dictionaries(st.integers(0, 9), st.floats(-1, 1)))
def test_what_a_seed_does_to_all_its_runs_does_not_change_a_paired_difference(a, b, shifts):
    before = paired_difference(a, b)
    moved = [{s: v + shifts.get(s, 0.0) for s, v in values.items()} for values in (a, b)]
    after = paired_difference(*moved)
    if before is None:
        assert after is None
    else:
        assert after.mean == pytest.approx(before.mean, abs=1e-12)
        assert (after.half or 0) == pytest.approx(before.half or 0, abs=1e-7)


@given(BY_SEED, BY_SEED)
def test_turning_a_difference_around_turns_its_sign(a, b):
    there, back = paired_difference(a, b), paired_difference(b, a)
    if there is not None:
        assert there.mean == -back.mean
        assert there.sign == -back.sign


def test_only_common_seeds_are_paired_and_none_gives_no_difference():
    assert paired_difference({0: 1.0, 1: 5.0}, {1: 2.0, 2: 0.0}) == Difference(3.0, None, 1)
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


def test_one_seed_gives_no_interval_and_no_verdict():
    alone = paired_difference({0: 0.9}, {0: 0.1})
    assert (alone.low, alone.high, alone.sign) == (None, None, 0)
    assert mean_and_spread({0: 0.9}) == (0.9, None)


def test_equal_differences_have_an_interval_without_width_and_no_verdict():
    equal = paired_difference({0: 1.0, 1: 2.0}, {0: 0.5, 1: 1.5})
    assert (equal.low, equal.high, equal.sign) == (0.5, 0.5, 0)
    assert paired_difference({0: 0.1, 1: 0.8}, {0: 0.0, 1: 0.7}).sign == 0  # equal but for rounding
    assert paired_difference({0: 1.0, 1: 2.0}, {0: 0.5, 1: 1.49}).sign == 1


def test_intervals_cover_the_truth_as_often_as_they_say():
    draws = np.random.default_rng(0).normal(0.3, 1.0, (4000, 4))
    found = [paired_difference(dict(enumerate(d)), dict.fromkeys(range(4), 0.0)) for d in draws]
    covered = mean(way.low <= 0.3 <= way.high for way in found)
    assert covered == pytest.approx(0.95, abs=0.015)


@given(st.lists(st.tuples(SHARES, SHARES), min_size=1, unique_by=lambda p: p[0]), SHARES)
def test_between_is_numpys_interpolation_inside_and_nothing_outside(points, x):
    points = sorted(points)
    found = between(points, x)
    if len(points) < 2 or not points[0][0] <= x <= points[-1][0]:
        assert found is None
    else:
        assert found == pytest.approx(np.interp(x, *zip(*points, strict=True)), abs=1e-9)


def test_the_distance_to_the_curve_is_to_full_at_equal_cost_where_that_was_run(study):
    found = to_curve(study, "SeTa", 0.5)
    pairs = [(study.cell(m, 0.5)[s]["accuracy"]) for m in ("SeTa", "Full at equal cost")
             for s in range(5)]  # fmt: skip
    expected = ttest_1samp(np.subtract(pairs[:5], pairs[5:]), 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    assert not found.interpolated


def test_elsewhere_the_distance_is_to_the_line_between_the_seeds_own_lengths(study):
    found = to_curve(study, "SeTa as published", None)  # at 0.62, between 0.5 and 0.7
    differences = []
    for seed, of in study.cell("SeTa as published", None).items():
        low, high = (study.cell("Full at equal cost", b)[seed]["accuracy"] for b in (0.5, 0.7))
        differences.append(of["accuracy"] - (0.4 * low + 0.6 * high))
    assert found.interpolated
    assert found.mean == pytest.approx(mean(differences))


def test_no_curve_gives_no_distance():
    bare = one([line("SeTa", 0.5, 0), line("Full", 1.0, 0)])
    assert to_curve(bare, "SeTa", 0.5) is None
    assert to_full(bare, bare.cell("SeTa", 0.5)).seeds == 1


def test_saved_time_is_the_median_over_seeds_of_paired_ratios():
    full = [line("Full", 1.0, s, seconds=t) for s, t in enumerate((100.0, 200.0, 400.0))]
    seta = [line("SeTa", 0.5, s, seconds=t) for s, t in enumerate((60.0, 100.0, 160.0))]
    study = one(full + seta)
    assert saved_time(study, study.cell("SeTa", 0.5)) == pytest.approx(0.5)
    per_visit = time_ratios(study, study.cell("SeTa", 0.5), per_visit=True)
    assert per_visit == pytest.approx([1.2, 1.0, 0.8])


@pytest.mark.parametrize("other", [{"jobs": 1}, {"threads": 2}, {"machine": {"processor": "X"}}])
def test_times_taken_under_other_conditions_are_not_compared(other):
    study = one([line("Full", 1.0, 0, **other), line("SeTa", 0.5, 0)])
    assert saved_time(study, study.cell("SeTa", 0.5)) is None


# Tables


def cells_of(text):
    """A Markdown table read back by a parser that is not ours: rows of texts."""
    html = MarkdownIt().enable("table").render(text)
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]


def test_tables_are_aligned_and_read_back_with_pipes_in_them():
    text = table(("a|b", "number"), [("x | y", "1"), ("longer than that", "22")])
    assert len({len(row) for row in text.splitlines()}) == 1
    assert cells_of(text) == [["a|b", "number"], ["x | y", "1"], ["longer than that", "22"]]


@pytest.mark.parametrize(
    ("value", "text"),
    [(-0.351, "-0.35"), (0.1, "+0.10"), (-0.0001, "0.00"), (0.0, "0.00"), (12.0, "+12.00")],
)
def test_signed_numbers(value, text):
    assert number(value, 2, signed=True) == text


@pytest.mark.parametrize(
    ("way", "text"),
    [
        (Difference(-0.0035, 0.0046, 3), "-0.35 (-0.81 to 0.11)"),
        (Difference(-0.0120, 0.0040, 3), "**-1.20 (-1.60 to -0.80) worse**"),
        (Difference(0.0120, 0.0040, 3), "**+1.20 (0.80 to 1.60) better**"),
        (Difference(0.0120, None, 1), "+1.20"),
        (Difference(0.0020, 0.0040, 3, interpolated=True), "~ +0.20 (-0.20 to 0.60)"),
        (None, "–"),  # noqa: RUF001
    ],
)
def test_a_difference_says_in_a_word_where_it_is_clear(way, text):
    assert difference(way, ACCURACY) == text


def test_of_a_loss_the_lower_one_is_better():
    loss = Measure("loss", "loss", 1.0, 3, lower_is_better=True)
    assert difference(Difference(-0.2, 0.1, 3), loss) == "**-0.200 (-0.300 to -0.100) better**"


def test_the_overview_marks_what_is_clear():
    marks = [short(Difference(m, 0.01, 3)) for m in (-0.02, 0.0, 0.02)]
    assert marks == ["-2.00 ▼", "0.00", "+2.00 ▲"]


def test_the_table_of_a_budget_has_every_method_with_full_sorted_by_accuracy(study):
    header, *rows = cells_of(at_budget(study, 0.5))
    names = [row[0] for row in rows]
    assert sorted(names) == sorted([*METHODS, "Full", "Full at equal cost"])
    accuracies = [float(row[header.index("accuracy %")].split()[0]) for row in rows]
    assert all(a >= b for a, b in pairwise(accuracies))
    assert {row[header.index("seeds")] for row in rows} == {"5"}
    seta = rows[names.index("SeTa")]
    values = [100 * of["accuracy"] for of in study.cell("SeTa", 0.5).values()]
    assert seta[header.index("accuracy %")] == f"{mean(values):.2f} ± {stdev(values):.2f}"
    assert seta[header.index("saved: samples %")] == "50.0"


def test_columns_that_nothing_is_known_for_are_left_out(study, every):
    assert "wrong labels" not in at_budget(study, 0.5)
    noisy = next(s for s in every if s.variant == "wrong=0.2")
    assert "wrong labels among trained %" in at_budget(noisy, 0.5)
    assert "50 / 60" in at_budget(noisy, 0.5)


def test_suites_have_the_columns_of_what_else_they_measure(every):
    by_suite = {s.suite: at_budget(s, 0.5) for s in every}
    assert "rare classes %: to Full" in by_suite["imbalance"]
    assert "held-out loss" in by_suite["instruction"]
    assert "exact match %" in by_suite["instruction"]
    assert "rare" not in by_suite["digits"]


def test_fulls_own_curve_goes_from_the_longest_run_to_the_shortest(study):
    _, *rows = cells_of(full_curve(study))
    assert [row[0] for row in rows] == [
        "150.0 %", "100.0 %", "85.0 %", "70.0 %", "50.0 %", "30.0 %", "20.0 %", "10.0 %",
    ]  # fmt: skip
    assert rows[1][-1] == "reference"


def test_the_overview_has_a_row_per_task_and_counts_verdicts(every):
    header, *rows = cells_of(overview(every, curve=True))
    assert header == ["task", *METHODS]
    assert len(rows) == len(every) + 1
    for counts in rows[-1][1:]:
        assert sum(map(int, counts.split(" / "))) == len(every)


def test_wrong_labels_are_laid_out_by_their_share(every):
    noise = [study for study in every if study.suite == "noise"]
    text = wrong_labels(noise)
    header, full, *_ = cells_of(text.split("\n\n")[1])
    assert header == ["method", "0 % wrong", "10 % wrong", "20 % wrong", "40 % wrong"]
    assert full[0] == "Full"
    assert wrong_labels([study for study in every if study.suite == "digits"]) == ""


def test_a_hardest_group_that_is_empty_has_no_precision():
    odd = {"precision": None, "recall": 0.0}
    text = methods_table(one([line("Full", 1.0, 0, hardest=odd)]), [("Full", 1.0)])
    assert "– / 0" in text  # noqa: RUF001


def test_time_per_sample_is_told_beside_fulls():
    runs = [line("Full", 1.0, 0, seconds=100.0, cpu_seconds=100.0, select_seconds=0.0)]
    runs += [line("SeTa", 0.5, 0, seconds=51.0, cpu_seconds=50.0, select_seconds=1.0)]
    _, row = cells_of(times(studies(runs)))
    assert row[1:] == [
        "1", "1.020 (1.020 to 1.020)", "1 of 1", "1.000 (1.000 to 1.000)", "1.96",
        "1.000 (1.000 to 1.000)",
    ]  # fmt: skip


# What is missing


def test_nothing_is_missing_where_all_planned_runs_are_there():
    some = lines() + lines(variant="saturated")
    assert list(missing([PLANNED], studies(some))) == []


def test_runs_seeds_variants_and_suites_that_are_missing_are_named():
    some = [of for of in lines() if of["seed"] != 2 or of["method"] == "Full"]
    some = [of for of in some if (of["method"], of["budget"]) != ("SeTa", 0.3)]
    other = replace(PLANNED, name="other", methods=("Full",))
    found = list(missing([PLANNED, other], studies(some)))
    improving, saturated, unknown = found
    assert saturated == "cifar10-small, saturated: no runs yet"
    assert unknown == "other: no runs yet"
    assert improving.startswith("cifar10-small, improving: of seed 2: Full at equal cost 70 %, 50")
    assert "/ SeTa 70 %, 50 % / InfoBatch 70 %, 50 %, 30 % /" in improving
    assert "/ SeTa as published / InfoBatch as published" in improving
    assert improving.endswith("; of seeds 0, 1, 2: SeTa 30 %")


def test_a_seed_that_no_cell_has_is_named_once():
    some = lines(seeds=2) + lines(variant="saturated")
    assert list(missing([PLANNED], studies(some))) == ["cifar10-small, improving: of seed 2 all"]


# Figures of the summary


def test_the_summary_names_figures_and_gets_those_of_the_tables(tmp_path, study):
    summary = (
        '{{ difference("cifar10-small", "improving", "SeTa", 0.5) }}\n'
        '{{ accuracy("cifar10-small", "improving") }}\n'
        '{{ saved("cifar10-small", "improving", "SeTa as published", None) }}\n'
    )
    page = written(tmp_path, lines(seeds=5), summary)
    way = to_full(study, study.cell("SeTa", 0.5))
    assert f"{100 * way.mean:+.2f} points (95 % interval {100 * way.low:.2f} to" in page
    assert f"{level(study.full, ACCURACY)} %" in page
    assert "\n38.0 %\n" in page


def test_every_figure_can_be_asked_for_and_is_absent_where_nothing_was_run(every):
    at = ("noise", "wrong=0.2", "SeTa", 0.5)
    asked = {
        "accuracy": at, "difference": at, "distance": at, "wrong": at, "saved": (*at, "wall"),
        "against": ("noise", "wrong=0.2", "SeTa", "Random", 0.5), "metric": (*at, "loss"),
        "metric_difference": (*at, "loss"), "best": (*at[:2], 0.5), "ranking": (*at[:2], 0.5),
        "worse": (*at[:2], 0.5), "better": (*at[:2], 0.5, "Full at equal cost"),
        "hardest": (*at, "precision"), "time_per_sample": at[:2], "across": ("SeTa", 0.5),
        "tally": ("SeTa", 0.5, -1), "runs": ("noise",), "seeds": at, "intervals": (),
        "clear_intervals": (),
    }  # fmt: skip
    full, empty = Figures(every).functions(), Figures([]).functions()
    assert asked.keys() == full.keys()
    for name, arguments in asked.items():
        assert ABSENT not in full[name](*arguments), name
        assert empty[name](*arguments) in (ABSENT, "0"), name


@pytest.mark.parametrize("to", ["Full", "Full at equal cost"])
def test_the_tally_is_what_the_overview_counts(every, to):
    header, *rows = cells_of(overview(every, curve=to != "Full"))
    counted = rows[-1][header.index("SeTa")].split(" / ")
    tallies = [Figures(every).tally("SeTa", 0.5, sign, to) for sign in (-1, 0, 1)]
    assert [text.split(" of ")[0] for text in tallies] == counted
    assert {text.split(" of ")[1] for text in tallies} == {str(sum(map(int, counted)))}


def test_a_figure_of_nothing_known_says_the_rule():
    with pytest.raises(ValueError, match="to must be 'Full' or 'Full at equal cost'; got 'full'"):
        Figures([Study("a", "", {("SeTa", 0.5): {}})]).across("SeTa", 0.5, to="full")


# Page and pictures


def test_the_page_shows_every_task_and_its_picture_is_small(tmp_path):
    page = written(tmp_path, lines() + lines(variant="saturated", steep=0.004), suites=[PLANNED])
    assert "Nothing: all runs that the suites plan are there." in page
    for variant in ("improving", "saturated"):
        assert f"### cifar10-small, {variant}" in page
        path = tmp_path / "results" / f"cifar10-small-{variant}.png"
        assert f"(results/{path.name})" in page
        assert path.stat().st_size < 60_000
        with Image.open(path) as picture:
            assert picture.size[0] == 1200
    assert "AMD EPYC, 2 cores, 23.5 GiB, threads a run: 1, runs at a time: 2" in page
    for saved in ("30 %", "50 %", "70 %"):
        assert page.count(f"**{saved} saved**") == 2


def test_tables_of_the_page_are_set_off_and_whole(tmp_path):
    page = written(tmp_path, lines())
    assert "\n\n\n" not in page
    blocks = [b for b in page.split("\n\n") if "|" in b and b.startswith("|")]
    assert len(blocks) == 9  # two overviews, times, curve, three budgets, published, policies
    for block in blocks:
        rows = block.strip().splitlines()
        assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {rows[0].count("|")}


def test_no_lines_at_all_give_a_page_that_says_so(tmp_path):
    page = written(tmp_path, [], suites=[PLANNED])
    assert "No runs yet." in page
    (tmp_path / "lines").rmdir()
    write(tmp_path / "lines", tmp_path / "other.md", suites={})


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_any_part_of_the_lines_gives_a_page(tmp_path_factory, data):
    every_line = lines(seeds=2) + lines("noise", "wrong=0.1", 2, 0.1) + lines("noise", "", 1)
    some = data.draw(st.lists(st.sampled_from(every_line), max_size=12, unique_by=id))
    gone = data.draw(st.sets(st.sampled_from(["seconds", "metrics", "task", "machine", "hardest"])))
    some = [{name: of[name] for name in of if name not in gone} for of in some]
    page = written(tmp_path_factory.mktemp("page"), some)
    assert page.startswith("# Results")


def test_a_file_that_cannot_be_read_is_named_and_stops_nothing(tmp_path):
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "broken.jsonl").write_text("no json\n")
    page = written(tmp_path, lines(seeds=1))
    assert "`broken.jsonl` is left out: broken.jsonl, line 1 is no result of a run" in page


def test_settings_that_changed_between_runs_are_told(tmp_path):
    page = written(tmp_path, [line("Full", 1.0, 0), line("SeTa", 0.5, 0, task={"net": "other"})])
    assert "the settings of the task changed between its runs" in page


def test_the_same_lines_in_another_order_give_the_same_tables(study):
    mixed = one(sorted(lines(seeds=5), key=lambda of: json.dumps(of["seconds"])))
    assert [at_budget(mixed, b) for b in BUDGETS] == [at_budget(study, b) for b in BUDGETS]
    assert full_curve(mixed) == full_curve(study)


def test_check_tells_a_page_of_other_lines_and_pictures_that_are_gone(tmp_path):
    written(tmp_path, lines(seeds=1))
    options = {"summary_file": tmp_path / "summary.md", "suites": {}}
    (tmp_path / "results" / "cifar10-small-improving.png").unlink()
    store(tmp_path / "lines", [line("SeTa", 0.5, 7)])
    changed, gone = check(tmp_path / "lines", tmp_path / "results.md", **options)
    assert changed.startswith("results.md is not what the lines give")
    assert gone.startswith("cifar10-small-improving.png is missing")


def test_pictures_that_the_page_does_not_show_are_removed(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "old.png").write_bytes(b"")
    written(tmp_path, lines(seeds=1))
    assert [p.name for p in (tmp_path / "results").iterdir()] == ["cifar10-small-improving.png"]


def test_no_two_methods_of_a_budget_look_alike():
    assert len(set(METHODS) - set(STYLES)) <= 1, "give the new ones a style of their own in STYLES"
    drawn = [STYLES.get(name, OTHER)[:2] for name in METHODS]
    assert len(set(drawn)) == len(METHODS)
    assert len({marker for _, marker in drawn}) == len(METHODS)
