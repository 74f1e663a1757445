"""Pruners of several ranks, threads here: what they select, train, exchange and resume."""

import logging

import numpy as np
import pytest

from seta import KeepCurve, LossHistogram, Pruner, SeTa, load, save
from seta.engine.draw.partition import Partition, shards_of
from seta.engine.rows import CLOCKED
from tests.combinations import some_of
from tests.virtual_ranks import VirtualRanks, on_ranks

N, EPOCHS, BATCH = 1200, 6, 60


def loss_of(samples, epoch):
    """A loss that tells sample and epoch, exact in float32."""
    return ((samples * 7919) % 1021 / 64 + epoch / 1024).astype(np.float32)


def walk(pruner, *, stop=None):
    """Trains the open epoch's share, or `stop` batches of it; returns the samples."""
    batch = pruner.sizes.batch_size
    share = pruner.share().indices.astype(np.int64)
    share = share if stop is None else share[: stop * batch]
    for start in range(0, len(share), batch):
        samples = share[start : start + batch]
        pruner.record(samples, loss_of(samples, pruner.epoch))
    return share


def run(make, *, epochs=EPOCHS):
    """Returns a function of ranks that trains a whole run: (shares, selections, rows) per epoch."""

    def train(ranks):
        pruner, found = make(ranks), []
        for _ in range(epochs):
            selection = pruner.begin_epoch().indices.copy()
            share = walk(pruner)
            found.append((share, selection, without_times(pruner.end_epoch())))
        return found, pruner

    return train


def without_times(row):
    return {key: value for key, value in row.items() if key not in CLOCKED}


def maker(**options):
    """Makes the pruner of one rank; a global batch has 60 samples, if the ranks divide them."""

    def make(ranks):
        arguments = {"n": N, "policy": "SeTa", "epochs": EPOCHS, "seed": 3, "threads": 1}
        arguments["batch_size"] = BATCH // (1 if ranks is None else ranks.size)
        return Pruner(**{**arguments, **options}, ranks=ranks)

    return make


@some_of(
    "size, budget, sharding", [1, 2, 3, 4, 7], [None, 0.5], ["replicated", "sharded"], together=2
)
def test_ranks_train_disjoint_samples_equally_many_and_keep_equal_rows(size, budget, sharding):
    options = {"sharding": sharding} | ({} if budget is None else {"budget": budget})
    results, _ = on_ranks(size, run(maker(**options)))
    for epoch in range(EPOCHS):
        shares = [found[epoch][0] for found, _ in results]
        rows = [found[epoch][2] for found, _ in results]
        trained = np.concatenate(shares)
        assert len({len(share) for share in shares}) == 1
        assert len(np.unique(trained)) == len(trained) == rows[0]["trained"]
        assert all(row == rows[0] for row in rows)
        if size != 7:  # they divide the shards, and a global batch
            assert rows[0]["kept"] == len(trained)
            assert len(shares[0]) % (BATCH // size) == 0
    if budget is not None and (size != 7 or sharding == "replicated"):
        total = sum(found[2]["trained"] for found in results[0][0])
        assert 0 <= N * 3 - total < (1 if size != 7 else 7 * (BATCH // 7))


@some_of("policy, sharding", ["SeTa", "InfoBatch", "Static"], ["replicated", "sharded"])
def test_the_selection_is_the_same_for_any_number_of_ranks(policy, sharding):
    sets, orders = [], []
    for size in (1, 2, 3, 4):
        # All of them divide the global batch of 60: nothing is left out.
        make = maker(policy=policy, budget=0.65, sharding=sharding)
        results, _ = on_ranks(size, run(make))
        shares = [[found[epoch][0] for found, _ in results] for epoch in range(EPOCHS)]
        sets.append([sorted(np.concatenate(share).tolist()) for share in shares])
        orders.append([found[1].tolist() for found in results[0][0]])
    assert sets[1:] == sets[:1] * 3
    if sharding == "replicated":
        assert orders[1:] == orders[:1] * 3


def test_replicated_tables_stay_equal_and_hold_each_latest_loss():
    results, _ = on_ranks(3, run(maker(policy="InfoBatch")))
    pruners = [pruner for _, pruner in results]
    latest = np.full(N, np.nan, np.float32)
    for epoch in range(EPOCHS):
        for found, _ in results:
            latest[found[epoch][0]] = loss_of(found[epoch][0], epoch)
    for pruner in pruners:
        np.testing.assert_array_equal(pruner.losses, latest)


def test_a_share_is_every_sizeth_sample_of_the_selection():
    results, _ = on_ranks(4, run(maker(), epochs=2))
    for epoch in range(2):
        selection = results[0][0][epoch][1]
        for rank, (found, _) in enumerate(results):
            assert found[epoch][0].tolist() == selection[rank::4].tolist()


def test_one_exchange_per_epoch_and_its_bytes():
    size = 4
    results, group = on_ranks(size, run(maker()))
    made, *calls = group.calls
    assert made[0] == "the making of a Pruner"
    assert {what for what, _ in calls} == {f"end_epoch() of epoch {e}" for e in range(EPOCHS)}
    trained = sum(found[2]["trained"] for found in results[0][0])
    header = EPOCHS * size * 4 * 8
    assert sum(sent for _, sent in calls) == header + 8 * trained


@pytest.mark.parametrize("n", [20_000, 2_000_000])
def test_a_sharded_epoch_exchanges_a_megabyte_whatever_the_size(n):
    def one_epoch(ranks):
        pruner = Pruner(
            n, "SeTa", epochs=4, ranks=ranks, sharding="sharded", threads=1, always_keep=[3, 4]
        )
        for _ in range(2):
            share = pruner.share().indices.astype(np.int64)
            pruner.record(share, np.random.default_rng(ranks.rank).gamma(2, size=len(share)))
            pruner.end_epoch()

    _, group = on_ranks(2, one_epoch)
    per_rank_and_epoch = sum(sent for _, sent in group.calls[1:]) / 2 / 2
    assert per_rank_and_epoch <= 2 * 2**20 + 200


@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
def test_of_a_sample_recorded_twice_the_last_rank_counts_on_all(sharding):
    def twice(ranks):
        pruner = maker(sharding=sharding)(ranks)
        pruner.begin_epoch()
        pruner.record(np.array([7, 8]), np.array([ranks.rank + 1.0, np.nan if ranks.rank else 5]))
        row = pruner.end_epoch()
        held = np.arange(N) if pruner.held is None else pruner.held
        return dict(zip(held.tolist(), pruner.losses.tolist(), strict=True)), row

    results, _ = on_ranks(3, twice)
    losses = {k: v for found, _ in results for k, v in found.items()}
    rows = [row for _, row in results]
    assert losses[7] == 3.0
    if sharding == "replicated":
        assert [found[7] for found, _ in results] == [3.0, 3.0, 3.0]
    assert losses[8] == 5.0  # what is not finite does not count
    assert all(row["trained"] == 2 and row["nonfinite"] == 2 for row in rows)


def test_losses_recorded_elsewhere_reach_the_rank_that_holds_them():
    def swapped(ranks):
        pruner = maker(sharding="sharded", policy="Full")(ranks)
        pruner.begin_epoch()
        own = np.sort(pruner.share().indices.astype(np.int64))
        everything = np.arange(N)
        foreign = np.setdiff1d(everything, own)
        pruner.record(foreign, loss_of(foreign, 0))  # all that the other rank holds
        pruner.end_epoch()
        present = pruner.held < N
        pruner.begin_epoch()
        return pruner.held[present], pruner.losses[present], pruner.histogram.counts.tolist()

    results, _ = on_ranks(2, swapped)
    held = np.concatenate([result[0] for result in results])
    assert sorted(held.tolist()) == list(range(N))
    for samples, losses, _ in results:
        np.testing.assert_array_equal(losses, loss_of(samples, 0))
    assert results[0][2] == results[1][2] and sum(results[0][2]) == N


def test_with_a_sharded_table_a_rank_knows_its_own_samples_alone_as_selected():
    def selected(ranks):
        pruner = maker(sharding="sharded", budget=0.5)(ranks)
        plan = pruner.begin_epoch()
        return np.flatnonzero(pruner.selects(np.arange(N))), np.sort(plan.indices), pruner.held

    results, _ = on_ranks(2, selected)
    for found, plan, held in results:
        np.testing.assert_array_equal(found, plan)
        assert np.isin(found, held).all() and 0 < len(found) < N // 2


def test_the_merged_histogram_is_that_of_all_losses():
    def epochs(ranks):
        pruner = maker(sharding="sharded")(ranks)
        for _ in range(3):
            walk(pruner)
            pruner.end_epoch()
        pruner.begin_epoch()
        present = pruner.held < N
        return pruner.histogram, pruner.losses[present]

    results, _ = on_ranks(3, epochs)
    losses = np.concatenate([result[1] for result in results])
    whole = LossHistogram.from_losses(losses)
    for histogram, _ in results:
        assert histogram.binning == whole.binning and histogram.unseen == whole.unseen
        np.testing.assert_array_equal(histogram.counts, whole.counts)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_warm_start_is_the_same_for_both_tables(size):
    losses = np.random.default_rng(0).gamma(2, size=N).astype(np.float32)
    losses[::7] = np.nan

    def first(ranks):
        found = []
        for sharding in ("replicated", "sharded"):
            pruner = maker(sharding=sharding, losses=losses, budget=0.5)(ranks)
            pruner.begin_epoch()
            found.append(pruner.histogram)
        return found

    for replicated, sharded in on_ranks(size, first)[0]:
        np.testing.assert_array_equal(replicated.counts, sharded.counts)
        assert replicated.unseen == sharded.unseen


@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
@pytest.mark.parametrize("size", [1, 3])
def test_samples_that_are_always_kept_are_in_every_epoch(size, sharding):
    always = [0, 17, 400, 1199]
    make = maker(sharding=sharding, always_keep=always, budget=0.4, policy=SeTa(window=0.2))
    results, _ = on_ranks(size, run(make))
    for epoch in range(EPOCHS):
        shares = np.concatenate([found[epoch][0] for found, _ in results])
        assert set(always) <= set(shares.tolist())


# Agreement.


@pytest.mark.parametrize(
    "name, mine, other, shown",
    [
        ("n", N, 10 * N, ("n=1200", "n=12000")),
        ("seed", 3, 30, ("seed=3", "seed=30")),
        ("batch_size", 2, 20, ("batch_size=2", "batch_size=20")),
        ("drop_last", False, True, ("drop_last=False", "drop_last=True")),
        ("policy", SeTa(), SeTa(window=0.2), ("policy='SeTa(", "policy='SeTa(")),
        ("always_keep", None, [3], ("always_keep=None", "always_keep='1 samples (")),
    ],
)
def test_ranks_made_with_other_arguments_are_named_at_once(name, mine, other, shown):
    def differ(ranks):
        value = other if ranks.rank == 2 else mine
        with pytest.raises(RuntimeError) as error:
            maker(**{name: value})(ranks)
        return str(error.value)

    first, second, third = on_ranks(3, differ)[0]
    begin = "the making of a Pruner: the processes do not agree: process"
    end = "Give each the same dataset and the same arguments"
    assert f"{begin} 0 has {shown[0]}" in first and f"and process 2 has {shown[1]}" in first
    assert f"{begin} 2 has {shown[1]}" in third and f"and process 0 has {shown[0]}" in third
    assert first.endswith(end) and second == first.replace("process 0", "process 1")


def test_ranks_that_deal_out_another_number_of_shares_are_told_at_once():
    """As where a device mesh was given on one of them alone."""

    def differ(ranks):
        if ranks.process == 1:
            ranks.rank, ranks.size = 0, 1
        with pytest.raises(RuntimeError) as error:
            maker(batch_size=10, budget=0.5)(ranks)
        return str(error.value)

    first, second = on_ranks(2, differ)[0]
    assert "process 0 has shares=2, and process 1 has shares=1. Give each the same" in first
    assert "process 1 has shares=1, and process 0 has shares=2. Give each the same" in second


class LooseRanks(VirtualRanks):
    """As somebody may write them, who does not look at the occasion."""

    def gather(self, values, what):
        return super().gather(values, "any")


def test_ranks_that_come_for_different_things_are_told_where_the_occasion_is_not_compared():
    def apart(ranks):
        ranks = LooseRanks(ranks.rank, ranks.size, ranks.group)
        pruner = maker()(ranks)
        walk(pruner, stop=1)
        with pytest.raises(RuntimeError) as error:
            pruner.state_dict() if ranks.rank else pruner.end_epoch()
        return str(error.value)

    first, second = on_ranks(2, apart)[0]
    assert "process 0 came to end_epoch() of epoch 0, process 1 to another call: all" in first
    assert "process 1 came to state_dict() in epoch 0, process 0 to another call: all" in second


def test_a_dataset_that_grew_on_one_rank_alone_is_told():
    def other(ranks):
        pruner = maker()(ranks)
        pruner.resize(N + BATCH * ranks.rank)
        walk(pruner)
        pruner.end_epoch()

    with pytest.raises(
        RuntimeError, match=r"end_epoch\(\) of epoch 0: .*: process 1 has another settings"
    ):
        on_ranks(2, other)


def test_ranks_whose_tables_came_apart_are_told():
    def apart(ranks):
        pruner = maker(losses=np.linspace(0, 1, N))(ranks)
        losses = pruner._core.table.columns.values
        losses[3] += ranks.rank // 2  # a write that went past the exchange
        walk(pruner)
        pruner.end_epoch()

    message = r"processes 2, 3 have another selection of the epoch than process 0"
    with pytest.raises(RuntimeError, match=message):
        on_ranks(4, apart)


@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
def test_a_rank_without_a_loss_is_named_and_nothing_is_lost(sharding):
    def idle(ranks):
        pruner = maker(sharding=sharding)(ranks)
        share = pruner.share()
        if ranks.rank != 1:
            walk(pruner)
        with pytest.raises(RuntimeError, match=r"process 1 has no losses of this epoch, while oth"):
            pruner.end_epoch()
        if ranks.rank == 1:
            walk(pruner)
        return len(share), pruner.end_epoch()["trained"]

    results, _ = on_ranks(3, idle)
    assert {trained for _, trained in results} == {sum(count for count, _ in results)}


@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
def test_a_break_at_half_of_a_share_is_no_second_split_of_it(sharding):
    def train(ranks):
        pruner = maker(policy="Random", budget=0.5, sharding=sharding)(ranks)
        for again in (False, True):
            share = pruner.share().indices.reshape(-1, BATCH // 2)
            pruner.walked(share.size)  # by workers that are ahead
            for part in share[ranks.rank :: 2] if again else share[: len(share) // 2]:
                pruner.record(part, loss_of(part, 0))
            if not again:
                assert pruner.end_epoch()["trained"] == share.size
        with pytest.raises(RuntimeError, match="splits the share among the 2 ranks a second time"):
            pruner.end_epoch()

    on_ranks(2, train)


def test_fewer_samples_than_ranks_are_refused():
    def tiny(ranks):
        with pytest.raises(ValueError, match="must be at least one for each of the 4 ranks, got 3"):
            Pruner(3, "Full", epochs=2, ranks=ranks)

    on_ranks(4, tiny)


def test_an_epoch_that_would_leave_a_rank_without_a_batch_is_refused():
    """Of 7 ranks some own fewer of the 240 shards: of 7 samples they choose none."""

    def tiny(ranks):
        options = {"epochs": 2, "ranks": ranks, "sharding": "sharded"}
        pruner = Pruner(2000, lambda h, e, n: KeepCurve.constant(h, 0.0), **options)
        with pytest.raises(RuntimeError, match="epoch 0 keeps too few samples for 7 ranks: of "):
            pruner.share()

    on_ranks(7, tiny)


def test_processes_that_train_one_share_count_once():
    """Two by two they are tensor-parallel; one of each pair has no losses, as a first stage."""

    def pairs(ranks):
        pruner = maker()(ranks)
        shares = []
        for _ in range(3):
            if ranks.process % 2:
                shares.append(walk(pruner))
            else:
                shares.append(pruner.share().indices.astype(np.int64))
            row = pruner.end_epoch()
            assert row["trained"] == 2 * len(shares[-1])
        return shares, pruner.losses.copy()

    results, _ = on_ranks(4, pairs, share=[0, 0, 1, 1])
    for (a, losses_a), (b, losses_b) in zip(results[::2], results[1::2], strict=True):
        assert [x.tolist() for x in a] == [x.tolist() for x in b]
        np.testing.assert_array_equal(losses_a, losses_b)
    assert not set(results[0][0][0]) & set(results[2][0][0])


def test_a_sharded_table_needs_one_process_per_share():
    def pairs(ranks):
        with pytest.raises(ValueError, match="needs one process for each share, got 4 processes"):
            maker(sharding="sharded")(ranks)

    on_ranks(4, pairs, share=[0, 0, 1, 1])


def test_a_number_of_ranks_that_wastes_samples_is_told(caplog):
    with caplog.at_level(logging.WARNING):
        on_ranks(7, maker(sharding="sharded"))
    assert "7 ranks share 240 shards: some own 35 and some 34" in caplog.text


@pytest.mark.parametrize("sharding", ["whole", "Sharded", 3])
def test_an_unknown_sharding_is_refused(sharding):
    with pytest.raises(ValueError, match='sharding must be "replicated" .* got'):
        Pruner(10, "SeTa", epochs=2, sharding=sharding)


def test_large_datasets_of_several_ranks_are_sharded_by_default(monkeypatch):
    monkeypatch.setattr("seta.engine.arguments.SHARDED_FROM", N)

    def which(ranks):
        return maker()(ranks).sharding

    assert on_ranks(2, which)[0] == ["sharded"] * 2
    assert on_ranks(4, which, share=[0, 0, 1, 1])[0] == ["replicated"] * 4
    assert Pruner(N, "SeTa", epochs=2).sharding == "replicated"


def test_a_sharded_table_cannot_be_resized():
    pruner = Pruner(N, "SeTa", epochs=2, sharding="sharded")
    with pytest.raises(RuntimeError, match="a sharded table cannot be resized"):
        pruner.resize(N + 1)


# Saving and resuming.


def parts_after(make, size, epochs, batches, folder=None, **how):
    """Trains whole epochs and some batches more; returns the states and what was trained of it."""

    def train(ranks):
        pruner = make(ranks)
        for _ in range(epochs):
            walk(pruner)
            pruner.end_epoch()
        share = walk(pruner, stop=batches) if batches else np.empty(0, np.int64)
        state = pruner.state_dict(done=batches * pruner.sizes.global_batch, **how)
        if folder is None:
            return state, share
        save(state, folder / f"{ranks.rank}.seta")
        return load(folder / f"{ranks.rank}.seta"), share

    results, _ = on_ranks(size, train)
    return [state for state, _ in results], [share for _, share in results]


def rest_of(make, size, states):
    """Goes on from the states to the end; returns the rest of the open epoch, rows, and losses."""

    def train(ranks):
        pruner = make(ranks)
        pruner.load_state_dict(states)
        rest = walk(pruner)
        rows = [without_times(pruner.end_epoch())]
        shares = []
        while pruner.next_epoch < EPOCHS:
            shares.append(walk(pruner).tolist())
            rows.append(without_times(pruner.end_epoch()))
        return rest, rows, shares

    return on_ranks(size, train)[0]


@some_of(
    "sizes, how, policy",
    [(1, 1), (1, 3), (2, 2), (3, 1), (2, 4), (4, 3)],
    ["sharded", "gathered", "parts"],
    ["SeTa", "InfoBatch"],
)
def test_a_run_resumes_in_mid_epoch_on_another_number_of_ranks(tmp_path, how, sizes, policy):
    before, after = sizes
    sharding = "sharded" if how == "sharded" else "replicated"
    make = maker(policy=policy, sharding=sharding, budget=0.6)
    states, trained = parts_after(make, before, 2, 7, tmp_path, gather=how != "parts")
    if how == "gathered":
        assert all(state["table"]["parts"] == 1 for state in states)
        states = [states[-1]]  # any rank's will do
    results = rest_of(make, after, states)
    rest = np.concatenate([result[0] for result in results])
    everything = np.concatenate([*trained, rest])
    assert len(np.unique(everything)) == len(everything)
    rows = [result[1] for result in results]
    assert all(other == rows[0] for other in rows)
    kept = int(N * 0.6)
    # The rest is dealt out evenly; where shards are dealt out anew, to the least.
    slack = 0.2 * kept if before != after and how == "sharded" else 0
    assert kept - slack <= len(everything) <= kept
    assert rows[0][0]["trained"] == len(everything) and rows[0][0]["kept"] == kept
    if before == after:
        whole, _ = on_ranks(before, run(make))
        assert [without_times(row) for row in rows[0]] == [f[2] for f in whole[0][0][2:]]
        for (_, _, shares), (found, _) in zip(results, whole, strict=True):
            assert shares == [f[0].tolist() for f in found[3:]]


@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
def test_where_ranks_were_unequally_far_the_least_counts(sharding):
    """A crash between two saves: rank 1 was two batches ahead, and trains them again."""

    def train(ranks):
        pruner = maker(sharding=sharding)(ranks)
        batches = 4 + 2 * ranks.rank
        share = walk(pruner, stop=batches)
        return pruner.state_dict(done=batches * BATCH, gather=False), share

    results, _ = on_ranks(2, train)
    states = [state for state, _ in results]

    def go_on(ranks):
        pruner = maker(sharding=sharding)(ranks)
        pruner.load_state_dict(states)
        assert pruner.done == 4 * BATCH
        rest = walk(pruner)
        return rest, pruner.end_epoch(), pruner.history

    rests = on_ranks(2, go_on)[0]
    first = [set(share[: 4 * BATCH // 2].tolist()) for _, share in results]
    again = set(results[1][1][4 * BATCH // 2 :].tolist())
    assert len(again) == 2 * BATCH // 2
    assert again <= set(rests[1][0].tolist())
    assert not set(rests[0][0].tolist()) & first[0] and not set(rests[1][0].tolist()) & first[1]
    assert rests[0][1]["kept"] == rests[0][1]["trained"]  # each sample once


def test_one_of_several_parts_is_not_enough():
    states, _ = parts_after(maker(), 3, 1, 4, gather=False)
    pruner = maker()(None)
    with pytest.raises(ValueError, match=r"saved in 3 parts, one by each rank, and part 0 is miss"):
        pruner.load_state_dict(states[1])
    with pytest.raises(ValueError, match=r"saved in 3 parts, one by each rank, and part 1 is miss"):
        pruner.load_state_dict([states[0], states[2]])
    with pytest.raises(ValueError, match=r"saved in 3 parts, .* and 4 states were given"):
        pruner.load_state_dict([*states, states[0]])
    with pytest.raises(ValueError, match="no state was given"):
        pruner.load_state_dict([])
    other, _ = parts_after(maker(), 3, 2, 4, gather=False)
    with pytest.raises(ValueError, match="of different epochs"):
        pruner.load_state_dict([states[0], states[1], other[2]])
    assert pruner.next_epoch == 0


def test_between_epochs_any_rank_saves_alone():
    states, _ = parts_after(maker(), 3, 2, 0)
    assert all(state["table"]["parts"] == 1 for state in states)

    def next_of(ranks):
        pruner = maker()(ranks)
        pruner.load_state_dict(states[2])
        return pruner.next_epoch, pruner.epoch, pruner.done

    assert on_ranks(2, next_of)[0] == [(2, None, 0)] * 2


def test_a_state_of_the_other_sharding_is_refused():
    state = maker(sharding="sharded")(None).state_dict()
    with pytest.raises(ValueError, match="saved with sharding='sharded', this pruner has shard"):
        maker()(None).load_state_dict(state)


# Hundreds of ranks.


@pytest.mark.parametrize("size", [100, pytest.param(240, marks=pytest.mark.slow)])
def test_hundreds_of_ranks_get_equal_shares_and_agree(size):
    n = 60_000

    def epochs(ranks):
        options = {"epochs": 2, "ranks": ranks, "sharding": "sharded", "threads": 1, "budget": 0.5}
        pruner = Pruner(n, "InfoBatch", batch_size=5, **options)
        shares = []
        for epoch in range(2):
            share = pruner.share().indices.astype(np.int64)
            pruner.record(
                share, 1 + (share % 97 + epoch) * 2.0**-20
            )  # few bins, so that it is quick
            shares.append(share)
            pruner.end_epoch()
        return shares, pruner.histogram.counts

    results, _ = on_ranks(size, epochs)
    partition = Partition(n, shards_of(n))
    per_rank = [int(partition.sizes[list(partition.owned(r, size))].sum()) for r in range(size)]
    if partition.shards % size == 0:
        assert max(per_rank) - min(per_rank) <= partition.shards // size
    for epoch in range(2):
        shares = [shares[epoch] for shares, _ in results]
        trained = np.concatenate(shares)
        assert len({len(share) for share in shares}) == 1
        assert len(np.unique(trained)) == len(trained)
        if partition.shards % size == 0:
            assert abs(len(trained) - n / 2) <= 5 * size
    assert all(np.array_equal(counts, results[0][1]) for _, counts in results)


@pytest.mark.parametrize(
    "name, own, other",
    [
        ("losses", {}, {"losses": np.ones(60, np.float32)}),
        ("losses", {"losses": np.zeros(60)}, {"losses": np.ones(60)}),
        ("reorder", {}, {"reorder": np.sort}),
        ("count_kept", {}, {"count_kept": True}),
        ("steps", {"steps": 10, "budget": 0.5}, {"steps": 12, "budget": 0.5}),
    ],
)
def test_arguments_that_differ_are_named_when_a_pruner_is_made(name, own, other):
    def make(ranks):
        given = {"epochs": None if "steps" in own else 3, **(other if ranks.rank else own)}
        with pytest.raises(RuntimeError, match=rf"do not agree.*{name}=") as raised:
            Pruner(60, "SeTa", ranks=ranks, batch_size=2, **given)
        return str(raised.value)

    on_ranks(2, make)


def test_an_uneven_rest_on_other_ranks_is_told(caplog):
    """A rank trains the samples that it owns: as many on each as the one with the fewest has."""

    def unequal(ranks):
        pruner = Pruner(4000, "Full", epochs=2, batch_size=10, ranks=ranks, sharding="sharded")
        share = pruner.share()[: 1500 if ranks.rank else 300].astype(np.int64)
        pruner.record(share, np.ones(len(share), np.float32))
        return pruner.state_dict(done=600)

    states, _ = on_ranks(2, unequal)

    def goes_on(ranks):
        pruner = Pruner(4000, "Full", epochs=2, batch_size=10, ranks=ranks, sharding="sharded")
        pruner.load_state_dict(states)
        return len(pruner.share())

    lengths, _ = on_ranks(4, goes_on)
    assert len(set(lengths)) == 1 and 4 * lengths[0] < 4000 - 1800
    assert (
        "epoch 0 continues on other ranks, which own unequal parts of the 2200 samples"
        in (caplog.messages[-1])
    )
