"""A picture per task, the one of `seta.compare`, and one of tasks with more and more wrong labels.

Drawn without pyplot, and so without global state.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.accuracy.report.statistics import values_of
from benchmarks.accuracy.report.studies import Study, ordered
from seta.comparison import picture
from seta.comparison.cells import WHOLE, cells_of
from seta.comparison.contenders import EQUAL_COST
from seta.comparison.lines import Line
from seta.comparison.statistics import mean_and_spread
from seta.comparison.styles import OTHERS, STYLES
from seta.extras import blank_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PIXELS = 1200  # of the width: twice that of a page's text, at most
COLOURS = 256  # of the stored palette: by coverage, so that few thin marks keep their colour
ACCURACY = "accuracy %"
OURS = "Learnable"
BY_WRONG_SHARE = "Accuracy by share of wrong labels, at half of full training's visits"
HALF = 0.5


def write(figure: Figure, path: Path) -> None:
    """Writes a picture as a PNG of at most 100 kB or so."""
    from PIL import Image

    raw = BytesIO()
    figure.savefig(raw, format="png", dpi=(PIXELS + 0.5) / figure.get_figwidth())
    image = (
        Image.open(raw)
        .convert("RGB")
        .quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    )
    image.save(path, optimize=True)


def draw(study: Study) -> Figure:
    """Draws a study: what each method reaches, and how far it is from Full at equal cost."""
    cells = cells_of(map(_in_percent, study.lines), measures=[ACCURACY])
    sizes = dict.fromkeys(
        f"{line['n']:,} samples, {line['full_epochs']} epochs of full training"
        for line in study.lines
        if "n" in line and "full_epochs" in line
    )
    return picture.draw(cells, title=": ".join([study.title, *list(sizes)[:1]]))


def _in_percent(line: Line) -> Line:
    """A line with its accuracy as the one figure."""
    return line | {"metrics": {ACCURACY: 100 * line["accuracy"]}}


def draw_by_wrong_share(group: Sequence[Study]) -> Figure:
    """Draws how accuracy falls with wrong labels: Full, and all that train half of its visits.

    Args:
        group: Studies that differ in the share of wrong labels alone, by that share.
    """
    figure = blank_figure(figsize=(9.6, 4.2), layout="constrained")
    figure.suptitle(BY_WRONG_SHARE, x=0.01, ha="left", fontsize=12, fontweight="bold")
    axes = figure.subplots()
    shares = [100 * study.wrong_share for study in group]
    compared = ordered({method for study in group for method in study.compared(HALF)})
    for key in [WHOLE, *((method, HALF) for method in (EQUAL_COST, *compared))]:
        cells = (values_of(study.cell(*key), "accuracy") for study in group)
        found = [(x, *known) for x, cell in zip(shares, cells, strict=True)
                 if (known := mean_and_spread(cell))]  # fmt: skip
        if not found:
            continue
        x, means, spreads = zip(*found, strict=True)
        style, own = STYLES.get(key[0], OTHERS[0]), key[0] == OURS
        axes.errorbar(x, [100 * mean for mean in means], [100 * (one or 0.0) for one in spreads],
                      color=style.colour, marker=style.marker, ms=style.size, mec="white", mew=0.6,
                      ls="--" if key == WHOLE else "-", lw=2.4 if own else 1.2, capsize=2.5,
                      elinewidth=0.9, zorder=3 if own else 2,
                      label="Full: all visits" if key == WHOLE else key[0])  # fmt: skip
    axes.set(
        xlabel="training labels that are wrong, % (test labels are right)",
        ylabel="accuracy %: mean and spread over seeds",
    )
    axes.set_xticks(shares)
    if axes.containers:
        axes.legend(frameon=False, fontsize=9)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
