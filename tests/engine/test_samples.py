"""The table of samples, against what the engine does with them."""

import numpy as np
import pytest

import seta
from seta import Pruner
from seta.engine.samples import SampleTable
from tests.engine.test_tracked import EPOCHS, N, loss_of, pruner_of, train
from tests.virtual_ranks import on_ranks

METHODS = ["SeTa", "InfoBatch", "UCB", "Learnable", "RS2", "Full"]


def trained(policy, epochs=3, **options):
    return train(pruner_of(policy, **options), epochs)


@pytest.mark.parametrize("policy", METHODS)
def test_it_says_what_the_coming_epoch_will_do(policy):
    """A sample of keep 0 is left out, one of keep 1 kept, and the sum is the epoch's length."""
    pruner = trained(policy, budget=None if policy == "Full" else 0.5)
    table = pruner.table()
    plain = trained(policy, budget=None if policy == "Full" else 0.5)
    selection = plain.begin_epoch()
    assert np.array_equal(pruner.begin_epoch().indices, selection.indices)  # a look changed nothing
    chosen = np.zeros(N, bool)
    chosen[selection.indices] = True
    assert not (table["keep"] == 0)[chosen].any()
    assert chosen[table["keep"] == 1].all()
    assert table["keep"].sum() == pytest.approx(len(selection), rel=0.05)
    weights = 1.0 if selection.weights is None else selection.weights
    assert np.all(table["weight"][selection.indices] == weights)


def test_columns_are_those_that_are_known():
    base = ["index", "loss", "left_out", "group", "keep", "weight"]
    assert list(trained("SeTa", track=False).table()) == base
    assert list(trained("SeTa").table()) == [*base, "visits", "mean", "spread", "suspicion"]
    scored = trained("UCB", track=False, count_kept=True).table()
    assert list(scored) == ["index", "score", "left_out", "keep", "weight", "kept"]
    assert "loss" in trained("UCB").table()


@pytest.mark.parametrize("policy", ["SeTa", "UCB"])
def test_losses_visits_and_absence_are_those_of_the_run(policy):
    pruner = trained(policy, EPOCHS, count_kept=True)
    table = pruner.table()
    seen = table["visits"] > 0
    assert np.array_equal(table["left_out"], pruner.left_out)
    assert np.array_equal(table["kept"], pruner.kept_counts)
    assert (table["visits"][seen] <= table["kept"][seen]).all()
    last = EPOCHS - 1 - table["left_out"][seen]
    losses = [loss_of(np.array([s]), e)[0] for s, e in zip(np.flatnonzero(seen), last, strict=True)]
    assert np.array_equal(table["loss"][seen], np.float32(losses))


def test_groups_are_those_of_the_losses():
    pruner = trained("SeTa", 3)
    table = pruner.table()
    pruner.begin_epoch()
    groups = pruner.curve.groups
    row = np.bincount(table["group"][table["group"] >= 0], minlength=len(groups))
    assert np.array_equal(row, groups.sizes)
    assert np.array_equal(table["group"] < 0, np.isnan(table["loss"]))
    for group in range(len(groups)):
        of = table["loss"][table["group"] == group]
        assert groups.bounds[group] <= of.min() and of.max() < groups.bounds[group + 1]


def test_classes_have_curves_of_their_own_and_kept_samples_are_kept():
    strata = np.arange(N) % 3
    pruner = trained("RCAP", strata=strata, always_keep=[5, 7])
    table = pruner.table()
    assert (table["keep"][[5, 7]] == 1).all() and (table["weight"][[5, 7]] == 1).all()
    assert table["keep"].sum() == pytest.approx(pruner.begin_epoch().indices.size, rel=0.05)


def test_before_in_and_after_the_run():
    pruner = pruner_of("SeTa")
    before = pruner.table()
    assert np.isnan(before["loss"]).all() and not before["visits"].any()
    pruner.begin_epoch()
    assert pruner.table()["keep"].sum() == pytest.approx(N / 2, rel=0.05)
    pruner = trained("SeTa", EPOCHS)
    assert pruner.table().rows == N


@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
def test_ranks_have_their_own_samples_or_all(sharding):
    def run(ranks):
        return train(pruner_of("SeTa", ranks, sharding=sharding), 3).table()

    tables, _ = on_ranks(2, run)
    found = np.concatenate([table["index"] for table in tables])
    expected = np.arange(N) if sharding == "sharded" else np.tile(np.arange(N), 2)
    assert np.array_equal(np.sort(found), np.sort(expected))
    assert sum(table["visits"].sum() for table in tables) > 0


def test_rows_are_chosen_and_sorted_and_nan_comes_last():
    table = SampleTable({"index": np.arange(4), "loss": np.array([2, np.nan, 3, 1], np.float32)})
    assert table.sort("loss")["index"].tolist() == [3, 0, 2, 1]
    assert table.sort("loss", descending=True)["index"].tolist() == [2, 0, 3, 1]
    assert table.where(table["loss"] > 1)["index"].tolist() == [0, 2]
    assert table.where([2, 2])["index"].tolist() == [2, 2]
    assert table.rows == 4 and len(table) == 2
    with pytest.raises(KeyError, match="the columns are index, loss"):
        table["visits"]
    with pytest.raises(ValueError, match="one length"):
        SampleTable({"a": np.arange(2), "b": np.arange(3)})


def test_it_goes_to_other_tools(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = trained("SeTa").table()
    table.to_parquet(tmp_path / "samples.parquet")
    back = parquet.read_table(tmp_path / "samples.parquet")
    assert back.column_names == list(table)
    assert np.array_equal(back["loss"].to_numpy(), table["loss"], equal_nan=True)
    assert "... 600 samples in all" in repr(table) and repr(table).count("\n") == 7


def test_a_look_costs_no_epoch():
    pruner = Pruner(40, seta.SeTa(), epochs=2, budget=0.5, seed=0)
    pruner.table()
    assert pruner.epoch is None and pruner.history == []


def test_why_says_what_happens_to_a_sample_in_words():
    pruner = trained("SeTa", 3)
    table = pruner.table()
    pruner.begin_epoch()
    chosen = set(pruner.selection.indices.tolist())
    left_out = int(np.flatnonzero(table["keep"] == 0)[0])
    text = pruner.why(left_out)
    loss, group = table["loss"][left_out], table["group"][left_out]
    first, past = pruner.curve.window
    assert text.startswith(
        f"sample {left_out}, epoch 3: loss {loss:.4g}, group {group} of 0 to "
    ), text
    assert f"(the window is {first} to {past - 1}), its like are not trained: left out." in text
    times = table["visits"][left_out]
    assert f"It had {times} loss" in text and "in 4 epochs, and was last trained in" in text
    for sample in range(40):
        assert pruner.why(sample).count(": kept.") == (sample in chosen)


@pytest.mark.parametrize("policy", METHODS)
def test_why_has_an_answer_for_every_method_before_in_and_after_the_run(policy):
    pruner = pruner_of(policy, always_keep=[3], strata=np.arange(N) % 2)
    assert "not drawn yet. It has not been trained." in pruner.why(4)
    for _ in range(EPOCHS):
        train(pruner, 1)
        for sample in (3, 4, 5):
            place = "the run is over" if len(pruner.history) == EPOCHS else "epoch "
            assert pruner.why(sample).startswith(f"sample {sample}, {place}")
    assert "never pruned (always_keep)" in pruner.why(3) and "the run is over" in pruner.why(3)


def test_why_tells_chance_weight_and_score():
    assert "its loss counts" in trained("InfoBatch").why(0) or "probability" in trained(
        "InfoBatch"
    ).why(0)
    assert "score " in trained("UCB", track=False).why(0)
    assert "It was last trained in epoch" in trained("SeTa", track=False, budget=None).why(1)
    assert "probability of 0.5" in trained("Random").why(1)


@pytest.mark.parametrize("index", [N, N + 7])
def test_why_of_no_sample_is_refused(index):
    with pytest.raises(IndexError, match=f"that there is, got {index}"):
        trained("SeTa").why(index)


def test_a_pruner_says_in_a_line_what_it_is_and_where_it_stands():
    pruner = pruner_of("SeTa")
    assert repr(pruner).startswith("Pruner(600 samples, SeTa(")
    assert repr(pruner).endswith(", epoch 0 of 6 to come)")
    train(pruner, 2)
    pruner.begin_epoch()
    assert repr(pruner).endswith(", epoch 2 of 6 open, 50.0 % saved)")
    pruner.forget_epoch()
    assert repr(train(pruner, 4)).endswith(", all 6 epochs over, 50.0 % saved)")


@pytest.mark.parametrize("policy", ["InfoBatch", "SeTa"])
def test_in_mid_epoch_weights_are_those_of_its_beginning_and_kept_counts_it(policy):
    pruner = trained(policy, 3, count_kept=True)
    share = pruner.begin_epoch().indices
    before = pruner.table()
    pruner.record(share[:200], loss_of(share[:200], 3))
    table = pruner.table()
    assert np.array_equal(table["weight"], before["weight"])
    assert np.array_equal(table["kept"], pruner.kept_counts)
    assert pruner.why(int(share[0])).split(", ")[1].startswith("epoch 3: trained in this epoch")


def test_nothing_is_a_choice_of_rows_too():
    table = trained("SeTa").table()
    assert table.where([]).rows == 0 and table.where(table["loss"] > 1e9).rows == 0
