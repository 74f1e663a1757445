"""The picture shows the figures of the cells, each where it belongs, whatever the comparison."""

import os
import random
import subprocess
import sys
from functools import cache
from itertools import combinations
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from seta.comparison.cells import cells_of
from seta.comparison.contenders import AT_BUDGET, METHODS, REFERENCES
from seta.comparison.picture import draw, save
from seta.comparison.styles import OTHERS, STYLES

FULL, EQUAL = "Full", "Full at equal cost"
THREE = ("SeTa", "Random", "InfoBatch")


def line(method, budget, seed, cost=None, **metrics):
    cost = budget if cost is None else cost
    return {
        "method": method, "budget": budget, "seed": seed, "metrics": metrics,
        "visits": round(cost * 1e5), "full_visits": 100_000, "seconds": 1.0, "saved": 1 - cost,
    }  # fmt: skip


def made_up(
    methods=THREE, budgets=(0.7, 0.5), *, seeds=3, name="accuracy", base=0.75, step=0.01,
    effects=(), extra=(),
):  # fmt: skip
    """Runs whose seeds differ alike, and each a little by itself; methods cost 0.03 % less."""
    found = []
    for seed in range(seeds):
        noise = random.Random(seed)

        def run(method, budget, effect, cost=None, seed=seed, noise=noise):
            value = effect + 0.6 * seed + noise.gauss(0, 0.3) - 4 / budget
            found.append(line(method, budget, seed, cost, **{name: base + step * value}))

        run(FULL, 1.0, 0.0)
        for budget in (*budgets, *extra):
            run(EQUAL, budget, 0.0)
        for budget in budgets:
            for number, method in enumerate(methods):
                effect = effects[number] if effects else (-1.0, 0.2, 1.5)[number % 3]
                run(method, budget, effect, cost=budget - 0.0003)
    return found


def without(lines, *gone):
    return [one for one in lines if (one["method"], one["budget"]) not in gone]


def alike(lines, value):
    return [one | {"metrics": {"accuracy": value}} for one in lines]


LONG = (
    "A method of my own, with warm-up",
    "x" * 100,
    "costs $1 or $2",
    "a_name_of_parts " * 9,
)
CASES = {
    "twelve methods": made_up(AT_BUDGET[:12]),
    "all methods": made_up([method for method in METHODS if method not in REFERENCES[:2]]),
    "five budgets": made_up(AT_BUDGET[:8], (0.9, 0.7, 0.5, 0.3, 0.1)),
    "one method": made_up(["SeTa"], [0.7]),
    "one seed": made_up(seeds=1),
    "two seeds": made_up(seeds=2),
    "longer and shorter runs of Full": made_up(extra=(0.05, 0.1, 1.5)),
    "Full and shorter": made_up([]),
    "Full alone": made_up([], []),
    "one run": made_up([], [], seeds=1),
    "no run": [],
    "no Full": [one for one in made_up() if one["method"] in THREE],
    "no Full at equal cost": without(made_up(), (EQUAL, 0.7), (EQUAL, 0.5)),
    "Full at one of the costs": without(made_up(), (EQUAL, 0.5), ("SeTa", 0.5), (FULL, 1.0)),
    "one method so far": [one for one in made_up() if one["method"] == "Random"][:1],
    "seeds under way": [one for one in made_up() if one["method"] != "SeTa" or one["seed"] == 2],
    "no seed in common": [
        one for one in made_up() if (one["method"] == "SeTa") == (one["seed"] == 2)
    ],
    "not measured": [
        one | {"metrics": {} if one["method"] == "Random" else one["metrics"]} for one in made_up()
    ],
    "measured as none": [
        one | {"metrics": {"accuracy": None}} if one["method"] == FULL else one for one in made_up()
    ],
    "as published": made_up()
    + [line("SeTa as published", None, seed, 0.6, accuracy=0.7) for seed in range(3)],
    "long names": made_up(LONG),
    "one far off": made_up(AT_BUDGET, effects=[0.1 * n for n in range(len(AT_BUDGET) - 1)] + [-60]),
    "small figures": made_up(base=0.0123, step=1e-5),
    "large figures": made_up(base=12345, step=100),
    "tiny figures": made_up(base=2e-9, step=1e-10),
    "huge figures": made_up(base=3e12, step=1e11),
    "negative figures": made_up(base=-12345.0),
    "equal figures": alike(made_up(), 0.75),
    "all zero": alike(made_up(), 0.0),
    "equal differences": [
        line(method, budget, seed, accuracy=value + seed / 8)
        for method, budget, value in ((FULL, 1.0, 0.5), (EQUAL, 0.5, 0.25), ("SeTa", 0.5, 0.5))
        for seed in range(3)
    ],
    "a long name of the figure": made_up(name="mean absolute error of all samples held out, m/s"),
}


QUICK = (  # the others are marked slow where all are drawn
    "all methods",
    "five budgets",
    "one run",
    "no run",
    "no Full",
    "seeds under way",
    "as published",
    "long names",
    "one far off",
)
every_case = pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[] if case in QUICK else pytest.mark.slow) for case in CASES],
)


@cache
def picture(case):
    return draw(cells_of(CASES[case]), title="A net")


def marks(axes):
    """What is drawn of each contender: place, ends of the bar, filled or not, marker, colour."""
    found = {}
    for container in axes.containers:
        mark, _, bars = container.lines
        if container.get_label() != FULL:
            (x, y), (bar,) = mark.get_xydata()[0], [b.get_segments()[0] for b in bars] or [None]
            filled = mark.get_markerfacecolor() == mark.get_color()
            style = (mark.get_color(), mark.get_marker())
            found[container.get_label()] = ((x, y), bar, filled, style)
    return found


def panels(lines, measure=None, **how):
    cells = cells_of(lines, **how)
    return cells, *draw(cells, title="A net", measure=measure).axes


def texts(figure):
    return [one for one in figure.findobj(Text) if one.get_visible() and one.get_text()]


def words(figure):
    return " ".join(one.get_text() for one in texts(figure)).replace("\n", " ").replace("\xa0", " ")


@pytest.mark.parametrize("lower", [(), ("accuracy",)])
@pytest.mark.parametrize("case", ["twelve methods", "one method", "as published", "one far off"])
def test_a_mark_of_the_left_panel_stands_at_its_cost_and_figure(case, lower):
    cells, left, _ = panels(CASES[case], lower=lower)
    drawn = marks(left)
    assert drawn.keys() == {cell.name for cell in cells.contenders}
    for cell in cells.contenders:
        mean, _ = cell.mean_and_spread("accuracy")
        place, bar, filled, _ = drawn[cell.name]
        assert place == pytest.approx((100 * cell.cost, mean))
        assert filled == (cells.better(cells.to_equal_cost(cell)) != 0)
        assert bar is None, "bars of methods at one cost would hide each other"


@pytest.mark.parametrize("case", ["two seeds", "twelve methods", "one far off"])
@pytest.mark.parametrize("base", [97.0, 0.0])
def test_an_axis_of_percentages_ends_at_0_and_100(case, base):
    runs = [one | {"metrics": {"accuracy %": one["metrics"]["accuracy"]}} for one in CASES[case]]
    share = [one["metrics"]["accuracy %"] for one in runs]
    least, most = min(share), max(share)
    for one, value in zip(runs, share, strict=True):
        one["metrics"]["accuracy %"] = base + (value - least) / (most - least) * 3.0
    low, high = draw(cells_of(runs), title="A net").axes[0].get_ylim()
    assert low >= -0.5 and high <= 100.5


@pytest.mark.parametrize("lower", [(), ("accuracy",)])
@pytest.mark.parametrize("case", ["twelve methods", "one method", "as published", "one far off"])
def test_a_row_has_the_difference_its_interval_and_its_name_beside_it(case, lower):
    cells, left, right = panels(CASES[case], lower=lower)
    names = dict(zip(right.get_yticks(), right.get_yticklabels(), strict=True))
    drawn = marks(right)
    compared = [cell for cell in cells.contenders if cells.to_equal_cost(cell)]
    assert drawn.keys() == {cell.name for cell in compared}
    assert len(names) == len(cells.contenders)
    for cell in compared:
        way = cells.to_equal_cost(cell)
        (mean, at), bar, filled, style = drawn[cell.name]
        assert names[at].get_text() == cell.method
        assert mean == pytest.approx(way.mean)
        np.testing.assert_allclose(bar, [[way.low, at], [way.high, at]])
        assert filled == (cells.better(way) != 0)
        assert style == marks(left)[cell.name][3]


@pytest.mark.parametrize(("lower", "sign"), [((), 1), (("accuracy",), -1)])
def test_rows_stand_under_their_budget_the_best_first(lower, sign):
    cells, _, right = panels(CASES["twelve methods"], lower=lower)
    places = {name: place[1] for name, (place, *_) in marks(right).items()}
    by_place = sorted(cells.contenders, key=lambda cell: places[cell.name])
    wanted = sorted(
        cells.contenders, key=lambda c: (-c.budget, -sign * cells.to_equal_cost(c).mean)
    )
    assert [cell.name for cell in by_place] == [cell.name for cell in wanted]
    assert right.get_ylim()[0] > right.get_ylim()[1], "the first row is the uppermost"
    headings = {t.get_text()[:4]: t.get_position()[1] for t in right.texts if "visits" in str(t)}
    assert -0.5 < headings["70 %"] < places[wanted[0].name]
    assert places[wanted[11].name] < headings["50 %"] < places[wanted[12].name]


def test_the_numbers_of_a_row_are_written_beside_it():
    lines = [
        line(method, budget, seed, accuracy=value)
        for method, budget, values in (
            (FULL, 1.0, (0.8, 0.8)),
            (EQUAL, 0.5, (0.7, 0.7)),
            ("SeTa", 0.5, (0.749, 0.751)),
            ("Random", 0.5, (0.60, 0.61)),
            ("RS2", 0.5, (0.6, 0.8)),
        )
        for seed, value in enumerate(values)
    ]
    figure = draw(cells_of(lines), title="A net")
    written = {t.get_text(): t.xy[1] for t in figure.axes[1].texts if "±" in t.get_text()}
    # The quantile of Student with two seeds, 12.706, times half of their difference.
    minus = "\N{MINUS SIGN}"
    assert written == {
        "+0.050 ± 0.013  better": 1,
        "+0.000 ± 1.271": 2,
        f"{minus}0.095 ± 0.064  worse": 3,
    }
    assert "50 % of the visits (Full at equal cost: 0.700)" in words(figure)


def test_lower_figures_are_better_where_that_is_said():
    figure = draw(cells_of(made_up(name="loss"), lower=["loss"]), title="A net")
    assert figure.axes[0].get_ylabel().replace("\xa0", " ") == "loss (lower is better)"
    assert "(left is better)" in words(figure)
    for name, ((mean, _), _, filled, _) in marks(figure.axes[1]).items():
        assert not filled or (mean > 0) == name.startswith("InfoBatch")
    worse = [one for one in texts(figure) if one.get_text().endswith("worse")]
    assert worse
    assert all(one.get_text().startswith("+") for one in worse)
    other = draw(cells_of(made_up(name="loss")), title="A net")
    assert other.axes[0].get_ylabel().replace("\xa0", " ") == "loss (higher is better)"
    assert "(right is better)" in words(other)


@pytest.mark.parametrize("case", ["all methods", "longer and shorter runs of Full", "Full alone"])
def test_the_line_is_full_for_all_lengths_with_its_spread(case):
    cells = cells_of(CASES[case])
    left = draw(cells, title="A net").axes[0]
    (full,) = (one for one in left.containers if one.get_label() == FULL)
    curve, _, (bars,) = full.lines
    wanted = [(100 * cell.cost, *cell.mean_and_spread("accuracy")) for cell in cells.curve]
    np.testing.assert_allclose(curve.get_xydata(), [(x, y) for x, y, _ in wanted])
    ends = [((x, y - spread), (x, y + spread)) for x, y, spread in wanted]
    np.testing.assert_allclose(bars.get_segments(), ends)
    (label,) = (one for one in left.texts if one.get_text() == FULL)
    assert label.xy[0] == 100.0


def test_one_seed_has_marks_and_no_bars_and_nothing_is_clear():
    _, left, right = panels(CASES["one seed"])
    for axes in (left, right):
        assert len(marks(axes)) == 6
        for _, bar, filled, _ in marks(axes).values():
            assert bar is None
            assert not filled
    assert "(one seed)" in words(right.figure)
    assert "needs two seeds" in words(right.figure)


def test_zero_is_marked_and_shown_wherever_the_differences_lie():
    for effects in ((1.0, 2.0, 3.0), (-1.0, -2.0, -3.0)):
        _, _, right = panels(made_up(effects=effects))
        assert [0, 0] in [list(one.get_xdata()) for one in right.lines]
        low, high = right.get_xlim()
        assert low < 0 < high


def test_what_lies_far_off_is_cut_off_and_pointed_at():
    far, cells = AT_BUDGET[-1], cells_of(CASES["one far off"])
    figure = draw(cells, title="A net")
    left, right = figure.axes
    edge = right.get_xlim()[0]
    assert edge > -0.1
    pointed = [one for one in right.lines if one.get_marker() == "<" and one.get_xdata()[0] == edge]
    rows = {marks(right)[f"{far} {budget}"][0][1] for budget in (0.7, 0.5)}
    assert {one.get_ydata()[0] for one in pointed} == rows
    edge = left.get_ylim()[0]
    assert sum(one.get_marker() == "v" and one.get_ydata()[0] == edge for one in left.lines) == 2
    assert "Arrows" in words(figure)
    assert "Arrows" not in words(draw(cells_of(made_up()), title="A net"))


@pytest.mark.parametrize("case", ["longer and shorter runs of Full", "Full and shorter"])
def test_full_is_shown_with_its_bars_but_for_runs_shorter_than_all_methods(case):
    cells = cells_of(CASES[case])
    bottom, top = draw(cells, title="A net").axes[0].get_ylim()
    for cell in cells.curve:
        mean, spread = cell.mean_and_spread("accuracy")
        assert (bottom < mean - spread < mean + spread < top) == (cell.cost > 0.4), cell.name


@every_case
def test_all_that_is_not_cut_off_lies_within_the_frames(case):
    for axes in picture(case).axes:
        pointed = {tuple(one.get_xydata()[0]) for one in axes.lines if not one.get_clip_on()}
        (left, right), (bottom, top) = axes.get_xlim(), sorted(axes.get_ylim())
        for (x, y), _, _, _ in marks(axes).values():
            assert left < x < right or (left, y) in pointed or (right, y) in pointed
            assert bottom < y < top or (x, bottom) in pointed or (x, top) in pointed


@every_case
def test_every_comparison_is_drawn_and_no_text_is_cut_off_or_small_or_on_another(case, tmp_path):
    figure = picture(case)
    save(figure, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == tuple(int(150 * side) for side in figure.get_size_inches())
        assert image.convert("RGB").getpixel((1, 1)) == (255, 255, 255)
    check_texts(figure)


def test_a_long_title_has_several_lines():
    for case in ("one method", "Full alone"):
        long = "A title that says all there is to say, from $1 to $2. " * 6
        figure = draw(cells_of(CASES[case]), title=long)
        figure.draw_without_rendering()
        check_texts(figure)
        assert long.strip().replace("$", r"\$") in words(figure)


def check_texts(figure):
    """Looks at each text that is drawn, and at all pairs."""
    hidden = {label for axes in figure.axes for label in ticks_outside(axes)}
    boxes = []
    for text in texts(figure):
        if text in hidden:
            continue
        box = text.get_window_extent()
        assert text.get_fontsize() >= 8.0, text
        assert 0 <= box.x0 <= box.x1 <= figure.bbox.x1, f"{text} is cut off"
        assert 0 <= box.y0 <= box.y1 <= figure.bbox.y1, f"{text} is cut off"
        boxes.append((text, box))
    for (one, box), (other, another) in combinations(boxes, 2):
        wide = min(box.x1, another.x1) - max(box.x0, another.x0)
        high = min(box.y1, another.y1) - max(box.y0, another.y0)
        assert wide <= 0 or high <= 3, f"{one} lies on {other}"


def ticks_outside(axes):
    """Labels of ticks outside of the frame: they are made, and not drawn."""
    for axis, ends in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        for tick in axis.get_major_ticks():
            if not min(ends) <= tick.get_loc() <= max(ends):
                yield tick.label1


@pytest.mark.parametrize("case", ["small figures", "large figures", "negative figures"])
def test_figures_of_the_axes_are_written_out(case):
    figure = picture(case)
    figure.draw_without_rendering()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            assert axis.get_offset_text().get_text() == ""
            assert not [one for one in axis.get_ticklabels() if "e" in one.get_text().split()[-1:]]


def test_the_figure_that_counts_is_drawn_and_another_if_asked_for():
    lines = [one | {"metrics": one["metrics"] | {"loss": 2.5}} for one in made_up()]
    cells = cells_of(lines, lower=["loss"])
    assert draw(cells, title="A net").axes[0].get_ylabel().startswith("accuracy")
    left = draw(cells, title="A net", measure="loss").axes[0]
    assert left.get_ylabel().startswith("loss (lower")
    assert {place[1] for place, *_ in marks(left).values()} == {2.5}
    with pytest.raises(ValueError, match=r"\(accuracy, loss\), got 'error'"):
        draw(cells, title="A net", measure="error")
    with pytest.raises(ValueError, match="none, as there are no runs"):
        draw(cells_of([]), title="A net", measure="loss")


def test_no_two_methods_look_alike():
    known = [STYLES[method][:2] for method in METHODS if method not in REFERENCES[:2]]
    others = [style[:2] for style in OTHERS]
    assert len(set(known + others)) == len(known) + len(others)
    _, left, _ = panels(made_up([f"own {number}" for number in range(12)]))
    assert len({style for *_, style in marks(left).values()}) == 12


def test_pictures_are_saved_as_what_the_suffix_says(tmp_path):
    figure = draw(cells_of(made_up()), title="A net")
    save(figure, tmp_path / "deep" / "a.PNG")
    with Image.open(tmp_path / "deep" / "a.PNG") as image:
        assert image.format == "PNG"
    save(figure, tmp_path / "a.svg")
    assert ElementTree.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")
    with pytest.raises(ValueError, match="path must end in .png or .svg, got 'a.pdf'"):
        save(figure, tmp_path / "a.pdf")
    assert not (tmp_path / "a.pdf").exists()


def test_settings_of_matplotlib_are_left_alone_and_a_dark_style_changes_nothing(tmp_path):
    before = dict(matplotlib.rcParams)
    save(draw(cells_of(made_up()), title="A net"), tmp_path / "a.png")
    assert dict(matplotlib.rcParams) == before
    dark = dict.fromkeys(
        ("figure.facecolor", "axes.facecolor", "savefig.facecolor", "figure.edgecolor"), "black"
    )
    light = dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color",
         "lines.color", "patch.edgecolor", "grid.color"), "white"
    )  # fmt: skip
    with matplotlib.rc_context(dark | light | {"font.size": 17.0, "axes.grid": True}):
        save(draw(cells_of(made_up()), title="A net"), tmp_path / "b.png")
    with Image.open(tmp_path / "a.png") as one, Image.open(tmp_path / "b.png") as other:
        np.testing.assert_array_equal(one, other)


@pytest.mark.processes
@pytest.mark.parametrize(
    "backend", [None, "agg", "module://matplotlib_inline.backend_inline", "no_such_backend"]
)
def test_matplotlib_is_loaded_to_draw_and_pyplot_never_whatever_backend_is_set(tmp_path, backend):
    code = """
import os, sys
from pathlib import Path
from seta.comparison.cells import cells_of
from seta.comparison.picture import draw, save
assert "matplotlib" not in sys.modules
run = {"method": "Full", "budget": 1.0, "seed": 0, "metrics": {"a": 1.0}, "visits": 1,
       "full_visits": 1, "seconds": 1.0, "saved": 0.0}
cells = cells_of([run, run | {"method": "SeTa", "budget": 0.5}])
save(draw(cells, title="A net"), Path(sys.argv[1]))
assert "matplotlib" in sys.modules
assert "matplotlib.pyplot" not in sys.modules
assert os.environ.get("MPLBACKEND") == (sys.argv[2] or None)
if sys.argv[2] == "agg":
    assert sys.modules["matplotlib"].get_backend() == "agg"
"""
    env = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    env |= {"MPLBACKEND": backend} if backend else {}
    command = [sys.executable, "-c", code, tmp_path / "a.png", backend or ""]
    subprocess.run(command, check=True, env=env)
