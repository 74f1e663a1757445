"""A small world of drawn scenes, and the words for them; what several programs beside this share.

A scene has one to four things on a grid of 3 by 3 places; no two have the same size, colour and
shape. All is a pure function of what is passed; what varies is drawn from a generator.

    seen = scene(seed, number)                # scene `number`; part="test": held out
    placed = place(seen, rng, clutter=2)      # where exactly; two placings are near-copies
    image = draw(placed, rng)                 # uint8 (48, 48, 3)
    masks(placed)                             # bool (things, 48, 48), what is seen of each thing
    text = describe(seen, rng)                # "there is a tiny red disc above a large blue ring"
    facts(text).right_about(seen)             # True: it names all things, and nothing wrong
    words, after = change(seen, rng)          # "make the red circle blue", and the scene after it
    encode(text, LENGTH)                      # int64 (32,): start, words, end, pads; decode: back
    refer(thing, seen, rng)                   # "the red circle": words that fit no other thing
    noun(thing, rng), relations(a, b), PLACES, RELATIONS  # to make other texts of

Some microseconds each: 25 a scene, 100 a picture with its placing, 20 a text.
"""

import itertools
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from draws import generator as generator_of
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

SIZE = 48
"""Height and width of a drawing, pixels."""

LENGTH = 32
"""Enough for the numbers of any text that is made here, start and end included."""

GRID = 3
CELL = SIZE // GRID

# Each with its other names; a text uses the first one mostly.
SIZES = {"small": ("small", "little", "tiny"), "large": ("large", "big")}
COLOURS = {
    "red": ("red", "crimson"),
    "green": ("green", "emerald"),
    "blue": ("blue", "navy"),
    "yellow": ("yellow", "golden"),
    "purple": ("purple", "violet"),
    "orange": ("orange",),
    "cyan": ("cyan", "turquoise"),
}
SHAPES = {
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle", "wedge"),
    "cross": ("cross", "plus"),
    "ring": ("ring", "hoop"),
    "star": ("star",),
}
RELATIONS = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
PLACES = {
    (0, 0): ("in the top left corner", "at the top left"),
    (0, 1): ("at the top",),
    (0, 2): ("in the top right corner", "at the top right"),
    (1, 0): ("on the left",),
    (1, 1): ("in the middle", "in the centre"),
    (1, 2): ("on the right",),
    (2, 0): ("in the bottom left corner", "at the bottom left"),
    (2, 1): ("at the bottom",),
    (2, 2): ("in the bottom right corner", "at the bottom right"),
}
OPENINGS = ("", "there is", "a picture of", "here is")
PAINT = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 70, 225),
    "yellow": (235, 220, 50),
    "purple": (150, 50, 180),
    "orange": (240, 140, 30),
    "cyan": (60, 210, 215),
}

Noun = tuple[str, str, str]
"""Size, colour and shape."""

NOUNS: tuple[Noun, ...] = tuple(itertools.product(SIZES, COLOURS, SHAPES))
ALIKE = {
    a: tuple(b for b in NOUNS if sum(x != y for x, y in zip(a, b, strict=True)) == 1) for a in NOUNS
}
"""For each noun those that differ from it in one attribute."""


@dataclass(frozen=True)
class Thing:
    """A thing of a scene.

    Attributes:
        size: Of `SIZES`.
        colour: Of `COLOURS`.
        shape: Of `SHAPES`.
        row: In 0, 1, 2, from the top.
        column: In 0, 1, 2, from the left.
    """

    size: str
    colour: str
    shape: str
    row: int
    column: int

    @property
    def noun(self) -> Noun:
        """Size, colour and shape."""
        return self.size, self.colour, self.shape


@dataclass(frozen=True)
class Scene:
    """Things, from the top left to the bottom right, so that equal scenes are equal."""

    things: tuple[Thing, ...]


@dataclass(frozen=True)
class Placed:
    """A scene as one drawing shows it.

    Attributes:
        marks: Shape, x, y and radius, pixels: of the things, then of the clutter; later ones cover
            earlier ones.
        palette: Float32 (1 + marks, 3), in [0, 255], the colours of background and marks.
        slope: Of the light, from the left to the right, a share of the brightness.
        things: How many marks are things.
    """

    marks: tuple[tuple[str, float, float, float], ...]
    palette: NDArray[np.float32]
    slope: float
    things: int


@dataclass(frozen=True)
class Facts:
    """What a text says, or what is true of a scene.

    Attributes:
        things: Sorted; what a text leaves open is "".
        relations: First thing, relation of `RELATIONS`, second thing.
        places: Thing, and its row and column.
    """

    things: tuple[Noun, ...]
    relations: frozenset[tuple[Noun, str, Noun]]
    places: frozenset[tuple[Noun, tuple[int, int]]]

    def right_about(self, scene: Scene) -> bool:
        """Returns whether all things are named, each once, and all that is said is true."""
        true = truths(scene)
        return (
            self.things == true.things
            and self.relations <= true.relations
            and self.places <= true.places
        )


def scene(
    seed: int, number: int, *, part: str = "train", things: tuple[int, int] = (1, 4)
) -> Scene:
    """Returns a scene.

    In three of ten scenes all things are like the first one, except for one attribute.

    Args:
        seed: Of the world.
        number: Of the scene, >= 0.
        part: "train" or "test": which combinations of things occur, see `part_of`.
        things: Least and most of them, in [1, 4].
    """
    rng = generator_of(seed, f"scene {part}", number)
    while True:
        count = int(rng.integers(things[0], things[1] + 1))
        if rng.random() < 0.3:
            first = NOUNS[rng.integers(len(NOUNS))]
            others = ALIKE[first]
            nouns = [first, *(others[k] for k in rng.permutation(len(others))[: count - 1])]
        else:
            nouns = [NOUNS[k] for k in rng.permutation(len(NOUNS))[:count]]
        places = np.sort(rng.permutation(GRID * GRID)[:count])
        spots = (divmod(int(place), GRID) for place in places)
        order = rng.permutation(count)
        made = Scene(tuple(Thing(*nouns[k], *spot) for k, spot in zip(order, spots, strict=True)))
        if part_of(made) == part:
            return made


def part_of(scene: Scene) -> str:
    """Returns "test" for a fixed tenth of all combinations of things, wherever they are."""
    names = ",".join(" ".join(noun) for noun in sorted(thing.noun for thing in scene.things))
    return "test" if zlib.crc32(names.encode()) % 10 == 0 else "train"


def place(scene: Scene, rng: np.random.Generator, *, clutter: int = 0) -> Placed:
    """Returns where exactly things are, and in what light.

    Args:
        scene: To draw.
        rng: For all that varies.
        clutter: Grey marks that cover a part of the picture.
    """
    things = scene.things
    shift = rng.uniform(-2, 2, (len(things), 2))
    marks = []
    for thing, (x, y), scale in zip(
        things, shift, rng.uniform(0.9, 1.05, len(things)), strict=True
    ):
        radius = scale * (7 if thing.size == "large" else 4)
        centre = (CELL * (thing.column + 0.5) + x, CELL * (thing.row + 0.5) + y)
        marks.append((thing.shape, *centre, radius))
    for x, y, radius, kind in rng.uniform((0, 0, 1, 0), (SIZE, SIZE, 3, 3), (clutter, 4)):
        marks.append((("circle", "square", "cross")[int(kind)], x, y, radius))
    paint = [PAINT[thing.colour] for thing in things]
    background, grey = rng.uniform(20, 70, 3), rng.uniform(90, 190, (clutter, 1)).repeat(3, 1)
    palette = np.vstack([background, np.reshape(paint, (-1, 3)), grey]) * rng.uniform(0.8, 1.1)
    slope = rng.uniform(-0.15, 0.15)
    return Placed(tuple(marks), palette.astype(np.float32), float(slope), len(things))


def draw(placed: Placed, rng: np.random.Generator, *, noise: float = 4.0) -> NDArray[np.uint8]:
    """Returns the picture.

    Args:
        placed: As `place` returned it.
        rng: For the noise.
        noise: Standard deviation of a pixel, of 255; uniform, as that is drawn fast.

    Returns:
        Uint8 (48, 48, 3), RGB.
    """
    light = np.linspace(1 - placed.slope, 1 + placed.slope, SIZE, dtype=np.float32)
    pixels = placed.palette[_labels(placed)]
    pixels *= light[:, None]
    grain = np.frombuffer(rng.bytes(pixels.size), np.int8).reshape(pixels.shape)
    pixels += grain * np.float32(noise * 3**0.5 / 128)
    return np.clip(pixels, 0, 255, out=pixels).astype(np.uint8)


def masks(placed: Placed) -> NDArray[np.bool_]:
    """Returns the pixels that are seen of each thing: bool (things, 48, 48)."""
    return np.asarray(_labels(placed) == np.arange(1, placed.things + 1)[:, None, None])


def _labels(placed: Placed) -> NDArray[np.uint8]:
    """Returns the mark that each pixel shows, counted from 1; 0: background. Uint8 (48, 48)."""
    image = Image.new("L", (SIZE, SIZE))
    pen = ImageDraw.Draw(image)
    for number, (shape, x, y, r) in enumerate(placed.marks, start=1):
        if shape == "circle":
            pen.ellipse((x - r, y - r, x + r, y + r), fill=number)
        elif shape == "ring":
            pen.ellipse((x - r, y - r, x + r, y + r), outline=number, width=round(0.4 * r))
        elif shape == "square":
            side = 0.85 * r
            pen.rectangle((x - side, y - side, x + side, y + side), fill=number)
        elif shape == "cross":
            thin = 0.3 * r
            pen.rectangle((x - r, y - thin, x + r, y + thin), fill=number)
            pen.rectangle((x - thin, y - r, x + thin, y + r), fill=number)
        else:
            corners = TRIANGLE if shape == "triangle" else STAR
            pen.polygon([(x + r * a, y + r * b) for a, b in corners], fill=number)
    return np.asarray(image)


TRIANGLE = ((0.0, -1.0), (0.95, 0.8), (-0.95, 0.8))
STAR = tuple(
    (long * np.sin(turn), -long * np.cos(turn))
    for turn, long in zip(np.arange(10) * np.pi / 5, (1.1, 0.45) * 5, strict=True)
)


def pick(names: Sequence[str], rng: np.random.Generator) -> str:
    """Returns one of the names: the first one with 70 %, each other one equally often."""
    if len(names) == 1 or rng.random() < 0.7:
        return names[0]
    return names[int(rng.integers(1, len(names)))]


def noun(
    thing: Thing, rng: np.random.Generator, attributes: Collection[str] = ("size", "colour")
) -> str:
    """Returns words for a thing, without an article: "small red circle", "little crimson disc".

    Args:
        thing: To name.
        rng: Chooses among the synonyms.
        attributes: What is said beside the shape, of "size" and "colour".
    """
    words = [pick(SIZES[thing.size], rng)] if "size" in attributes else []
    words += [pick(COLOURS[thing.colour], rng)] if "colour" in attributes else []
    return " ".join([*words, pick(SHAPES[thing.shape], rng)])


def relations(first: Thing, second: Thing) -> tuple[str, ...]:
    """Returns what of `RELATIONS` the first thing is to the second; one or two of them."""
    across = ("left of",) if first.column < second.column else ("right of",)
    along = ("above",) if first.row < second.row else ("below",)
    return (across if first.column != second.column else ()) + (
        along if first.row != second.row else ()
    )


def refer(thing: Thing, scene: Scene, rng: np.random.Generator) -> str:
    """Returns words that fit this thing of a scene and no other: "the red circle"."""
    enough = []
    for said in ((), ("size",), ("colour",), ("size", "colour")):
        named = [getattr(thing, name) for name in (*said, "shape")]
        same = [[getattr(other, name) for name in (*said, "shape")] for other in scene.things]
        if same.count(named) == 1:
            enough.append(said)
    return f"the {noun(thing, rng, enough[int(rng.integers(len(enough)))])}"


def describe(scene: Scene, rng: np.random.Generator) -> str:
    """Returns one of many descriptions: all things, and how they lie.

    Things come from the top left to the bottom right, in twos, as far as that goes.
    """
    said = []
    for pair in (scene.things[:2], scene.things[2:]):
        if len(pair) == 2:
            first, second = pair if rng.random() < 0.7 else pair[::-1]
            lies = relations(first, second)
            lie = pick(RELATIONS[lies[int(rng.integers(len(lies)))]], rng)
            said.append(f"a {noun(first, rng)} {lie} a {noun(second, rng)}")
        elif pair:
            where = pick(PLACES[pair[0].row, pair[0].column], rng)
            said.append(f"a {noun(pair[0], rng)} {where}")
    return f"{OPENINGS[int(rng.integers(len(OPENINGS)))]} {' and '.join(said)}".strip()


def truths(scene: Scene) -> Facts:
    """Returns all that is true of a scene."""
    pairs = itertools.permutations(scene.things, 2)
    return Facts(
        tuple(sorted(thing.noun for thing in scene.things)),
        frozenset((a.noun, name, b.noun) for a, b in pairs for name in relations(a, b)),
        frozenset((thing.noun, (thing.row, thing.column)) for thing in scene.things),
    )


def facts(text: str) -> Facts:
    """Returns what a description says, in words of its own or of a net.

    What makes no sense becomes a fact that is true of no scene: a thing without a shape, or a
    relation to nothing.
    """
    things, gaps = _things(text)
    related, places = set(), set()
    pairs = itertools.pairwise([*things, ("", "", "")])
    for (thing, after), gap in zip(pairs, gaps, strict=True):
        for phrase, meant in _PHRASES:
            if f" {phrase} " in f" {gap} ":
                if isinstance(meant, str):
                    related.add((thing, meant, after))
                else:
                    places.add((thing, meant))
                break
    return Facts(tuple(sorted(things)), frozenset(related), frozenset(places))


def _things(text: str) -> tuple[list[Noun], list[str]]:
    """Returns the things that a text names, and the words between each one and the next."""
    things: list[Noun] = []
    gaps: list[str] = []
    now = {"size": "", "colour": ""}
    for word in text.split():
        kind, meant = _MEANINGS.get(word, ("", ""))
        if kind == "shape":
            things.append((now["size"], now["colour"], meant))
            gaps.append("")
            now = {"size": "", "colour": ""}
        elif kind:
            now[kind] = meant
        elif gaps:
            gaps[-1] += f" {word}"
    if any(now.values()):
        things.append((now["size"], now["colour"], ""))
        gaps.append("")
    return things, gaps


_MEANINGS = {
    word: (kind, meant)
    for kind, table in (("size", SIZES), ("colour", COLOURS), ("shape", SHAPES))
    for meant, names in table.items()
    for word in names
}
# The longest first: "at the top left" says more than "at the top".
_PHRASES = sorted(
    ((name, meant) for names in (RELATIONS, PLACES) for meant in names for name in names[meant]),
    key=lambda pair: -len(pair[0]),
)


def change(scene: Scene, rng: np.random.Generator) -> tuple[str, Scene]:
    """Returns one change in words, and the scene after it.

    The scene after it may belong to the other part; see `part_of`.
    """
    kinds = ["colour", "colour", "shape", "shape", "size"]
    kinds += ["remove"] if len(scene.things) > 1 else []
    kinds += ["add"] if len(scene.things) < 4 else []
    while True:
        kind = kinds[int(rng.integers(len(kinds)))]
        thing = scene.things[int(rng.integers(len(scene.things)))]
        others = tuple(other for other in scene.things if other is not thing)
        named = refer(thing, scene, rng)
        if kind == "remove":
            return f"{pick(('remove', 'take away'), rng)} {named}", Scene(others)
        if kind == "add":
            others, after = scene.things, _new(scene, rng)
            where = pick(PLACES[after.row, after.column], rng)
            text = f"{pick(('add', 'put'), rng)} a {noun(after, rng)} {where}"
        else:
            text, after = _altered(thing, kind, named, rng)
        if after.noun not in {other.noun for other in others}:
            things = sorted((*others, after), key=lambda thing: (thing.row, thing.column))
            return text, Scene(tuple(things))


def _new(scene: Scene, rng: np.random.Generator) -> Thing:
    """Returns a thing at a place where there is none."""
    taken = {(thing.row, thing.column) for thing in scene.things}
    free = [spot for spot in PLACES if spot not in taken]
    return Thing(*NOUNS[int(rng.integers(len(NOUNS)))], *free[int(rng.integers(len(free)))])


def _altered(thing: Thing, kind: str, named: str, rng: np.random.Generator) -> tuple[str, Thing]:
    """Returns a change of one attribute in words, and the thing after it."""
    table = {"size": SIZES, "colour": COLOURS, "shape": SHAPES}[kind]
    values = [value for value in table if value != getattr(thing, kind)]
    value = values[int(rng.integers(len(values)))]
    after = replace(thing, **{kind: value})
    if kind == "shape":
        return f"{pick(('turn', 'change'), rng)} {named} into a {pick(SHAPES[value], rng)}", after
    if kind == "colour":
        return f"{pick(('make', 'paint'), rng)} {named} {pick(COLOURS[value], rng)}", after
    grown = pick({"small": ("smaller",), "large": ("larger", "bigger")}[value], rng)
    return f"make {named} {grown}", after


def number(texts: Iterable[str]) -> dict[str, int]:
    """Returns a number for each word of texts, after 0 pad, 1 start, 2 end, 3 unknown."""
    words = sorted({word for text in texts for word in text.split()})
    return {word: k for k, word in enumerate(("<pad>", "<start>", "<end>", "<unknown>", *words))}


_CHANGES = "remove take away add put turn change into make paint smaller larger bigger a the and"
_TABLES: tuple[Mapping[object, tuple[str, ...]], ...]
_TABLES = (SIZES, COLOURS, SHAPES, RELATIONS, PLACES)
NUMBERS = number(
    [
        *(name for table in _TABLES for names in table.values() for name in names),
        *OPENINGS,
        _CHANGES,
    ]
)
"""The number of each word that occurs in the texts of this world."""

WORDS = tuple(NUMBERS)


def encode(
    text: str, length: int = LENGTH, numbers: Mapping[str, int] = NUMBERS
) -> NDArray[np.int64]:
    """Returns the numbers of a text's words.

    Args:
        text: Words with spaces between them.
        length: Of what is returned, at least the words and 2.
        numbers: As `number` makes them; those of this world if left out.

    Returns:
        Int64 (length,): 1, the words (3 for unknown ones), 2, then 0.

    Raises:
        ValueError: The text is too long.
    """
    words = text.split()
    if len(words) + 2 > length:
        raise ValueError(
            f"text {text!r} has {len(words)} words; with start and end at most length={length} "
            "fit: shorten it, or pass a larger length"
        )
    encoded = np.zeros(length, np.int64)
    encoded[: len(words) + 2] = [1, *(numbers.get(word, 3) for word in words), 2]
    return encoded


def decode(encoded: ArrayLike, words: Sequence[str] = WORDS) -> str:
    """Returns the text of numbers, up to the first end; pads and starts are left out.

    Args:
        encoded: Integers (length,).
        words: By number; those of this world if left out.
    """
    found = []
    for value in np.asarray(encoded).tolist():
        if value == 2:
            break
        if value > 2:
            found.append(words[value])
    return " ".join(found)
