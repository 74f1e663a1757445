import pytest

from seta.report.results import Run, mean_curve, summarise


def run_of(method, seed, accuracies, *, epochs=None, visits=100):
    """A run whose every epoch trained `visits` samples in a second."""
    run = Run(method, seed, epochs or len(accuracies))
    for epoch, accuracy in enumerate(accuracies):
        run.rows.append(
            {
                "accuracy": accuracy,
                "visits": visits * (epoch + 1),
                "saved": 1 - visits / 200,
                "seconds": epoch + 1.0,
            }
        )
    return run


def test_the_accuracy_is_that_of_the_last_epoch_and_never_the_best():
    (summary,) = summarise([run_of("SeTa", 0, [0.5, 0.99, 0.8])])
    assert summary.accuracy == 0.8
    assert summary.visits == 300
    assert summary.saved == 0.5
    assert summary.seconds == 3.0


def test_the_spread_is_the_standard_deviation_over_seeds_and_none_for_one():
    (summary,) = summarise([run_of("Full", 0, [0.8]), run_of("Full", 1, [0.9])])
    assert summary.accuracy == pytest.approx(0.85)
    assert summary.spread == pytest.approx(0.0707, abs=1e-4)
    assert summary.runs == 2
    assert summarise([run_of("Full", 0, [0.8])])[0].spread is None


def test_an_unfinished_run_does_not_count_beside_a_finished_one():
    finished, stopped = run_of("SeTa", 0, [0.5, 0.8]), run_of("SeTa", 1, [0.1], epochs=2)
    (summary,) = summarise([finished, stopped])
    assert (summary.accuracy, summary.runs, summary.stopped) == (0.8, 1, None)


def test_a_method_without_a_finished_run_is_marked_as_stopped():
    runs = [run_of("SeTa", 0, [0.1, 0.2], epochs=9), run_of("SeTa", 1, [], epochs=9)]
    (summary,) = summarise(runs)
    assert summary.stopped == (2, 9)
    assert summary.accuracy == 0.2


def test_methods_keep_their_order_and_those_without_rows_are_left_out():
    runs = [run_of("Full", 0, [0.1]), Run("Random", 0, 3), run_of("SeTa", 0, [0.2])]
    assert [summary.method for summary in summarise(runs)] == ["Full", "SeTa"]


def test_the_mean_curve_goes_epoch_by_epoch_over_the_finished_runs():
    runs = [run_of("SeTa", 0, [0.2, 0.4]), run_of("SeTa", 1, [0.4, 0.8], visits=50)]
    visits, means, spreads = mean_curve([*runs, run_of("SeTa", 2, [0.0], epochs=2)])
    assert visits == [75, 150]
    assert means == pytest.approx([0.3, 0.6])
    assert spreads == pytest.approx([0.1414, 0.2828], abs=1e-4)
