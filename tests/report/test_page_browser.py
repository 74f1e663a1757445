"""The page of a run in a real browser: `make test-page`; skipped where there is no Chromium."""

import numpy as np
import pytest

from seta.report import page
from tests.browser import in_a_browser
from tests.report.runs import HOSTILE, Hostile, Images, N, loss_of, pruner_of, train

pytestmark = in_a_browser
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 400, "height": 800}


@pytest.fixture
def show(browser):
    """Opens a page, and at its end checks that nothing was complained of or asked for."""
    opened, heard = [], []

    def opening(path, **options):
        tab = browser.new_page(**{"viewport": WIDE, **options})
        opened.append(tab)
        tab.on("console", lambda message: heard.append(message.text))
        tab.on("pageerror", lambda error: heard.append(str(error)))
        tab.on("request", lambda request: asked(request.url))
        tab.goto(path.as_uri())
        tab.wait_for_selector("html[data-drawn]", state="attached")
        return tab

    def asked(url):
        if not url.startswith(("file:", "data:", "blob:")):
            heard.append(f"asked for {url}")

    yield opening
    for tab in opened:
        assert tab.evaluate("window.hacked") is None
        tab.close()
    assert heard == []


@pytest.fixture(scope="module")
def run():
    return train(pruner_of(), 5)


@pytest.fixture(scope="module")
def written(run, tmp_path_factory):
    return page(run, Images(), path=tmp_path_factory.mktemp("page") / "page.html")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_every_section_is_drawn_and_fits(show, written, scheme, size):
    tab = show(written, viewport=size, color_scheme=scheme)
    for key in ("cost", "losses", "map", "visits", "left-out"):
        box = tab.locator(f"#chart-{key} svg").bounding_box()
        assert box["width"] > 250 and box["x"] + box["width"] <= size["width"]
        assert tab.locator(f"#chart-{key} svg path").count() > 2
    assert tab.evaluate("document.documentElement.scrollWidth") <= size["width"]
    dark = tab.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")


def test_charts_follow_when_light_turns_to_dark(show, written):
    tab = show(written, color_scheme="light")
    ink = "document.querySelector('#chart-cost .role-axis-title text').getAttribute('fill')"
    before = tab.evaluate(ink)
    tab.emulate_media(color_scheme="dark")
    tab.wait_for_function(f"{ink} !== '{before}'")


def test_figures_are_those_of_the_run(show, written, run):
    tab = show(written)
    rows = run.history
    shown = dict(zip(tab.locator("#cost dt").all_inner_texts(),
                     tab.locator("#cost dd").all_inner_texts(), strict=True))  # fmt: skip
    trained = sum(row["trained"] for row in rows)
    assert shown["samples trained"] == f"{trained:,} of {N * 5:,}"
    cells = tab.locator("#table-cost tbody tr").all_text_contents()
    assert len(cells) == 5 and all(f"{row['trained']:,}" in text
                                   for row, text in zip(rows, cells, strict=True))  # fmt: skip
    table, first = run.table(), tab.locator("#list-hardest tbody tr").first
    hardest = int(np.nanargmax(table["mean"]))
    assert first.locator("th").inner_text() == str(hardest)
    assert f"{table['mean'][hardest]:.4g}" in first.inner_text()


def test_the_slider_shows_each_epoch(show, written, run):
    tab = show(written)
    slider = tab.locator("#epoch")
    slider.focus()
    tab.keyboard.press("Home")
    for epoch in (1, 2, 3, 4):
        row = run.history[epoch]
        seen = N - row["unseen"]
        says = tab.locator("#epoch-says").inner_text()
        assert says.startswith(f"Epoch {epoch}: {seen} samples with a loss")
        assert f"mean {row['mean_loss']:.4g}"[:8] in says
        first, past = row["window"]
        assert f"the window is groups {first} to {past - 1} of 0 to 4" in says
        counts = tab.locator("#table-losses tbody tr td:nth-child(3)").all_text_contents()
        assert sum(int(count.replace(",", "")) for count in counts) == seen
        drawn = tab.evaluate("views.losses.data('bars').map((bar) => bar.samples)")
        assert sum(drawn) == seen
        groups = tab.evaluate("views.losses.data('groups').map((group) => group.inside)")
        assert sum(groups) == past - first
        tab.keyboard.press("ArrowRight")


def test_a_click_on_the_map_shows_samples_of_the_cell(show, written, run):
    tab, table = show(written), run.table()
    assert "No cell" in tab.locator("#cell-says").inner_text()
    cell = tab.locator("#chart-map .layer_0_marks path").nth(20)
    cell.click(force=True)
    tab.wait_for_function("chosen === 20")
    cells = tab.evaluate("data.cells")
    says = tab.locator("#cell-says").inner_text()
    assert says.startswith(cells[20]["text"]) and f": {cells[20]['samples']} sample" in says
    shown = tab.locator("#cell-samples").inner_text()
    for sample in cells[20]["examples"]:
        assert str(sample) in shown and np.isfinite(table["spread"][sample])


def test_the_map_works_by_keyboard(show, written):
    tab = show(written)
    tab.locator("#chart-map").focus()
    tab.keyboard.press("ArrowUp")  # begins at the fullest cell
    tab.wait_for_function("chosen >= 0")
    place = "[data.cells[chosen].column, data.cells[chosen].line]"
    column, line = tab.evaluate(place)
    assert tab.evaluate(
        "data.cells[chosen].samples === Math.max(...data.cells.map(c => c.samples))"
    )
    tab.keyboard.press("ArrowDown")
    assert tab.evaluate(place)[1] < line
    tab.keyboard.press("ArrowLeft")
    assert tab.evaluate(place)[0] < column
    before = tab.evaluate("chosen")
    tab.locator("#cell-next").click()
    assert tab.evaluate("chosen") == before + 1
    assert tab.evaluate("views.map.signal('chosen')") == before + 1


def test_thumbnails_labels_and_curves_are_shown(show, written):
    tab = show(written)
    row = tab.locator("#list-hardest tbody tr").first
    assert (
        row.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 8
    )
    assert row.locator("td").nth(1).inner_text() in Images.classes
    assert tab.locator("svg.spark path").count() > 0


def test_indices_are_copied_and_downloaded(show, written, browser, tmp_path):
    tab = show(written, permissions=["clipboard-read", "clipboard-write"])
    listed = tab.locator("#list-hardest tbody th").all_text_contents()
    assert len(listed) == 100
    with tab.expect_download() as download:
        tab.locator("[data-download=hardest]").click()
    download.value.save_as(tmp_path / "hardest.txt")
    assert (tmp_path / "hardest.txt").read_text().split() == listed
    tab.locator("[data-copy=hardest]").click()
    tab.wait_for_selector("[data-said=hardest]:has-text('copied')")
    assert tab.evaluate("navigator.clipboard.readText()").split() == listed


def test_more_rows_are_shown_when_asked_for(show, written):
    tab = show(written)
    rows = tab.locator("#list-easiest tbody tr:visible")
    assert rows.count() == 10
    tab.locator("[data-more=easiest]").click()
    assert rows.count() == 100


def test_nothing_of_a_hostile_data_set_runs(show, tmp_path):
    pruner = pruner_of("Full", budget=None, batch_size=1)
    for _ in range(4):  # the first class starves, so that it is drawn, and named in a finding
        share = pruner.share().indices
        few = share[(share % 3 != 0) | (share < 60)]
        pruner.record(few, loss_of(few, pruner.epoch))
        pruner.end_epoch()
    path = page(pruner, Hostile(fails=[5]), path=tmp_path / "page.html", title=HOSTILE)
    tab = show(path)
    assert tab.locator("h1").inner_text() == HOSTILE and tab.title() == HOSTILE
    texts = tab.locator("#list-hardest .item .text").all_inner_texts()
    assert texts and all(text.startswith(HOSTILE) for text in texts)
    assert "<img src=x" in tab.locator("#list-hardest .item .name").first.inner_text()
    assert HOSTILE in tab.locator("#classes .finding").inner_text()
    tab.locator("#chart-classes .layer_0_marks path").first.hover(force=True)
    tab.wait_for_selector("#vg-tooltip-element.visible")
    assert "window.hacked" in tab.locator("#vg-tooltip-element").inner_text()
    tab.locator("#chart-map").press("ArrowUp")
    tab.wait_for_selector("#cell-samples .item")
    tab.wait_for_timeout(200)  # for what an image that fails would run


def test_scripts_that_are_not_of_the_page_are_refused(show, written, browser):
    tab = browser.new_page()
    tab.goto(written.as_uri())
    tab.evaluate("document.body.insertAdjacentHTML('beforeend', "
                 "`<img src=x onerror='window.hacked=1'>`)")  # fmt: skip
    tab.wait_for_timeout(200)
    assert tab.evaluate("window.hacked") is None
    tab.close()


@pytest.mark.parametrize(
    "make",
    [
        lambda: pruner_of(),
        lambda: train(pruner_of(), 1),
        lambda: train(pruner_of(track=False), 3),
        lambda: train(pruner_of("UCB"), 3),
        lambda: train(pruner_of(), 4, lambda at, epoch: np.full(len(at), 2.5, np.float32)),
        lambda: train(pruner_of(), 4, lambda at, epoch: loss_of(at, epoch) - 9),
        lambda: train(pruner_of(), 4, lambda at, epoch: loss_of(at, epoch) * np.float32(1e37)),
        lambda: train(pruner_of(n=1, budget=None, batch_size=1), 3),
    ],
    ids=["new", "one epoch", "untracked", "score", "constant", "negative", "huge", "one sample"],
)
def test_runs_of_all_kinds_are_drawn_without_a_complaint(show, tmp_path, make):
    tab = show(page(make(), path=tmp_path / "page.html"), viewport=NARROW)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 400


def test_a_page_has_few_elements_whatever_the_number_of_samples(show, tmp_path):
    pruner = train(pruner_of(n=300_000, batch_size=100), 3)
    path = page(pruner, path=tmp_path / "page.html", classes=np.arange(300_000) % 100)
    assert path.stat().st_size < 2_000_000
    assert show(path).evaluate("document.querySelectorAll('*').length") < 25_000


def test_a_class_that_is_named_like_a_colour_keeps_its_name(show, tmp_path):
    pruner = pruner_of("Full", budget=None, batch_size=1)
    for _ in range(3):  # the second class starves, so that its bar is drawn
        share = pruner.share().indices
        few = share[(share % 2 == 0) | (share < 60)]
        pruner.record(few, loss_of(few, pruner.epoch))
        pruner.end_epoch()
    classes, names = np.arange(N) % 2, ["@ink", "@paper"]
    tab = show(page(pruner, path=tmp_path / "page.html", classes=classes, names=names))
    labels = tab.locator("#chart-classes .role-axis-label text").all_text_contents()
    assert set(names) <= set(labels)
