"""The report says what the lines say: figures against independent references, and no crash."""

import json
import re
from dataclasses import replace
from itertools import combinations, pairwise
from statistics import fmean, mean, stdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from matplotlib.text import Annotation
from PIL import Image
from scipy.stats import ttest_1samp

from benchmarks.accuracy.report import check, heatmap, plots, write
from benchmarks.accuracy.report.figures import Figures
from benchmarks.accuracy.report.measures import ACCURACY, Measure
from benchmarks.accuracy.report.page import faults_of
from benchmarks.accuracy.report.plots import draw_by_wrong_share
from benchmarks.accuracy.report.questions import QUESTIONS
from benchmarks.accuracy.report.statistics import (
    saved_time,
    time_ratios,
    to_curve,
    to_reference,
)
from benchmarks.accuracy.report.studies import missing, studies
from benchmarks.accuracy.report.tables import at_budget, difference, full_curve, methods_table
from benchmarks.accuracy.report.topics import by_wrong_share, times, wrong_labels
from benchmarks.accuracy.suites import SUITES, Suite, Variant
from seta.comparison.contenders import EQUAL_COST, SMALLER
from seta.comparison.contenders import METHODS as ALL_METHODS
from seta.comparison.statistics import Difference
from seta.comparison.styles import OTHERS, STYLES
from seta.comparison.table import markdown
from seta.comparison.verdict import number
from tests.accuracy.synthetic import BUDGETS, METHODS, every_suite, line, lines, store
from tests.examples import examples

VARIANTS = {name: Variant("nothing:here", 12, 40_000) for name in ("improving", "saturated")}
PLANNED = Suite(
    "cifar10-small",
    VARIANTS,
    methods=tuple(method for method in ALL_METHODS if method != SMALLER),
    budgets=BUDGETS,
    curve=(0.1, 0.2, 0.85, 1.5),
    seeds=3,
)


def one(some):
    (study,) = studies(some)
    return study


@pytest.fixture(scope="module")
def study():
    return one(lines(seeds=5))


@pytest.fixture(scope="module")
def every():
    return studies(every_suite())


def written(folder, some, suites=()):
    """The pages that some lines give, by name."""
    where = (store(folder / "lines", some), folder / "results.md")
    planned = {suite.name: suite for suite in suites}
    write(*where, suites=planned)
    assert check(*where, suites=planned) == []
    return {path.name: path.read_text() for path in folder.rglob("*.md")}


# Statistics


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
    assert to_reference(bare, "SeTa", 0.5, "Full").seeds == 1


def test_saved_time_is_the_median_over_seeds_of_paired_ratios():
    full = [line("Full", 1.0, s, seconds=t) for s, t in enumerate((100.0, 200.0, 400.0))]
    seta = [line("SeTa", 0.5, s, seconds=t) for s, t in enumerate((60.0, 100.0, 160.0))]
    study = one(full + seta)
    assert saved_time(study, study.cell("SeTa", 0.5)) == pytest.approx(0.5)
    per_visit = time_ratios(study, study.cell("SeTa", 0.5), per_visit=True)
    assert per_visit == pytest.approx([1.2, 1.0, 0.8])


@pytest.mark.parametrize("waited", ["Full", "SeTa"])
def test_wall_times_of_runs_that_waited_for_other_programs_are_left_out(waited):
    machine = {"processor": "X", "device": "cpu"}
    times = {"Full": 100.0, "SeTa": 50.0}
    runs = [
        line(method, budget, seed, seconds=times[method], cpu_seconds=cpu, machine=machine)
        for method, budget in (("Full", 1.0), ("SeTa", 0.5))
        for seed in range(3)
        for cpu in [39.0 if (method, seed) == (waited, 1) else 49.0 if budget == 0.5 else 99.0]
    ]
    study = one(runs)
    cell = study.cell("SeTa", 0.5)
    assert time_ratios(study, cell) == pytest.approx([0.5, 0.5])
    assert len(time_ratios(study, cell, "without selection")) == 2
    assert len(time_ratios(study, cell, "cpu_seconds")) == 3


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
    text = markdown(("a|b", "number"), [("x | y", "1"), ("longer than that", "22")])
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
        (Difference(0.011, 0.01098, 3), "**+1.100 (0.002 to 2.198) better**"),
        (Difference(-0.0032, 0.0031999, 3), "**-0.32000 (-0.63999 to -0.00001) worse**"),
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


def test_wrong_labels_are_laid_out_by_their_share(every):
    noise = [study for study in every if study.suite == "noise"]
    text = wrong_labels(noise)
    header, full, *_ = cells_of(text.split("\n\n")[1])
    assert header == ["method", "0 % wrong", "10 % wrong", "20 % wrong", "40 % wrong"]
    assert full[0] == "Full"
    assert wrong_labels([study for study in every if study.suite == "digits"]) == ""


def test_the_picture_by_wrong_labels_has_the_means_of_full_and_of_all_at_half(every):
    noise = [study for study in every if study.suite == "noise"]
    ((rest, group),) = by_wrong_share(noise)
    assert (rest, [study.wrong_share for study in group]) == ("", [0.0, 0.1, 0.2, 0.4])
    (axes,) = draw_by_wrong_share(group).axes
    drawn = {bars.get_label(): np.asarray(bars[0].get_ydata(), float) for bars in axes.containers}
    assert list(drawn) == ["Full: all visits", EQUAL_COST, *group[0].compared(0.5)]
    for name, means in drawn.items():
        method, budget = ("Full", 1.0) if name.startswith("Full:") else (name, 0.5)
        cells = [study.cell(method, budget) for study in group]
        expected = [100 * np.mean([run["accuracy"] for run in cell.values()]) for cell in cells]
        np.testing.assert_allclose(means, expected)
    assert not list(by_wrong_share([study for study in every if study.suite == "digits"]))


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
    assert "/ SeTa 70 %, 50 % / Learnable 70 %, 50 %, 30 % / InfoBatch 70 %," in improving
    assert "/ SeTa as published / InfoBatch as published" in improving
    assert improving.endswith("; of seeds 0, 1, 2: SeTa 30 %")


def test_a_seed_that_no_cell_has_is_named_once():
    some = lines(seeds=2) + lines(variant="saturated")
    assert list(missing([PLANNED], studies(some))) == ["cifar10-small, improving: of seed 2 all"]


# Verdicts


def accuracies(method, budget, *values, **other):
    """A run per accuracy, with the seeds 0, 1, ..."""
    return [
        line(method, budget, seed, accuracy=value, visits=round(480_000 * (budget or 0.5)), **other)
        for seed, value in enumerate(values)
    ]


def verdict_lines(**other):
    """Beside Full at equal cost: UCB clearly better, Static clearly worse, BLS not told apart."""
    return [
        *accuracies("Full", 1.0, 0.80, 0.81, **other),
        *accuracies("Full at equal cost", 0.5, 0.70, 0.71, **other),
        *accuracies("UCB", 0.5, 0.75, 0.7601, **other),
        *accuracies("Static", 0.5, 0.60, 0.6101, **other),
        *accuracies("BLS", 0.5, 0.69, 0.72, **other),
        *accuracies("RS2", 0.5, 0.72, **other),
    ]


CONTROL = accuracies(SMALLER, 0.5, 0.76, 0.7702)


def figures(some, *suites):
    return Figures(studies(some), {suite.name: suite for suite in suites})


def test_a_control_is_a_reference_and_no_method_that_prunes():
    told = figures(verdict_lines() + CONTROL)
    header, *rows = cells_of(told.tallies())
    assert header == ["method", "to Full at equal cost", "to Full", f"to {SMALLER}"]
    counts = {row[0]: row[1:] for row in rows}
    assert counts[SMALLER] == ["1 / 0 / 0", "0 / 0 / 1", "reference"]
    assert counts["Full at equal cost"] == ["reference", "0 / 1 / 0", "0 / 0 / 1"]
    assert counts["UCB"] == ["1 / 0 / 0", "0 / 0 / 1", "0 / 0 / 1"]
    assert told.intervals() == figures(verdict_lines()).intervals() == "3"
    (study,) = told.studies
    header, *rows = cells_of(at_budget(study, 0.5))
    assert f"to {SMALLER}" in header
    assert len(rows) == 7
    assert SMALLER not in full_curve(study)
    assert full_curve(study) == full_curve(one(verdict_lines()))


def test_a_control_that_was_run_before_any_method_is_shown():
    told = figures([of for of in verdict_lines() if of["method"].startswith("Full")] + CONTROL)
    assert cells_of(told.tallies())[2][:2] == [SMALLER, "1 / 0 / 0"]
    assert SMALLER in at_budget(told.studies[0], 0.5)
    assert told.intervals() == "0"


def test_the_tally_counts_the_verdicts_of_the_tables(every):
    header, *rows = cells_of(Figures(every, {}).tallies())
    assert [row[0] for row in rows[:-1]] == ["Full at equal cost", *sorted_by_tally(rows[1:-1])]
    for row in rows[1:-1]:
        for reference, counts in zip(header[1:], row[1:], strict=True):
            ways = [
                to_reference(study, row[0], budget, reference.removeprefix("to "))
                for study in every
                for method, budget in study.cells
                if method == row[0]
            ]
            signs = [way.sign for way in ways if way]
            assert counts == " / ".join(str(signs.count(sign)) for sign in (1, 0, -1))
    total = [sum(int(row[1].split(" / ")[at]) for row in rows[1:-1]) for at in range(3)]
    assert rows[-1][1] == " / ".join(map(str, total))


def sorted_by_tally(rows):
    """The names, by the share of better less worse cells."""
    counts = {row[0]: [int(count) for count in row[1].split(" / ")] for row in rows}
    return sorted(counts, key=lambda name: (counts[name][2] - counts[name][0]) / sum(counts[name]))


def test_a_suite_that_does_not_count_has_its_page_and_no_part_in_the_tallies():
    first, again = lines(seeds=3), lines("again", seeds=3)
    plan = SUITES["cifar10-small"]
    plans = {plan.name: plan, "again": replace(plan, name="again", counts=False)}
    alone, both = (Figures(studies(some), plans) for some in (first, first + again))
    assert both.uncounted == ["again"] and both.tallies() == alone.tallies()
    assert both.of("again").uncounted == []  # its own page tells of it
    (row,) = (row for row in both.by_task().splitlines() if "again, improving" in row)
    assert "Static" in row


def test_the_prose_says_what_the_intervals_say():
    told = figures(verdict_lines())
    assert told.names(better=True, worse=False) == "UCB"
    assert told.names(better=False, worse=True) == "Static"
    assert told.names(better=False, worse=False) == "BLS"
    assert told.names(better=True, worse=True) == "none"
    assert told.farthest(1).startswith("UCB in cifar10-small, improving, 50 % saved: **+5.01 (4.9")
    assert told.farthest(-1).startswith("Static in cifar10-small, improving, 50 % saved: **-9.99")
    assert (told.intervals(), told.clear_intervals(), told.by_chance()) == ("3", "2", "0")
    assert told.tasks_won() == "1 of 1"
    assert (told.share(-1), told.share(1)) == ("2 of 3", "0 of 3")
    assert told.share(-1, method="Full at equal cost") == "0 of 1"


def test_the_words_follow_when_the_lines_turn_round():
    swap = {"UCB": "Static", "Static": "UCB"}
    turned = [of | {"method": swap.get(of["method"], of["method"])} for of in verdict_lines()]
    told = figures(turned)
    assert told.names(better=True, worse=False) == "Static"
    assert told.farthest(-1).startswith("UCB in ")


def test_a_task_names_what_is_clear_by_what_was_saved_and_counts_its_runs():
    more = accuracies("Full at equal cost", 0.3, 0.5, 0.6) + accuracies("RCAP", 0.3, 0.6, 0.7001)
    more += accuracies("UCB", 0.3, 0.61, 0.7101)
    told = figures(verdict_lines() + more + [line("Full", 1.0, 0, "own", "")], PLANNED)
    improving, saturated, own = cells_of(told.by_task("results"))[1:]
    link = '<a href="results/cifar10-small.md">cifar10-small, improving</a>'
    better = "50 % saved: UCB<br>70 % saved: UCB, RCAP"
    planned = 1 + len(BUDGETS) * (1 + len(METHODS)) + 2 + 4
    assert improving == [link, f"17 of {3 * planned}", better, "50 % saved: Static"]
    assert saturated == ["cifar10-small, saturated", f"0 of {3 * planned}", "–", "–"]  # noqa: RUF001
    assert own == ['<a href="results/own.md">own</a>', "1", "–", "–"]  # noqa: RUF001


def test_a_single_seed_is_in_the_picture_and_in_no_count():
    told = figures([of for of in verdict_lines() if of["seed"] == 0])
    assert (told.intervals(), told.tasks_won()) == ("0", "0 of 0")
    assert {one.method for one in told.to["Full at equal cost"]} == {"UCB", "Static", "BLS", "RS2"}


def test_figures_of_no_lines_say_none():
    told = figures([], PLANNED)
    assert told.tallies() == ""
    assert (told.farthest(1), told.names(better=True, worse=True)) == ("none", "none")
    assert told.share(1) == "0 of 0"


# Pages and pictures


def test_the_picture_of_a_task_has_each_method_at_its_true_place_and_says_what_it_shows(study):
    figure = plots.draw(study)
    left, right = figure.axes
    places = {}
    for container in left.containers:
        if container.get_label() != "Full":
            places[container.get_label()] = tuple(container.lines[0].get_xydata()[0])
    for (method, budget), cell in study.cells.items():
        if method not in ("Full", "Full at equal cost"):
            name = method if budget is None else f"{method} {budget:.4g}"
            share = fmean(line["visits"] / line["full_visits"] for line in cell.values())
            accuracy = fmean(line["accuracy"] for line in cell.values())
            assert places.pop(name) == pytest.approx((100 * share, 100 * accuracy))
    assert not places
    assert figure.texts[0].get_text().startswith(study.title)
    assert all(axes.get_xlabel() for axes in (left, right)) and left.get_ylabel()


def test_every_suite_has_a_page_and_every_task_a_small_picture(tmp_path):
    pages = written(tmp_path, lines() + lines(variant="saturated", steep=0.004), suites=[PLANNED])
    assert pages.keys() == {"results.md", "cifar10-small.md", "how-to-read.md"}
    page = pages["cifar10-small.md"]
    assert "Missing of what is planned" not in page
    assert QUESTIONS["cifar10-small"] in page
    for variant in ("improving", "saturated"):
        assert f"## cifar10-small, {variant}" in page
        path = tmp_path / "results" / f"cifar10-small-{variant}.png"
        assert f"({path.name})" in page
        assert path.stat().st_size < 100_000
        with Image.open(path) as picture:
            assert picture.size[0] == 1200
    assert "AMD EPYC, 2 cores, 23.5 GiB, threads a run: 1, runs at a time: 2" in page
    for saved in ("30 %", "50 %", "70 %"):
        assert page.count(f"**{saved} saved**") == 2


@pytest.mark.slow
def test_the_verdict_is_short_and_links_every_page_that_it_promises(tmp_path):
    same = {
        name: replace(
            suite,
            variants={
                of: replace(variant, epochs=12, samples=40_000)
                for of, variant in suite.variants.items()
            },
        )
        for name, suite in SUITES.items()
    }
    pages = written(tmp_path, every_suite(), suites=same.values())
    verdict = pages["results.md"]
    tasks = sum(len(suite.variants) for suite in SUITES.values())
    assert len(verdict.splitlines()) <= 85 + tasks
    for name, page in pages.items():
        folder = tmp_path if name == "results.md" else tmp_path / "results"
        for target in re.findall(r"\]\(([^)]+)\)", page):
            assert (folder / target).exists(), (name, target)
    for name in pages.keys() - {"results.md"}:
        assert f"(results/{name})" in verdict
    assert "![" in verdict.partition("\n## ")[0]


def test_a_page_names_its_gaps_and_the_verdict_counts_them(tmp_path):
    pages = written(tmp_path, lines(seeds=2), suites=[PLANNED])
    assert "- cifar10-small, improving: of seed 2 all.\n" in pages["cifar10-small.md"]
    assert "- cifar10-small, saturated: no runs yet.\n" in pages["cifar10-small.md"]
    assert re.search(r"cifar10-small, saturated +\| 0 of \d+ ", pages["results.md"])


def test_a_control_is_explained_where_it_was_run(tmp_path):
    assert SMALLER not in written(tmp_path / "a", verdict_lines())["results.md"]
    assert f"**{SMALLER}** is" in written(tmp_path / "b", verdict_lines() + CONTROL)["results.md"]


def test_tables_of_the_pages_are_set_off_and_whole(tmp_path):
    pages = written(tmp_path, lines())
    assert not any("\n\n\n" in page for page in pages.values())
    blocks = [b for page in pages.values() for b in page.split("\n\n") if b.startswith("|")]
    # Two of all suites; of the suite: tasks, curve, three budgets, published, policies, times.
    assert len(blocks) == 10
    for block in blocks:
        rows = block.strip().splitlines()
        assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {rows[0].count("|")}


def test_no_lines_at_all_give_a_page_that_says_so(tmp_path):
    pages = written(tmp_path, [], suites=[PLANNED])
    assert "No runs yet." in pages["results.md"]
    assert not list(tmp_path.rglob("*.png"))
    (tmp_path / "lines").rmdir()
    write(tmp_path / "lines", tmp_path / "other.md", suites={})


@examples(12)
@given(st.data())
def test_any_part_of_the_lines_gives_pages(tmp_path_factory, data):
    every_line = lines(seeds=2) + lines("noise", "wrong=0.1", 2, 0.1) + lines("noise", "", 1)
    every_line += CONTROL
    some = data.draw(st.lists(st.sampled_from(every_line), max_size=12, unique_by=id))
    gone = data.draw(st.sets(st.sampled_from(["seconds", "metrics", "task", "machine", "hardest"])))
    some = list({(of["suite"], of["variant"], of["method"], of["budget"], of["seed"]): of
                 for of in some}.values())  # fmt: skip
    some = [{name: of[name] for name in of if name not in gone} for of in some]
    pages = written(tmp_path_factory.mktemp("page"), some, suites=[PLANNED])
    assert pages["results.md"].startswith("# Results")
    assert len(pages) == 2 + len({of["suite"] for of in some})


def test_a_file_that_cannot_be_read_is_named_and_stops_nothing(tmp_path):
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "broken.jsonl").write_text("no json\n")
    page = written(tmp_path, lines(seeds=1))["results.md"]
    assert "`broken.jsonl` is left out: broken.jsonl, line 1 is no result of a run" in page


def test_settings_that_changed_between_runs_are_told(tmp_path):
    some = [line("Full", 1.0, 0), line("SeTa", 0.5, 0, task={"net": "other"})]
    pages = written(tmp_path, some)
    for name in ("results.md", "cifar10-small.md"):
        assert "the settings of the task changed between its runs" in pages[name]


def test_the_same_lines_in_another_order_give_the_same_tables(study):
    mixed = one(sorted(lines(seeds=5), key=lambda of: json.dumps(of["seconds"])))
    assert [at_budget(mixed, b) for b in BUDGETS] == [at_budget(study, b) for b in BUDGETS]
    assert full_curve(mixed) == full_curve(study)


def test_methods_that_are_level_stand_in_the_order_of_the_list():
    level_ones = [of | {"method": "Random"} for of in verdict_lines() if of["method"] == "UCB"]
    some = verdict_lines() + level_ones
    there, back = figures(some), figures(some[::-1])
    assert [row[0] for row in cells_of(there.tallies())[2:4]] == ["Random", "UCB"]
    assert "50 % saved: Random, UCB" in there.by_task()
    assert (there.tallies(), there.by_task()) == (back.tallies(), back.by_task())
    assert at_budget(there.studies[0], 0.5) == at_budget(back.studies[0], 0.5)


def test_check_tells_pages_of_other_lines_and_pictures_that_are_gone(tmp_path):
    written(tmp_path, lines(seeds=1))
    (tmp_path / "results" / "cifar10-small-improving.png").unlink()
    (tmp_path / "results" / "verdict.png").unlink()
    store(tmp_path / "lines", [line("SeTa", 0.5, 7)])
    faults = check(tmp_path / "lines", tmp_path / "results.md", suites={})
    assert [fault.partition(":")[0] for fault in faults] == [
        "results.md is not what the lines give",
        "cifar10-small.md is not what the lines give",
        "cifar10-small-improving.png is missing",
        "verdict.png is missing",
    ]


@pytest.mark.slow
def test_pages_and_pictures_of_suites_that_are_gone_are_named_and_removed(tmp_path):
    written(tmp_path, lines(seeds=1) + lines("old", "", 1))
    (tmp_path / "lines" / "old.jsonl").unlink()
    where = (tmp_path / "lines", tmp_path / "results.md")
    faults = [fault.partition(":")[0] for fault in check(*where, suites={})]
    gone = ["old.md", "old.png"]
    assert faults[1:] == [f"{name} is of no suite any more" for name in gone]
    write(*where, suites={})
    assert check(*where, suites={}) == []
    assert not any((tmp_path / "results" / name).exists() for name in gone)


def test_every_planned_suite_has_a_question():
    missing_ones = SUITES.keys() - QUESTIONS.keys()
    assert not missing_ones, "say in report/questions.py what they ask"


# The picture of the verdict


def drawn(some, reference="Full at equal cost"):
    """The panels of the picture: per budget, the texts of the cells, by method and task."""
    found = figures(some).to[reference]
    figure = heatmap.draw(found, reference)
    titles = [panel.budget for panel in heatmap.panels(found)]
    panels = {}
    for budget, axes in zip(titles, figure.axes[1:], strict=True):
        tasks = [label.get_text().replace("\n", ", ") for label in axes.get_xticklabels()]
        methods = [label.get_text() for label in axes.get_yticklabels()]
        panels[budget] = {
            (methods[int(text.get_position()[1])], tasks[int(text.get_position()[0])]): text
            for text in axes.texts
            if not isinstance(text, Annotation)
        }
    return figure, panels


def test_the_picture_has_a_figure_per_cell_and_marks_those_that_are_clear():
    other = accuracies("UCB", 0.5, 0.5, 0.7, suite="noise") + accuracies(
        "Full at equal cost", 0.5, 0.72, 0.72, suite="noise"
    )
    _, panels = drawn(verdict_lines() + other)
    task, noise = "cifar10-small, improving", "noise, improving"
    texts = {at: text.get_text() for at, text in panels[0.5].items()}
    assert texts == {
        ("UCB", task): "+5.0", ("RS2", task): "+2.0", ("BLS", task): "0.0",
        ("Static", task): "-10", ("UCB", noise): "-12",
    }  # fmt: skip
    bold = {at for at, text in panels[0.5].items() if text.get_fontweight() == "bold"}
    assert bold == {("UCB", task), ("Static", task)}


def test_the_picture_has_a_panel_per_budget_with_all_cells(every):
    some = [of for study in every for of in study.lines]
    figure, panels = drawn(some)
    assert list(panels) == [0.7, 0.5, 0.3, None]
    assert sum(map(len, panels.values())) == len(figures(some).to["Full at equal cost"])
    for axes in figure.axes:
        box = axes.get_position()
        assert 0 <= box.x0 < box.x1 <= 1 and 0 <= box.y0 < box.y1 <= 1
    for one_axes, other in combinations(figure.axes, 2):
        assert not one_axes.get_position().overlaps(other.get_position())


def test_references_stand_first_in_the_picture():
    _, panels = drawn(verdict_lines() + CONTROL)
    assert next(iter(panels[0.5]))[0] == SMALLER


def test_no_two_methods_of_a_budget_look_alike():
    assert len(set(METHODS) - set(STYLES)) <= 1, "give the new ones a style of their own in STYLES"
    drawn = [STYLES.get(name, OTHERS[0])[:2] for name in (*METHODS, SMALLER)]
    assert len(set(drawn)) == len(drawn)
    assert len({marker for _, marker in drawn}) == len(drawn)


@pytest.mark.parametrize(("visits", "told"), [(1280, False), (1288, True)])
def test_runs_with_a_short_last_batch_are_named(visits, told):
    some = line("SeTa", 0.5, 0, visits=visits, task={"batch_size": 128})
    faults = faults_of(studies([some]))
    assert any("ended epochs in a batch of few samples" in fault for fault in faults) is told


def test_runs_of_another_length_or_size_are_named_and_never_pooled():
    suite = replace(PLANNED, variants={"improving": Variant("", epochs=12, samples=40_000)})
    of_plan = [line("SeTa", 0.5, seed) for seed in (3, 4)]
    other = [line("SeTa", 0.5, seed, full_epochs=6) for seed in (0, 1, 2)]
    small = [line("SeTa", 0.5, 5, n=10_000)]

    (study,) = studies(other + of_plan + small, {suite.name: suite})
    assert set(study.cell("SeTa", 0.5)) == {3, 4}
    assert faults_of([study]) == [
        "cifar10-small, improving: 1 run of 12 epochs of Full on 10,000 samples, planned: "
        "12 epochs of Full on 40,000 samples; left out",
        "cifar10-small, improving: 3 runs of 6 epochs of Full on 40,000 samples, planned: "
        "12 epochs of Full on 40,000 samples; left out",
    ]
    (study,) = studies(other + small, {suite.name: suite})
    assert set(study.cell("SeTa", 0.5)) == {0, 1, 2}
    assert sum(fault.endswith("; left out") for fault in faults_of([study])) == 1
    (study,) = studies(other + of_plan)
    assert set(study.cell("SeTa", 0.5)) == {0, 1, 2} and "left out" in faults_of([study])[0]
