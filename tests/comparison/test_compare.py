"""`seta.compare` on trainings of some milliseconds: planted truths, kills, bad input."""

import errno
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

import seta
from seta.comparison import lines
from seta.comparison.arguments import source_of
from seta.engine.files import chunks
from tests.comparison import training
from tests.comparison.training import ByLoss, Points, run

TIMES = {"seconds", "cpu_seconds", "select_seconds", "date"}
ROOT = Path(__file__).resolve().parents[2]


def compared(run=run, dataset=None, **options):
    given = {"epochs": 4, "batch_size": 32, "methods": ["SeTa"], "seeds": 2, "progress": False}
    return seta.compare(run, Points() if dataset is None else dataset, **{**given, **options})


def without_times(found):
    return [{name: line[name] for name in line if name not in TIMES} for line in found]


def by_run(found):
    return {(line["method"], line["budget"], line["seed"]): line for line in without_times(found)}


def test_all_contenders_train_the_same_visits_and_full_is_beside_them():
    found = compared(methods=["SeTa", "Random", "RS2"], budgets=[0.5, 0.3])
    assert [cell.name for cell in found.cells.cells.values()] == [
        "Full",
        *(f"{m} {b}" for b in (0.5, 0.3) for m in ("Full at equal cost", "SeTa", "Random", "RS2")),
    ]
    for line in found.lines:
        batches = 16 * 4 if line["method"] == "Full" else int(line["budget"] * 16 * 4)
        assert line["visits"] == 32 * batches, line["method"]
        assert line["full_visits"] == 512 * 4


@pytest.mark.parametrize("n, batch_size, epochs, budget", [
    (512, 32, 4, 0.37), (500, 32, 3, 0.5), (101, 7, 5, 0.21), (64, 16, 4, 0.5), (97, 10, 9, 0.9),
])  # fmt: skip
def test_visits_are_equal_to_a_sample_whatever_does_not_divide(n, batch_size, epochs, budget):
    found = compared(
        dataset=Points(n), epochs=epochs, batch_size=batch_size, budgets=[budget], seeds=1,
        methods=["Random", "RS2"],
    )  # fmt: skip
    pruned = {line["visits"] for line in found.lines if line["method"] != "Full"}
    assert len(pruned) == 1
    full = n // batch_size * batch_size * epochs
    assert budget * full - batch_size < pruned.pop() <= budget * full


def test_a_planted_truth_is_found():
    """Far-off targets: leaving out the highest losses is better, training on them alone worse."""
    found = compared(
        dataset=Points(wrong=0.35),
        epochs=12,
        seeds=4,
        methods={"lowest": ByLoss(share=0.6), "highest": ByLoss(lowest=False)},
        lower_is_better=True,
    )
    clear = {row["method"]: row["distance_to_equal_cost_clear"] for row in found.rows()}
    assert clear["lowest"] == 1 and clear["highest"] == -1
    assert found.verdict[0].startswith("Use lowest at 50 %: clearly better than Full at equal cost")
    assert any(text.startswith("highest at 50 % is clearly worse") for text in found.verdict)


def test_where_nothing_differs_it_says_so():
    found = compared(training.nothing_differs, seeds=6, methods=["SeTa", "Random"])
    assert not found.verdict[0].startswith("Use")
    assert {row["figure_to_equal_cost_clear"] for row in found.rows()} == {0}


def test_lines_are_written_and_a_second_call_makes_only_what_is_missing(tmp_path):
    calls = []

    def counted(loader, seed):
        calls.append(seed)
        return run(loader, seed)

    first = compared(counted, out=tmp_path)
    assert calls == [0, 0, 0, 1, 1, 1]
    text = (tmp_path / "runs.jsonl").read_text()
    assert [json.loads(line) for line in text.splitlines()] == lines.read(tmp_path / "runs.jsonl")
    again = compared(counted, out=tmp_path, seeds=3, budgets=[0.5, 0.25])
    assert len(calls) == 6 + 2 * 2 + 5
    assert by_run(again.lines).items() >= by_run(first.lines).items()
    assert {path.name for path in tmp_path.iterdir()} == {
        "runs.jsonl", "comparison.md", "comparison.html", "comparison.png", ".lock",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["comparison.md", "comparison.html", "comparison.png"])
def test_a_full_disk_leaves_the_earlier_report_as_it_was(name, tmp_path, monkeypatch):
    found = compared(out=tmp_path)
    found.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_at = chunks.write_at

    def fails(file, at, data):
        if f".{name}." in str(file.name):
            write_at(file, at, data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        write_at(file, at, data)

    monkeypatch.setattr(chunks, "write_at", fails)
    with pytest.raises(OSError, match="No space left"):
        found.save(tmp_path)
    assert (tmp_path / name).read_bytes() == before[name]
    assert {path.name for path in tmp_path.iterdir()} == set(before)


@pytest.mark.slow
@pytest.mark.processes
def test_processes_side_by_side_make_the_same_runs(tmp_path):
    here = compared(methods=["SeTa", "UCB"], out=tmp_path / "here")
    apart = compared(methods=["SeTa", "UCB"], out=tmp_path / "apart", jobs=2)
    assert by_run(here.lines) == by_run(apart.lines)
    assert here.verdict == apart.verdict


def test_the_random_states_are_those_of_the_seed_and_then_as_they_were():
    drawn = {}

    def noting(loader, seed):
        key = loader.pruner.policy.__class__.__name__, loader.epochs, seed
        drawn[key] = (torch.rand(1).item(), np.random.rand(), random.random())
        return run(loader, seed)

    def states():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()

    before = states()
    compared(noting)
    assert states() == before
    by_seed = {seed: {value for (*_, of), value in drawn.items() if of == seed} for seed in (0, 1)}
    assert [len(values) for values in by_seed.values()] == [1, 1] and by_seed[0] != by_seed[1]


@pytest.mark.parametrize("name, value", [("epochs", 5), ("batch_size", 16), ("strata", [0] * 512)])
def test_a_changed_setting_is_noticed(tmp_path, name, value):
    compared(out=tmp_path, seeds=1)
    with pytest.raises(ValueError, match=f"made otherwise: {name} was "):
        compared(out=tmp_path, seeds=1, **{name: value})


def test_other_changes_are_noticed(tmp_path):
    compared(out=tmp_path, seeds=1, settings={"rate": 0.1})
    with pytest.raises(ValueError, match=r"rate was 0\.1 and is 0\.2"):
        compared(out=tmp_path, seeds=1, settings={"rate": 0.2})
    with pytest.raises(ValueError, match="n was 512 and is 256"):
        compared(dataset=Points(256), out=tmp_path, seeds=1, settings={"rate": 0.1})
    other = {"SeTa": seta.SeTa(prune_ratio=0.7)}
    with pytest.raises(ValueError, match=r"policy was .* and is .*prune_ratio=0\.7"):
        compared(out=tmp_path, seeds=1, settings={"rate": 0.1}, methods=other)
    found = compared(training.slow, out=tmp_path, seeds=1, settings={"rate": 0.1})
    assert any("other code of run" in note for note in found.notes)


class Share:
    """A policy of one's own without a `repr`; it remembers something as it runs."""

    def __init__(self, share):
        self.share, self.calls = share, 0

    def __call__(self, histogram, epoch, epochs):
        self.calls += 1
        return seta.SeTa(prune_ratio=self.share)(histogram, epoch, epochs)


def closed(share):
    def of_share(histogram, epoch, epochs):
        return seta.SeTa(prune_ratio=share)(histogram, epoch, epochs)

    return of_share


class Slots:
    __slots__ = ("share",)

    def __init__(self, share):
        self.share = share

    def __call__(self, histogram, epoch, epochs):
        return seta.SeTa(prune_ratio=float(self.share))(histogram, epoch, epochs)


class Module(torch.nn.Module):
    def __init__(self, share):
        super().__init__()
        self.share = torch.nn.Parameter(torch.full((2000,), share))

    def forward(self, histogram, epoch, epochs):
        return seta.SeTa(prune_ratio=float(self.share.detach()[1000]))(histogram, epoch, epochs)


def partial_of(share):
    values = torch.full((2000,), 0.5)
    values[1000] = share
    return partial(run_of_tensor, values=values)


def run_of_tensor(histogram, epoch, epochs, values):
    return seta.SeTa(prune_ratio=float(values[1000]))(histogram, epoch, epochs)


@pytest.mark.parametrize("make", [Slots, Module, partial_of])
def test_what_is_not_in_the_repr_of_a_policy_is_noticed_too(make, tmp_path):
    compared(out=tmp_path, seeds=1, methods={"mine": make(0.1)})
    assert not compared(training.fails, out=tmp_path, seeds=1, methods={"mine": make(0.1)}).failures
    with pytest.raises(ValueError, match="made otherwise: policy was "):
        compared(out=tmp_path, seeds=1, methods={"mine": make(0.9)})


@pytest.mark.parametrize("make", [Share, closed])
def test_other_settings_of_a_policy_of_ones_own_are_noticed(make, tmp_path):
    compared(out=tmp_path, seeds=1, methods={"mine": make(0.1)})
    assert not compared(training.fails, out=tmp_path, seeds=1, methods={"mine": make(0.1)}).failures
    with pytest.raises(ValueError, match=r"policy was .*share=0\.1.* and is .*share=0\.9"):
        compared(out=tmp_path, seeds=1, methods={"mine": make(0.9)})


def test_other_settings_are_noticed_in_runs_of_other_seeds_and_methods_too(tmp_path):
    compared(out=tmp_path, seeds=[0])
    with pytest.raises(ValueError, match=r"epochs was 4 and is 6 \(Full, seed 0\)"):
        compared(out=tmp_path, seeds=[1], epochs=6)
    assert {line["epochs"] for line in lines.read(tmp_path / "runs.jsonl")} == {4, 2}
    assert len(compared(out=tmp_path, seeds=[1], methods=["RS2"]).lines) == 3


def test_settings_may_be_numbers_of_numpy(tmp_path):
    numbers = {"epochs": np.int64(4), "batch_size": np.int32(32), "fraction": np.float32(0.5)}
    assert len(compared(out=tmp_path, seeds=1, **numbers).lines) == 3
    plain = {"epochs": 4, "batch_size": 32, "fraction": 0.5}
    assert not compared(training.fails, out=tmp_path, seeds=1, **plain).failures


def test_names_that_are_no_utf8_cost_no_result(tmp_path):
    def odd(loader, seed):
        return {"acc\udce9": run(loader, seed)["loss"]}

    found = compared(odd, out=tmp_path, seeds=1, title="caf\udce9")
    assert len(found.lines) == 3 and not found.failures
    for name in ("comparison.md", "comparison.html"):
        assert "caf?: " in (tmp_path / name).read_text(encoding="utf-8")


def test_classes_may_have_any_numbers():
    strata = np.arange(512) % 4 + 10_000
    found = compared(methods=["RCAP"], strata=strata, seeds=1)
    assert len(found.lines) == 3 and not found.failures


def test_seeds_that_torch_does_not_take_are_refused():
    with pytest.raises(ValueError, match=r"less than 2\*\*63, got 9223372036854775808"):
        compared(seeds=[1, 2**63])


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.processes)])
def test_a_run_that_exits_is_one_that_failed(jobs):
    found = compared(training.exits, seeds=2, jobs=jobs)
    assert len(found.lines) == 3 and len(found.failures) == 3
    assert "SystemExit: no such file" in str(found)


def until_it_writes(file, alive):
    """Waits for a line more than there were, for the end, or for a while that no line ends."""
    had, began = len(lines.read(file)), time.monotonic()
    while alive() and len(lines.read(file)) == had and time.monotonic() - began < 60:
        time.sleep(0.005)


@pytest.mark.processes
def test_killed_ten_times_it_ends_with_the_same_lines(tmp_path):
    whole = training.to_be_killed(tmp_path / "whole", 1)
    file, rng, kills = tmp_path / "killed" / "runs.jsonl", random.Random(0), 0
    while kills < 10:
        child = os.fork()
        if not child:
            try:
                training.to_be_killed(file.parent, 1)
            finally:
                os._exit(0)
        until_it_writes(file, lambda of=child: os.waitid(os.P_PID, of, WATCH) is None)
        time.sleep(rng.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL, "it had ended before"
        kills += 1
    assert 5 <= len(lines.read(file)) < 12
    found = training.to_be_killed(file.parent, 1)
    assert by_run(found.lines) == by_run(whole.lines) and len(found.lines) == 12
    assert found.verdict == whole.verdict


WATCH = os.WEXITED | os.WNOHANG | os.WNOWAIT


@pytest.mark.slow
@pytest.mark.processes
def test_killed_beside_its_workers_it_ends_with_the_same_lines(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    file = tmp_path / "killed" / "runs.jsonl"
    for _ in range(2):
        script = [sys.executable, training.__file__, str(file.parent), "2"]
        process = subprocess.Popen(script, env=environment)
        until_it_writes(file, lambda of=process: of.poll() is None)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    found = training.to_be_killed(file.parent, 1)
    assert by_run(found.lines) == by_run(training.to_be_killed(tmp_path / "whole", 1).lines)


def test_two_at_once_on_one_folder_are_refused(tmp_path):
    def inner(loader, seed):
        with pytest.raises(RuntimeError, match="in use by another comparison"):
            compared(out=tmp_path, seeds=1)
        return run(loader, seed)

    assert not compared(inner, out=tmp_path, seeds=1).failures
    compared(out=tmp_path, seeds=1)  # it is free again


def test_what_fails_is_in_the_table_and_the_others_stay(tmp_path):
    calls = []

    def third(loader, seed):
        calls.append(seed)
        if len(calls) == 3:
            raise ZeroDivisionError("of my own")
        return run(loader, seed)

    found = compared(third, out=tmp_path)
    (name, reason), *_ = found.failures.items()
    assert name == "SeTa 0.5, seed 0" and "in third" in reason  # the whole traceback
    assert "  SeTa 0.5, seed 0: ZeroDivisionError: of my own" in str(found).splitlines()
    assert len(found.lines) == 5 and "of my own" in str(found)
    assert "of my own" in (tmp_path / "comparison.md").read_text()
    assert not compared(third, out=tmp_path).failures and len(calls) == 7


def returning(value):
    def returns(loader, seed):
        run(loader, seed)
        return value

    return returns


@pytest.mark.parametrize("value, message", [
    (None, "must return a number, or a dict of numbers, .* got None"),
    (float("nan"), "returned nan for 'figure': a run that diverged"),
    ({"loss": float("inf")}, "returned inf for 'loss'"),
    (torch.ones(3), "got a Tensor for 'figure'"),
    ({}, "at least one figure, got an empty mapping"),
    ({"accuracy": "high"}, "got a str for 'accuracy'"),
    (True, "got a bool"),
])  # fmt: skip
def test_what_is_no_figure_is_told(value, message):
    found = compared(returning(value), seeds=1)
    assert len(found.failures) == 3 and not found.lines
    (reason,) = {text.splitlines()[-1] for text in found.failures.values()}
    assert re.search(message, reason), reason


@pytest.mark.parametrize("value", [torch.tensor(2.0), np.float32(2), np.array([2.0]), 2])
def test_a_number_of_any_kind_is_one(value):
    assert {line["metrics"]["figure"] for line in compared(returning(value), seeds=1).lines} == {2}


def test_a_training_without_update_is_told():
    def forgets(loader, seed):
        for _ in range(loader.epochs):
            for _ in loader:
                pass
        return 1.0

    failures = compared(forgets, seeds=1).failures
    reasons = {text.splitlines()[-1] for text in failures.values()}
    assert len(reasons) == 2 and all("call loss = loader.update(losses)" in one for one in reasons)


def test_too_few_and_too_many_epochs_are_told():
    def three(loader, seed):
        for _ in range(3):
            for x, y in loader:
                loader.update((x.sum(1) - y).abs())
        return 1.0

    found = compared(three, seeds=1).failures
    assert "run trained 3 of the 4 epochs of its loader" in found["Full, seed 0"]
    assert "more often than the 2 epochs" in found["Full at equal cost 0.5, seed 0"]


def test_a_break_out_of_an_epoch_costs_less_than_is_said_and_is_told():
    def breaks(loader, seed):
        for _ in range(loader.epochs):
            for step, (x, y) in enumerate(loader):
                loader.update((x.sum(1) - y).abs())
                if step == 2:
                    break
        return 1.0

    failures = compared(breaks, seeds=1).failures
    assert len(failures) == 3
    assert "run trained 384 of the 2048 samples that its loader chose" in failures["Full, seed 0"]


def test_figures_that_change_their_names_are_told():
    def changes(loader, seed):
        return {"a": 1.0} if loader.pruner.policy == seta.Full() else {"b": run(loader, seed)}

    def renamed(loader, seed):
        value = run(loader, seed)["loss"]
        return {"a" if loader.epochs == 4 else "b": value}

    (reason,) = compared(renamed, seeds=1).failures.values()
    assert reason == "run must return the same figures each time: ['a'], and then ['b']"


def test_figures_that_are_not_those_of_an_earlier_call_end_this_one_at_once(tmp_path):
    calls = []

    def other(loader, seed):
        calls.append(seed)
        return {"accuracy": run(loader, seed)["loss"]}

    compared(out=tmp_path, seeds=1)
    with pytest.raises(ValueError, match=r"run returned \['distance', 'loss'\], and now \['acc"):
        compared(other, out=tmp_path, seeds=3)
    assert calls == [1] and len(lines.read(tmp_path / "runs.jsonl")) == 3


def test_files_of_other_figures_that_were_put_together_are_refused(tmp_path):
    compared(out=tmp_path / "a", seeds=[0])
    compared(returning({"accuracy": 1.0}), out=tmp_path / "b", seeds=[1])
    both = [(tmp_path / name / "runs.jsonl").read_text() for name in "ab"]
    (tmp_path / "runs.jsonl").write_text("".join(both))
    with pytest.raises(ValueError, match=r"'loss'\] and \['accuracy'\] \(Full, seed 1"):
        compared(out=tmp_path)


@pytest.mark.parametrize("options, message", [
    ({"budgets": [1.0]}, r"budgets must lie in \(0, 1\)"),
    ({"budgets": [0.5, 0.5]}, "budgets must be different, got 0.5 twice"),
    ({"budgets": [0.001]}, "at least one batch"),
    ({"methods": ["Seta2"]}, "methods must be of SeTa, .* got 'Seta2'"),
    ({"methods": ["SeTa", "seta"]}, "methods must be different, got SeTa twice"),
    ({"methods": ["RCAP"]}, "strata must be given for RCAP"),
    ({"strata": [0, 1]}, "strata must be integers from 0 on, one for each of the 512 samples"),
    ({"seeds": 0}, "seeds must"),
    ({"seeds": [1, 1]}, "seeds must be some, and different"),
    ({"until": "soon"}, 'until must be "told apart"'),
    ({"fraction": 1.5}, r"fraction must lie in \(0, 1\)"),
    ({"fraction": 0.1, "losses": np.ones(N := 512)}, "losses speaks of single samples"),
    ({"fraction": 0.1, "track": [3]}, "track speaks of single samples"),
    ({"batch_size": 1000}, "batch_size must be at most the samples"),
    ({"epochs": 0}, "epochs must"),
])  # fmt: skip
def test_what_cannot_be_done_is_told_before_anything_runs(options, message):
    def never(loader, seed):
        raise AssertionError("ran")

    with pytest.raises(ValueError, match=message):
        compared(never, **options)


@pytest.mark.parametrize("options, message", [
    ({"methods": "SeTa"}, 'methods must be a list'),
    ({"budgets": 0.5}, "budgets must be a list"),
    ({"methods": [3]}, "methods must be names or policies, got int"),
    ({"jobs": 2}, "run must be something that other processes can import"),
])  # fmt: skip
def test_what_is_of_another_kind_is_told(options, message):
    with pytest.raises(TypeError, match=message):
        compared(lambda loader, seed: 1.0, **options)


def test_lower_is_better_has_to_be_measured():
    with pytest.raises(ValueError, match=r"lower_is_better must be of \['distance', 'loss'\]"):
        compared(lower_is_better=["error"])


def test_a_pilot_has_a_part_of_each_class_and_the_same_for_all(tmp_path):
    seen = []

    def noting(loader, seed):
        data = loader.dataset
        seen.append(([data[i][1].item() for i in range(len(data))], loader.epochs))
        return run(loader, seed)

    strata = np.repeat([3, 7, 9], [400, 100, 12])
    found = compared(
        noting, strata=strata, fraction=0.25, seeds=1, batch_size=16, methods=["RCAP"], track=True
    )
    assert {len(targets) for targets, _ in seen} == {100 + 25 + 3}
    assert len({tuple(targets) for targets, _ in seen}) == 1
    assert found.notes[0].startswith("A pilot, on 25 % of the data set")
    of = {float(y): int(c) for y, c in zip(Points().y, strata, strict=True)}
    counts = np.unique([of[y] for y in seen[0][0]], return_counts=True)[1]
    assert counts.tolist() == [100, 25, 3]


def test_until_told_apart_ends_what_is_and_what_will_not_be():
    found = compared(
        dataset=Points(wrong=0.35), epochs=6, seeds=6, until="told apart", lower_is_better=True,
        methods={"highest": ByLoss(lowest=False), "RS2": "RS2"},
    )  # fmt: skip
    seeds = {cell.method: len(cell.lines) for cell in found.cells.cells.values()}
    assert seeds["highest"] == 3 and "highest 0.5: told apart after 3 seeds." in found.notes
    assert found.cells.confidence == pytest.approx(1 - 0.05 / 4)
    assert seeds["Full"] == seeds["Full at equal cost"] == max(seeds.values())


def test_one_look_has_intervals_as_always_and_no_note_on_them():
    found = compared(seeds=3, until="told apart", methods=["RS2"])
    assert found.cells.confidence == 0.95 and "instead of" not in " ".join(found.notes)


def test_the_regime_is_that_of_the_full_runs():
    found = compared(dataset=Points(wrong=0.3), epochs=8, seeds=2, strata=np.arange(512) % 4)
    assert set(found.regime) == {"falling", "in_doubt", "learned", "imbalance"}
    assert found.regime["imbalance"] == 1
    assert all(0 <= value <= 1 for value in found.regime.values())


def test_a_loader_of_another_framework_is_used():
    made = []

    def loader(dataset, policy, **arguments):
        made.append((policy, arguments))
        return seta.PrunedDataLoader(dataset, policy, **arguments)

    compared(loader=loader, seeds=1, num_workers=0)
    assert len(made) == 3 and all(arguments["drop_last"] for _, arguments in made)
    assert [arguments["epochs"] for _, arguments in made] == [4, 2, 4]


def test_frames_pages_and_pictures(tmp_path):
    found = compared(dataset=Points(wrong=0.3), seeds=3, lower_is_better=["loss"])
    rows = found.rows()
    assert [row["method"] for row in rows] == ["Full", "Full at equal cost", "SeTa"]
    assert rows[2]["distance_to_equal_cost"] == pytest.approx(
        rows[2]["distance"] - rows[1]["distance"]
    )
    page = found._repr_html_()
    assert "<table>" in page and "data:image/png;base64," in page and "<script" not in page
    assert found.verdict[0] in page and found.verdict[0] in found.to_markdown()
    rules = re.findall(r"([^{}]+){[^{}]*}", re.search("<style>(.*?)</style>", page)[1])
    assert rules and all(rule.startswith(".seta ") for rule in rules)  # a notebook's stay
    assert str(found).count("Full at equal cost 0.5") == 2  # a table for each figure


def test_names_of_methods_cannot_run_on_the_page():
    found = compared(methods={"<script>alert(1)</script>": seta.Random(0.5)}, seeds=1)
    assert "<script>" not in found.to_html()


def test_pandas_gets_the_rows():
    pandas = pytest.importorskip("pandas")
    frame = compared(seeds=1).to_pandas()
    assert isinstance(frame, pandas.DataFrame) and list(frame["method"])[2] == "SeTa"


def test_a_title_of_ones_own_and_options_of_the_loader_are_known(tmp_path):
    found = compared(seeds=1, title="mine", out=tmp_path, always_keep=[1, 2])
    assert found.title.startswith("mine: 512 samples")
    assert found.lines[0]["settings"]["always_keep"] == "list(1, 2)"
    with pytest.raises(ValueError, match="always_keep was"):
        compared(seeds=1, out=tmp_path, always_keep=[1, 3])
    assert not compared(seeds=1, out=tmp_path, always_keep=[1, 2], num_workers=0).failures


def test_a_callable_object_has_a_source_too():
    class Trains:
        def __call__(self, loader, seed):
            return run(loader, seed)

    assert source_of(Trains()).startswith("test_a_callable_object") and source_of(run)
    assert source_of(Trains()) != source_of(run) and source_of(len) == ""


def test_one_of_several_processes_alone_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match=r"before torch\.distributed\.init_process_group"):
        compared()
    monkeypatch.setenv("WORLD_SIZE", "")  # as if it were not set
    assert len(compared(seeds=1).lines) == 3


def test_a_method_under_another_name_is_made_for_its_budget():
    found = compared(methods={"mine": "Random"}, budgets=[0.5, 0.25], seeds=1)
    mine = [line["policy"] for line in found.lines if line["method"] == "mine"]
    assert mine == ["Random(prune_ratio=0.5)", "Random(prune_ratio=0.75)"]


def test_a_function_that_is_a_policy_can_go_on(tmp_path):
    def easy(histogram, epoch, epochs):
        return ByLoss()(histogram, epoch, epochs)

    compared(methods={"easy": easy}, out=tmp_path, seeds=1)
    line = lines.read(tmp_path / "runs.jsonl")[-1]
    assert "0x" not in line["policy"] and "easy" in line["policy"]
    assert not compared(methods={"easy": easy}, out=tmp_path, seeds=1).failures


def test_names_of_references_are_taken():
    with pytest.raises(ValueError, match="other names than 'Full'"):
        compared(methods={"Full": "SeTa"})


LOWER = {
    "loss", "test MSE", "rmse", "error rate", "wer", "terror", "cross_entropy",
    "val cross-entropy", "val_ce", "BCE", "brier", "ECE", "smape", "mape", "msle", "RMSLE", "bpb",
    "bits per byte", "EER", "kl", "LPIPS", "chamfer", "regret", "err", "val_err", "top1-err",
    "nrmse", "nmse", "MASE", "wape", "acceleration mse", "accumulated loss",
}  # fmt: skip
HIGHER = {
    "accuracy", "acc", "power", "F1", "answers", "success_rate", "recall", "precision", "bleu",
    "auc", "peer", "reward", "brier skill score", "information_gain (kl)", "acc (1 - error)",
}  # fmt: skip


@pytest.mark.parametrize("names, lower", [(LOWER | HIGHER, LOWER), (HIGHER, set())])
def test_figures_are_better_when_lower_by_their_names_unless_it_is_said(names, lower):
    def named(loader, seed):
        return dict.fromkeys(names, run(loader, seed)["loss"])

    found = compared(named, seeds=1)
    assert found.cells.lower == lower
    assert any("taken to be better when lower" in note for note in found.notes) == bool(lower)
    assert not compared(named, seeds=1, lower_is_better=False).cells.lower


def test_lower_is_better_is_checked_where_lines_are_there_already(tmp_path):
    compared(out=tmp_path, seeds=1)
    with pytest.raises(ValueError, match="lower_is_better must be of"):
        compared(out=tmp_path, seeds=1, lower_is_better=["error"])


def test_the_warning_of_each_run_is_kept_back(caplog):
    compared(seeds=1, methods=["Random"])
    assert "the run ends with" not in caplog.text


def test_it_says_in_a_line_what_it_is():
    assert "512 samples, 1 epoch of full" in repr(compared(seeds=1, epochs=1, methods=[]))
    assert repr(compared(seeds=1)).startswith(
        "Comparison(512 samples, 4 epochs of full training; 3"
    )


def test_a_setting_is_told_from_one_of_the_comparison_and_arrays_by_what_they_hold(tmp_path):
    weights = np.zeros(3000)
    compared(out=tmp_path, seeds=1, settings={"weights": weights, "top": float("inf")})
    weights[1500] = 1
    with pytest.raises(ValueError, match="weights was"):
        compared(out=tmp_path, seeds=1, settings={"weights": weights, "top": float("inf")})
    for name in ("n", "policy"):
        with pytest.raises(ValueError, match=f"settings must have other names than '{name}'"):
            compared(seeds=1, settings={name: 1})


def test_other_classes_and_other_arguments_of_a_partial_are_noticed(tmp_path):
    def rated(loader, seed, rate):
        return run(loader, seed)

    classes = np.arange(512) % 3
    compared(partial(rated, rate=0.1), out=tmp_path, seeds=1, strata=classes)
    found = compared(partial(rated, rate=0.9), out=tmp_path, seeds=1, strata=classes)
    assert any("other code of run" in note for note in found.notes)
    with pytest.raises(ValueError, match="strata was"):
        compared(out=tmp_path, seeds=1, strata=classes[::-1])


def test_a_policy_that_remembers_is_new_in_each_run():
    class Remembers:
        calls = 0

        def __call__(self, histogram, epoch, epochs):
            self.calls += 1
            return seta.KeepCurve.constant(histogram, 0.9 if self.calls < 4 else 0.1)

        def __repr__(self):
            return "Remembers()"

    one, two = (compared(methods=[Remembers()], seeds=seeds) for seeds in ([1], [0, 1]))
    assert by_run(one.lines).items() <= by_run(two.lines).items()


@pytest.fixture(scope="module")
def good_lines(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    compared(out=folder, seeds=1)
    return (folder / "runs.jsonl").read_text().splitlines()


@pytest.mark.parametrize("change, value", [
    ("metrics", {}), ("metrics", {"a": None}), ("visits", 0), ("full_visits", 0), ("seconds", None),
    ("settings", None),
])  # fmt: skip
def test_a_line_that_was_changed_is_named(good_lines, tmp_path, change, value):
    first, *others = map(json.loads, good_lines)
    first[change] = value
    lines = "".join(json.dumps(line) + "\n" for line in (first, *others))
    (tmp_path / "runs.jsonl").write_text(lines)
    with pytest.raises(ValueError, match=r"none of seta\.compare, or was changed \(Full, seed 0\)"):
        compared(out=tmp_path, seeds=1)


@pytest.mark.parametrize("options, message", [
    ({"drop_last": True}, "drop_last is not for the caller"),
    ({"on_epoch": print}, "on_epoch is not for the caller"),
    ({"jobs": 0}, "jobs must"),
    ({"strata": np.arange(512) - 1}, "strata must be integers from 0 on"),
    ({"methods": {"SeTa as published": "SeTa"}}, "other names than 'SeTa as published'"),
])  # fmt: skip
def test_more_of_what_cannot_be_done_is_told_before_anything_runs(options, message):
    def never(loader, seed):
        raise AssertionError("ran")

    with pytest.raises(ValueError, match=message):
        compared(never, **options)


@pytest.mark.parametrize("value", [
    1e30, 1e308, {"seconds": 1.0}, {"a": 1.0, "a_spread": 1.0}, {"a_to_full_low": 1.0, "a": 1.0},
])  # fmt: skip
def test_what_diverged_and_what_is_named_like_a_column_fails(value):
    assert len(compared(returning(value), seeds=1).failures) == 3


def test_a_figure_may_be_named_like_a_column_of_one_that_is_not_there():
    assert not compared(returning({"colour_spread": 1.0, "colour": 1.0}), seeds=1).lines
    assert not compared(returning({"colour_spread": 1.0}), seeds=1).failures


def test_a_string_is_one_name_of_what_is_better_when_lower():
    assert compared(seeds=1, lower_is_better="loss").cells.lower == {"loss"}


def test_files_that_cannot_be_written_cost_no_result(tmp_path, monkeypatch, caplog):
    def broken(self, folder):
        raise OSError("full")

    monkeypatch.setattr(seta.Comparison, "save", broken)
    assert len(compared(seeds=1, out=tmp_path).lines) == 3 and "could not be written" in caplog.text


def test_brackets_are_no_markup_on_a_terminal():
    console = Console(force_terminal=True, width=120, file=io.StringIO())
    console.print(compared(methods={"a[/b]": seta.Random(0.5)}, seeds=1).table(console))
    assert "a[/b] 0.5" in console.file.getvalue()
