"""`python -m benchmarks.rollouts` at tiny sizes: its task, its runs, and the page of them."""

import json
from itertools import product

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

from benchmarks.rollouts import model as models
from benchmarks.rollouts.__main__ import LINES, PAGE, QUICK, SIZES, main, read
from benchmarks.rollouts.methods import METHODS
from benchmarks.rollouts.report import page
from benchmarks.rollouts.task import BASE, OPERATIONS, TASKS, made, shown, split


def results_of(prompts):
    """Computed anew, one by one: the answer by each operation."""
    for tokens in prompts.tokens.tolist():
        pairs = list(zip(tokens[1:3], tokens[3:5], strict=True))
        yield [
            tokens[1:3],
            [(a + b) % BASE for a, b in pairs],
            [(a - b) % BASE for a, b in pairs],
            [a * b % BASE for a, b in pairs],
        ]


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_answers_are_right_and_prompts_are_different(task):
    train, held_out = split(task, 3, 200, 100)
    both = torch.cat([train.tokens, held_out.tokens]).tolist()
    assert len({tuple(row) for row in both}) == 300
    for prompts in (train, held_out):
        for at, operation, answer in zip(
            results_of(prompts), prompts.operation, prompts.answers.tolist(), strict=True
        ):
            assert operation == len(OPERATIONS) - 1 or at[operation] == answer
    assert torch.equal(made(task, 300, 3).tokens, torch.tensor(both))


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_what_is_shown_is_right_as_often_as_it_is_said(task):
    prompts = shown(task, 8000, 0)
    right = [
        at[operation] == answer
        for at, operation, answer in zip(
            results_of(prompts), prompts.operation, prompts.answers.tolist(), strict=True
        )
    ]
    for (operation, digit), share in np.ndenumerate(task.shown):
        here = (prompts.operation == operation) & (prompts.tokens[:, 1] == digit)
        # Answers of two operations may be the same, of `+` and `-` one in nine.
        assert np.mean(np.array(right)[here]) == pytest.approx(share, abs=0.12)


def test_expected_rewards_are_those_of_drawn_answers():
    model, prompts = models.begun(0), made(TASKS["few"], 12, 0)
    models.supervised(model, TASKS["few"], 0, 30)
    generator = torch.Generator().manual_seed(0)
    drawn = models.rolled_out(model, prompts.tokens, 2000, generator)
    shares = (drawn == prompts.answers[:, None]).all(2).float().mean(1)
    torch.testing.assert_close(shares, models.expected(model, prompts), atol=0.04, rtol=0)


def test_runs_go_on_where_they_were_stopped_and_make_a_page(tmp_path):
    lines, written = tmp_path / "lines.jsonl", tmp_path / "page.md"
    options = ["--lines", str(lines), "--page", str(written), "--quick"]
    state = torch.get_rng_state()
    assert main(["run", "--seeds", "1", *options]) == 0
    first = lines.read_text()
    lines.write_text(first[: len(first) // 2 - 20] + "\n")  # the line that was being written
    assert main(["run", "--seeds", "2", *options]) == 0
    assert torch.equal(state, torch.get_rng_state())
    runs = read(lines, QUICK)
    assert sorted((line["sizes"]["task"], line["method"], line["seed"]) for line in runs) == sorted(
        product(TASKS, METHODS, (0, 1))
    )
    assert {line["looks"][-1][0] for line in runs} == {4 * 64 * 4}
    again = {
        (line["sizes"]["task"], line["method"], line["seed"]): line
        for line in map(json.loads, first.splitlines())
    }
    for line in runs:
        if line["seed"] == 0:
            same = again[line["sizes"]["task"], line["method"], 0]
            assert [row[2] for row in line["looks"]] == [row[2] for row in same["looks"]]
    assert main(["report", *options]) == 0
    assert all(written.read_text().count(f"\n| {name} |") == 6 for name in METHODS)


def test_a_page_says_how_many_rollouts_were_needed():
    def line(method, seed, rewards):
        looks = [[100 * at, at, reward] for at, reward in enumerate(rewards)]
        return {"method": method, "seed": seed, "flat": 0.5, "looks": looks, "made": "somewhere",
                "sizes": {"task": "few", "prompts": 9, "held_out": 9, "rollouts": 8}}  # fmt: skip

    runs = [line("Uniform", seed, [0, 1, 2, 3, 4, 5 + seed / 100]) for seed in (0, 1, 2)]
    runs += [line("ZeroSignal", seed, [0, 2, 4, 6 + seed / 100, 8, 8]) for seed in (0, 1, 2)]
    text = page(runs)
    assert "| ZeroSignal | 60% (60% to 60%) | met | 60% (60% to 60%) | met | 50% |" in text
    assert "There are no runs yet" in page([])


def test_the_page_is_what_the_committed_lines_give():
    assert PAGE.read_text(encoding="utf-8") == page(read(LINES, SIZES))
