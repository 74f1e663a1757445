import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import seta
from seta.engine import KeepCurve, LossHistogram
from seta.report.curves import LEFT_OUT, Snapshot, keep_curve_panel
from seta.report.figure import SIZE, comparison_figure, save_figure
from seta.report.plots import accuracy_panel, last_epoch_panel
from seta.report.results import Run

GAMMA = np.random.default_rng(0).gamma(0.5, 1.0, 5000)


def snapshot(losses, policy=None, epoch=1):
    histogram = LossHistogram.from_losses(np.asarray(losses, np.float32), threads=1)
    return Snapshot("Early", histogram, (policy or seta.SeTa())(histogram, epoch, 40))


def runs(methods=("Full", "SeTa"), seeds=2, epochs=3):
    made = []
    for method in methods:
        for seed in range(seeds):
            run = Run(method, seed, epochs)
            run.rows += [
                {"accuracy": 0.9 + 0.01 * (epoch + seed), "visits": 100 * (epoch + 1), "saved": 0.0,
                 "seconds": 1.0}
                for epoch in range(epochs)
            ]  # fmt: skip
            made.append(run)
    return made


def panel(picture):
    axes = Figure().subplots()
    return axes, keep_curve_panel(axes, picture)


def areas(axes):
    """The total height of the bars trained on and of all bars."""
    every, kept = (patch.get_data() for patch in axes.patches)
    return kept.values.sum(), every.values.sum()


def test_the_bars_hold_every_sample_and_the_dark_part_what_the_curve_keeps():
    picture = snapshot(GAMMA)
    axes, _ = panel(picture)
    kept, every = areas(axes)
    assert every == len(GAMMA)
    assert kept == pytest.approx(picture.curve.expected(picture.histogram))


def test_the_curve_line_steps_where_the_window_begins():
    picture = snapshot(GAMMA, epoch=1)
    _, probability = panel(picture)
    line = next(patch for patch in probability.patches if patch.get_label() == "keep curve")
    assert line.get_data().values.tolist() == pytest.approx([0.0, 0.9])
    first_bound = picture.curve.groups.bounds[1]
    assert line.get_data().edges[1] == pytest.approx(first_bound)


def test_groups_in_the_window_and_outside_are_told_apart_and_their_sizes_named():
    picture = snapshot(GAMMA, epoch=1)
    axes, probability = panel(picture)
    labels = [drawn.get_label() for drawn in probability.collections]
    assert labels == ["group outside"] + ["group in the window"] * 4
    assert f"{picture.curve.groups.sizes[0]:,} | " in axes.get_title()


def test_a_policy_without_groups_says_so():
    axes, _ = panel(snapshot(GAMMA, seta.InfoBatch()))
    assert "no groups, no window" in axes.get_title()


@pytest.mark.parametrize(
    ("losses", "scale"),
    [
        (GAMMA, "log"),
        (2.303 + 0.01 * np.linspace(-1, 1, 500), "linear"),
        (np.linspace(-3, 3, 500), "linear"),
        (np.r_[np.zeros(100), GAMMA], "log"),
        (np.full(50, 0.7), "linear"),
        (np.zeros(50), "linear"),
        (np.r_[np.nan, 1.0], "linear"),
    ],
)
def test_any_losses_can_be_drawn(losses, scale, tmp_path):
    picture = snapshot(losses)
    axes, _ = panel(picture)
    assert axes.get_xscale() == scale
    assert areas(axes)[1] == picture.histogram.seen
    save_figure(comparison_figure([picture], [], [], title="any"), tmp_path / "any.png")


def test_a_curve_of_the_users_own_can_be_drawn():
    histogram = LossHistogram.from_losses(GAMMA.astype(np.float32), threads=1)
    curve = KeepCurve(np.linspace(1, 0, histogram.bins))
    axes, _ = panel(Snapshot("mine", histogram, curve))
    kept, every = areas(axes)
    assert 0 < kept < every
    assert axes.patches[0].get_facecolor()[:3] == pytest.approx(
        tuple(int(LEFT_OUT[at : at + 2], 16) / 255 for at in (1, 3, 5))
    )


def test_every_method_with_rows_has_a_line_that_ends_at_its_last_epoch():
    axes = Figure().subplots()
    accuracy_panel(axes, runs(), ["Full", "Random", "SeTa"])
    assert [line.get_label() for line in axes.lines] == ["Full", "SeTa"]
    assert axes.lines[0].get_xydata()[-1].tolist() == pytest.approx([300, 92.5])


def test_methods_differ_in_line_and_marker_and_not_in_colour_alone():
    methods = ["Full", "Full at equal cost", "Random", "InfoBatch", "SeTa", "Static"]
    axes = Figure().subplots()
    accuracy_panel(axes, runs(methods), methods)
    assert len({line.get_marker() for line in axes.lines}) == len(methods)
    assert len({line.get_color() for line in axes.lines}) == len(methods)


def test_a_method_that_was_stopped_is_marked_in_both_panels():
    stopped = runs(["SeTa"], seeds=1)
    stopped[0].epochs = 40
    way, end = Figure().subplots(2)
    accuracy_panel(way, stopped, ["SeTa"])
    last_epoch_panel(end, stopped, ["SeTa"])
    assert way.lines[0].get_label() == "SeTa\n(stopped at 3/40)"
    assert end.get_yticklabels()[0].get_text() == "SeTa\n(stopped at 3/40)"


def test_the_last_epochs_show_a_dot_per_seed():
    axes = Figure().subplots()
    last_epoch_panel(axes, runs(seeds=3), ["Full", "SeTa"])
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["Full", "SeTa"]
    assert sorted(axes.lines[0].get_xdata()) == pytest.approx([92, 93, 94])


@pytest.mark.parametrize("pictures", [0, 1, 4])
def test_the_page_is_a_png_of_the_stated_size_and_not_blank(pictures, tmp_path):
    figure = comparison_figure(
        [snapshot(GAMMA)] * pictures, runs(), ["Full", "SeTa"], title="a title"
    )
    save_figure(figure, tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as image:
        assert image.format == "PNG"
        assert image.size == SIZE
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50
