"""What a notebook shows of a run, and its picture."""

from html.parser import HTMLParser

import numpy as np
import pytest

from seta import Pruner
from tests.engine.test_tracked import EPOCHS, pruner_of, train


class Cells(HTMLParser):
    """The texts of a table's cells, by tag."""

    def __init__(self, page):
        super().__init__()
        self.cells, self._tag = {"th": [], "td": [], "caption": []}, None
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self._tag = tag
        if tag in self.cells:
            self.cells[tag].append("")

    def handle_data(self, data):
        self.cells[self._tag][-1] += data

    def handle_endtag(self, tag):
        self._tag = None


def test_a_pruner_shows_its_latest_epochs():
    pruner = pruner_of("SeTa")
    empty = Cells(pruner._repr_html_()).cells
    assert empty["caption"] == [repr(pruner)] and not empty["td"]
    train(pruner, EPOCHS)
    found = Cells(pruner._repr_html_()).cells
    columns = found["th"]
    rows = np.array(found["td"]).reshape(-1, len(columns))
    assert len(rows) == EPOCHS
    kept = rows[:, columns.index("kept")].astype(int)
    assert kept.tolist() == [row["kept"] for row in pruner.history]
    assert rows[0, columns.index("mean_loss")] == ""  # nothing was known


def test_a_table_shows_its_first_rows():
    table = train(pruner_of("SeTa"), 2).table().sort("loss", descending=True)
    found = Cells(table._repr_html_()).cells
    assert found["caption"] == ["SampleTable: 600 samples"] and found["th"] == list(table)
    rows = np.array(found["td"]).reshape(-1, len(table))
    assert rows[:, 0].astype(int).tolist() == table["index"][:5].tolist()


def test_what_a_policy_is_called_is_no_part_of_the_page():
    class Named:
        def __call__(self, histogram, epoch, epochs):
            raise NotImplementedError

        def __repr__(self):
            return "<script>alert(1)</script>"

    page = Pruner(5, Named(), epochs=2)._repr_html_()
    assert "<script>" not in page and "&lt;script&gt;" in page


@pytest.mark.parametrize("policy, judged", [("SeTa", "loss"), ("UCB", "score")])
def test_the_plot_is_of_the_losses_that_the_latest_epoch_began_with(policy, judged, tmp_path):
    pruner = train(pruner_of(policy), 2)
    figure = pruner.plot()
    axes = figure.axes[0]
    assert axes.get_xlabel().startswith(f"{judged} of the sample")
    assert axes.get_title().startswith("Epoch 1 of 0 to 5")
    every, _ = (patch.get_data() for patch in axes.patches)
    assert every.values.sum() == pruner.histogram.seen
    figure.savefig(tmp_path / "plot.png")


@pytest.mark.parametrize("epochs", [0, 1])
def test_without_losses_there_is_nothing_to_plot(epochs):
    pruner = train(pruner_of("SeTa"), epochs)
    with pytest.raises(RuntimeError, match="begin an epoch that has some first"):
        pruner.plot()
