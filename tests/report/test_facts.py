"""What a page reads of a run: from pruners, loaders, files, and states in other states."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest

import seta
from seta.report.inspection.facts import facts_of
from seta.report.inspection.states import read, states_of
from tests.report.runs import N, loss_of, pruner_of, sharded_states, train

ROOT = Path(__file__).resolve().parents[2]


def facts(run):
    return facts_of(states_of(run))


def same_as(found, table):
    """Columns of the facts, against those of `Pruner.table()`."""
    for name, column in (
        ("samples", "index"), ("visits", "visits"), ("mean", "mean"), ("spread", "spread"),
        ("left_out", "left_out"), ("loss", "loss"), ("score", "score"), ("kept", "kept"),
    ):  # fmt: skip
        mine = getattr(found, name)
        if column in table:
            np.testing.assert_array_equal(mine, table[column], err_msg=name)
        else:
            assert mine is None, name


@pytest.mark.parametrize("policy", ["SeTa", "InfoBatch", "UCB", "Learnable"])
@pytest.mark.parametrize("track", [True, False])
def test_columns_are_those_of_the_run(policy, track):
    pruner = train(pruner_of(policy, track=track, count_kept=True), 4)
    same_as(facts(pruner), pruner.table())
    assert facts(pruner).history == pruner.history


def test_an_open_epoch_counts_as_begun():
    pruner = train(pruner_of(), 3)
    share = pruner.share().indices[:24]
    pruner.record(share, loss_of(share, 3))
    found = facts(pruner)
    assert (found.begun, found.over, found.open["epoch"]) == (4, 3, 3)
    same_as(found, pruner.table())


def test_before_the_first_epoch_nothing_is_known():
    found = facts(pruner_of())
    assert (found.begun, found.over, found.open) == (0, 0, None)
    assert np.isnan(found.loss).all() and not found.visits.any()


def test_curves_and_bars_are_those_of_the_run():
    pruner = train(pruner_of(), 4)
    trace, own = facts(pruner).trace, pruner.trajectories()
    np.testing.assert_array_equal(trace.samples, own.samples)
    np.testing.assert_array_equal(trace.losses, own.losses)
    assert [epoch for epoch, _ in trace.pictures] == [1, 2, 3]
    for epoch, bars in trace.pictures:
        assert bars.samples.sum() == N - pruner.history[epoch]["unseen"]


def test_parts_of_a_sharded_table_are_put_together():
    states, tables = sharded_states()
    found = facts(states)
    order = np.argsort(found.samples)
    np.testing.assert_array_equal(found.samples[order], np.arange(N))
    whole = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    there = np.argsort(whole["index"])
    for name in ("visits", "mean", "spread", "left_out", "loss"):
        np.testing.assert_array_equal(getattr(found, name)[order], whole[name][there])
    trained = found.trace.samples[np.isfinite(found.trace.losses).any(axis=0)]
    np.testing.assert_array_equal(
        trained, [one for one in found.trace.samples if whole["visits"][there][one]]
    )


def test_one_part_of_a_sharded_table_is_shown_alone():
    states, tables = sharded_states()
    same_as(facts(states[1]), tables[1])


def test_parts_of_different_runs_are_refused():
    states, _ = sharded_states()
    other = copy.deepcopy(states[1])
    other["settings"]["seed"] = 7
    with pytest.raises(ValueError, match="of one run"):
        facts([states[0], other])


def test_of_a_table_that_each_rank_holds_any_state_will_do():
    pruner = train(pruner_of(), 3)
    state = pruner.state_dict()
    state["table"]["part"], state["table"]["parts"] = 1, 2
    same_as(facts(state), pruner.table())


def test_a_file_says_the_same_as_the_pruner(tmp_path):
    pruner = train(pruner_of(), 3)
    seta.save(pruner.state_dict(), tmp_path / "run.seta")
    same_as(facts(read(tmp_path / "run.seta")), pruner.table())


def test_a_state_of_an_older_format_is_read():
    state = train(pruner_of(track=False), 2).state_dict()
    old = {**{key: value for key, value in state.items() if key != "trace"}}
    assert facts({**old, "format": "seta-pruner-1"}).trace is None


def test_a_loader_in_a_checkpoint_of_torch_is_found(tmp_path):
    import torch

    data = torch.utils.data.TensorDataset(torch.arange(N))
    loader = seta.PrunedDataLoader(data, "SeTa", epochs=3, batch_size=60, seed=1, track=True)
    for _ in range(2):
        for (indices,) in loader:
            loader.update(torch.from_numpy(loss_of(indices.numpy(), loader.epoch)))
    checkpoint = {"model": {"w": torch.ones(3)}, "callbacks": {"Pruning": loader.state_dict()}}
    torch.save(checkpoint, tmp_path / "checkpoint.pt")
    table = loader.pruner.table()
    same_as(facts(read(tmp_path / "checkpoint.pt")), table)
    same_as(facts(loader), table)
    torch.save({"loader": {"format": "seta-lightning-1", "loader": loader.state_dict()}},
               tmp_path / "seta_state.bin")  # fmt: skip
    same_as(facts(read(tmp_path)), table)  # a folder of a Trainer


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (7, TypeError, "run must be a Pruner, a loader, .* got int"),
        ([], TypeError, "got list"),
        ({"model": 1}, ValueError, "no state of a pruner lies in it, got a dict of 'model'"),
        ({"format": "seta-pruner-99"}, ValueError, "upgrade seta"),
    ],
)
def test_what_is_no_run_is_refused(run, error, message):
    with pytest.raises(error, match=message):
        facts(run)


def test_two_runs_in_one_checkpoint_are_refused():
    state = pruner_of().state_dict()
    with pytest.raises(ValueError, match="2 states of pruners"):
        facts({"one": state, "other": dict(state)})


@pytest.mark.parametrize("entry", ["losses", "last_trained", "columns"])
def test_a_damaged_state_names_the_entry(entry):
    state = train(pruner_of(), 2).state_dict()
    state["table"][entry] = {"track.visits": 3} if entry == "columns" else np.zeros(3)
    with pytest.raises(ValueError, match=f"table.{entry}"):
        facts(state)


def test_files_of_other_kinds_are_refused_by_name(tmp_path):
    import torch

    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match="notes.txt is no state that seta reads"):
        read(tmp_path / "notes.txt")
    (tmp_path / "broken.pt").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match="broken.pt is damaged, or no file of torch.save"):
        read(tmp_path / "broken.pt")
    torch.save({"net": torch.nn.Linear(1, 1)}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match="net.pt holds objects that are not loaded"):
        read(tmp_path / "net.pt")


def test_a_file_that_would_run_code_does_not(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"x": Evil()}, protocol=2))
    with pytest.raises(ValueError, match=r"evil\.pt"):
        read(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


FILES = sorted(
    path
    for path in (ROOT / "tests" / "data").glob("*/*")
    if path.suffix in (".seta", ".pt", ".bin")
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_kind_of_state_that_was_ever_saved_is_read(path):
    found = facts(read(path))
    assert found.n == 300 and len(found.samples) in (300, 150) and found.over in (0, 1, 2)
    assert found.full == found.over * 300
