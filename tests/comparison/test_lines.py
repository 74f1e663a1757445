"""Lines are whole or not there, and a run has one."""

import pytest

from seta.comparison.lines import append, key, read


def line(seed, **more):
    made = {"suite": "s", "variant": "", "method": "Full", "budget": 1.0, "seed": seed}
    return made | {"accuracy": 0.5} | more


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "s.jsonl"


def test_lines_come_back_in_order(path):
    assert read(path) == []
    for seed in (1, 0, 2):
        assert append(path, line(seed))
    assert [key(found) for found in read(path)] == [("s", "", "Full", 1.0, s) for s in (1, 0, 2)]


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_torn_last_line_is_dropped_and_cut_off_before_the_next(path, cut):
    append(path, line(0))
    append(path, line(1))
    path.write_bytes(path.read_bytes()[:-cut])
    assert read(path) == [line(0)]
    assert append(path, line(1, accuracy=0.25))
    assert read(path) == [line(0), line(1, accuracy=0.25)]


def test_a_first_line_that_is_torn_leaves_nothing(path):
    append(path, line(0))
    path.write_bytes(path.read_bytes()[:7])
    assert read(path) == []
    append(path, line(3))
    assert read(path) == [line(3)]


def test_blank_lines_are_skipped(path):
    append(path, line(0))
    path.write_text(path.read_text() + "\n \n")
    assert append(path, line(1))
    assert read(path) == [line(0), line(1)]


def test_of_two_lines_of_a_run_the_first_stays(path):
    assert append(path, line(0))
    assert not append(path, line(0, accuracy=0.9))
    assert read(path) == [line(0)]


def test_a_run_with_two_lines_is_refused(path):
    append(path, line(0))
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(ValueError, match="s.jsonl, line 2 repeats the run"):
        read(path)


@pytest.mark.parametrize("text", [
    "{", "[1]", "3", '{"suite": "s"}', '{"method": "Full", "budget": [1.0], "seed": 1}',
])  # fmt: skip
def test_a_line_in_the_middle_that_is_no_result_is_named(path, text):
    append(path, line(0))
    path.write_text(path.read_text() + text + "\n")
    with pytest.raises(ValueError, match="s.jsonl, line 2 is no result of a run"):
        append(path, line(1))


def test_figures_that_json_does_not_have_are_refused_and_nothing_is_written(path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        append(path, line(0, accuracy=float("nan")))
    assert read(path) == []
