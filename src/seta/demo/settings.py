"""What a demo runs: the methods that it knows, and the choices of the command line, checked.

The first step of `seta demo`: everything that can be refused is refused here, before a file is
read or a net is made. Costs nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seta import policies
from seta.engine import Policy
from seta.engine.curves.policy import FitsBudget

__all__ = [
    "EQUAL_COST",
    "METHODS",
    "DemoError",
    "DemoSettings",
    "make_policy",
    "parse_methods",
    "takes_cost",
    "typed_methods",
]

EQUAL_COST = "Full at equal cost"
DEFAULT_METHODS = ("Full", EQUAL_COST, "Random", "InfoBatch", "SeTa")
METHODS = (*DEFAULT_METHODS, *(name for name in policies.REGISTRY if name not in DEFAULT_METHODS))
_ALIASES = {"equalcost": EQUAL_COST, **{"".join(name.lower().split()): name for name in METHODS}}

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
        methods: Names of `METHODS`, in the order of the table.
        epochs: Epochs of full training; None: the data's default.
        seeds: Runs per method.
        prune_ratio: SeTa's prune ratio.
        limit: Images to train on at most; None: chosen by their size; 0: all.
        device: A torch device ("cpu", "cuda"); None: a GPU if there is one.

    Raises:
        DemoError: A choice is outside its range.
    """

    out: Path
    data: Path | None = None
    test: Path | None = None
    methods: Sequence[str] = DEFAULT_METHODS
    epochs: int | None = None
    seeds: int = 3
    prune_ratio: float = 0.1
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
        if self.limit is not None and self.limit < 0:
            raise DemoError(f"--limit must be at least 1, or 0 for all images, got {self.limit}")
        if self.data is None and (self.test is not None or self.limit is not None):
            raise DemoError("--test and --limit go with --data FILE: the digits are always whole")
        try:
            make_policy("SeTa", self.prune_ratio)
        except ValueError as error:
            raise DemoError(f"--prune-ratio: {error}") from error


def parse_methods(text: str) -> tuple[str, ...]:
    """Read a list of methods as it is typed: "full,equal-cost,seta".

    Returns:
        Names of `METHODS`, each once, in the order of `METHODS`.

    Raises:
        DemoError: A name is not known, none is given, or one of them needs another.
    """
    chosen = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        key = part.lower().replace("-", "").replace("_", "").replace(" ", "")
        if key not in _ALIASES:
            raise DemoError(f"--methods: {part!r} is not one of {typed_methods()}")
        chosen.add(_ALIASES[key])
    if not chosen:
        raise DemoError("--methods must name at least one method, for example full,seta")
    if EQUAL_COST in chosen and "SeTa" not in chosen:
        raise DemoError("--methods: equal-cost takes its cost from SeTa: add seta")
    return tuple(name for name in METHODS if name in chosen)


def typed_methods() -> str:
    """All methods as they may be typed."""
    return ", ".join("equal-cost" if name == EQUAL_COST else name.lower() for name in METHODS)


def takes_cost(method: str) -> bool:
    """Whether a method trains as many samples as SeTa with the same seed, if that is run, too.

    So do all that are made for a budget; what the others save is an outcome.
    """
    return isinstance(policies.REGISTRY.get(method), FitsBudget)


def make_policy(method: str, prune_ratio: float, budget: float | None = None) -> Policy:
    """The policy that a method of the demo trains with.

    Args:
        method: A name of `METHODS`.
        prune_ratio: SeTa's prune ratio.
        budget: The share of the samples that SeTa trained with the same seed, for those that take
            their cost from it; None: their own default.
    """
    if method == "SeTa":
        return policies.SeTa(prune_ratio=prune_ratio)
    return policies.get("Full" if method == EQUAL_COST else method, budget=budget)
