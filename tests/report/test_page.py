"""The page of a run: its figures are those of the run, and nothing that it shows can run."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import seta
from seta.report import page
from seta.report.inspection.classes import classes_of, rows_of
from seta.report.inspection.content import content_of
from seta.report.inspection.facts import facts_of
from seta.report.inspection.items import Items, labels_in
from seta.report.inspection.states import states_of
from seta.report.inspection.visits import visits_section
from tests.report.runs import (
    EPOCHS,
    HOSTILE,
    Hostile,
    Images,
    N,
    loss_of,
    pruner_of,
    sharded_states,
    train,
)  # fmt: skip


@pytest.fixture(scope="module")
def pruner():
    return train(pruner_of(), 5)


def content(run, dataset=None, classes=None):
    found = facts_of(states_of(run))
    given = labels_in(dataset, found.n) if classes is None and dataset is not None else classes
    of = None if given is None else classes_of(given, found.n)
    items = None if dataset is None else Items(dataset)
    return content_of(found, classes=of, items=items, title="A run", moment="today")


def test_labels_that_are_no_classes_leave_the_page_without_them(tmp_path):
    """Such as ids, or numbers to be predicted of which the first is whole."""
    many = 10_001
    run = seta.Pruner(many, "SeTa", epochs=2, losses=np.ones(many, np.float32))
    for targets in (torch.arange(many), [3, *[2.5] * (many - 1)]):
        data = torch.utils.data.TensorDataset(torch.zeros(many))
        data.targets = targets
        assert "By class" not in page(run, data, path=tmp_path / "page.html").read_text()


def test_a_class_without_a_name_keeps_its_column(pruner):
    found = content(pruner, classes=np.where(np.arange(N) % 2, "", "spam"))
    labels = {row.label for one in found.lists for row in one.rows}
    assert labels == {"(empty)", "spam"}


def test_a_guess_is_among_the_classes_that_have_samples():
    def counts(given, names=None):
        return classes_of(np.array(given), len(given), names).count

    assert counts([1, 2, 1]) == counts([100, 200, 200]) == counts(["a", "b", "b"]) == 2
    assert counts([0, 2, 2], ["a", "b", "c", "d"]) == 4
    assert counts([0, 7], ["a", "b"]) == 3


def section(found, key):
    return next(one for one in found.sections if one.key == key)


def test_cost_is_that_of_the_history(pruner):
    cost = section(content(pruner), "cost")
    rows = pruner.history
    figures = dict(cost.figures)
    trained = sum(row["trained"] for row in rows)
    assert figures["samples trained"] == f"{trained:,} of {N * len(rows):,}"
    assert figures["saved, of full training's samples"] == f"{100 * rows[-1]['saved']:.1f} %"
    assert figures["budget up to now"] == "50.0 % of full"
    assert [row[2] for row in cost.charts[0].table.rows] == [f"{row['trained']:,}" for row in rows]


@pytest.mark.parametrize(
    "choosing, training, saved, said",
    [
        (20.0, 100.0, 5.0, ["Choosing samples took 16.7 %"]),
        (1.0, 100.0, -5.0, ["Up to now the run took longer"]),
        (1.0, 100.0, 5.0, []),
        (0.2, 1.0, -5.0, []),  # a run of seconds tells nothing of time
    ],
)
def test_time_is_a_finding_in_runs_that_take_some(pruner, choosing, training, saved, said):
    state = pruner.state_dict()
    times = {"select_seconds": choosing, "train_seconds": training, "saved_seconds": saved}
    for row in state["run"]["history"]:
        row.update({name: seconds / EPOCHS for name, seconds in times.items()})
    found = [one.meaning for one in section(content(state), "cost").findings]
    assert len(found) == len(said)
    assert all(text.startswith(start) for text, start in zip(found, said, strict=True))


def test_histograms_are_those_that_the_epochs_began_with(pruner):
    pictures = section(content(pruner), "losses").data["pictures"]
    assert [picture["epoch"] for picture in pictures] == [1, 2, 3, 4]
    for picture in pictures:
        row = pruner.history[picture["epoch"]]
        assert sum(picture["samples"]) + picture["unseen"] == N
        assert picture["window"] == row["window"]
        np.testing.assert_allclose(picture["bounds"], row["group_bounds"], rtol=1e-5)
        assert 0 < sum(picture["kept"]) <= row["kept"] + 1


def test_the_map_counts_every_sample_once(pruner):
    found, table = content(pruner), pruner.table()
    cells = section(found, "map").data["cells"]
    assert sum(cell["samples"] for cell in cells) == np.isfinite(table["spread"]).sum()
    named = [sample for cell in cells for sample in cell["examples"]]
    assert len(named) == len(set(named))
    for cell in cells:
        assert len(cell["examples"]) == min(20, cell["samples"])
        low, high, least, most = map(float, re.findall(r"\d[\d.e+-]*", cell["text"]))
        inner = (0 < cell["column"] < 39) and (
            0 < cell["line"] < 39
        )  # at the ends lie outliers too
        for sample in cell["examples"] if inner else []:
            assert low * 0.99 <= table["mean"][sample] <= high * 1.01
            assert least * 0.99 <= table["spread"][sample] <= most * 1.01


def test_visits_and_time_left_out_are_those_of_the_table(pruner):
    visits = section(content(pruner), "visits")
    table = pruner.table()
    for chart, name in zip(visits.charts, ("visits", "left_out"), strict=True):
        counts = {text: int(samples) for text, samples in chart.table.rows}
        for value, samples in enumerate(np.bincount(table[name]).tolist()):
            assert counts[str(value)] == samples
    never = int((table["left_out"] >= 5).sum())
    assert dict(visits.figures)["never trained"].startswith(f"{never} sample" if never else "no")


def test_classes_are_counted_from_the_data_set(pruner):
    found, table = facts_of(states_of(pruner)), pruner.table()
    of = np.arange(N) % 3
    rows = {row.name: row for row in rows_of(found, classes_of(of, N, ["a", "b", "c"]))}
    for at, name in enumerate("abc"):
        mine = of == at
        assert rows[name].samples == 200
        share = table["visits"][mine].sum() / table["visits"].sum() * 3
        assert rows[name].visits == pytest.approx(share)
        assert rows[name].loss == pytest.approx(np.nanmean(table["loss"][mine]), rel=1e-5)
        assert rows[name].never == (table["left_out"][mine] >= 5).sum()


def test_a_class_that_starves_is_a_finding():
    pruner = pruner_of("Full", budget=None, batch_size=1)
    for _ in range(5):
        share = pruner.share().indices
        few = share[(share % 2 == 0) | (share % 10 == 1)]
        pruner.record(few, loss_of(few, pruner.epoch))
        pruner.end_epoch()
    found = section(content(pruner, classes=np.arange(N) % 2), "classes")
    assert "1 class has less than half" in found.findings[0].meaning and found.charts
    even = section(content(pruner, classes=np.arange(N) % 5), "classes")
    assert not even.findings and not even.charts and "No class starves" in even.lead


def test_lists_have_the_samples_they_say(pruner):
    found, table = content(pruner), pruner.table()
    lists = found.data["lists"]
    order = np.argsort(-np.nan_to_num(table["mean"], nan=-1), kind="stable")
    assert lists["hardest"] == order[:100].tolist()
    easy = np.argsort(np.nan_to_num(table["mean"], nan=9e9), kind="stable")
    assert lists["easiest"] == easy[:100].tolist()
    out = table["left_out"][lists.get("starved", [])]
    assert (out >= 3).all() and (np.diff(out) <= 0).all()
    assert len(lists.get("starved", [])) == min(100, (table["left_out"] >= 3).sum())
    above = (table["loss"] - table["mean"])[lists["forgotten"]]
    assert (above > table["spread"][lists["forgotten"]]).all() and (np.diff(above) <= 0).all()
    shown = {row.index: row.figures for one in found.lists for row in one.rows}
    for index, figures in shown.items():
        assert figures[found.columns.index("visits")] == str(table["visits"][index])
        assert figures[found.columns.index("mean")] == (
            f"{table['mean'][index]:.4g}" if table["visits"][index] else ""
        )


@pytest.mark.parametrize("classes", [None, np.arange(N) % 3])
def test_suspects_are_those_of_the_pruner(pruner, classes):
    found, own = content(pruner, classes=classes), pruner.suspects(100, classes=classes)
    assert found.data["lists"]["suspects"] == own["index"].tolist()
    shown = [row.figures[found.columns.index("suspicion")] for row in found.lists[0].rows]
    assert shown == [f"{one:.4g}" for one in own["suspicion"]]


def test_planted_errors_are_suspects():
    wrong = np.random.default_rng(0).choice(N, 30, replace=False)

    def loss(samples, epoch):
        return np.where(np.isin(samples, wrong), 5, loss_of(samples, epoch)).astype(np.float32)

    pruner = train(pruner_of("Random"), 5, loss)
    found = content(pruner, classes=np.arange(N) % 3).data["lists"]["suspects"]
    often = [sample for sample in wrong if pruner.table()["visits"][sample] > 1]
    assert set(often) <= set(found[:30])


def test_samples_that_are_worse_than_a_guess_are_counted(pruner):
    table = pruner.table()
    worse = int(((table["mean"] > np.log(3)) & (table["visits"] > 1)).sum())
    found = section(content(pruner, classes=np.arange(N) % 3), "map").findings
    assert any(
        one.meaning.startswith(f"{worse} samples have a mean loss above 1.1") for one in found
    )
    negative = train(pruner_of(), 4, lambda at, epoch: loss_of(at, epoch) - 9)
    found = section(content(negative, classes=np.arange(N) % 3), "map").findings
    assert not any("guess" in one.meaning for one in found)


def test_many_wrong_labels_stand_out_though_their_losses_vary():
    wrong = np.arange(N) % 10 == 0

    def loss(samples, epoch):
        high = 5 + 2 * np.cos(samples + 2 * epoch)
        return np.where(wrong[samples], high, loss_of(samples, epoch) / 3).astype(np.float32)

    found = section(content(train(pruner_of("Random"), 5, loss)), "map")
    (finding,) = found.findings
    share = float(dict(found.figures)["hard (high mean)"].removesuffix(" %"))
    assert share == pytest.approx(10, abs=1)
    assert "lie in the hard region" in finding.meaning and finding.warning


def test_the_upper_end_of_like_losses_is_no_finding(pruner):
    found = section(content(pruner), "map")
    assert float(dict(found.figures)["hard (high mean)"].removesuffix(" %")) > 5
    assert not found.findings


@pytest.mark.parametrize(("starved", "warning"), [(1, False), (N // 20, True)])
def test_a_few_starved_samples_are_a_note_and_many_a_warning(pruner, starved, warning):
    facts = facts_of(states_of(pruner))
    out = np.where(np.arange(N) < starved, 4, 1)
    (finding,) = visits_section(replace(facts, left_out=out), 3).findings
    assert finding.warning == warning and "not been trained for 3 epochs" in finding.meaning


def test_the_columns_of_lists_are_explained(pruner):
    told = content(pruner).columns_told
    assert told.startswith("In the tables, loss is the latest; mean and spread are")
    assert "track=[...]" in told and "suspicion is how far" in told
    named = ("visits", "left out", "suspicion")
    assert {"loss", "mean", "spread", *named} == set(content(pruner).columns)
    assert "mean" not in content(train(pruner_of(track=False), 2)).columns_told


def test_loss_curves_are_those_that_were_followed(pruner):
    found, own = content(pruner), pruner.trajectories()
    assert found.data["curves"]
    for sample, curve in found.data["curves"].items():
        losses = own.losses[:, own.samples.tolist().index(int(sample))]
        assert [loss is None for loss in curve] == np.isnan(losses).tolist()
        np.testing.assert_allclose([one for one in curve if one is not None],
                                   losses[np.isfinite(losses)], rtol=1e-5)  # fmt: skip


def test_an_untracked_run_has_what_is_known():
    pruner = train(pruner_of(track=False), 4)
    found = content(pruner)
    assert [one.key for one in found.sections] == ["cost", "losses", "visits"]
    (picture,) = section(found, "losses").data["pictures"]
    assert picture["kept"] is None and sum(picture["samples"]) == np.isfinite(pruner.losses).sum()
    assert {"hardest", "easiest"} <= found.data["lists"].keys()
    assert "suspects" not in found.data["lists"]
    assert any("track=True" in note for note in found.notes)


def test_parts_of_a_sharded_table_make_one_page(tmp_path):
    states, _ = sharded_states(4)
    whole, part = content(states), content(states[0])
    assert not any("part of the run" in note for note in whole.notes)
    assert any("part of the run" in note for note in part.notes)
    page(states[0], Images(), path=tmp_path / "part.html")


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (lambda samples, epoch: np.full(len(samples), 2.5, np.float32), "nearly the same loss"),
        (lambda samples, epoch: loss_of(samples, epoch) - 9, None),
        (lambda samples, epoch: loss_of(samples, epoch) * np.float32(1e37), None),
        (lambda samples, epoch: np.zeros(len(samples), np.float32), "nearly the same loss"),
        (lambda samples, epoch: (samples % 2).astype(np.float32), None),
        (lambda samples, epoch: np.where(samples % 9, 1.0, np.nan).astype(np.float32), "NaN"),
    ],
    ids=["constant", "negative", "huge", "zero", "binary", "nan"],
)
def test_losses_of_any_size_make_a_page(tmp_path, loss, says):
    pruner = train(pruner_of(), 4, loss)
    page(pruner, path=tmp_path / "page.html")
    meanings = [finding.meaning for _, finding in content(pruner).findings]
    assert says is None or any(says in meaning for meaning in meanings)


@pytest.mark.parametrize("epochs", [0, 1])
@pytest.mark.parametrize("n", [1, 2, 600])
def test_a_run_that_has_just_begun_has_a_page(tmp_path, epochs, n):
    pruner = train(pruner_of(n=n, budget=None, batch_size=1), epochs)
    text = page(pruner, path=tmp_path / "page.html").read_text()
    assert "of 6" in text


def test_an_open_epoch_and_a_run_that_is_over_have_a_page(tmp_path):
    pruner = train(pruner_of(), EPOCHS)
    page(pruner, path=tmp_path / "page.html")
    pruner = train(pruner_of(), 2)
    pruner.begin_epoch()
    assert "epoch 2 is open" in page(pruner, path=tmp_path / "page.html").read_text()


def test_no_text_of_the_data_set_is_html(tmp_path, pruner):
    path = page(pruner, Hostile(fails=[3, 4]), path=tmp_path / "page.html", title=HOSTILE)
    text = path.read_text()
    own = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert "<img" not in own and "<script" not in own and "window.hacked" in own
    assert text.count("</script>") == 3  # the data, the library, the page's own
    assert "49" not in re.findall(r"<td>(.*?)</td>", text)  # no template in a template
    data = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1]
    assert not set("<>&") & set(data)
    texts = [item["text"] for item in json.loads(data)["items"].values()]
    assert all(HOSTILE in one for one in texts)


def test_an_item_that_fails_says_why_and_the_page_goes_on(pruner):
    found = content(pruner, Hostile(fails=range(0, N, 2)))
    kinds = {index: shown["kind"] for index, shown in found.items.items()}
    assert len(kinds) > 100
    assert {kind for index, kind in kinds.items() if index % 2 == 0} == {"error"}
    assert {kind for index, kind in kinds.items() if index % 2} == {"text"}
    assert "OSError: cannot read" in next(
        shown["text"] for shown in found.items.values() if shown["kind"] == "error"
    )


def test_a_page_is_small_without_thumbnails(tmp_path, pruner):
    assert page(pruner, path=tmp_path / "page.html").stat().st_size < 2_000_000


def test_a_page_needs_no_network(tmp_path, pruner):
    text = page(pruner, Images(), path=tmp_path / "page.html").read_text()
    assert "default-src &#39;none&#39;" in text
    own = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r'(?:src|href)="(?!#|data:)', own)


def test_the_same_run_gives_the_same_page(tmp_path, pruner):
    one = page(pruner, Images(), path=tmp_path / "one.html").read_text()
    assert one == page(pruner, Images(), path=tmp_path / "two.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": Images(7)}, "dataset must be the one that was trained on, of 600 samples"),
        ({"classes": [1, 2]}, r"classes must have one entry for each .* got shape \(2,\)"),
        ({"classes": np.zeros(N)}, "classes must be integers or texts, got float64"),
    ],
)
def test_what_does_not_fit_the_run_is_refused(tmp_path, pruner, arguments, message):
    with pytest.raises(ValueError, match=message):
        page(pruner, **arguments, path=tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_global_random_state_is_left_alone(tmp_path, pruner):
    before = np.random.get_state()[1].copy()
    page(pruner, Images(), path=tmp_path / "page.html")
    assert (np.random.get_state()[1] == before).all()


def test_what_is_missing_is_named(monkeypatch, tmp_path, pruner):
    import seta.extras

    monkeypatch.setattr(seta.extras, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'vl-convert-python.*pip install "seta\[inspect\]"'):
        page(pruner, path=tmp_path / "page.html")
