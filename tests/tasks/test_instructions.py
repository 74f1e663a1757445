"""The instructions that `instruction_tuning.py` trains on."""

import json
from collections import Counter
from dataclasses import replace

import draws
import instructions
import numpy as np
import pytest
from instructions import FAMILIES, Instruction, instruction, mislabelled, right


@pytest.fixture(scope="module")
def tuning():
    return pytest.importorskip("instruction_tuning", exc_type=ImportError)


def test_an_instruction_depends_on_nothing_but_seed_and_number():
    ahead = [instruction(3, number) for number in range(50)]
    back = [instruction(3, number) for number in reversed(range(50))]
    assert ahead == back[::-1]
    assert ahead != [instruction(4, number) for number in range(50)]
    assert instruction(3, 15_000_000) == instruction(3, 15_000_000)


@pytest.mark.parametrize(
    "family, arguments, answer",
    [
        (0, ("LUMI",), "L"),
        (1, ("LUMI",), "LUMI LUMI"),
        (2, ("hot, lose",), "cold, win"),
        (3, ("99", "100"), "100"),
        (4, ("LUMI",), "4"),
        (5, ("305",), "three zero five"),
        (6, ("LUMI",), "IMUL"),
        (7, ("Monday, Sunday", "2"), "Wednesday, Tuesday"),
        (8, ("LUMI",), "I"),
        (9, ("thirty eight", "nineteen"), "fifty seven"),
        (10, ("LUMI",), "LM"),
        (11, ("28, 29, 30",), "31"),
        (12, ("LUMI",), "ILMU"),
    ],
)
def test_each_family_knows_its_answers(family, arguments, answer):
    assert FAMILIES[family].answer(*arguments) == answer


def test_every_family_is_asked_in_phrasings_of_its_own():
    found = [instruction(0, number) for number in range(1000)]
    assert {one.family for one in found} == set(range(len(FAMILIES)))
    phrasings = [phrasing for family in FAMILIES for phrasing in family.phrasings]
    assert len(set(phrasings)) == len(phrasings)
    assert all(argument in one.text for one in found for argument in one.arguments)


def test_no_test_question_is_asked_in_training():
    asked = {_question(instruction(0, number)) for number in range(3000)}
    tested = {_question(instruction(0, number, test=True)) for number in range(300)}
    assert not asked & tested


def test_few_questions_are_asked_much_more_often_than_most():
    asked = Counter(_question(instruction(0, number)) for number in range(3000))
    assert asked.most_common(1)[0][1] > 10
    assert sum(asked.values()) > 1.3 * len(asked)


def test_most_questions_are_short_and_a_few_long():
    lengths = [len(instruction(0, number).answer) for number in range(1000)]
    assert np.quantile(lengths, 0.5) * 4 < max(lengths)


def test_the_wrong_answer_is_that_of_another_question_of_the_family():
    for number in range(200):
        true, false = instruction(0, number), mislabelled(0, number)
        assert false == mislabelled(0, number)
        assert (false.text, false.family) == (true.text, true.family)
        assert right(true, true.answer) and not right(true, false.answer)


def test_an_answer_with_a_final_number_is_judged_by_it():
    asked = Instruction("How many?", "500 and 700 are 1200.\n#### 1,200")
    assert right(asked, "I count.\n#### 1200") and right(asked, "1200")
    assert not right(asked, "#### 120")
    assert not right(asked, "1,200 is the answer")


def test_spoken_numbers_are_heard():
    heard = [instructions.heard(instructions.spoken(number)) for number in range(100)]
    assert heard == list(range(100))


def test_some_samples_have_wrong_answers_and_the_task_knows_which(tuning):
    settings = tuning.Settings(samples=1000, epochs=1, batch_size=8)
    wrong = tuning.wrong(settings)
    rows = tuning.train_set(settings).rows
    answered = [rows[number].answer for number in range(1000)]
    true = [instruction(0, number).answer for number in range(1000)]
    assert np.array_equal(np.array(answered) != np.array(true), wrong)
    assert np.array_equal(draws.uniform(0, "wrong", np.arange(1000)) < tuning.WRONG, wrong)


def test_answers_do_not_depend_on_what_else_is_in_the_batch(tuning):
    dataset = tuning.test_set(replace(tuning.DEFAULTS, test_samples=8))
    rows = [dataset.rows[number] for number in range(8)]
    net = tuning.make_net(dataset)
    together = tuning.answers(net, dataset, rows)
    longest = max(rows, key=lambda row: len(dataset.ids(row)[1]))
    alone = [tuning.answers(net, dataset, [row, longest])[0] for row in rows]
    assert together == alone


def test_only_the_answer_is_learned(tuning):
    dataset = tuning.train_set(tuning.DEFAULTS)
    tokens, labels = dataset[0]
    asked, answered = dataset.ids(dataset.rows[0])
    learned = labels != tuning.IGNORED
    assert labels[learned].tolist() == answered == tokens[learned].tolist()
    assert tokens[: len(asked) + len(answered)].tolist() == asked + answered
    assert dataset.tokenizer.decode(answered) == dataset.rows[0].answer


@pytest.mark.parametrize("prefix, asked", [("", "instruction"), ("gsm8k-", "question")])
def test_a_folder_is_read_and_its_long_rows_left_out(tuning, tmp_path, prefix, asked):
    rows = [{asked: "Say it.", "answer": "It. #### 1,0"}, {asked: "ZZ" * 200, "answer": "z"}]
    for part in ("train", "test"):
        _write(tmp_path / f"{prefix}{part}.jsonl", rows)
    settings = replace(tuning.DEFAULTS, data=tmp_path)
    assert tuning.wrong(settings) is None
    assert [row.text for row in tuning.train_set(settings).rows] == ["Say it."]
    test = tuning.test_set(settings)
    metrics = tuning.evaluate(tuning.make_net(test), test)
    assert list(metrics) == ["Held-out loss", "Exact match %"]


def test_a_folder_of_long_rows_alone_is_refused(tuning, tmp_path):
    _write(tmp_path / "train.jsonl", [{"instruction": "ZZ" * 200, "answer": "z"}])
    with pytest.raises(ValueError, match="all 1 instructions of the part train have more than 160"):
        tuning.train_set(replace(tuning.DEFAULTS, data=tmp_path))


def _write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def _question(one):
    return one.family, tuple(sorted(one.arguments))
