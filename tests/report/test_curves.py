from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import seta
from seta.engine import KeepCurve, LossHistogram
from seta.report.curves import LEFT_OUT, Snapshot, curves_figure, keep_curve_panel

GAMMA = np.random.default_rng(0).gamma(0.5, 1.0, 5000)


def snapshot(losses, policy=None, epoch=1):
    histogram = LossHistogram.from_losses(np.asarray(losses, np.float32), threads=1)
    return Snapshot("Early", histogram, (policy or seta.SeTa())(histogram, epoch, 40))


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


def test_a_policy_without_groups_has_no_line_on_them():
    axes, _ = panel(snapshot(GAMMA, seta.InfoBatch()))
    assert axes.get_title() == "Early"


def test_samples_that_no_bar_holds_are_counted_in_words():
    axes, _ = panel(snapshot(np.r_[GAMMA, np.full(1200, np.nan)], seta.InfoBatch()))
    assert axes.get_title() == "Early\n1,200 samples without a loss so far"


@pytest.mark.parametrize(
    ("losses", "count", "least"),
    [(GAMMA, 5, 1), (np.linspace(-3, 3, 500), 12, 12), (np.linspace(-3, 3, 500), 24, 0)],
)
def test_the_numbers_of_groups_fit_into_them(losses, count, least):
    figure = curves_figure([snapshot(losses, seta.SeTa(groups=count))] * 4, title="a title")
    figure.draw_without_rendering()
    probability = figure.axes[-1]
    numbers = [text.get_window_extent() for text in probability.texts]
    assert len(numbers) >= least
    for left, right in pairwise(sorted(numbers, key=lambda box: box.x0)):
        assert left.x1 < right.x0


@pytest.mark.parametrize("losses", [GAMMA, 10 + GAMMA, np.linspace(-3, 3, 500)])
def test_nothing_touches_the_frame_and_each_tick_has_its_number(losses):
    figure = curves_figure([snapshot(losses)] * 2, title="a title")
    figure.draw_without_rendering()
    for axes in figure.axes:
        frame = axes.get_window_extent()
        for drawn in (*axes.patches, *axes.collections):
            box = drawn.get_window_extent()
            assert frame.x0 + 2 < box.x0 and box.x1 < frame.x1 - 2
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_visible():
                assert not axis.get_minorticklocs().size
                assert all(label.get_text() for label in axis.get_majorticklabels())


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
    curves_figure([picture], title="any").savefig(tmp_path / "any.png")


def test_a_curve_of_the_users_own_can_be_drawn():
    histogram = LossHistogram.from_losses(GAMMA.astype(np.float32), threads=1)
    curve = KeepCurve(np.linspace(1, 0, histogram.bins))
    axes, _ = panel(Snapshot("mine", histogram, curve))
    kept, every = areas(axes)
    assert 0 < kept < every
    assert axes.patches[0].get_facecolor()[:3] == pytest.approx(
        tuple(int(LEFT_OUT[at : at + 2], 16) / 255 for at in (1, 3, 5))
    )


def test_where_no_sample_lies_the_curve_goes_on_as_before():
    histogram = LossHistogram.from_losses(GAMMA.astype(np.float32), threads=1)
    occupied = histogram.counts > 0
    assert not occupied.all()
    _, probability = panel(Snapshot("mine", histogram, KeepCurve(np.where(occupied, 0.4, 0.0))))
    assert probability.patches[0].get_data().values.tolist() == pytest.approx([0.4])


def test_a_curve_of_classes_is_drawn_as_the_mean_of_each_bar():
    losses = GAMMA.astype(np.float32)
    strata = np.random.default_rng(1).integers(0, 2, len(losses))
    histogram = LossHistogram.from_losses(losses, threads=1, strata=strata)
    curve = KeepCurve(np.stack([np.full(histogram.bins, keep) for keep in (0.2, 0.8)]), np.ones(2))
    axes, probability = panel(Snapshot("mine", histogram, curve))
    drawn = probability.patches[0].get_data()
    every, kept = (patch.get_data() for patch in axes.patches)
    some = every.values > 0
    np.testing.assert_allclose(drawn.values[some], kept.values[some] / every.values[some])
    assert len(drawn.values) < 60 < np.count_nonzero(histogram.counts)


def test_the_axis_says_what_samples_are_judged_by():
    judged = replace(snapshot(GAMMA), judged="score")
    axes, _ = panel(judged)
    assert axes.get_xlabel().startswith("score of the sample")


@pytest.mark.parametrize("pictures", [1, 4])
def test_the_figure_has_a_panel_each_one_legend_and_is_not_blank(pictures, tmp_path):
    figure = curves_figure([snapshot(GAMMA)] * pictures, title="a title")
    assert len(figure.axes) == 2 * pictures and len(figure.legends) == 1
    figure.savefig(tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as image:
        assert image.format == "PNG"
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50
