"""What a demo runs: the choices of the command line, checked.

The first step of `seta demo`: what can be refused is refused here, before a file is read or a net
is made. Costs nothing, and needs no torch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from seta import policies

__all__ = ["CASES", "DURATION", "METHODS", "Case", "DemoError", "DemoSettings", "named"]

METHODS = tuple(policies.REGISTRY)
DURATION = "about two minutes on two cores"
"""Of the demo without options."""


@dataclass(frozen=True)
class Case:
    """What is made of the images, and which methods are compared on it.

    Attributes:
        about: What it is, for the help.
        methods: Those that are compared if the user asks for none, the one to look at first.
        epochs: Of full training; None: as many as the data asks for.
    """

    about: str
    methods: tuple[str, ...]
    epochs: int | None = None


CASES = {
    "plain": Case("the images as they are", ("SeTa", "Learnable", "InfoBatch", "Random", "RS2")),
    # Long enough for the net to learn wrong labels by heart.
    "wrong": Case("30 % of the labels wrong", ("Learnable", "SeTa"), epochs=60),
    "unequal": Case("classes of unequal size", ("RCAP", "Learnable", "SeTa"), epochs=40),
}
DEFAULT_CASES = ("plain", "wrong")

_MOST_EPOCHS = 10_000
_MOST_SEEDS = 1_000


class DemoError(Exception):
    """The demo cannot run as asked; the message says why and what to do."""


@dataclass(frozen=True)
class DemoSettings:
    """The choices of one demo.

    Attributes:
        out: Folder of the results; made if need be.
        data: File of labelled images; None: scikit-learn's digits.
        test: File of labelled images to measure on; None: a part of `data` is held out.
        cases: Names of `CASES`; empty: those that show the difference, or "plain" for a file.
        methods: Names of `METHODS`; Full, and Full at equal cost, are always there. Empty: those of
            the case.
        budgets: Shares of full training's sample visits, in (0, 1).
        epochs: Epochs of full training; None: those of the case or of the data.
        seeds: Runs per method and budget; None: the data's default.
        limit: Images to train on at most; None: chosen by their size; 0: all.
        device: A torch device ("cpu", "cuda"); None: a GPU if there is one.

    Raises:
        DemoError: A choice is outside its range.
    """

    out: Path
    data: Path | None = None
    test: Path | None = None
    cases: Sequence[str] = ()
    methods: Sequence[str] = ()
    budgets: Sequence[float] = (0.5,)
    epochs: int | None = None
    seeds: int | None = None
    limit: int | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        for name, value, most in (
            ("epochs", self.epochs, _MOST_EPOCHS),
            ("seeds", self.seeds, _MOST_SEEDS),
        ):
            if value is not None and not 1 <= value <= most:
                raise DemoError(
                    f"--{name} must lie between 1 and {most:,}, got {value}; give --{name} 3 to "
                    "begin with"
                )
        for budget in self.budgets:
            if not 0 < budget < 1:
                raise DemoError(
                    f"--budget must lie in (0, 1), got {budget:g}: the share of full training's "
                    "sample visits, 0.7 to save 30 %"
                )
        if self.limit is not None and self.limit < 0:
            raise DemoError(f"--limit must be at least 1, or 0 for all images, got {self.limit}")
        if self.data is None and (self.test is not None or self.limit is not None):
            raise DemoError("--test and --limit go with --data FILE: the digits are always whole")

    @property
    def shown(self) -> tuple[str, ...]:
        """The cases that are run."""
        return tuple(self.cases) or (DEFAULT_CASES if self.data is None else ("plain",))


def named(texts: Iterable[str], option: str, known: Iterable[str]) -> tuple[str, ...]:
    """Returns names as they are known, each once.

    Args:
        texts: As they are typed, in any case of letters.
        option: That they were given to, for the message.
        known: All names.

    Raises:
        DemoError: A name is not known.
    """
    names = {name.lower(): name for name in known}
    for text in texts:
        if text.lower() not in names:
            raise DemoError(f"--{option} {text}: is none of {', '.join(names.values())}")
    return tuple(dict.fromkeys(names[text.lower()] for text in texts))
