"""The world of drawn scenes: its scenes, pictures and texts agree, and are the same everywhere."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import world
from hypothesis import given
from hypothesis import strategies as st

seeds = st.integers(0, 2**32 - 1)
MEANINGS = {
    name: meant
    for table in (world.SIZES, world.COLOURS, world.SHAPES)
    for meant, names in table.items()
    for name in names
}


def some(seed, number=0, **options):
    return world.scene(seed, number, **options), np.random.default_rng(seed)


def all_of(number):
    """Returns all that is made of one scene, as text."""
    scene = world.scene(7, number)
    rng = np.random.default_rng(number)
    placed = world.place(scene, rng, clutter=3)
    image = hashlib.sha256(world.draw(placed, rng).tobytes()).hexdigest()
    return f"{scene} {image} {world.describe(scene, rng)} {world.change(scene, rng)}"


def test_scenes_are_the_same_in_any_order_and_process():
    here = [all_of(number) for number in range(20)]
    assert here[::-1] == [all_of(number) for number in reversed(range(20))]
    folders = [str(Path(file).parent) for file in (world.__file__, __file__)]
    code = (
        f"import sys; sys.path[:0] = {folders}; import test_world\n"
        "print(*(test_world.all_of(number) for number in range(20)), sep='\\n')"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.splitlines() == here


def test_scenes_of_training_and_test_have_no_combination_in_common():
    def combinations(part):
        scenes = (world.scene(0, number, part=part) for number in range(2000))
        return {frozenset(thing.noun for thing in scene.things) for scene in scenes}

    train, test = combinations("train"), combinations("test")
    assert not train & test
    assert len(train) > 1000 and len(test) > 500
    everything = [world.Scene((world.Thing(*noun, 0, 0),)) for noun in world.NOUNS]
    assert 0 < sum(world.part_of(scene) == "test" for scene in everything) < len(everything) / 4


def test_a_combination_is_of_one_part_wherever_its_things_are():
    a, b = world.Thing("small", "red", "star", 0, 0), world.Thing("large", "blue", "ring", 1, 2)
    moved = world.Scene(
        (
            world.Thing("large", "blue", "ring", 0, 1),
            world.Thing("small", "red", "star", 2, 2),
        )
    )
    assert world.part_of(world.Scene((a, b))) == world.part_of(moved)


@given(seeds, st.integers(1, 4), st.integers(1, 4))
def test_things_of_a_scene_differ_and_have_places_of_their_own(seed, a, b):
    least, most = sorted((a, b))
    things = world.scene(seed, 0, things=(least, most)).things
    assert least <= len(things) <= most
    assert len({thing.noun for thing in things}) == len(things)
    places = [(thing.row, thing.column) for thing in things]
    assert sorted(set(places)) == places


@given(seeds, st.integers(0, 6))
def test_pixels_of_a_mask_have_the_colour_of_the_thing(seed, clutter):
    scene, rng = some(seed)
    placed = world.place(scene, rng, clutter=clutter)
    image = world.draw(placed, rng, noise=0.0).astype(float)
    masks = world.masks(placed)
    assert masks.shape == (len(scene.things), 48, 48) and masks.sum(0).max() <= 1
    names = list(world.PAINT)
    paint = np.array([world.PAINT[name] for name in names], float)
    paint /= np.linalg.norm(paint, axis=1, keepdims=True)
    for thing, mask in zip(scene.things, masks, strict=True):
        nearest = (image[mask] @ paint.T).argmax(1)
        assert (nearest == names.index(thing.colour)).all()


@given(seeds)
def test_things_lie_in_their_places_and_large_ones_are_larger(seed):
    scene, rng = some(seed)
    for thing, mask in zip(scene.things, world.masks(world.place(scene, rng)), strict=True):
        y, x = (values.mean() for values in np.nonzero(mask))
        assert (int(y // 16), int(x // 16)) == (thing.row, thing.column)
        height = np.nonzero(mask)[0].max() - np.nonzero(mask)[0].min() + 1
        assert height <= 10 if thing.size == "small" else height >= 9


@given(seeds)
def test_two_drawings_of_a_scene_are_close_and_not_equal(seed):
    scene, rng = some(seed)
    one, other = (world.masks(world.place(scene, rng)).any(0) for _ in range(2))
    placed = world.place(scene, rng)
    assert (world.draw(placed, rng) != world.draw(placed, rng)).any()
    assert (one & other).any() and (one ^ other).mean() < 0.2


def test_noise_has_the_deviation_that_is_asked_for():
    rng = np.random.default_rng(0)
    placed = world.place(world.scene(0, 0), rng)
    plain, noisy = (world.draw(placed, rng, noise=noise).astype(float) for noise in (0.0, 8.0))
    inside = (plain > 30) & (plain < 225)
    assert (noisy - plain)[inside].std() == pytest.approx(8, rel=0.05)


@given(seeds)
def test_a_description_says_what_is_true_and_names_all_things(seed):
    scene, rng = some(seed)
    text = world.describe(scene, rng)
    said = world.facts(text)
    assert said.right_about(scene), text
    assert len(said.relations) == len(scene.things) // 2
    assert len(said.places) == len(scene.things) % 2


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("a tiny red disc to the left of a big navy hoop", True),
        ("a large blue ring right of a small red circle", True),
        ("a large blue ring and a small red circle", True),
        ("a small red circle in the top left corner and a large blue ring", True),
        ("a small red circle at the top and a large blue ring", False),
        ("a small red circle right of a large blue ring", False),
        ("a small red circle above a large blue ring", False),
        ("a small red circle left of a small blue ring", False),
        ("a small red circle", False),
        ("a red circle left of a large blue ring", False),
        ("a small red circle and a small red circle and a large blue ring", False),
        ("a small red circle and a large blue ring above", False),
        ("a small red circle and a large blue ring and a small", False),
        ("", False),
    ],
)
def test_a_description_is_right_if_all_it_says_is(text, right):
    scene = world.Scene(
        (
            world.Thing("small", "red", "circle", 0, 0),
            world.Thing("large", "blue", "ring", 0, 2),
        )
    )
    assert world.facts(text).right_about(scene) is right


@given(seeds)
def test_a_reference_fits_one_thing(seed):
    scene, rng = some(seed)
    for thing in scene.things:
        assert matching(world.refer(thing, scene, rng).split()[1:], scene) == [thing]


@given(seeds)
def test_a_change_does_what_it_says(seed):
    scene, rng = some(seed)
    text, after = world.change(scene, rng)
    gone = [thing for thing in scene.things if thing not in after.things]
    come = [thing for thing in after.things if thing not in scene.things]
    assert 1 <= len(after.things) <= 4
    assert len({thing.noun for thing in after.things}) == len(after.things)
    if found := re.fullmatch(r"(?:add|put) a (.*?) ((?:in|at|on) .*)", text):
        (thing,) = come
        assert not gone and [MEANINGS[word] for word in found[1].split()] == [*thing.noun]
        assert found[2] in world.PLACES[thing.row, thing.column]
    elif found := re.fullmatch(r"(?:remove|take away) the (.*)", text):
        assert not come and gone == matching(found[1].split(), scene)
    else:
        found = re.fullmatch(r"(?:make|paint|turn|change) the (.*?)(?: into a)? (\w+)", text)
        (old,), (new,) = gone, come
        assert matching(found[1].split(), scene) == [old]
        wanted = {"smaller": "small", "larger": "large", "bigger": "large"}
        value = wanted.get(found[2]) or MEANINGS[found[2]]
        kinds = {**dict.fromkeys(world.SIZES, "size"), **dict.fromkeys(world.COLOURS, "colour")}
        kind = kinds.get(value, "shape")
        assert new == world.replace(old, **{kind: value}) and new != old


def matching(words, scene):
    """Returns the things that words fit."""
    said = {MEANINGS[word] for word in words}
    return [thing for thing in scene.things if said <= set(thing.noun)]


@given(seeds)
def test_relations_are_opposite_from_the_other_side(seed):
    scene, _ = some(seed, things=(2, 4))
    first, second = scene.things[:2]
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    there = world.relations(first, second)
    assert there and [opposite[name] for name in there] == [*world.relations(second, first)]


@given(seeds)
def test_texts_have_words_of_the_vocabulary_and_come_back_from_numbers(seed):
    scene, rng = some(seed)
    texts = (world.describe(scene, rng), world.change(scene, rng)[0])
    for text in (*texts, world.refer(scene.things[0], scene, rng)):
        assert set(text.split()) <= set(world.WORDS[4:])
        encoded = world.encode(text)
        assert encoded.dtype == np.int64 and encoded.shape == (world.LENGTH,)
        assert encoded[0] == 1 and 3 not in encoded
        assert world.decode(encoded) == text


def test_texts_of_other_words_get_numbers_of_their_own():
    numbers = world.number(["a dog", "a cat"])
    assert numbers == {
        "<pad>": 0,
        "<start>": 1,
        "<end>": 2,
        "<unknown>": 3,
        "a": 4,
        "cat": 5,
        "dog": 6,
    }
    encoded = world.encode("a cow", 6, numbers)
    assert encoded.tolist() == [1, 4, 3, 2, 0, 0]
    assert world.decode(encoded, list(numbers)) == "a <unknown>"


def test_a_text_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="has 3 words; with start and end at most length=4 fit"):
        world.encode("a red star", 4)
