"""The rules of the verdict, each on results made up for it; table and seeds that end early."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from seta.comparison import regime, table
from seta.comparison.cells import Cell, cells_of
from seta.comparison.chart import Row
from seta.comparison.contenders import Contender
from seta.comparison.early import Rounds, confidence_of
from seta.comparison.picture import draw
from seta.comparison.statistics import Difference, paired_difference
from seta.comparison.styles import STYLES
from seta.comparison.trial import Job
from seta.comparison.verdict import digits_of, interval, number, verdict

FULL, EQUAL = "Full", "Full at equal cost"
NOISE = np.array([0.0, 0.3, -0.3, 0.2, -0.2])


def made_up(values, *, lower=(), seeds=5, confidence=0.95):
    """Cells of these means, {(method, budget): mean}; each contender has noise of its own."""
    lines = [
        {
            "method": method,
            "budget": budget,
            "seed": seed,
            "metrics": {"figure": mean + float(np.roll(NOISE, turn)[seed])},
            "visits": 1000 * budget,
            "full_visits": 1000,
            "seconds": 1.0,
        }
        for turn, ((method, budget), mean) in enumerate(values.items())
        for seed in range(seeds)
    ]
    return cells_of(lines, measures=["figure"], lower=lower, confidence=confidence)


def spread(cells, method, budget, factor):
    """Spreads the figures of a cell, and leaves their mean."""
    for seed, line in cells.cells[method, budget].lines.items():
        line["metrics"]["figure"] += factor * [1, -1, 0.5, -0.5, 0][seed]


def test_a_method_that_wins_is_to_be_used_and_stands_beside_full():
    found = verdict(made_up({(FULL, 1.0): 80, (EQUAL, 0.5): 75, ("RCAP", 0.5): 80.1}))
    assert found[0].startswith("Use RCAP at 50 %: clearly better than Full at equal cost, +5.10 ± ")
    assert ", and not told apart from Full, +0.10" in found[0]
    assert not any("RCAP at 50 % is clearly" in text for text in found)
    better = verdict(made_up({(FULL, 1.0): 80, (EQUAL, 0.5): 75, ("RCAP", 0.5): 84}))
    assert "clearly better than Full, +4.00 ±" in better[0]
    worse = verdict(made_up({(FULL, 1.0): 80, (EQUAL, 0.5): 70, ("RCAP", 0.5): 75}))
    assert worse[0].startswith("Use RCAP") and "clearly worse than Full, -5.00 ±" in worse[0]


def test_the_best_of_several_winners_is_named_and_losers_are_told():
    values = {(FULL, 1.0): 80, (EQUAL, 0.5): 75, ("SeTa", 0.5): 77, ("RCAP", 0.5): 79}
    found = verdict(made_up({**values, ("UCB", 0.5): 60}))
    assert found[0].startswith("Use RCAP at 50 %")
    assert any(text.startswith("UCB at 50 % is clearly worse than Full at") for text in found)


def test_a_winner_of_many_that_may_be_chance_is_to_be_confirmed():
    """The p-value of a paired t-test is enough for one, and not for the best of three."""
    values = {(FULL, 1.0): 80, (EQUAL, 0.5): 75, ("RCAP", 0.5): 75.7}
    alone = made_up(values)
    ours, theirs = (alone.cells[at].values("figure") for at in [("RCAP", 0.5), (EQUAL, 0.5)])
    p = stats.ttest_rel(list(ours.values()), list(theirs.values())).pvalue
    assert 0.05 / 3 < p < 0.05
    assert verdict(alone)[0].startswith("Use RCAP") and "Confirm" not in " ".join(verdict(alone))
    many = verdict(made_up({**values, ("UCB", 0.5): 75, ("SeTa", 0.5): 75}))
    assert many[0].startswith("Use RCAP")
    assert many[1].startswith("Confirm it with new seeds: the best of 3 may")
    sure = made_up({**values, ("RCAP", 0.5): 75.6, ("UCB", 0.5): 75, ("SeTa", 0.5): 75})
    for line in sure.cells["RCAP", 0.5].lines.values():  # a small gain, the same for all seeds
        theirs = sure.cells[EQUAL, 0.5].lines[line["seed"]]["metrics"]["figure"]
        line["metrics"]["figure"] = theirs + 0.4 + 0.01 * line["seed"]
    for line in sure.cells["UCB", 0.5].lines.values():
        line["metrics"]["figure"] += 0.5
    ways = {cell.method: sure.to_equal_cost(cell) for cell in sure.contenders}
    assert ways["UCB"].mean > ways["RCAP"].mean and ways["UCB"].sign == 1
    assert not ways["UCB"].stands_out(3)
    assert verdict(sure)[0].startswith("Use RCAP") and "Confirm" not in " ".join(verdict(sure))
    far = verdict(made_up({**values, ("RCAP", 0.5): 79, ("UCB", 0.5): 75, ("SeTa", 0.5): 75}))
    assert "Confirm" not in " ".join(far)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_difference_stands_out_of_many_where_its_p_value_times_their_number_says_so(count):
    rng = np.random.default_rng(count)
    found = set()
    for _ in range(200):
        ours, theirs = (dict(enumerate(rng.normal(at, 1, 5))) for at in (1.5, 0))
        way = paired_difference(ours, theirs)
        p = stats.ttest_rel(list(ours.values()), list(theirs.values())).pvalue
        assert way.stands_out(count) == (p * count < 0.05)
        found.add(way.stands_out(count))
    assert found == {True, False}


def test_where_nothing_wins_and_fewer_epochs_cost_nothing_epochs_are_cut_to_the_least():
    values = {(FULL, 1.0): 80, (EQUAL, 0.5): 80, (EQUAL, 0.3): 80.05, ("SeTa", 0.3): 80}
    found = verdict(made_up(values))
    assert found[0].startswith("Cut epochs, if up to 0.")
    assert "nothing here is clearly better than Full at equal cost" in found[0]
    assert "30 % of the epochs lose nothing that 5 seeds can tell" in found[0]
    part = verdict(made_up({**values, (EQUAL, 0.3): 70, ("SeTa", 0.3): 70}))
    assert "50 % of the epochs lose nothing" in part[0]
    assert any(
        "30 % of the epochs are clearly worse than all of them, -10.00 ±" in text for text in part
    )


def test_a_winner_that_is_not_better_than_still_fewer_epochs_is_not_recommended():
    """As in long runs on wrong labels, where full training is the better the shorter it is."""
    values = {(FULL, 1.0): 70, (EQUAL, 0.5): 75, (EQUAL, 0.3): 76, ("RCAP", 0.5): 76.2}
    cells = made_up(values)
    (least,) = cells.to_cheaper(cells.contenders[0])
    assert least[0].budget == 0.3
    assert verdict(cells)[0] == (
        "Cut epochs: RCAP at 50 % is clearly better than Full at equal cost, but not than 30 % of "
        f"the epochs, which cost less, {interval(least[1], 2)}, and 30 % of the epochs gain, "
        f"{interval(cells.to_full(cells.equal_cost(0.3)), 2)}."
    )
    assert any(text.startswith("RCAP at 50 % is clearly better") for text in verdict(cells))
    better = verdict(made_up({**values, ("SeTa", 0.3): 78}))
    assert better[0].startswith("Use SeTa at 30 %")
    assert any(text.startswith("RCAP at 50 % is clearly better") for text in better)
    far = verdict(made_up({**values, ("RCAP", 0.5): 79}))
    assert far[0].startswith("Use RCAP at 50 %")


def test_a_winner_is_not_recommended_unless_it_was_judged_beside_the_shortest_run():
    values = {(FULL, 1.0): 80, (EQUAL, 0.8): 79.3, (EQUAL, 0.5): 80.1, ("SeTa", 0.8): 81}
    cells = made_up(values)
    spread(cells, FULL, 1.0, 1)
    del cells.cells[EQUAL, 0.5].lines[4]
    for seed in range(2):
        del cells.cells["SeTa", 0.8].lines[seed]
    found = verdict(cells)[0]
    assert "with 2 seeds in common not judged beside 50 % of the epochs, which cost less" in found


def test_very_large_figures_have_an_exponent():
    assert number(1.04e22, 2) == "1.04e+22" and number(-3e9, 2, signed=True) == "-3.00e+09"


def test_epochs_are_not_cut_below_those_that_gain():
    """Full training has learned wrong labels by heart: half of it is better than all, and 30 %."""
    found = verdict(made_up({(FULL, 1.0): 80, (EQUAL, 0.5): 82, (EQUAL, 0.3): 80}))
    assert found[0].startswith("Cut epochs: no method was run, and 50 % of the epochs gain, +2.00")


def test_more_epochs_than_full_training_save_nothing():
    values = {(FULL, 1.0): 80, (EQUAL, 2.0): 80.1, (EQUAL, 0.5): 70}
    for more in ({}, {("SeTa", 0.5): 70}):
        found = verdict(made_up({**values, **more}))
        assert found[0].startswith("Train in full") and "200 %" not in " ".join(found)


def test_noisy_runs_shorter_than_one_that_is_clearly_worse_are_not_recommended():
    cells = made_up({(FULL, 1.0): 80, (EQUAL, 0.5): 78, (EQUAL, 0.3): 79.5, ("SeTa", 0.5): 78})
    spread(cells, EQUAL, 0.3, 4)
    assert cells.better(cells.to_full(cells.equal_cost(0.3))) == 0
    found = verdict(cells)
    assert found[0].endswith("and 50 % of the epochs are clearly worse than all of them.")
    assert found[0].startswith("Train in full")
    for line in cells.cells[EQUAL, 0.3].lines.values():
        line["metrics"]["figure"] += 20
    assert "30 % of the epochs gain" in verdict(cells)[0]


def test_shorter_runs_that_nobody_would_choose_take_no_winner_back():
    values = {(FULL, 1.0): 80, (EQUAL, 0.5): 79.9, ("RCAP", 0.5): 80.7, (EQUAL, 0.3): 79}
    cells = made_up(values)
    spread(cells, EQUAL, 0.5, 2)
    spread(cells, "RCAP", 0.5, 2)
    (least,) = cells.to_cheaper(cells.contenders[0])
    assert cells.better(least[1]) == 0 and cells.better(cells.to_full(least[0])) == -1
    assert verdict(cells)[0].startswith("Use RCAP at 50 %")


def test_a_method_better_than_full_is_used_though_noisy_shorter_runs_may_be_as_good():
    values = {(FULL, 1.0): 80, (EQUAL, 0.5): 80, ("RCAP", 0.5): 81, (EQUAL, 0.3): 80.5}
    cells = made_up(values)
    spread(cells, EQUAL, 0.3, 2)
    (least,) = cells.to_cheaper(cells.contenders[0])
    assert cells.better(least[1]) == 0 == cells.better(cells.to_full(least[0]))
    assert verdict(cells)[0].startswith("Use RCAP at 50 %")
    equal = made_up({**values, ("RCAP", 0.5): 80.7})  # than Full, it is not clearly better
    spread(equal, FULL, 1.0, 1)
    spread(equal, EQUAL, 0.3, 2)
    assert "RCAP at 50 % is clearly better" in verdict(equal)[0]
    assert verdict(equal)[0].startswith("Cut epochs") and "30 % of the" in verdict(equal)[0]


def test_a_winner_that_another_clearly_beats_at_no_more_cost_is_not_recommended():
    values = {(FULL, 1.0): 80, (EQUAL, 0.5): 70, (EQUAL, 0.3): 75}
    found = verdict(made_up({**values, ("SeTa", 0.5): 77, ("RCAP", 0.3): 79}))
    assert found[0].startswith("Use RCAP at 30 %")
    assert any(text.startswith("SeTa at 50 % is clearly better") for text in found)
    dear = verdict(made_up({**values, ("SeTa", 0.5): 78, ("RCAP", 0.3): 76}))
    assert dear[0].startswith("Use SeTa at 50 %")


def test_training_in_full_is_not_said_where_a_method_is_better_than_full():
    cells = made_up({(FULL, 1.0): 80, (EQUAL, 0.5): 75, ("UCB", 0.5): 75, ("RCAP", 0.3): 84})
    found = verdict(cells)
    assert found[0].startswith("Use RCAP at 30 %: clearly better than Full, +4.00 ±")
    assert ", and not compared with Full at equal cost" in found[0]
    assert found[-1].endswith("RCAP at 30 % (0 seeds).")
    del cells.cells["RCAP", 0.3]
    assert verdict(cells)[0].startswith("Train in full")


def test_a_smaller_budget_that_looks_worse_takes_no_advice_back():
    values = {(FULL, 1.0): 80, (EQUAL, 0.5): 80, ("SeTa", 0.5): 80}
    worse = {(EQUAL, 0.3): 79.6, ("SeTa", 0.3): 79.6}
    assert verdict(made_up({(FULL, 1.0): 80, **worse}))[0].startswith("Undecided")
    both = verdict(made_up({**values, **worse}))
    assert both[0].startswith("Cut epochs") and "50 % of the epochs lose nothing" in both[0]


def test_what_cannot_be_ruled_out_is_the_far_end_of_the_interval():
    cells = made_up({(FULL, 1.0): 80, (EQUAL, 0.5): 79.8, ("SeTa", 0.5): 79.8})
    way = cells.to_full(cells.equal_cost(0.5))
    assert verdict(cells)[0].startswith(f"Cut epochs, if up to {number(-way.low, 2)} worse is")


def test_where_nothing_wins_and_fewer_epochs_cost_training_is_in_full():
    found = verdict(made_up({(FULL, 1.0): 80, (EQUAL, 0.5): 75, ("SeTa", 0.5): 75}))
    assert found[0].startswith("Train in full, unless the saving is worth it")
    assert found[2].startswith("Not told apart") and "SeTa at 50 % 0.00 ±" in found[2]


@pytest.mark.parametrize("seeds", [1, 2])
def test_before_three_seeds_there_is_no_verdict(seeds):
    values = {(FULL, 1.0): 80, (EQUAL, 0.5): 75, ("RCAP", 0.5): 90}
    (only,) = verdict(made_up(values, seeds=seeds))
    assert only.startswith("No verdict before 3 seeds")


def test_lower_is_better_turns_all_of_it():
    values = {(FULL, 1.0): 1.0, (EQUAL, 0.5): 4.0, ("good", 0.5): 2.0, ("bad", 0.5): 6.0}
    found = verdict(made_up(values, lower=["figure"]))
    assert found[0].startswith("Use good at 50 %") and "clearly worse than Full" in found[0]
    assert any(text.startswith("bad at 50 % is clearly worse") for text in found)


def test_seeds_that_would_tell_are_those_that_would():
    cells = made_up({(FULL, 1.0): 80, (EQUAL, 0.5): 80, ("SeTa", 0.5): 80.2})
    needed = cells.to_equal_cost(cells.contenders[0]).seeds_needed
    told = f"About {needed} seeds have an even chance to tell SeTa at 50 %, +0.20"
    assert any(text.startswith(told) for text in verdict(cells))
    assert 5 < needed < 100


def test_better_because_of_shorter_training_is_told():
    found = verdict(made_up({(FULL, 1.0): 60, (EQUAL, 0.5): 65, ("SeTa", 0.5): 65}))
    assert "50 % of the epochs gain, +5.00 ±" in found[0]
    assert any(
        "50 % of the epochs are clearly better than all of them, +5.00" in text for text in found
    )


def test_chance_is_counted_where_there_are_many():
    values = {(FULL, 1.0): 80, (EQUAL, 0.5): 80, **{(f"m{i}", 0.5): 80 for i in range(10)}}
    assert any("Of 10 intervals about 0.5 leave out zero" in t for t in verdict(made_up(values)))
    clear = {(FULL, 1.0): 80, (EQUAL, 0.5): 80, **{(f"m{i}", 0.5): 90 for i in range(4)}}
    found = verdict(made_up(clear))
    assert "Not told" not in " ".join(found)
    assert any("Of 4 intervals about 0.2 leave out zero" in text for text in found)


def test_looks_after_each_seed_share_one_chance_in_the_verdict_and_in_the_picture():
    values = {(FULL, 1.0): 80, (EQUAL, 0.5): 80, **{(f"m{i}", 0.5): 80 for i in range(10)}}
    early = made_up(values, confidence=confidence_of(6, early=True))
    assert "Of 10 intervals at most 0.5 leave out zero by chance." in verdict(early)
    assert "98.75 % interval" in shown(early)
    assert "nothing, at most 1 in 20 gets a filled mark" in shown(early)
    assert "nothing, 1 in 20 gets a filled mark" in shown(made_up(values))


def shown(cells):
    """The texts of the picture."""
    return " ".join(" ".join(text.get_text() for text in draw(cells, title="").texts).split())


def test_without_runs_there_is_nothing_to_say():
    assert verdict(cells_of([]))[0].startswith("No verdict")
    assert table.for_text(cells_of([]))


def test_figures_have_two_digits_of_their_spread():
    assert digits_of(made_up({(FULL, 1.0): 80}), "figure") == 2
    assert number(-0.001, 2) == "0.00" and number(0.25, 1, signed=True) == "+0.2"
    cells = made_up({(FULL, 1.0): 80, (EQUAL, 0.5): 79})
    assert interval(cells.to_full(cells.equal_cost(0.5)), 2).startswith("-1.00 ± 0.")


def test_a_clear_difference_does_not_read_as_if_zero_were_in_it():
    assert interval(Difference(1.104, 1.098, 3), 2) == "+1.104 ± 1.098"
    assert interval(Difference(-1.104, 1.098, 3), 1) == "-1.104 ± 1.098"
    assert interval(Difference(1.098, 1.104, 3), 2) == "+1.10 ± 1.10"
    row = Row(Cell("SeTa", 0.5, {}), STYLES["SeTa"], 80.0, Difference(1.104, 1.098, 3), 1)
    assert row.says(2) == "+1.104 ± 1.098  better"


def test_tables_hold_what_cells_say():
    cells = made_up({(FULL, 1.0): 80, (EQUAL, 0.5): 75, ("a|b", 0.5): 80})
    text, page, marked = table.for_text(cells), table.for_html(cells), table.for_markdown(cells)
    assert [line.split("  ")[0] for line in text.splitlines()[2:5]] == [
        "Full", "Full at equal cost 0.5", "a|b 0.5",
    ]  # fmt: skip
    won = interval(cells.to_equal_cost(cells.contenders[0]), 2) + " better"
    assert won.startswith("+5.00 ±") and won in text and f"<strong>{won}</strong>" in page
    assert "a\\|b" in marked and f"**{won}**" in marked
    assert len({line.count("|") for line in marked.splitlines()[2:6]} - {9}) <= 1


def job(method, budget=0.5):
    return Job(Contender(method, budget), 3, 1, 1)


def test_rounds_end_what_is_told_apart_and_what_will_not_be():
    values = {(FULL, 1.0): 80, (EQUAL, 0.5): 75, ("SeTa", 0.5): 90, ("RS2", 0.5): 75.01}
    rounds, cells = Rounds(5, values), made_up(values, seeds=3)
    assert not rounds.wanted(job("SeTa"), cells) and not rounds.wanted(job("RS2"), cells)
    assert [note.split(":")[0] for note in rounds.notes(cells)] == ["SeTa 0.5", "RS2 0.5"]
    assert not rounds.wanted(job(FULL, 1.0), cells)  # nobody needs it any more
    open_ended = made_up({**values, ("RS2", 0.5): 75.4}, seeds=3)
    rounds = Rounds(50, values)
    assert rounds.wanted(job("RS2"), open_ended) and rounds.wanted(job(EQUAL), open_ended)
    few = Rounds(5, values)
    assert few.wanted(job("SeTa"), made_up(values, seeds=2))


def test_the_note_of_an_end_counts_the_runs_that_were_under_way():
    values = {(FULL, 1.0): 80, (EQUAL, 0.5): 75, ("SeTa", 0.5): 90}
    rounds, cells = Rounds(6, values), made_up(values, seeds=3)
    assert not rounds.wanted(job("SeTa"), cells)
    assert rounds.notes(cells) == ["SeTa 0.5: told apart after 3 seeds."]
    assert rounds.notes(made_up(values, seeds=5)) == [
        "SeTa 0.5: told apart after 3 seeds; the table has 5, with those under way then."
    ]


def test_seeds_that_agree_exactly_end_no_method():
    cells = made_up({(FULL, 1.0): 80, (EQUAL, 0.5): 75, ("SeTa", 0.5): 76}, seeds=3)
    for seed in range(3):
        cells.cells["SeTa", 0.5].lines[seed]["metrics"]["figure"] = (
            1.0 + (cells.cells[EQUAL, 0.5].lines[seed]["metrics"]["figure"])
        )
    rounds = Rounds(10, cells.cells)
    assert cells.to_equal_cost(cells.contenders[0]).half == 0.0
    assert rounds.wanted(job("SeTa"), cells) and rounds.notes(cells) == []


def test_references_run_as_long_as_a_planned_method_that_has_no_run_yet():
    values = {(FULL, 1.0): 80, (EQUAL, 0.5): 75, ("SeTa", 0.5): 90}
    rounds, cells = Rounds(5, [*values, ("RS2", 0.5)]), made_up(values, seeds=3)
    assert not rounds.wanted(job("SeTa"), cells)
    assert rounds.wanted(job(FULL, 1.0), cells) and rounds.wanted(job(EQUAL), cells)


def test_looks_share_the_chance_of_a_false_alarm():
    assert confidence_of(10, early=False) == 0.95
    assert confidence_of(10, early=True) == pytest.approx(1 - 0.05 / 8)
    assert confidence_of(2, early=True) == 0.95


def test_the_regime_tells_planted_runs_apart():
    rng, n, epochs = np.random.default_rng(0), 5000, 20
    level = rng.gamma(3, 0.5, n) + 0.5
    hard = np.arange(n) < 0.3 * n

    def figures(rate, stuck=0.0, strata=None):
        watch = regime.Observer(n, epochs, strata)
        for epoch in range(epochs):
            fall = np.where(hard & (stuck > 0), 1 + 0.02 * epoch, np.exp(-rate * epoch))
            losses = level * np.where(hard & (stuck > 0), 4, 1) * fall
            watch.look((losses * rng.lognormal(0, 0.2, n)).astype(np.float32))
        return watch.figures()

    quick, slow = figures(1.0), figures(0.1)
    assert quick["falling"] < regime.SATURATED < regime.FALLING < slow["falling"]
    assert quick["learned"] > 0.9 > slow["learned"]
    assert figures(0.5)["in_doubt"] < regime.DOUBTED < figures(0.5, stuck=1)["in_doubt"]
    assert figures(0.5, strata=np.arange(n) // 4000)["imbalance"] == 4
    said = " ".join(regime.sentences(figures(0.5, stuck=1, strata=np.arange(n) // 4000)))
    assert "wrong labels, or are of rare classes" in said and "4 times as many" in said
    said = " ".join(regime.sentences(figures(0.5, stuck=1)))
    assert "or are of rare classes" in said and "--strata" in said
    said = " ".join(regime.sentences(figures(0.5, stuck=1, strata=np.arange(n) // 2500)))
    assert "wrong labels are likely" in said


def test_a_loss_that_rose_is_not_said_to_have_fallen():
    watch = regime.Observer(10, 5, None)
    for loss in (2, 1, 2, 3, 4):
        watch.look(np.full(10, loss, np.float32))
    found = watch.figures()
    assert "falling" not in found and "fall" not in " ".join(regime.sentences(found))


@pytest.mark.parametrize("shift, fall, known", [(0, 0.6, True), (-10, 0.6, False), (0, 1, False)])
def test_labels_are_not_judged_by_losses_below_zero_or_that_never_fell(shift, fall, known):
    rng, watch = np.random.default_rng(0), regime.Observer(2000, 12, None)
    for epoch in range(12):
        rise = 0.05 * epoch * (fall < 1)
        right, wrong = np.full(1200, 3 * fall**epoch), rng.normal(3 + rise, 0.3 * (fall < 1), 800)
        watch.look((np.append(right, wrong) + shift).astype(np.float32))
    found = watch.figures()
    assert ("in_doubt" in found) == known and found.get("in_doubt", 1) > 0.1
    assert ("likely" in " ".join(regime.sentences({**found, "imbalance": 1}))) == known


def test_labels_are_not_judged_where_all_samples_got_worse():
    watch = regime.Observer(1000, 10, None)
    level = np.random.default_rng(0).uniform(1, 2, 1000)
    for fall in (4, 1, 1.1, 1.2, 1.3, 1.4, 1.3, 1.2, 1.0, 0.9):
        watch.look((level * fall).astype(np.float32))
    assert "in_doubt" not in watch.figures()
    assert not any("got worse" in text for text in regime.sentences(watch.figures()))


def test_budgets_too_small_for_six_visits_are_named_where_learnable_is():
    lines = [
        {"budget": budget, "n": 100, "visits": 2000 * (budget or 0.2)}
        for budget in (1.0, 0.5, 0.25, 0.25, 0.2, None)
    ]
    short = regime.seldom(lines)
    assert short == [0.2, 0.25]
    doubted = {"in_doubt": 0.2, "learned": 0.2}
    but = ", but not at a budget of 0.2 and 0.25, where hardly any sample gets six visits."
    for known, word in (({}, "out"), ({"imbalance": 1.0}, "often")):
        assert word + but in " ".join(regime.sentences({**doubted, **known}, short))
        assert "six visits" not in " ".join(regime.sentences({**doubted, **known}))
    assert "six visits" not in " ".join(regime.sentences({"in_doubt": 0.0}, short))


def test_far_losses_leave_the_figures_finite():
    watch = regime.Observer(100, 10, None)
    for epoch in range(10):
        watch.look(np.full(100, 3e38 if epoch == 7 else 2 - epoch / 10, np.float32))
    found = watch.figures()
    assert all(map(np.isfinite, found.values())) and found["falling"] > 1
    assert "was above its first" in regime.sentences(found)[0]


def test_a_regime_needs_four_epochs():
    watch = regime.Observer(10, 3, None)
    for _ in range(3):
        watch.look(np.ones(10, np.float32))
    assert watch.figures() is None and regime.regime_of([None]) == {} == regime.regime_of([])


def test_nothing_is_said_of_labels_before_six_epochs():
    watch, said = regime.Observer(1000, 6, None), []
    for epoch in range(6):
        watch.look(np.linspace(0.1, 3 - 0.2 * epoch, 1000, dtype=np.float32))
        said.append("in_doubt" in (watch.figures() or {}))
    assert said == [False] * 5 + [True]


def test_a_run_that_learned_nothing_is_not_said_to_have_wrong_labels():
    doubted = {"falling": 0.3, "in_doubt": 0.2, "learned": 0.2, "imbalance": 1.0}
    assert "wrong labels are likely" in " ".join(regime.sentences(doubted))
    said = " ".join(regime.sentences({**doubted, "learned": 0.0}))
    assert "tells nothing of labels" in said and "likely" not in said


def test_what_leans_to_the_worse_and_is_not_told_apart_is_undecided():
    found = verdict(made_up({(FULL, 1.0): 80, (EQUAL, 0.5): 79.6, ("SeTa", 0.5): 79.6}))
    assert found[0].startswith("Undecided: nothing here is clearly better"), found
    assert re.search(
        r"too few to tell it from zero; with about \d+ the chance is even\.$", found[0]
    )
    assert "50 % of the epochs look worse than all of them, -0.4" in found[0]
    level = verdict(made_up({(FULL, 1.0): 80, (EQUAL, 0.5): 80, ("SeTa", 0.5): 80}))
    assert level[0].startswith("Cut epochs")


def test_a_winner_that_took_as_long_as_full_says_so():
    cells = made_up({(FULL, 1.0): 80, (EQUAL, 0.5): 75, ("RCAP", 0.5): 80.1})
    assert "but it took no less time, 1 s a run beside 1 s of Full" in verdict(cells)[0]
    for line in cells.contenders[0].lines.values():
        line["seconds"] = 0.5
    assert "took" not in verdict(cells)[0]


def test_other_figures_are_told_where_they_are_clear():
    cells = made_up({(FULL, 1.0): 80, (EQUAL, 0.5): 80, ("RCAP", 0.5): 80, ("SeTa", 0.5): 80})
    for cell in cells.cells.values():
        for seed, line in cell.lines.items():
            loss = {"RCAP": 3.0, "SeTa": 0.1}.get(cell.method, 1.0)
            line["metrics"]["loss"] = loss + 0.01 * ((seed * 7 + len(cell.method)) % 5)
    both = replace(cells, measures=["figure", "loss"], lower=frozenset(["loss"]))
    assert verdict(both)[-2:] == [
        "By loss, clearly better than Full at equal cost: SeTa at 50 %.",
        "By loss, clearly worse than Full at equal cost: RCAP at 50 %.",
    ]


def test_nothing_is_said_of_full_from_two_seeds():
    cells, tie = (
        made_up({(FULL, 1.0): 80, (EQUAL, 0.5): 75, ("SeTa", 0.5): mean}) for mean in (80, 75)
    )
    for seed in (2, 3, 4):
        del cells.cells[FULL, 1.0].lines[seed], tie.cells[FULL, 1.0].lines[seed]
    assert verdict(cells)[0].startswith(
        "Use SeTa at 50 %: clearly better than Full at equal cost, +5.00 ± 0.59, and not judged "
        "beside Full, with 2 seeds in common"
    )
    assert verdict(tie)[0] == (
        "Full has fewer than 3 seeds in common with Full at equal cost: nothing here is clearly "
        "better than Full at equal cost."
    )


def test_without_a_method_it_is_said_what_fewer_epochs_cost():
    found = verdict(made_up({(FULL, 1.0): 80, (EQUAL, 0.5): 80}))
    assert "acceptable: no method was run, and 50 % of the epochs lose nothing" in found[0]


def test_figures_too_small_for_eight_digits_have_an_exponent():
    cells = made_up({(FULL, 1.0): 80, (EQUAL, 0.5): 75, ("SeTa", 0.5): 81})
    for cell in cells.cells.values():
        for line in cell.lines.values():
            line["metrics"]["figure"] *= 1e-12
    found = verdict(cells)
    assert "than Full at equal cost, +6.00e-12 ± " in found[0]
    assert "0.00000000" not in " ".join([*found, table.for_text(cells)])


def test_a_method_whose_runs_failed_is_named_and_not_judged():
    cells = made_up({(FULL, 1.0): 80, (EQUAL, 0.5): 80, ("SeTa", 0.5): 90, ("RS2", 0.5): 80})
    for cell in cells.cells.values():
        for line in cell.lines.values():
            line["metrics"]["accuracy"] = line["metrics"]["figure"]
    for seed in (2, 3, 4):
        del cells.cells["SeTa", 0.5].lines[seed]
    found = verdict(replace(cells, measures=["figure", "accuracy"]))
    assert "acceptable: nothing that was judged is clearly better than Full at" in found[0]
    assert found[-1] == (
        "Not judged, with fewer than 3 seeds in common with Full at equal cost: "
        "SeTa at 50 % (2 seeds)."
    )
    assert "SeTa" not in " ".join(found[:-1]) and "RS2 at 50 %" in " ".join(found)


def test_nothing_is_recommended_where_no_method_was_judged():
    references = {(FULL, 1.0): 80, (EQUAL, 0.5): 80}
    cells = made_up({**references, ("SeTa", 0.5): 90})
    for seed in (1, 2, 3, 4):
        del cells.cells["SeTa", 0.5].lines[seed]
    found = verdict(cells)
    assert found[0].startswith("No verdict: no method") and "SeTa at 50 % (1 seed)" in found[-1]


def test_where_all_runs_of_full_at_equal_cost_failed_it_does_not_ask_for_more_seeds():
    found = verdict(made_up({(FULL, 1.0): 80, ("SeTa", 0.5): 90}))
    assert found[0].startswith("No verdict: no method has 3 seeds in common with Full at equal")
    assert found[-1].endswith("SeTa at 50 % (0 seeds).")


def test_differences_finer_than_the_spread_are_written_out():
    cells = made_up({(FULL, 1.0): 80, (EQUAL, 0.5): 80, ("SeTa", 0.5): 80})
    for seed in range(5):
        shift = 10 * seed
        for at, more in (((EQUAL, 0.5), 0.0), (("SeTa", 0.5), 0.03 + 0.001 * seed)):
            cells.cells[at].lines[seed]["metrics"]["figure"] = 70 + shift + more
    assert "+0.032" in table.for_text(cells)
