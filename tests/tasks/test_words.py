"""Drawn words: functions of their arguments, whole, and none that is tested is trained on."""

import json
import multiprocessing

import draws
import numpy as np
import pytest
import scene_text
import torch
import words
from hypothesis import given
from hypothesis import strategies as st

from tests.examples import examples

FONTS = st.sampled_from(words.FONTS + words.TEST_FONTS)
WORDS = st.text(words.LETTERS, min_size=words.SHORTEST, max_size=words.LONGEST)
SEEDS = st.integers(0, 2**32)


def drawn(index):
    image, letters = scene_text.DrawnWords(3, 15_000_000)[index]
    return image.numpy(), letters.numpy()


def same(first, second):
    return all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


def test_samples_depend_on_their_index_alone():
    indices = [14_999_999, 0, 7, 7_654_321]
    forth = {index: drawn(index) for index in indices}
    back = {index: drawn(index) for index in reversed(indices)}
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        elsewhere = dict(zip(indices, pool.map(drawn, indices), strict=True))
    for index in indices:
        assert same(forth[index], back[index])
        assert same(forth[index], elsewhere[index])


def test_words_and_fonts_for_testing_are_never_trained_on():
    assert not set(words.FONTS) & set(words.TEST_FONTS)
    for seed in range(3):
        trained = words.lexicon(seed, 3000, testing=False)
        tested = words.lexicon(seed + 1, 3000, testing=True)
        assert len(set(trained)) == len(set(tested)) == 3000
        assert not set(trained) & set(tested)
    train, test = scene_text.DrawnWords(0, 100), scene_text.DrawnWords(0, 100, testing=True)
    assert not {spelled(train[i][1]) for i in range(100)} & set(test.lexicon)
    assert {spelled(test[i][1]) for i in range(100)} <= set(test.lexicon)


def spelled(numbers):
    return "".join(words.LETTERS[k - 1] for k in numbers.tolist() if k)


@pytest.mark.parametrize("testing", [False, True])
def test_a_longer_lexicon_begins_with_the_shorter_one(testing):
    short, long = (words.lexicon(5, count, testing=testing) for count in (50, 90))
    assert long[:50] == short
    assert all(words.SHORTEST <= len(word) <= words.LONGEST for word in long)
    assert set("".join(long)) <= set(words.LETTERS)


def test_a_tenth_of_the_words_is_for_testing():
    every = [one + two + three for one in words.LETTERS for two in "aeiou" for three in "bdgkmn"]
    assert 0.06 < np.mean([words.for_testing(word) for word in every]) < 0.14


@given(WORDS, FONTS, SEEDS)
@examples(200)
def test_the_whole_word_is_within_the_image(text, font, seed):
    ink = np.asarray(words.cover(text, font, np.random.default_rng(seed)))
    assert ink.shape == (words.HEIGHT, words.WIDTH)
    assert not ink[[0, -1]].any()
    assert not ink[:, [0, -1]].any()
    columns = np.flatnonzero(ink.max(axis=0) > 40)
    assert columns[-1] - columns[0] >= 2 * len(text), "letters are missing or on one another"
    assert ink.max() > 100


@given(WORDS, FONTS, SEEDS)
@examples(50)
def test_no_image_hides_its_word_when_it_is_easy(text, font, seed):
    ink = np.asarray(words.cover(text, font, np.random.default_rng(seed)), np.float64)
    image = words.draw(text, font, 0.0, np.random.default_rng(seed))
    assert image.dtype == np.uint8
    assert abs(np.corrcoef(ink.ravel(), image.ravel())[0, 1]) > 0.4


@given(WORDS, FONTS, SEEDS)
@examples(50)
def test_harder_is_noisier_and_fainter(text, font, seed):
    ink = np.asarray(words.cover(text, font, np.random.default_rng(seed)), np.float64)
    clear, hard, hardest = (
        words.draw(text, font, hardness, np.random.default_rng(seed)).astype(np.float64)
        for hardness in (0.0, 0.3, 1.0)
    )
    assert roughness(clear) < roughness(hard) < roughness(hardest)
    seen = [abs(np.corrcoef(ink.ravel(), image.ravel())[0, 1]) for image in (clear, hardest)]
    assert seen[1] < seen[0]


def roughness(image):
    """How much the least bit of an image varies from its neighbour, away from edges of letters."""
    return float(np.median(np.abs(np.diff(image, axis=1))))


def test_glyphs_do_not_depend_on_what_was_drawn_before():
    first = words.draw("nagel", words.FONTS[0], 0.2, draws.generator(0, "a", 1))
    for font in words.FONTS:
        words.draw("ooo", font, 0.9, draws.generator(0, "a", 2))
    words._font.cache_clear()
    assert np.array_equal(
        first, words.draw("nagel", words.FONTS[0], 0.2, draws.generator(0, "a", 1))
    )


@pytest.mark.parametrize("text", ["", "x", "b" * 25, "bo" * 25])
def test_words_that_cannot_be_learned_are_refused(text):
    with pytest.raises(ValueError, match="a word needs 1 to 48 letters.*leave it out"):
        scene_text.spelled(text, "bo")


def test_a_folder_with_a_word_that_cannot_be_learned_is_refused_at_once(tmp_path):
    for part, text in (("train", "bold"), ("test", "bolt")):
        row = json.dumps({"image": "a.png", "text": text})
        (tmp_path / f"{part}.jsonl").write_text(row + "\n", encoding="utf-8")
    assert len(scene_text.FolderWords(tmp_path, "train")) == 1
    with pytest.raises(ValueError, match="'bolt' cannot be learned"):
        scene_text.FolderWords(tmp_path, "test")


def test_columns_become_a_word_as_ctc_means_them():
    said = torch.nn.functional.one_hot(torch.tensor([[1, 1, 0, 1, 2, 2, 0], [0] * 7]))
    net = torch.nn.Identity()
    assert scene_text.read(net, said, "ob") == ["oob", ""]


@pytest.mark.parametrize(
    ("one", "other", "count"),
    [
        ("banana", "bandana", 1),
        ("bold", "cold", 1),
        ("", "ink", 3),
        ("ink", "", 3),
        ("ab", "ba", 2),
    ],
)
def test_faults_are_counted_by_letters(one, other, count):
    assert scene_text.edits(one, other) == scene_text.edits(other, one) == count
