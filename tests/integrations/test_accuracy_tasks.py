"""The tasks of the accuracy harness whose nets come from `transformers`, on tiny made-up data."""

import io
import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, log_softmax

pytest.importorskip("transformers")

import pyarrow as pa
import pyarrow.parquet
from PIL import Image

from benchmarks.accuracy import backbones, gsm8k, sst2
from benchmarks.accuracy.image_trial import low_precision
from benchmarks.accuracy.instruction import (
    ANSWER,
    END,
    IGNORED,
    InstructionTask,
    instruction,
    train_tokenizer,
)
from benchmarks.accuracy.text import TextRecipe
from seta.torch import PrunedDataLoader

TOLERANCE = 0.03 if low_precision("cpu") else 1e-5
SENTENCES = ["good", "a good film , and a long one", "bad", "a bad , bad film"] * 6
PROBLEMS = [
    (
        f"Ann has {a} pears and buys {b}.{' How many has she?' * (a % 3)}",
        f"She has {a}+{b}=<<{a}+{b}={a + b}>>{a + b} pears.\n#### {a + b}",
    )
    for a, b in ((2, 3), (5, 1), (4, 4), (7, 2), (1, 6), (3, 1), (8, 9), (6, 6))
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    for seed, part in enumerate(("train", "test")):
        write_images(data / f"cifar10-{part}.parquet", 24, seed)
        rows = [f"{text}\t{int('good' in text)}\n" for text in SENTENCES]
        (data / f"sst2-{part}.tsv").write_text("".join(rows))
        rows = [json.dumps({"question": q, "answer": a}) + "\n" for q, a in PROBLEMS]
        (data / f"gsm8k-{part}.jsonl").write_text("".join(rows))
    return data


def write_images(path, count, seed):
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        buffer = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)).save(buffer, "PNG")
        rows.append({"bytes": buffer.getvalue(), "path": None})
    pa.parquet.write_table(pa.table({"img": rows, "label": np.arange(count) % 10}), path)


def tiny_llama(data, **options):
    sizes = {"train": 8, "test": 8, "size": 300, "width": 32, "layers": 1}
    return instruction(data, **{**sizes, **options})


MAKERS = {
    "resnet": lambda data: backbones.resnet(data, train=24),
    "vit": lambda data: backbones.vit(data, train=24),
    "swin": lambda data: backbones.swin(data, train=24),
    "mamba": lambda data: backbones.mamba(data, train=24),
    "instruction": tiny_llama,
}


@pytest.fixture(params=MAKERS)
def task(request, folder):
    return MAKERS[request.param](folder)


def weights(trial):
    return torch.cat([weight.detach().flatten() for weight in trial.net.parameters()])


def test_a_task_trains_a_step_through_the_loader_and_evaluates(task):
    state = torch.get_rng_state()
    trial = task.trial(0)
    before = weights(trial)
    loader = PrunedDataLoader(
        task.dataset, "Full", epochs=1, batch_size=6, collate_fn=lambda batch: batch
    )
    batch = next(iter(loader))
    losses = trial.losses(batch)
    assert losses.shape == (6,) and losses.dtype == torch.float32 and losses.requires_grad
    trial.step(loader.update(losses), loader.progress)
    assert torch.isfinite(weights(trial)).all() and not torch.equal(weights(trial), before)
    found = trial.evaluate()
    assert 0 <= found["accuracy"] <= 1 and np.isfinite(found["loss"])
    assert torch.equal(torch.get_rng_state(), state)


def test_settings_are_plain_data_and_draw_nothing(task):
    state = torch.get_rng_state()
    assert json.loads(json.dumps(task.settings)) == task.settings
    assert task.settings["parameters"] == len(weights(task.trial(0)))
    assert torch.equal(torch.get_rng_state(), state)
    assert task.classes is None or len(task.classes) == len(task.dataset)


def test_equal_seeds_give_equal_nets_and_equal_courses(task):
    nets = []
    for seed in (3, 3, 4):
        trial = task.trial(seed)
        for index in (0, 1):
            loss = trial.losses(task.dataset.__getitems__([index, index + 2])).mean()
            trial.step(loss, (index + 1) / 2)
        nets.append(weights(trial))
    assert torch.equal(nets[0], nets[1]) and not torch.equal(nets[0], nets[2])


def test_the_rate_follows_progress_and_ends_at_0(task):
    trial = task.trial(0)
    before = weights(trial)
    trial.step(trial.losses(task.dataset.__getitems__([0, 1])).mean(), 1.0)
    assert torch.equal(weights(trial), before)


def test_evaluation_leaves_the_net_as_it_was(task):
    trial = task.trial(0)
    before = {name: value.clone() for name, value in trial.net.state_dict().items()}
    assert trial.evaluate() == trial.evaluate()
    assert all(torch.equal(value, before[name]) for name, value in trial.net.state_dict().items())


@pytest.mark.parametrize("make", [MAKERS["mamba"], MAKERS["instruction"]], ids=["mamba", "llama"])
def test_neither_padding_nor_the_batch_changes_a_loss(make, folder):
    task = make(folder)
    trial = task.trial(0)
    together = trial.losses(task.dataset.__getitems__(list(range(8)))).detach()
    alone = torch.cat([trial.losses(task.dataset.__getitems__([i])).detach() for i in range(8)])
    torch.testing.assert_close(together, alone, rtol=0, atol=TOLERANCE)


def test_a_mamba_reads_the_mean_of_its_states(folder):
    task = backbones.mamba(folder, train=24)
    trial = task.trial(0)
    words, lengths, labels = task.dataset.__getitems__([1])
    assert lengths.tolist() == [words.shape[1]] == [len(SENTENCES[1].split())]
    states = trial.net.body(input_ids=words).last_hidden_state
    expected = cross_entropy(trial.net.head(states.mean(dim=1)), labels)
    torch.testing.assert_close(trial.losses((words, lengths, labels))[0], expected)


def test_a_loss_is_the_mean_over_the_tokens_of_the_answer(folder):
    task = tiny_llama(folder)
    trial = task.trial(0)
    row = task.dataset.rows[3]
    tokens = torch.tensor([row.question + row.answer])
    logs = log_softmax(trial.net(input_ids=tokens).logits[0].float(), dim=-1)
    start = len(row.question)
    expected = -sum(
        logs[start + at - 1, token] for at, token in enumerate(row.answer)
    ) / len(row.answer)  # fmt: skip
    loss = trial.losses(task.dataset.__getitems__([3, 0]))[0]
    torch.testing.assert_close(loss, expected, rtol=0, atol=TOLERANCE)


def test_labels_are_the_tokens_of_the_answer_alone(folder):
    task = tiny_llama(folder)
    tokens, labels = task.dataset.__getitems__([0, 5])
    for row, line, given in zip((0, 5), tokens.tolist(), labels.tolist(), strict=True):
        problem = task.dataset.rows[row]
        assert problem.question[-1] == ANSWER and problem.answer[-1] == END
        assert line[: len(problem.question)] == problem.question
        assert [label for label in given if label != IGNORED] == problem.answer
        assert task.tokenizer.decode(problem.question) == PROBLEMS[row][0]


def test_a_net_that_knows_the_answers_matches_them_all(folder):
    recipe = TextRecipe(batch_size=3, rate=5e-3, weight_decay=0.0)
    task = tiny_llama(folder, recipe=recipe, width=64, train=3, test=3)
    trial = task.trial(0)
    assert trial.evaluate_last(tokens=4)["exact_match"] == 0
    for step in range(150):
        losses = trial.losses(task.dataset.__getitems__([0, 1, 2]))
        trial.step(losses.mean(), (step + 1) / 150)
    found = trial.evaluate_last()
    assert found["accuracy"] == 1 and found["exact_match"] == 1 and found["loss"] < 0.1
    assert found == {**trial.evaluate(), "exact_match": 1}
    questions = [row.question for row in task.held_out.rows]
    assert trial.answers(questions, 50) == [row.answer[:-1] for row in task.held_out.rows]


def test_the_tokenizer_gives_back_every_text_and_is_the_same_each_time():
    texts = [text for pair in PROBLEMS for text in pair]
    tokenizer = train_tokenizer(texts, 400)
    for text in [*texts, "Zoë pays $1,005.50 \n — all of it\t!"]:
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert tokenizer.to_str() == train_tokenizer(texts, 400).to_str()


def test_every_digit_is_a_token():
    tokenizer = train_tokenizer(["1234 1234 1234 1234"], 400)
    assert tokenizer.encode("1234").tokens == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("text", "number"),
    [("a\n#### 1,005", "1005"), ("#### -3 b", "-3"), ("#### 2.50", "2.50"), ("4", None)],
)
def test_the_final_answer_is_the_number_after_the_mark(text, number):
    assert gsm8k.final_answer(text) == number


def test_notes_for_the_calculator_are_left_out(folder):
    assert gsm8k.read(folder, "train")[0][1] == "She has 2+3=5 pears.\n#### 5"


def test_words_that_are_seen_once_are_unknown():
    numbers = sst2.vocabulary([["a", "b", "a"], ["c", "b"]])
    assert numbers == {"a": 2, "b": 3}


def test_sentences_are_cut_and_keep_their_labels(folder):
    task = sst2.SentenceTask(folder, backbones.SentenceNet, train=8, longest=3)
    words, lengths, labels = task.dataset.__getitems__([1, 0, 3])
    assert words.shape == (3, 3) and lengths.tolist() == [3, 1, 3]
    assert labels.tolist() == [1, 1, 0] == task.classes[[1, 0, 3]].tolist()


def test_a_silenced_logger_speaks_again():
    logger, records = logging.getLogger("seta.tests.silenced"), []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger.addHandler(handler)
    with backbones.silent(logger.name):
        logger.warning("lost")
    logger.warning("heard")
    logger.removeHandler(handler)
    assert records == ["heard"] and logger.level == logging.NOTSET


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (backbones.resnet, "cifar10-train.parquet"),
        (backbones.vit, "cifar10-train.parquet"),
        (backbones.swin, "cifar10-train.parquet"),
        (backbones.mamba, "sst2-train.tsv"),
        (instruction, "gsm8k-train.jsonl"),
    ],
)
def test_a_missing_file_is_named(make, name, tmp_path):
    for data in (None, tmp_path):
        with pytest.raises(ValueError, match=f"{name} is not there; give a folder with"):
            make(data)


def test_a_line_of_another_form_is_named(tmp_path):
    (tmp_path / "sst2-train.tsv").write_text("a film\t1\nno label\n")
    with pytest.raises(ValueError, match="sst2-train.tsv, line 2 is 'no label'; needed"):
        sst2.read(tmp_path, "train")
    (tmp_path / "gsm8k-train.jsonl").write_text('{"question": "?"}\n')
    with pytest.raises(ValueError, match="gsm8k-train.jsonl, line 1 is .*; needed: a JSON"):
        gsm8k.read(tmp_path, "train")


def test_more_samples_than_there_are_are_refused(folder):
    with pytest.raises(ValueError, match="train must lie between 1 and 24, .*; got 25"):
        backbones.mamba(folder, train=25)
    with pytest.raises(ValueError, match="train must lie between 1 and 8, .*; got 9"):
        tiny_llama(folder, train=9)
    with pytest.raises(ValueError, match="train must lie between 1 and 0, .*raise longest"):
        InstructionTask(folder, train=1, longest=5)


@pytest.mark.skipif("SETA_DATA" not in os.environ, reason="SETA_DATA names no folder of data")
def test_the_suites_own_sizes_fit_the_real_files():
    data = Path(os.environ["SETA_DATA"])
    assert len(backbones.mamba(data).dataset) == 6920
    assert len(instruction(data).dataset) == 3000
