"""Images of words, drawn as MJSynth (Jaderberg et al. 2014) draws them, and a lexicon of words.

A word is set in one of the fonts that come with matplotlib, bent along an arc, sheared and put into
perspective, drawn on a background with a gradient, now and then with a shadow or a border, then
blurred and made noisy. All are pure functions of their arguments and of a generator; an image takes
a third of a millisecond.

Vowels and consonants of a word take turns, so that it can be pronounced. A fixed tenth of all words
that there can be, and some of the fonts, are kept for testing.
"""

import zlib
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
from draws import generator
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

HEIGHT, WIDTH = 24, 96
"""Of an image, pixels."""

CONSONANTS, VOWELS = "bdgklmnrst", "aeio"
LETTERS = "".join(sorted(CONSONANTS + VOWELS))
SHORTEST, LONGEST = 3, 7
"""Letters of a word."""

FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-BoldOblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-BoldItalic",
    "STIXGeneral",
    "STIXGeneralBolIta",
    "STIXGeneralItalic",
    "cmb10",
    "cmmi10",
    "cmr10",
    "cmti10",
    "cmtt10",
)
TEST_FONTS = (
    "DejaVuSans-BoldOblique",
    "DejaVuSansMono-Oblique",
    "DejaVuSerif-Italic",
    "STIXGeneralBol",
    "cmss10",
)

_SIZE = 22
"""At which glyphs are set, pixels per em; the image shows them somewhat smaller."""

_MARGIN = 2
"""Pixels between a word and the edge of the image: room for a shadow or a border."""

_STRIP = 12
"""Width of the upright strips in which a word is bent, pixels."""

_ACROSS = np.linspace(-1, 1, WIDTH, dtype=np.float32)
_DOWN = np.linspace(-1, 1, HEIGHT, dtype=np.float32)[:, None]
_SMOOTH = Image.Resampling.BILINEAR
_Floats = NDArray[np.float64]
_Box = tuple[int, int, int, int]


def for_testing(word: str) -> bool:
    """Says whether a word is of the tenth that is kept for testing: by its letters alone."""
    return zlib.crc32(word.encode()) % 10 == 0


@lru_cache(maxsize=8)
def lexicon(seed: int, count: int, *, testing: bool) -> tuple[str, ...]:
    """Returns `count` different words, all for testing or all for training.

    Args:
        seed: Of the words.
        count: How many; there are a hundred thousand for testing, and more for training.
        testing: Which.
    """
    rng = generator(seed, "lexicon", int(testing))
    words: dict[str, None] = {}
    while len(words) < count:
        word = _pronounceable(rng)
        if for_testing(word) == testing:
            words[word] = None
    return tuple(words)


def _pronounceable(rng: np.random.Generator) -> str:
    """Returns a word in which vowels and consonants take turns, but for one in seven."""
    kind, word = int(rng.integers(2)), ""
    for draw, turn in rng.random((int(rng.integers(SHORTEST, LONGEST + 1)), 2)):
        letters = (CONSONANTS, VOWELS)[kind]
        word += letters[int(draw * len(letters))]
        kind = 1 - kind if turn < 6 / 7 else kind
    return word


def draw(text: str, font: str, hardness: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Returns the image of a word.

    Args:
        text: The word.
        font: One of `FONTS` or `TEST_FONTS`.
        hardness: How faint, blurred and noisy, in [0, 1]: 0 is clear, 1 can hardly be read.
        rng: Where all else is drawn from.

    Returns:
        Uint8 (HEIGHT, WIDTH), grey.
    """
    ink = cover(text, font, rng)
    contrast = (1 - 0.7 * hardness) * rng.uniform(60, 130)
    clear = Image.fromarray(_printed(ink, np.copysign(contrast, rng.uniform(-1, 1)), rng))
    blurred = np.asarray(clear.filter(ImageFilter.BoxBlur(0.2 + 1.3 * hardness)))
    noise = rng.standard_normal(blurred.shape, np.float32) * np.float32(3 + 32 * hardness)
    return np.clip(blurred + noise, 0, 255).astype(np.uint8)


def _printed(ink: Image.Image, step: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Returns ink on paper with a gradient; below the ink now and then its shadow, or a border.

    Args:
        ink: Of mode "L".
        step: From paper to ink, grey levels.
        rng: Where all else is drawn from.
    """
    paper = rng.uniform(25 + max(0, -step), 230 - max(0, step))
    tilt, below = rng.uniform((-1, 0), (1, 1)).astype(np.float32)
    image = paper + 12 * (tilt * _ACROSS + (1 - abs(tilt)) * _DOWN)
    if below < 0.2:
        image -= step / 3 * _share(ImageChops.offset(ink, 1, 1))
    elif below < 0.3:
        image -= step / 3 * _share(ink.filter(ImageFilter.MaxFilter(3)))
    image += (paper + step - image) * _share(ink)
    return np.clip(image, 0, 255).astype(np.uint8)


def cover(text: str, font: str, rng: np.random.Generator) -> Image.Image:
    """Returns how much of each pixel is ink: the word is set, bent, and put where it has room.

    Args:
        text: The word.
        font: One of `FONTS` or `TEST_FONTS`.
        rng: Where size, place and bend are drawn from.

    Returns:
        Of mode "L", HEIGHT by WIDTH; 0 along the edges.
    """
    type_ = _font(font)
    left, top, right, bottom = type_.getbbox(text, anchor="ls")
    flat = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4))
    ImageDraw.Draw(flat).text((2 - left, 2 - top), text, fill=255, font=type_, anchor="ls")
    half = (right - left) / 2 + 1
    bend = _Bend(half, *rng.uniform((-0.08, -0.12, -0.15, -0.2), (0.08, 0.12, 0.15, 0.2)).tolist())
    x, y = bend.bent(np.linspace(-half, half, 9), np.array([[top - 1.0], [bottom + 1.0]]))
    em, stretch, *place = rng.uniform((15, 0.9, 0, 0), (21, 1.2, 1, 1)).tolist()
    x_scale, x_shift = _fitted(x, em * stretch / _SIZE, WIDTH, place[0])
    y_scale, y_shift = _fitted(y, em / _SIZE, HEIGHT, place[1])
    edges, ends = np.arange(0, WIDTH + 1, _STRIP), np.array([[0], [HEIGHT]])
    u, v = bend.flat((edges - x_shift) / x_scale, (ends - y_shift) / y_scale)
    corners = np.stack([u + half + 1, v + 2 - top], axis=-1)  # (2, strips + 1, 2)
    return flat.transform((WIDTH, HEIGHT), Image.Transform.MESH, _strips(edges, corners), _SMOOTH)


@dataclass(frozen=True)
class _Bend:
    """How a flat word is bent; u and x point right from its middle, v and y down from its baseline.

    Attributes:
        half: Half of the word's width.
        slope: Of the baseline.
        arc: How far the word's ends are below its middle, as a share of `half`.
        lean: How much taller the word is at its right end, as a share.
        shear: How far a point goes right per step down.
    """

    half: float
    slope: float
    arc: float
    lean: float
    shear: float

    def bent(self, u: _Floats, v: _Floats) -> tuple[_Floats, _Floats]:
        """Returns x and y of flat points."""
        y = v * (1 + self.lean * u / self.half) + self.slope * u + self.arc * u**2 / self.half
        return u + self.shear * y, y

    def flat(self, x: _Floats, y: _Floats) -> tuple[_Floats, _Floats]:
        """Returns u and v of bent points, the inverse of `bent`."""
        u = x - self.shear * y
        height = np.maximum(1 + self.lean * u / self.half, 0.2)  # far beside the word it would be 0
        return u, (y - self.slope * u - self.arc * u**2 / self.half) / height


def _fitted(points: _Floats, scale: float, room: int, place: float) -> tuple[float, float]:
    """Returns a scale, the given one or less, and a shift that bring points within the image.

    Args:
        points: Along one axis.
        scale: Wanted.
        room: Size of the image along this axis, pixels.
        place: In [0, 1], from one end of the room to the other.
    """
    first, last = float(points.min()), float(points.max())
    room -= 2 * _MARGIN
    scale = min(scale, room / (last - first))
    return scale, _MARGIN - first * scale + place * (room - (last - first) * scale)


def _strips(edges: NDArray[np.int64], corners: _Floats) -> list[tuple[_Box, list[float]]]:
    """Returns upright strips, and for each where its corners are in the flat word, as Pillow asks.

    Args:
        edges: Int64 (n + 1,), where the strips begin and end.
        corners: Float64 (2, n + 1, 2), the points of the flat word at the edges' upper, lower ends.
    """
    (upper, lower), n = corners, len(edges) - 1
    around = np.stack([upper[:n], lower[:n], lower[1:], upper[1:]], axis=1).reshape(n, 8)
    boxes = [(begin, 0, end, HEIGHT) for begin, end in pairwise(edges.tolist())]
    return list(zip(boxes, around.tolist(), strict=True))


def _share(ink: Image.Image) -> NDArray[np.float32]:
    return np.asarray(ink, np.float32) / np.float32(255)


@cache
def _font(name: str) -> ImageFont.FreeTypeFont:
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf")
    if not path.exists():
        raise FileNotFoundError(
            f"matplotlib {matplotlib.__version__} has no font {name}: the words are set in fonts "
            "of matplotlib 3.11 and newer, which needs Python 3.11: pip install 'matplotlib>=3.11'"
        )
    return ImageFont.truetype(path, _SIZE, layout_engine=ImageFont.Layout.BASIC)
