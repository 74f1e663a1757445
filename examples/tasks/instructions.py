"""Instructions with answers that can be checked: what `instruction_tuning.py` trains on.

Each instruction is a pure function of a seed and its number. It belongs to one of thirteen families
(sums in words, reversing a word, days of the week, ...) and asks one of the family's ten thousand
questions in one of its phrasings. Families, questions and phrasings are long-tailed: the first come
very often, so that most instructions ask again, in other words, what many others ask. Most
questions are short; a few are long, and these are the hard ones. Some 0.1 ms each.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count

import draws
import numpy as np

QUESTIONS = 10_000
"""Of each family."""

TAIL = 0.85
"""How much more often common questions are asked in training; in tests all come alike."""

HELD_OUT = 8
"""One question in as many is asked in test instructions only."""

ONES = str.split(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)
TENS = str.split("- - twenty thirty forty fifty sixty seventy eighty ninety")
DAYS = str.split("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
OPPOSITES = str.split(
    "hot cold big small up down left right open shut wet dry old new fast slow hard soft "
    "light dark full empty high low near far loud quiet rich poor strong weak early late "
    "clean dirty thick thin win lose push pull give take"
)
"""By twos."""
LETTERS = ("BDFGKLMNPRSTVZ", "AEIOU")
"""Consonants and vowels, by turns in made-up words."""
OPENINGS = ("", "Please: ", "Now: ", "Be brief. ", "A question: ", "Next one. ", "Tell me. ")


@dataclass(frozen=True)
class Instruction:
    """An instruction and its answer.

    Attributes:
        text: What is asked.
        answer: The right one, unless it is made wrong on purpose.
        family: Index in `FAMILIES`; -1: none of them.
        arguments: What the family is asked about.
    """

    text: str
    answer: str
    family: int = -1
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """Instructions of one kind.

    Attributes:
        arguments: Draws what to ask about.
        answer: The right answer for such arguments.
        phrasings: How it is asked, with `{0}`, `{1}` for the arguments; the usual one first.
    """

    arguments: Callable[[np.random.Generator], tuple[str, ...]]
    answer: Callable[..., str]
    phrasings: tuple[str, ...]


def instruction(seed: int, number: int, test: bool = False) -> Instruction:
    """Returns an instruction; those with `test` ask what no other asks, in the same phrasings.

    Args:
        seed: Of all draws, >= 0.
        number: Of the instruction, >= 0.
        test: Whether it is one to measure on.
    """
    part = "test" if test else "train"
    family = int(draws.long_tailed(seed, f"{part} family", number, len(FAMILIES), tail=0.5))
    tail = 0.0 if test else TAIL
    asked = (
        question(seed, family, f"{part} question {attempt}", number, tail) for attempt in count()
    )
    arguments = next(found for found in asked if held_out(family, found) == test)
    kind = FAMILIES[family]
    variants = len(OPENINGS) * len(kind.phrasings)
    variant = int(draws.long_tailed(seed, f"{part} phrasing", number, variants))
    phrasing, opening = variant % len(kind.phrasings), variant // len(kind.phrasings)
    text = OPENINGS[opening] + kind.phrasings[phrasing].format(*arguments)
    return Instruction(text, kind.answer(*arguments), family, arguments)


def mislabelled(seed: int, number: int) -> Instruction:
    """Returns a training instruction with the answer to another question of its family."""
    found = instruction(seed, number)
    asked = (question(seed, found.family, f"wrong {attempt}", number, TAIL) for attempt in count())
    answers = (FAMILIES[found.family].answer(*arguments) for arguments in asked)
    return replace(found, answer=next(other for other in answers if other != found.answer))


def right(instruction: Instruction, answer: str) -> bool:
    """Returns whether an answer is right; where the right one has a "####", by what follows it."""
    given, wanted = (
        text.rpartition("####")[2].replace(",", "").split() for text in (answer, instruction.answer)
    )
    return given == wanted


def question(seed: int, family: int, name: str, number: int, tail: float) -> tuple[str, ...]:
    """Draws a question of a family, the common ones more often by `tail`; returns its arguments."""
    rank = int(draws.long_tailed(seed, name, number, QUESTIONS, tail))
    return FAMILIES[family].arguments(draws.generator(seed, f"family {family}", rank))


def held_out(family: int, arguments: tuple[str, ...]) -> bool:
    """Returns whether only test instructions ask this, whatever the order of the arguments."""
    return zlib.crc32(f"{family} {sorted(arguments)}".encode()) % HELD_OUT == 0


def small(rng: np.random.Generator, mean: float, most: int) -> int:
    """Returns a whole number in [0, most], mostly a small one."""
    return min(int(rng.exponential(mean)), most)


def word(rng: np.random.Generator) -> tuple[str, ...]:
    """Returns a made-up word of 3 to 8 capitals, mostly a short one."""
    drawn = rng.integers(0, (14, 5) * 4)
    length = 3 + small(rng, 1.4, 5)
    return ("".join(LETTERS[at % 2][which] for at, which in enumerate(drawn[:length])),)


def number(rng: np.random.Generator) -> tuple[str, ...]:
    """Returns a number of 2 to 7 digits, mostly a short one."""
    return (str(rng.integers(10, 10 ** (2 + small(rng, 1.4, 5)))),)


def two_numbers(rng: np.random.Generator) -> tuple[str, ...]:
    """Returns two different numbers of 1 to 5 digits, mostly of two."""
    most = 10 ** (1 + small(rng, 1.4, 4))
    first = int(rng.integers(0, most))
    return str(first), str((first + int(rng.integers(1, most))) % most)


def sum_of(rng: np.random.Generator) -> tuple[str, ...]:
    """Returns a number below 80 and another, mostly a small one, in words."""
    return spoken(int(rng.integers(0, 80))), spoken(1 + small(rng, 2, 18))


def row(rng: np.random.Generator) -> tuple[str, ...]:
    """Returns three numbers with equal steps between, mostly small ones."""
    start, step = int(rng.integers(0, 80)), 1 + small(rng, 1, 9)
    return (", ".join(str(start + step * at) for at in range(3)),)


def some_days(rng: np.random.Generator) -> tuple[str, ...]:
    """Returns one to four days of the week, and a number of days, mostly a small one."""
    days = rng.integers(0, 7, 1 + small(rng, 1.4, 3))
    return ", ".join(DAYS[at] for at in days), str(1 + small(rng, 1, 6))


def some_words(rng: np.random.Generator) -> tuple[str, ...]:
    """Returns one to four words that have opposites."""
    drawn = rng.integers(0, len(OPPOSITES), 1 + small(rng, 1.4, 3))
    return (", ".join(OPPOSITES[at] for at in drawn),)


def spoken(number: int) -> str:
    """Returns a number in [0, 99] in words."""
    tens, ones = divmod(number, 10)
    if number < 20:
        return ONES[number]
    return TENS[tens] + (f" {ONES[ones]}" if ones else "")


def heard(words: str) -> int:
    """Returns the number that `spoken` put into words."""
    return sum(
        10 * TENS.index(part) if part in TENS else ONES.index(part) for part in words.split()
    )


def opposites(words: str) -> str:
    """Returns the opposite of each word."""
    return ", ".join(OPPOSITES[OPPOSITES.index(one) ^ 1] for one in words.split(", "))


def later(days: str, by: str) -> str:
    """Returns the day of the week some days after each of those given."""
    return ", ".join(DAYS[(DAYS.index(day) + int(by)) % 7] for day in days.split(", "))


def next_in(numbers: str) -> str:
    """Returns how a row goes on."""
    *_, before, last = map(int, numbers.split(", "))
    return str(2 * last - before)


FAMILIES = (
    Family(
        word,
        lambda word: word[0],
        (
            "What is the first letter of {0}?",
            "Which letter does {0} begin with?",
            "{0}: first letter?",
            "Give me the letter that {0} starts with.",
            "Name the first letter of the word {0}.",
        ),
    ),
    Family(
        word,
        lambda word: f"{word} {word}",
        (
            "Say {0} twice.",
            "Repeat {0} two times.",
            "Write {0}, then write it again.",
            "Copy {0} twice.",
            "Give me {0} two times over.",
        ),
    ),
    Family(
        some_words,
        opposites,
        (
            "What is the opposite of {0}?",
            "Opposites, please: {0}.",
            "Say the contrary of {0}.",
            "Turn each into its opposite: {0}.",
            "What do you call the contrary of {0}?",
        ),
    ),
    Family(
        two_numbers,
        lambda first, second: str(max(int(first), int(second))),
        (
            "Which is larger, {0} or {1}?",
            "Give the larger number: {0}, {1}.",
            "One of {0} and {1} is more. Which?",
            "Of {0} and {1}, name the larger one.",
            "Ann has {0}, Bob has {1}. What is the most?",
        ),
    ),
    Family(
        word,
        lambda word: str(len(word)),
        (
            "How many letters are in {0}?",
            "Count the letters of {0}.",
            "How long is the word {0}?",
            "{0} has how many letters?",
            "Tell me the number of letters of {0}.",
        ),
    ),
    Family(
        number,
        lambda number: " ".join(ONES[int(digit)] for digit in number),
        (
            "Read out the digits of {0}.",
            "Say {0} digit by digit.",
            "Spell the number {0}.",
            "Which digits are in {0}, in words?",
            "Write {0} in words, one digit at a time.",
        ),
    ),
    Family(
        word,
        lambda word: word[::-1],
        (
            "Reverse the word {0}.",
            "Spell {0} backwards.",
            "Write {0} from back to front.",
            "What is {0} in reverse?",
            "How does {0} read from its end?",
        ),
    ),
    Family(
        some_days,
        later,
        (
            "Which days come {1} after {0}?",
            "{0}: which days are {1} later?",
            "Move on by {1}: {0}.",
            "It is {0}. What comes {1} later?",
            "Go {1} on from {0}.",
        ),
    ),
    Family(
        word,
        lambda word: word[-1],
        (
            "What is the last letter of {0}?",
            "Which letter does {0} end in?",
            "{0}: last letter?",
            "Give me the letter at the end of {0}.",
            "Name the last letter of the word {0}.",
        ),
    ),
    Family(
        sum_of,
        lambda first, second: spoken(heard(first) + heard(second)),
        (
            "What is {0} plus {1}?",
            "Add {1} to {0}.",
            "How much do {0} and {1} make?",
            "Give the sum of {0} and {1}.",
            "Here are {0} apples, there {1}. How many in all?",
        ),
    ),
    Family(
        word,
        lambda word: "".join(letter for letter in word if letter not in LETTERS[1]),
        (
            "Write {0} without its vowels.",
            "Drop the vowels of {0}.",
            "Which consonants are in {0}, in order?",
            "Leave out the vowels: {0}.",
            "What remains of {0} if its vowels go?",
        ),
    ),
    Family(
        row,
        next_in,
        (
            "What comes next: {0}?",
            "{0}: which number is next?",
            "Continue the row {0} by one number.",
            "A row begins {0}. How does it go on?",
            "Find the number that follows {0}.",
        ),
    ),
    Family(
        word,
        lambda word: "".join(sorted(word)),
        (
            "Sort the letters of {0}.",
            "Put the letters of {0} in order.",
            "Write {0} with its letters as in the alphabet.",
            "Arrange {0} by the alphabet.",
            "What is {0} with its letters sorted?",
        ),
    ),
)
"""The first are asked most often."""
