"""`seta.plan`: the cost model against hand computations and against the engine itself."""

import threading
import tracemalloc

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import seta
from seta.engine.table import exchange
from seta.engine.table.columns import LossColumns
from seta.plan import Calibration, Plan, PlanError, calibrate, model, read
from seta.plan.lengths import expected_shares, gamma_losses, is_weighted
from seta.plan.stopwatch import growing
from seta.policies import REGISTRY
from seta.report import units


def plan(**options):
    options = {"samples": 1000, "epochs": 3, **options}
    drop_last = options.pop("drop_last", False)
    typed = {name.replace("_", "-"): str(value) for name, value in options.items()}
    return Plan(read(typed, drop_last=drop_last))


def calibration(**changes):
    timed = {"choose_ns": 20, "order_ns": 40, "record_ns": 5}
    return Calibration(**{"samples": 4, **timed, "threads": 4, "cores": 16, **changes})


# What is asked for.


@pytest.mark.parametrize("text", ["1e9", "1_000_000_000", "1000000000", "1.0E+9", "10e8"])
def test_samples_may_be_typed_in_several_ways(text):
    assert read({"samples": text, "epochs": "3"}).samples == 10**9


def test_a_number_is_read_exactly():
    assert read({"samples": "1_000_000_000_000", "epochs": "1"}).samples == 10**12
    assert read({"samples": "1.28167e6", "epochs": "1"}).samples == 1_281_670
    assert read({"samples": "7", "epochs": "1", "budget": "1e0"}).budget == 1.0


GOOD = {"samples": "1e6", "epochs": "3"}
REFUSED = [
    ({"samples": None}, "--samples: must be given; give the samples of the dataset"),
    ({"samples": "many"}, "--samples many: must be a whole number; give the samples of the"),
    ({"samples": "1.5"}, "as 1000000, 1_000_000 or 1e6"),
    ({"samples": "nan"}, "--samples nan: must be a whole number"),
    ({"samples": "inf"}, "--samples inf: must be a whole number"),
    ({"samples": ""}, "--samples '': must be a whole number"),
    ({"samples": "5\x1b[2J"}, r"--samples '5\x1b[2J': must be a whole number"),
    ({"samples": "1e300"}, "--samples 1e300: must lie between 1 and 1,000,000,000,000"),
    ({"samples": "1e400"}, "--samples 1e400: must lie between 1 and 1,000,000,000,000"),
    ({"samples": "1e999999999"}, "--samples 1e999999999: must lie between 1 and 1,000,000,000,000"),
    ({"samples": "9" * 400}, f"--samples {'9' * 40}...: must lie between 1 and 1,000,000,000,000"),
    ({"samples": "-1e300"}, "--samples -1e300: must lie between 1 and 1,000,000,000,000"),
    ({"samples": "1e-400"}, "--samples 1e-400: must be a whole number"),
    ({"samples": "0"}, "--samples 0: must lie between 1 and 1,000,000,000,000"),
    ({"samples": "1e13"}, "--samples 1e13: must lie between 1 and 1,000,000,000,000"),
    ({"epochs": "0"}, "--epochs 0: must lie between 1 and 10,000; give the epochs of the whole"),
    ({"ranks": "-3"}, "--ranks -3: must lie between 1 and"),
    ({"samples": "100", "ranks": "200"}, "--ranks 200: more than the 100 samples; give at most"),
    ({"batch-size": "1e13"}, "--batch-size 1e13: must lie between 1 and 1,000,000,000,000"),
    ({"batch-size": "2e6", "budget": "0.6"}, "2,000,000, more than the 1,000,000 samples"),
    (
        {"ranks": "1000", "batch-size": "2000", "budget": "0.6"},
        "--batch-size 2000: 1,000 ranks make that a global batch of 2,000,000, more than the "
        "1,000,000 samples; give at most 1000, or fewer --ranks",
    ),
    ({"method": "magic"}, "--method magic: is not known; give one of SeTa, Learnable, InfoBatch"),
    ({"policy": "SeTa"}, "--policy: is not known; give one of --bandwidth, --batch-size"),
    ({"budget": "0"}, "--budget 0: must lie above 0 and be at most 1"),
    ({"budget": "lots"}, "give 0.6 for 60 %, or leave it out"),
    ({"budget": "60"}, "--budget 60: must lie above 0 and be at most 1, the share of full"),
    ({"budget": "35%"}, "give 0.35 for 35 %, or leave it out"),
    (
        {"throughput": "0"},
        "--throughput 0: must be a number between 0.000001 and 1,000,000,000,000; give the samples "
        "per second",
    ),
    ({"throughput": "inf"}, "--throughput inf: must be a number between"),
    ({"throughput": "1e300"}, "--throughput 1e300: must be a number between"),
    ({"bandwidth": "1e300"}, "--bandwidth 1e300: must be a number between"),
    ({"bandwidth": "1e-20"}, "--bandwidth 1e-20: must be a number between"),
    ({"bandwidth": "fast"}, "--bandwidth fast: must be a number between 0.000001 and"),
    ({"budget": "1e-400"}, "--budget 1e-400: must lie above 0"),
    ({"method": "rcap", "classes": "0"}, "--classes 0: must lie between 1 and 100,000; give the"),
    ({"classes": "5"}, "--classes 5: SeTa does not look at classes; leave it out"),
    (
        {"method": "rcap", "ranks": "2", "sharding": "sharded"},
        "--method RCAP: looks at the losses class by class, which sharded losses do not allow; "
        "give --sharding replicated, or another --method",
    ),
    ({"ranks-per-node": "0"}, "--ranks-per-node 0: must lie between 1 and"),
    ({"sharding": "half"}, "--sharding half: is not known; give one of replicated, sharded"),
    (
        {"ranks": "4096", "sharding": "sharded"},
        "--sharding sharded: 1,000,000 samples make 3,840 shards, and each of the 4,096 ranks "
        "needs one; give --sharding replicated, or fewer --ranks",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_what_cannot_be_planned_is_refused_with_a_way_out(options, message):
    with pytest.raises(PlanError) as error:
        read({**GOOD, **options})
    assert message in str(error.value)


def test_a_budget_too_small_for_a_batch_is_refused():
    with pytest.raises(PlanError, match="--budget 0.3: budget leaves epoch 0 without a batch"):
        _ = plan(ranks=10, batch_size=50, budget=0.3).epochs


def test_epochs_too_short_for_the_ranks_are_refused():
    # 1,000 of 2,000 samples are a global batch, but a rank that owns 2 of 240 shards has 8 of them.
    message = r"--ranks 100: an epoch of about 1,000 samples leaves a rank without a batch of 10"
    with pytest.raises(PlanError, match=message):
        _ = plan(samples=2000, ranks=100, batch_size=10, method="random", sharding="sharded").epochs


@pytest.mark.parametrize(
    ("samples", "ranks", "sharding"),
    [
        (99_999_999, 8, "replicated"),
        (100_000_000, 8, "sharded"),
        (10**10, 1, "replicated"),
    ],
)
def test_losses_are_sharded_where_the_loader_shards_them(samples, ranks, sharding):
    assert read({"samples": str(samples), "epochs": "1", "ranks": str(ranks)}).sharding == sharding


# Lengths.


def test_lengths_under_a_budget_are_whole_global_batches():
    run = plan(samples=1000, epochs=3, ranks=4, batch_size=10, budget=0.5)
    # 12.5 global batches of 40 samples per epoch: 12, 13, 12
    assert [epoch.chosen for epoch in run.epochs] == [480, 520, 480]
    assert [epoch.share for epoch in run.epochs] == [120, 130, 120]
    assert [epoch.steps for epoch in run.epochs] == [12, 13, 12]
    assert (run.exact, run.visits, run.full_visits, run.steps) == (True, 1480, 3000, 37)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [7, 64])
def test_steps_are_those_of_the_loader(drop_last, batch_size):
    run = plan(samples=1000, epochs=5, batch_size=batch_size, budget=0.37, drop_last=drop_last)
    loader = seta.PrunedDataLoader(
        TensorDataset(torch.zeros(1000)), "SeTa", epochs=5, budget=0.37, batch_size=batch_size,
        drop_last=drop_last,
    )  # fmt: skip
    assert [epoch.chosen for epoch in run.epochs] == loader.pruner.lengths
    assert run.steps == loader.total_steps


def test_a_batch_larger_than_the_data_set_holds_all_samples():
    run = plan(samples=50, batch_size=64, budget=1.0)
    loader = seta.PrunedDataLoader(
        TensorDataset(torch.zeros(50)), "SeTa", epochs=3, budget=1.0, batch_size=64
    )
    assert run.steps == loader.total_steps == 3
    assert plan(samples=50, batch_size=64, method="full").steps == 3


def test_estimated_lengths_are_whole_global_batches():
    run = plan(samples=1000, epochs=8, method="random", batch_size=16, ranks=2)
    # 700 expected: 22 batches of 16 on each of 2 ranks are the nearest.
    assert {(epoch.chosen, epoch.share, epoch.steps) for epoch in run.epochs} == {(704, 352, 22)}
    assert not run.exact


def test_without_a_budget_an_incomplete_batch_is_a_step_unless_it_is_dropped():
    shares = {"samples": 1000, "method": "full", "batch_size": 64, "ranks": 3}  # 333 for each rank
    assert [epoch.steps for epoch in plan(**shares).epochs] == [6, 6, 6]
    dropped = plan(**shares, drop_last=True)
    assert [(epoch.share, epoch.steps) for epoch in dropped.epochs] == [(320, 5)] * 3


@pytest.mark.parametrize("policy", REGISTRY)
def test_estimated_lengths_are_what_the_policy_keeps_of_such_losses(policy):
    n, epochs = 50_000, 8
    losses = gamma_losses(n)
    pruner = seta.Pruner(n, policy, epochs=epochs, strata=np.zeros(n, np.int64))
    kept = []
    for _ in range(epochs):
        indices = pruner.begin_epoch().indices
        kept.append(len(indices) / n)
        for batch in np.split(indices, range(128, len(indices), 128)):
            pruner.record(batch, losses[batch])
        pruner.end_epoch()
    # Where a loss counts beside its batch, what was pruned changes the batches: not estimated.
    within = 0.07 if policy in ("BLS", "RePB") else 0.03
    assert expected_shares(pruner.policy, epochs, n) == pytest.approx(kept, abs=within)
    assert not plan(method=policy).exact


def test_sharded_ranks_train_what_the_rank_with_the_fewest_shards_has():
    # 3,840 shards on 500 ranks: 7 or 8 each. 600,000 chosen samples are 156.25 for each shard.
    run = plan(samples=10**6, epochs=1, ranks=500, budget=0.6, sharding="sharded")
    assert run.epochs[0].chosen == 600_000
    assert run.epochs[0].share == 1093
    assert run.even_ranks == (480, 640)
    assert run.left_over == pytest.approx(1 - 3500 / 3840)
    assert run.rows == 8 * 264  # 260.4 samples in a shard, in whole bytes of a mask


def test_sharded_ranks_that_divide_the_shards_leave_nothing_over():
    run = plan(samples=10**9, epochs=3, ranks=1024, batch_size=64, budget=0.6)
    assert [epoch.share for epoch in run.epochs] == [585_920] * 3  # 9,155 batches of 64
    assert run.visits == sum(epoch.chosen for epoch in run.epochs)
    assert run.left_over == 0


# Memory.


def test_memory_by_hand():
    held = model.memory(1000, 1000, epochs=10, logged=150, exchanged=600, threads=2)
    assert (held.table, held.mask, held.order) == (6000, 125, 110)
    assert held.weights == 0
    assert (held.log, held.received) == (150 * 20, 600 * 12)
    assert held.bins == 4 * 8 * 2**17
    assert held.open == 6000 + 125 + 110 + held.bins
    assert held.peak == held.open + held.work  # of so few samples
    big = model.memory(10**9, 10**9, epochs=10, logged=10**8, exchanged=6 * 10**8)
    assert big.peak == big.open + 20 * 10**8 + 12 * 2**24


def test_wide_indices_long_runs_and_weights_take_more():
    assert model.memory(2**32 - 1, 8, epochs=10, logged=1, exchanged=1).log == 20
    assert model.memory(2**32, 8, epochs=10, logged=1, exchanged=1).log == 28
    weighted = model.memory(8, 8, epochs=10, weighted=True)
    assert weighted.weights == 8
    assert weighted.open == model.memory(8, 8, epochs=10).open + 8
    for epochs in (0xFFFE, 0xFFFF):
        table = LossColumns(8, epochs)
        real = table.values.nbytes + table.last_trained.nbytes
        assert model.memory(8, 8, epochs=epochs).table == real


def test_weighted_methods_are_recognised():
    weighted = {name for name, method in REGISTRY.items() if is_weighted(method(), 10)}
    assert {"InfoBatch", "Learnable"} <= weighted
    assert not weighted & {"SeTa", "Random", "Static", "Full"}


@pytest.mark.parametrize(
    "policy, sharding",
    [
        ("SeTa", "replicated"),
        ("InfoBatch", "sharded"),
        pytest.param("SeTa", "sharded", marks=pytest.mark.slow),
        pytest.param("InfoBatch", "replicated", marks=pytest.mark.slow),
        pytest.param("Random", "replicated", marks=pytest.mark.slow),
        pytest.param("Random", "sharded", marks=pytest.mark.slow),
    ],
)
def test_memory_is_what_an_epoch_start_takes(policy, sharding):
    n, threads = 4_000_000, 2
    losses = gamma_losses(n)
    run = plan(samples=n, epochs=20, method=policy, budget=0.6, sharding=sharding)
    computed = model.memory(
        n,
        run.rows,
        epochs=20,
        weighted=is_weighted(run.policy, 20),
        threads=threads,
    )
    tracemalloc.start()
    try:
        pruner = seta.Pruner(
            n, policy, epochs=20, budget=0.6, losses=losses, threads=threads, sharding=sharding
        )
        held = tracemalloc.get_traced_memory()[0]
        pruner.begin_epoch(1)
        tracemalloc.reset_peak()
        pruner.end_epoch()
        pruner.begin_epoch(2)
        opened, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held == pytest.approx(computed.table, rel=0.05)
    assert opened == pytest.approx(computed.open, rel=0.06)
    assert 0.75 * computed.peak < peak < 1.02 * computed.peak


@pytest.mark.parametrize(
    "classes", [10, *(pytest.param(classes, marks=pytest.mark.slow) for classes in (1, 300))]
)
def test_memory_with_classes_is_what_an_epoch_start_takes(classes):
    n, threads = 4_000_000, 2
    losses, strata = gamma_losses(n), np.arange(n, dtype=np.uint16) % classes
    run = plan(samples=n, epochs=20, method="rcap", classes=classes)
    computed = model.memory(n, n, epochs=20, classes=run.request.classes, threads=threads)
    tracemalloc.start()
    try:
        pruner = seta.Pruner(n, "rcap", epochs=20, losses=losses, threads=threads, strata=strata)
        held = tracemalloc.get_traced_memory()[0]
        pruner.begin_epoch(1)
        opened = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held == pytest.approx(computed.always, rel=0.05)
    assert 0.9 * computed.open < opened < 1.02 * computed.open


# Exchange.


def test_the_replicated_exchange_by_hand():
    done = model.replicated_exchange(10**6, 4, 600_000)
    assert done.own == 150_000 * 8 + 32
    assert done.sent == done.received == 3 * done.own
    assert done.network == 12 * done.own
    assert done.collectives == 1
    assert model.replicated_exchange(2**32, 4, 4).own == 12 + 32


def test_the_sharded_exchange_by_hand_does_not_grow_with_the_samples():
    done = model.sharded_exchange(4)
    assert done.sent == done.received == 3 * 80 + 2 * 8 * (2**17 + 1) * 3 // 4
    assert done.network == 4 * done.received
    assert plan(samples=10**8, ranks=4, budget=0.5).exchange == done
    assert plan(samples=10**9, ranks=4, budget=0.5).exchange == done


def test_the_published_exchange_by_hand():
    done = model.published_exchange(4, 64, 600_000)
    assert done.received == 3 * 150_000 * 8
    assert done.collectives == 2344  # 150,000 / 64, the last one in part


def test_a_single_rank_exchanges_nothing():
    for done in (
        model.replicated_exchange(10**6, 1, 600_000),
        model.sharded_exchange(1),
        model.published_exchange(1, 64, 600_000),
    ):
        assert (done.sent, done.received, done.network, done.collectives) == (0, 0, 0, 0)


class CountingRanks:
    """A rank among threads, which counts the bytes that it receives."""

    def __init__(self, rank, size, barrier, board):
        self.rank = self.process = rank
        self.size = self.processes = size
        self._barrier, self._board = barrier, board
        self.received = 0

    def _swap(self, values):
        self._board[self.rank] = values
        self._barrier.wait()
        parts = list(self._board)
        self._barrier.wait()
        return parts

    def gather(self, values, what):
        parts = self._swap(values)
        self.received += sum(part.nbytes for part in parts) - values.nbytes
        return parts

    def sum(self, counts, what):
        self.received += 2 * counts.nbytes * (self.size - 1) // self.size  # as in a ring
        return np.sum(self._swap(counts), axis=0)


def train_on_threads(ranks, sharding, n):
    """Trains 2 epochs; returns for each rank the bytes received in the second, and the bins."""
    barrier, board = threading.Barrier(ranks, timeout=60), [None] * ranks
    losses, found = gamma_losses(n), [None] * ranks

    def work(rank):
        link = CountingRanks(rank, ranks, barrier, board)
        pruner = seta.Pruner(
            n, "SeTa", epochs=3, budget=0.6, batch_size=10, ranks=link, sharding=sharding
        )
        for _ in range(2):
            link.received = 0
            pruner.begin_epoch()
            indices = pruner.share().indices
            pruner.record(indices, losses[indices])
            pruner.end_epoch()
        received = link.received
        pruner.begin_epoch()
        found[rank] = received, pruner.histogram.bins

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("sharding", ["replicated", "sharded"])
def test_the_bytes_of_an_exchange_are_those_of_the_engine(ranks, sharding):
    n = 100_000
    run = plan(samples=n, ranks=ranks, batch_size=10, budget=0.6, sharding=sharding)
    trained = run.epochs[1].share * ranks
    for received, bins in train_on_threads(ranks, sharding, n):
        if sharding == "replicated":
            computed = model.replicated_exchange(n, ranks, trained).received
        else:
            computed = model.sharded_exchange(ranks, bins).received
        assert received == pytest.approx(computed, abs=64 * ranks)  # headers may grow a little


def test_a_round_of_the_exchange_is_as_large_as_the_engines():
    assert model.ROUND == exchange._ROUND


# Times.


def test_times_by_hand():
    run = plan(
        samples=10**6, epochs=2, ranks=4, batch_size=10, budget=0.5, throughput=100,
        sharding="replicated", bandwidth=1,
    )  # fmt: skip
    times = run.times(calibration())
    assert times.choose == pytest.approx(10**6 * 20e-9)
    assert times.record == pytest.approx(500_000 * 5e-9)
    assert times.exchange == pytest.approx(3 * (125_000 * 8 + 32) / 1e9)
    assert times.train == pytest.approx(500_000 / 400)
    assert times.full == pytest.approx(10**6 / 400)
    assert times.saved == pytest.approx(1250 - times.overhead)


def test_ranks_of_a_node_that_share_its_cores_choose_more_slowly():
    assert plan(ranks=8).times(calibration(cores=8)).choose == pytest.approx(4 * 1000 * 20e-9)
    assert plan(ranks=8).times(calibration(cores=32)).choose == pytest.approx(1000 * 20e-9)
    alone = plan(ranks=8, ranks_per_node=1)
    assert alone.times(calibration(cores=4)).choose == pytest.approx(1000 * 20e-9)
    assert (alone.request.nodes, plan(ranks=9).request.nodes) == (8, 2)


def test_without_a_throughput_nothing_is_said_of_training():
    times = plan(ranks=2).times(calibration())
    assert (times.train, times.full, times.saved, times.exchange) == (None, None, None, None)


@pytest.mark.parametrize("samples", [1, 20_000])
@pytest.mark.parametrize("budget", [{}, {"budget": 1}])
def test_this_machine_is_timed_at_the_size_of_a_rank(samples, budget):
    timed = calibrate(plan(samples=samples, **budget))
    assert timed.samples == samples
    assert timed.choose_ns > 0 and timed.record_ns > 0
    assert timed.cores >= 1 and 1 <= timed.threads <= 16


@pytest.mark.parametrize(
    ("took", "each", "fixed"),
    [
        ([(1000, 0.5)], 5e-4, 0),
        ([(1000, 0.3), (4000, 0.6)], 1e-4, 0.2),
        ([(10, 9.0), (1000, 0.3), (4000, 0.6)], 1e-4, 0.2),
        ([(1000, 0.1), (4000, 0.8)], 2e-4, 0),  # larger ones are slower: no cache holds them
        ([(1000, 0.9), (4000, 0.8)], 2e-4, 0),  # the machine was busy
    ],
)
def test_what_grows_with_the_samples_is_told_from_what_does_not(took, each, fixed):
    assert growing(took) == pytest.approx((each, fixed))


def test_what_each_epoch_takes_does_not_grow_with_the_samples():
    times = plan(samples=10**8).times(calibration(choose_s=3.0))
    assert times.choose == pytest.approx(10**8 * 20e-9 + 3.0)


# How it reads.


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (units.in_bytes(0), "0 B"),
        (units.in_bytes(999), "999 B"),
        (units.in_bytes(999.6), "1 kB"),
        (units.in_bytes(5_860_800), "5.86 MB"),
        (units.in_bytes(48e9), "48 GB"),
        (units.in_bytes(12_345e15), "12,345 PB"),
        (units.in_time(0), "0 s"),
        (units.in_time(1.93e-6), "1.93 µs"),
        (units.in_time(2e-8), "20 ns"),
        (units.in_time(0.000216), "216 µs"),
        (units.in_time(0.00216), "2.16 ms"),
        (units.in_time(1.5), "1.5 s"),
        (units.in_time(1171.8), "19.5 min"),
        (units.in_time(-7200), "-2 h"),
        (units.in_time(3600 * 12_345), "12,345 h"),
        (units.in_time(3600e18), "1e+18 h"),
        (units.percent(1234.5), "123,450 %"),
        (units.percent(0.40004), "40.0 %"),
        (units.percent(0.000219), "0.022 %"),
        (units.percent(0), "0.0 %"),
        (units.percent(-0.5), "-50.0 %"),
        (units.count(123_456, True), "123,456"),
        (units.count(123_456, False), "~ 123,000"),
        (units.many(1, "rank"), "1 rank"),
        (units.money(12.346), "12.35"),
        (units.money(0.00321), "0.0032"),
        (units.money(0), "0.00"),
        (units.money(-1234.5), "-1,234"),
        (units.many(1024, "rank"), "1,024 ranks"),
    ],
)
def test_quantities_are_written_for_a_person(shown, text):
    assert shown == text


def test_classes_may_be_told_of_a_method_that_takes_them_where_they_are_given():
    for given in ({}, {"classes": 3}):
        assert plan(method="Learnable", **given).request.policy == "Learnable"
