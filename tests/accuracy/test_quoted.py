"""Pages written by hand get their figures from the lines, and advise nothing that these refute."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.accuracy.report import LINES, check, quoted, write
from benchmarks.accuracy.report.figures import Figures
from benchmarks.accuracy.report.statistics import to_reference, values_of
from benchmarks.accuracy.report.studies import read, studies
from benchmarks.accuracy.report.tables import at_budget
from benchmarks.accuracy.report.verdicts import tally
from benchmarks.accuracy.rivals import CUT, QUOTAS, RESAMPLED
from benchmarks.accuracy.suites import SUITES
from seta.comparison.contenders import AT_BUDGET, METHODS, REFERENCES, SMALLER
from seta.comparison.statistics import paired_difference
from tests.accuracy.synthetic import lines, store

DOCS = Path(__file__).resolve().parents[2] / "docs"
QUOTING = [path for path, _ in quoted.quoting(DOCS / "results.md")]
GUIDE = (DOCS / "which-method.md").read_text()


MADE = [line for line in lines(seeds=3) if line["method"] in ("SeTa", "RS2", *REFERENCES)]


def page_of(marker, some=MADE, suites=()):
    """The page that a marker gives, of some lines, and the suites that plan more."""
    figures = Figures(studies(some), {name: SUITES[name] for name in suites})
    text = f"Before.\n\n<!-- {marker} -->\nold\n<!-- end -->\n\nAfter.\n"
    return quoted.filled(text, figures, pages="results")


def rows_of(page):
    """The rows of a page's tables."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.splitlines()
        if line.startswith("|")
    ]


def test_a_marker_is_filled_with_the_differences_of_the_suites_own_page():
    page = page_of("results: cifar10-small: SeTa, SeTa to Full, Full at equal cost")
    assert page.startswith("Before.\n") and page.endswith("After.\n") and "old" not in page
    heads, _, *rows = rows_of(page)
    assert heads[2:] == ["SeTa", "SeTa to Full", "Full at equal cost to Full", "seeds"]
    (study,) = studies(MADE)
    for row, budget in zip(rows, (0.7, 0.5, 0.3), strict=True):
        own = {cells[0]: cells for cells in rows_of(at_budget(study, budget))}
        assert row[2:] == [own["SeTa"][4], own["SeTa"][3], own["Full at equal cost"][3], "3"]


def test_a_marker_may_ask_for_one_budget():
    rows = rows_of(page_of("results: cifar10-small@0.5: SeTa"))[2:]
    assert [row[1] for row in rows] == ["50 %"]
    assert rows[0] in rows_of(page_of("results: cifar10-small: SeTa"))


def test_tasks_come_in_the_order_of_the_marker_and_once():
    two = [*MADE, *({**line, "variant": "saturated"} for line in MADE)]
    at = "cifar10-small/saturated cifar10-small"
    tasks = [row[0] for row in rows_of(page_of(f"results: {at}: SeTa", two))[2:]]
    assert ["saturated" in task for task in tasks] == [True] * 3 + [False] * 3


def test_tallies_have_the_methods_that_are_asked_for():
    assert [row[0] for row in rows_of(page_of("tallies: RS2, SeTa"))[2:]] in (
        ["RS2", "SeTa"],
        ["SeTa", "RS2"],
    )


def test_a_column_may_be_compared_with_any_method():
    rows = rows_of(page_of("results: cifar10-small@0.5: SeTa to RS2, RS2 to SeTa"))
    assert rows[0][2:4] == ["SeTa to RS2", "RS2 to SeTa"]
    (study,) = studies(MADE)
    way = to_reference(study, "SeTa", 0.5, "RS2")
    mean = np.mean(
        [
            study.cell("SeTa", 0.5)[seed]["accuracy"] - study.cell("RS2", 0.5)[seed]["accuracy"]
            for seed in range(3)
        ]
    )
    assert way.mean == pytest.approx(mean) and f"{100 * mean:+.2f}" in rows[2][2]
    assert f"{-100 * mean:+.2f}" in rows[2][3]


def test_pooled_figures_are_means_over_cells_by_seed_with_the_interval_of_these_means():
    (study,) = studies(MADE)
    page = page_of("pooled: cifar10-small: SeTa, RCAP, RS2 to Full, Full at equal cost")
    heads, _, *rows = rows_of(page)
    assert heads == ["mean difference", "cells", "points", "seeds"]
    assert [row[0] for row in rows] == [
        "SeTa to Full at equal cost",
        "RS2 to Full",
        "Full at equal cost to Full",
    ]
    assert {row[1] for row in rows} == {"3"} == {row[3] for row in rows}
    by_seed = [
        np.mean(
            [
                study.cell("SeTa", at)[seed]["accuracy"]
                - study.cell("Full at equal cost", at)[seed]["accuracy"]
                for at in (0.7, 0.5, 0.3)
            ]
        )
        for seed in range(3)
    ]
    low, high = stats.t.interval(0.95, 2, np.mean(by_seed), stats.sem(by_seed))
    assert f"{100 * np.mean(by_seed):+.2f} ({100 * low:.2f} to {100 * high:.2f})" in rows[0][2]
    waiting = page_of("pooled: cifar10-small@0.5: SeTa", MADE, ["cifar10-small"])
    assert rows_of(waiting)[2][3] == "3, provisional"  # "saturated" has no run yet
    one = page_of("pooled: cifar10-small@0.5: SeTa")
    assert rows_of(one)[2][2] == rows_of(page_of("results: cifar10-small@0.5: SeTa"))[2][2]


def test_runs_that_are_missing_or_to_be_made_again_are_provisional():
    def seeds(some, suites=()):
        rows = rows_of(page_of("results: noise-long: SeTa", some, suites))[2:]
        return {row[1]: row[-1] for row in rows}

    at = {"suite": "noise-long", "variant": "wrong=0"}
    made = [{**line, **at} for line in MADE]
    ragged = [{**line, "visits": line["visits"] + 1} for line in made]
    assert set(seeds(made).values()) == {"3"}
    assert set(seeds(ragged).values()) == {"3, provisional"}
    assert seeds(made, ["noise-long"])["50 %"] == "3, provisional"  # others are planned


def test_a_page_that_quotes_other_figures_is_told_of(tmp_path):
    tmp_path = tmp_path / "docs"
    tmp_path.mkdir()
    where, guide = (tmp_path / "lines", tmp_path / "results.md"), tmp_path / "guide.md"
    store(where[0], MADE)
    guide.write_text("<!-- tallies: SeTa -->\n<!-- end -->\n")
    readme = tmp_path.parent / "README.md"
    readme.write_text("<!-- results: cifar10-small: SeTa -->\n<!-- end -->\n")
    write(*where, suites={})
    assert f"]({tmp_path.name}/results/cifar10-small.md)" in readme.read_text()
    assert "| SeTa" in guide.read_text() and check(*where, suites={}) == []
    guide.write_text(guide.read_text().replace("| SeTa", "| RS2 "))
    assert any("guide.md" in fault for fault in check(*where, suites={}))


@pytest.mark.parametrize(
    ("marker", "name"),
    [
        ("results: nosuch: SeTa", "nosuch"),
        ("results: cifar10-small/nosuch: SeTa", "nosuch"),
        ("results: all: Nosuch", "Nosuch"),
        ("results: all: SeTa to Nosuch", "Nosuch"),
        ("pooled: all: Nosuch", "Nosuch"),
        ("tallies: Nosuch", "Nosuch"),
    ],
)
def test_a_marker_of_something_that_does_not_exist_is_refused(marker, name):
    with pytest.raises(ValueError, match=name):
        page_of(marker)


@pytest.mark.parametrize(
    "broken",
    [
        "<!-- tallies: SeTa -->\nkept\n",
        "<!-- tallies: SeTa -->\nkept\n<!-- end  -->\n",
        "<!-- tallies: SeTa -->\n<!-- tallies: SeTa -->\nkept\n<!-- end -->\n",
        "<!-- tallies: SeTa --\nkept\n<!-- end -->\n",
        "<!-- tallies: SeTa --> \nkept\n<!-- end -->\n",
        "<!--tallies: SeTa -->\nkept\n<!-- end -->\n",
    ],
)
def test_a_broken_marker_is_refused_and_takes_no_text_with_it(tmp_path, broken):
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "guide.md"
    for text in (broken, f"{broken}kept\n<!-- tallies: RS2 -->\nold\n<!-- end -->\n"):
        page.write_text(text)
        assert quoted.quoting(tmp_path / "docs" / "results.md") == [(page, "results")]
        with pytest.raises(ValueError, match="a page has the marker '<!-- ?tallies: SeTa"):
            quoted.filled(text, Figures(studies(MADE), {}), pages="results")


def test_markers_may_be_alike_and_have_an_end_too_many():
    one = "<!-- tallies: SeTa -->\nold\n<!-- end -->\n"
    page = quoted.filled(f"{one}between\n{one}<!-- end -->\n", Figures(studies(MADE), {}), pages="")
    assert page.count("| SeTa") == 2 and "\nbetween\n" in page and "old" not in page


@pytest.mark.parametrize("path", QUOTING, ids=lambda path: path.name)
def test_no_figure_of_a_run_is_typed_by_hand_beside_the_tables(path):
    sections = re.split(r"^## ", path.read_text(), flags=re.MULTILINE)
    quoting = "\n".join(text for text in sections if quoted.MARKED.search(text))
    text = re.sub(
        r"```.*?```|`[^`]*`|<!--.*?-->|^\|.*?$", "", quoting, flags=re.DOTALL | re.MULTILINE
    )
    assert re.findall(r"[-+]?\d+\.\d+", text) == []


def advice():
    """By section of the guide: the methods to use, those to avoid, and the tasks of its tables."""
    for section in re.split(r"^## ", GUIDE, flags=re.MULTILINE)[1:]:
        asked = [
            a for kind, a in re.findall(r"<!-- (\w+): (.*?) -->", section) if kind == "results"
        ]
        named = {
            word: {
                name
                for text in re.findall(
                    rf"^\*\*{word}\*\*(.*?)\n\n", section, re.DOTALL | re.MULTILINE
                )
                for name in re.findall(r"`(\w+)`", text)
                if name in METHODS
            }
            for word in ("Use", "Avoid")
        }
        yield section.splitlines()[0], named["Use"], named["Avoid"], asked


@pytest.mark.skipif(not list(LINES.glob("*.jsonl")), reason="there are no lines")
def test_the_guide_advises_nothing_that_the_lines_refute():
    """What to use is clearly worse in no cell of the section's tasks; what to avoid is in some."""
    figures = Figures(read(LINES, SUITES)[0], SUITES)
    found = 0
    for section, use, avoid, asked in advice():
        tasks = {task for one in asked for task in quoted.tasks_of(one, figures)}
        for method in use | avoid:
            ways = [
                v
                for v in figures.rivalry
                if v.method == method and (v.study.suite, v.study.variant) in tasks
            ]
            assert (tally(ways).worse > 0) == (method in avoid), (section, method)
            found += 1
    assert found >= 6


@pytest.mark.skipif(not list(LINES.glob("*.jsonl")), reason="there are no lines")
def test_the_readme_claims_nothing_that_the_lines_do_not_show():
    """Learnable on half is ahead with many wrong labels; on clean data nothing beats equal cost."""
    figures = Figures(read(LINES, SUITES)[0], SUITES)
    long = {study.variant: study for study in figures.of("noise-long").studies}
    for wrong in ("wrong=0.2", "wrong=0.4"):
        for beside in ("Full", "Full at equal cost"):
            assert to_reference(long[wrong], "Learnable", 0.5, beside).sign > 0, (wrong, beside)
    text = {study.variant: study for study in figures.of("noise-text").studies}
    for wrong, equal in (("wrong=0.1", 1), ("wrong=0.2", 1), ("wrong=0.4", 0)):
        assert to_reference(text[wrong], "Learnable", 0.5, "Full at equal cost").sign == equal
        assert to_reference(text[wrong], "Learnable", 0.5, "Full").sign > 0
    clean = [v for v in figures.rivalry if v.study is long["wrong=0"]]
    assert clean and not any(v.way.sign > 0 for v in clean)
    (largest,) = figures.of("cifar10-long").studies
    ways = {
        method: to_reference(largest, method, 0.5, "Full at equal cost")
        for method in ("SeTa", "Learnable", "RS2")
    }
    assert [way.sign for way in ways.values()] == [1, 0, 0]
    assert round(100 * ways["SeTa"].mean, 1) == 0.2
    rare = [v for v in figures.rivalry if v.study.suite == "imbalance" and v.method == "RCAP"]
    assert rare and all(v.way.sign > 0 for v in rare)
    (short,) = figures.of("imbalance").studies
    for budget in short.budgets:
        for method in ("RCAP", "Learnable"):
            assert to_reference(short, method, budget, RESAMPLED).sign < 0
            assert to_reference(short, method, budget, QUOTAS).sign == 0
    long = {study.variant: study for study in figures.of("imbalance-long").studies}
    for budget in (0.5, 0.3):
        right, wrong = long["wrong=0"], long["wrong=0.2"]
        assert to_reference(right, "Learnable", budget, QUOTAS).sign == 0
        assert to_reference(right, "RCAP", budget, QUOTAS).sign < 1
        assert to_reference(wrong, "Learnable", budget, QUOTAS).sign == 0
        for beside in (RESAMPLED, "RCAP"):
            assert to_reference(wrong, "Learnable", budget, beside).sign == 1
    assert to_reference(long["wrong=0.2"], "Learnable", 0.5, "Full").sign == 1


@pytest.mark.skipif(not list(LINES.glob("*.jsonl")), reason="there are no lines")
def test_the_guide_says_of_smaller_batches_what_the_lines_show():
    """In short runs no method beats full training in smaller batches, and some are worse."""
    studies = Figures(read(LINES, SUITES)[0], SUITES).studies
    signs = [
        to_reference(study, method, budget, SMALLER).sign
        for study in studies
        if study.suite in ("digits", "noise")
        for budget in study.budgets
        for method in study.compared(budget)
        if method not in REFERENCES
    ]
    assert max(signs) == 0 and signs.count(-1) > 1


@pytest.mark.skipif(not list(LINES.glob("*.jsonl")), reason="there are no lines")
def test_the_page_of_learnable_says_where_it_gains_what_the_lines_show():
    """Where it was developed, in two cells of sentences, and at any learning rate of the baseline.

    It is nowhere clearly worse than full training at equal cost.
    """
    studies = Figures(read(LINES, SUITES)[0], SUITES).studies
    signs = {
        (study.suite, study.variant, budget): to_reference(
            study, "Learnable", budget, "Full at equal cost"
        ).sign
        for study in studies
        for budget in study.budgets
        if "Learnable" in study.compared(budget)
    }
    assert min(signs.values()) == 0
    gains = {suite for (suite, *_), sign in signs.items() if sign > 0}
    developed = [
        "noise-long",
        "noise",
        "imbalance",
        "imbalance-long",
        "redundant-long",
        "cifar10-small",
    ]
    assert gains <= {*developed, "rates", "batches", "noise-text"}
    counted = Counter(at[0] for at, sign in signs.items() if sign > 0 and SUITES[at[0]].counts)
    assert counted["imbalance"] + counted["imbalance-long"] == 6 and counted.total() == 11
    assert {at for at, sign in signs.items() if at[0] == "noise-text" and sign > 0} == {
        ("noise-text", "wrong=0.1", 0.5),
        ("noise-text", "wrong=0.2", 0.5),
    }
    nets = {study.variant: study for study in studies if study.suite == "backbones"}
    assert {to_reference(net, "Learnable", 0.5, "RS2").sign for net in nets.values()} == {0}
    rates = {study.variant: study for study in studies if study.suite == "rates"}
    for study in rates.values():
        assert to_reference(study, "Learnable", 0.5, "Full at equal cost").sign > 0
    usual = rates["rate=0.1"]
    assert len({line["machine"]["processor"] for line in usual.lines}) == 1
    ours = values_of(usual.cell("Learnable", 0.5), "accuracy")
    for variant, study in rates.items():
        baseline = values_of(study.cell("Full at equal cost", 0.5), "accuracy")
        assert paired_difference(ours, baseline).sign == (variant != "rate=0.2"), variant


@pytest.mark.skipif(not list(LINES.glob("*.jsonl")), reason="there are no lines")
def test_the_page_of_learnable_says_of_batches_what_the_lines_show():
    """The gain shrinks with the batch; against the best one of full training it is never clear."""
    studies = Figures(read(LINES, SUITES)[0], SUITES).of("batches").studies
    by_size = {study.variant: study for study in studies}
    gains = {
        at: to_reference(study, "Learnable", 0.5, "Full at equal cost")
        for at, study in by_size.items()
    }
    sizes = [f"batch={size}" for size in (32, 64, 128, 256)]
    assert [gains[at].sign for at in sizes] == [0, 1, 1, 0]
    assert gains[sizes[0]].mean < gains[sizes[1]].mean < gains[sizes[2]].mean
    baselines = {
        at: values_of(study.cell("Full at equal cost", 0.5), "accuracy")
        for at, study in by_size.items()
    }
    best = max(baselines, key=lambda at: sum(baselines[at].values()))
    assert best == sizes[0]
    for at in sizes[:3]:
        ours = values_of(by_size[at].cell("Learnable", 0.5), "accuracy")
        lead = paired_difference(ours, baselines[best])
        assert lead.mean > 0 and lead.sign == 0, at


@pytest.mark.skipif(not list(LINES.glob("*.jsonl")), reason="there are no lines")
def test_the_page_of_learnable_says_where_it_is_ahead_of_all_that_was_published():
    """With a fifth of the labels wrong or more in long runs of images; also with rare classes."""
    studies = Figures(read(LINES, SUITES)[0], SUITES).studies
    ahead = set()
    for study in (one for one in studies if SUITES[one.suite].counts):
        for budget in (0.5, 0.3):
            others = [
                one for one in study.compared(budget) if one in AT_BUDGET and one != "Learnable"
            ]
            if others and "Learnable" in study.compared(budget):
                ways = [to_reference(study, "Learnable", budget, other) for other in others]
                if all(way is not None and way.sign > 0 for way in ways):
                    ahead.add((study.suite, study.variant, budget))
    text = {("noise-text", f"wrong={share}", 0.5) for share in (0.1, 0.2, 0.4)}
    assert ahead == text | {
        (suite, variant, budget)
        for suite, variant in (
            ("noise-long", "wrong=0.2"),
            ("noise-long", "wrong=0.4"),
            ("imbalance-long", "wrong=0.2"),
        )
        for budget in (0.5, 0.3)
    }


@pytest.mark.skipif(not list(LINES.glob("*.jsonl")), reason="there are no lines")
def test_the_page_of_learnable_says_of_the_best_length_what_the_lines_show():
    """In sentences with wrong labels, 9 or 12 epochs of full training are its best length."""
    studies = Figures(read(LINES, SUITES)[0], SUITES).of("noise-text").studies
    signs = {}
    for study in studies:
        ours = values_of(study.cell("Learnable", 0.5), "accuracy")
        lengths = {
            budget: values_of(study.cell("Full at equal cost", budget), "accuracy")
            for budget in (0.3, 0.4, 0.5, 0.7)
        }
        lengths[1.0] = values_of(study.cell("Full", 1.0), "accuracy")
        best = max(lengths, key=lambda budget: sum(lengths[budget].values()))
        if study.variant != "wrong=0":
            cut = to_reference(study, "Learnable", 0.5, CUT)
            assert cut.sign == -(study.variant == "wrong=0.4")
            assert best in (0.3, 0.4)
            way = paired_difference(ours, lengths[best])
            signs[study.variant] = (way.mean > 0, way.sign)
    assert signs == {"wrong=0.1": (True, 1), "wrong=0.2": (True, 1), "wrong=0.4": (False, 0)}


def test_a_name_with_a_comma_is_one_column():
    asked = "noise digits@0.5: Full at equal cost, Full, smaller batches, RS2"
    assert quoted.columns_of(asked) == ["Full at equal cost", "Full, smaller batches", "RS2"]
