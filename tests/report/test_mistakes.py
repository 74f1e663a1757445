"""Data sets, classes and states that are not as they should be: true figures, or a refusal."""

import json
import re

import numpy as np
import pytest

import seta
from seta import Pruner
from seta.comparison.target import TargetError, made
from seta.report import page
from seta.report.inspection import follow
from seta.report.inspection.classes import classes_of
from seta.report.inspection.cost import cost_section
from seta.report.inspection.facts import facts_of
from seta.report.inspection.lists import top
from seta.report.inspection.losses import losses_section
from seta.report.inspection.make import Inspection
from seta.report.inspection.states import read, states_of
from tests.report.runs import Images, N, loss_of, pruner_of, sharded_states, train


@pytest.fixture(scope="module")
def run():
    return train(pruner_of(), 3)


class Labelled:
    """Texts with labels; what else a data set has is given by name."""

    def __init__(self, labels, **has):
        self._labels = labels
        vars(self).update(has)

    def __len__(self):
        return len(self._labels)

    def __getitem__(self, at):
        return "text", self._labels[at]


def labels_of(path):
    """The labels of the samples that a page shows, by index."""
    data = re.search(r'id="data">(.*?)</script>', path.read_text(), re.DOTALL)[1]
    return {int(at): one["label"] for at, one in json.loads(data)["items"].items()}


def classes_in(path):
    """The names of the rows of the table by class."""
    table = path.read_text().partition('id="classes"')[2].partition("</table>")[0]
    return set(re.findall(r'<th scope="row">(.*?)</th>', table))


def test_labels_that_do_not_count_from_0_are_shown_as_they_are(run, tmp_path):
    labels = [(-5, 0, 1)[at % 3] for at in range(N)]
    inspection = Inspection(Labelled(labels, targets=labels), title="A run")
    inspection.write(run, tmp_path / "page.html")
    shown = labels_of(tmp_path / "page.html")
    assert shown and all(label == str(labels[at]) for at, label in shown.items())


def test_classes_of_another_kind_do_not_take_the_names_of_the_labels(run, tmp_path):
    labels, groups = np.arange(N) % 2, np.arange(N) % 3
    data = Labelled(labels.tolist(), targets=labels, classes=["cat", "dog"])
    path = tmp_path / "page.html"
    Inspection(data, classes=groups, title="A run").write(run, path)
    assert classes_in(path) == {"0", "1", "2"}
    assert set(labels_of(path).values()) == {"cat", "dog"}
    Inspection(data, classes=labels, title="A run").write(run, path)
    assert classes_in(path) == {"cat", "dog"}


def test_names_that_come_twice_are_told_apart():
    of = np.arange(6) % 3
    assert classes_of(of, 6, ["crane", "owl", "crane"]).names == ["crane (0)", "owl", "crane (2)"]
    assert classes_of(of, 6, np.array(["a", "b", "c"])).names == ["a", "b", "c"]


def test_names_are_short_and_turn_no_text_around_them():
    names = classes_of(np.arange(4), 4, ["x" * 10**6, "a\u202eb", "a\x00b", "\ud800"]).names
    assert [len(name) for name in names] == [80, 7, 7, 1]
    assert names[1:3] == ["a\ufffdb (1)", "a\ufffdb (2)"] and names[3] == "\ufffd"


def test_halves_of_characters_make_a_page(run, tmp_path):
    classes = ["\ud800x" if at % 2 else "b" for at in range(N)]
    path = page(run, path=tmp_path / "page.html", classes=classes, title="\udfff")
    assert "<h1>?</h1>" in path.read_text(encoding="utf-8")


class Silent(Exception):
    def __str__(self):
        raise ValueError("no message")


class Fails(Images):
    """All that can fail does."""

    @property
    def labels(self):
        raise RuntimeError("no labels")

    def __init__(self, error):
        self.error = error
        self.targets = dict.fromkeys(range(N))

    def __len__(self):
        raise TypeError("no length")

    def __getitem__(self, at):
        raise self.error


@pytest.mark.parametrize("error", [Silent(), SystemExit(3)])
def test_a_data_set_that_fails_everywhere_leaves_the_page(run, tmp_path, error):
    page(run, Fails(error), path=tmp_path / "page.html")


def test_a_part_that_is_given_twice_is_refused():
    states, _ = sharded_states(2)
    with pytest.raises(ValueError, match=r"have the same samples .* give each part once"):
        facts_of([states[0], states[0]])
    later, _ = sharded_states(3)
    with pytest.raises(ValueError, match="of different epochs"):
        facts_of([states[0], later[1]])


def test_two_runs_make_no_page(run, tmp_path):
    other = train(pruner_of(seed=9), 3)
    with pytest.raises(ValueError, match="settings differs from .* a page for each run"):
        page([run, other], path=tmp_path / "page.html")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"show": 3}, TypeError, "show must be a function .* got 3"),
        ({"classes": [[1], [2, 3]]}, ValueError, "classes must have one integer or text for each"),
    ],
)
def test_what_is_wrong_is_named(run, tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        page(run, Images(), path=tmp_path / "page.html", **arguments)


@pytest.mark.parametrize("size", [3.4e38, -3.4e38])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_losses_make_a_page(tmp_path, size, sign):
    def loss(samples, epoch):
        return np.where((samples + epoch) % 2, size, sign * size).astype(np.float32)

    page(train(pruner_of(), 3, loss), path=tmp_path / "page.html")


def test_classes_are_counted_anew_for_a_run_that_has_grown(run, tmp_path):
    inspection = Inspection(classes=np.arange(N) % 3, title="A run")
    inspection.write(run, tmp_path / "page.html")
    with pytest.raises(ValueError, match="classes must have one entry for each of the 700"):
        inspection.write(pruner_of(n=700), tmp_path / "page.html")


def call(files, out, **options):
    given = {"data": None, "classes": None, "show": None, "title": None, "follow": False}
    follow.run(files, out=out, console=None, **{**given, **options})


def test_the_page_is_not_written_over_what_it_is_made_from(run, tmp_path):
    path = tmp_path / "run.seta"
    seta.save(run.state_dict(), path)
    before = path.read_bytes()
    (tmp_path / "link.html").symlink_to(path)
    for out in (path, tmp_path / "link.html"):
        with pytest.raises(TargetError, match="--out must be another file than those that are rea"):
            call([path], out)
    (tmp_path / "training.py").write_text("data = [1]")
    with pytest.raises(TargetError, match="--out must be another file"):
        call([path], tmp_path / "training.py", data=f"{tmp_path}/training.py:data")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise KeyError('x')", "KeyError: 'x'"),
        ("import sys; sys.exit(2)", "SystemExit: 2"),
        ("def data(): pass", "must be, or return, what is looked at, got None"),
        ("def data(path): pass", "TypeError: .*the function needs no arguments"),
        ("import none_such", "ModuleNotFoundError: .*none_such"),
    ],
)
def test_a_script_that_fails_is_named(tmp_path, monkeypatch, text, message):
    monkeypatch.syspath_prepend(tmp_path)
    name = f"script_{abs(hash(text))}"
    (tmp_path / f"{name}.py").write_text(text)
    with pytest.raises(TargetError, match=rf"--data .*{name}.py:data.*{message}"):
        call([tmp_path / "run.seta"], tmp_path / "page.html", data=f"{tmp_path}/{name}.py:data")


def test_a_class_of_data_sets_is_made():
    assert len(made(Images)) == N


def test_a_folder_without_a_state_is_refused(tmp_path):
    with pytest.raises(OSError, match=r"is a folder without seta_state\.bin: give the file"):
        read(tmp_path)


def test_a_damaged_checkpoint_of_torch_is_refused_wherever_it_is_damaged(tmp_path):
    import torch

    torch.save({"a": [1.5, "b"], "w": torch.ones(3)}, tmp_path / "good.pt")
    good, generator = (tmp_path / "good.pt").read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        bad = bytearray(good)
        bad[int(generator.integers(4, 200))] = int(generator.integers(256))
        (tmp_path / "bad.pt").write_bytes(bad)
        try:
            read(tmp_path / "bad.pt")
        except ValueError as error:
            assert "bad.pt" in str(error)


def test_a_cut_off_checkpoint_of_torch_is_said_to_be_damaged(tmp_path):
    import torch

    torch.save({"w": torch.ones(3000)}, tmp_path / "cut.pt")
    good = (tmp_path / "cut.pt").read_bytes()
    for part in (0.3, 0.5, 0.9):
        (tmp_path / "cut.pt").write_bytes(good[: int(part * len(good))])
        with pytest.raises(ValueError, match=r"cut\.pt is damaged, or no file of torch\.save"):
            read(tmp_path / "cut.pt")
    (tmp_path / "cut.pt").write_bytes(good[:3])
    with pytest.raises(ValueError, match=r"cut\.pt is no state that seta reads"):
        read(tmp_path / "cut.pt")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.pt")


@pytest.mark.parametrize("resumed", [False, True])
def test_an_epoch_whose_loss_was_not_finite_has_no_loss(resumed):
    def made_anew():
        return Pruner(4, "Full", epochs=3, track=True)

    pruner = made_anew()
    for losses in ([1, 2, 3, 4], [5, np.nan, 7, np.inf], [8, 9, 10, 11]):
        chosen = pruner.begin_epoch().indices
        pruner.record(chosen, np.array(losses, np.float32)[chosen])
        if resumed:
            state, pruner = pruner.state_dict(), made_anew()
            pruner.load_state_dict(state)
        pruner.end_epoch()
    expected = [[1, 2, 3, 4], [5, np.nan, 7, np.nan], [8, 9, 10, 11]]
    np.testing.assert_array_equal(pruner.trajectories().losses, expected)


def test_losses_of_before_the_run_was_tracked_are_no_curves(run):
    samples = np.arange(N)
    assert np.isfinite(run.trajectories().losses).any()
    plain = train(pruner_of(track=False), 2)
    followed = pruner_of()
    followed.load_state_dict(plain.state_dict())
    train(followed, 1)
    found = followed.trajectories()
    assert np.isnan(found.losses[:2]).all()
    there = np.isfinite(found.losses[2])
    np.testing.assert_array_equal(found.losses[2][there], loss_of(samples, 2)[found.samples[there]])


def test_samples_that_are_always_kept_are_said_to_be_so():
    pruner = train(pruner_of(always_keep=np.arange(50)), 3)
    section = losses_section(facts_of(states_of(pruner)))
    assert "The 50 samples of always_keep are kept besides." in section.lead
    assert "always_keep" not in losses_section(facts_of(states_of(train(pruner_of(), 3)))).lead


def test_full_training_is_that_of_the_data_set_as_it_was():
    pruner = train(pruner_of(), 2)
    pruner.resize(300)
    facts = facts_of(states_of(train(pruner, 1)))
    bars = cost_section(facts).charts[0].spec["data"]["values"]
    assert [bar["full"] for bar in bars] == [N, N, 300]
    assert [bar["due"] for bar in bars] == [N / 2, N / 2, 150]


def test_a_budget_is_that_of_the_epochs_that_were_trained():
    pruner = pruner_of(budget=[0.2, 0.9, 0.4, 0.4, 0.4, 0.4])
    train(pruner, 1)
    pruner.begin_epoch(2)
    train(pruner, 1)
    figures = dict(cost_section(facts_of(states_of(pruner))).figures)
    assert figures["budget up to now"] == "30.0 % of full"


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("table.last_trained", np.full(N, 9, np.uint16)),
        ("table.losses", np.full(N, np.inf, np.float32)),
        ("table.columns", [1]),
        ("table.columns.track.visits", np.full(N, np.inf, np.float32)),
        ("table.columns.track.visits", np.full(N, np.nan, np.float32)),
        ("run.full", 0),
        ("table", True),
    ],
)
def test_figures_that_cannot_be_are_refused_by_their_entry(run, entry, value):
    state = run.state_dict()
    *way, last = entry.split(".", 2)
    inner = state
    for name in way:
        inner = inner[name]
    inner[last] = value
    with pytest.raises(ValueError, match=rf"{entry} must be"):
        facts_of(states_of(state))


def test_of_equal_samples_the_first_are_listed():
    values = np.where(np.arange(N) % 2, 1, 2).astype(np.float32)
    values[7] = 3
    assert top(values).tolist() == [7, *range(0, 198, 2)]
    assert top(np.zeros(N, np.float32), lowest=True).tolist() == [*range(100)]
