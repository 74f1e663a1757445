"""What `seta plan` is asked: the choices of the command line, read and checked.

Everything that can be refused is refused here, before anything is computed: each message names the
option, the value, the rule, and what to do instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TypeVar

from seta.engine.curves.policy import is_stratified, takes_strata
from seta.engine.draw.partition import shards_of
from seta.engine.steps import Steps
from seta.engine.table.table import Sharding
from seta.plan.model import default_sharding
from seta.policies import REGISTRY

__all__ = ["PlanError", "Request", "read"]

_SHARDINGS: tuple[Sharding, ...] = ("replicated", "sharded")
Name = TypeVar("Name", bound=str)

_MOST_SAMPLES = 10**12
_MOST_EPOCHS = 10_000
_MOST_RANKS = 10**6
_MOST_CLASSES = 10**5
_CLASSES = 10
_LEAST_RATE, _MOST_RATE = Decimal("1e-6"), Decimal("1e12")
_SHOWN = 40  # characters of what was typed


class PlanError(ValueError):
    """The run cannot be planned as asked; the message says why and what to do."""


@dataclass(frozen=True)
class Request:
    """A run to plan.

    Attributes:
        samples: Of the dataset.
        epochs: Of the run.
        ranks: Training processes.
        batch_size: Samples per step and rank.
        policy: Name of the method, as the registry has it.
        classes: Of the samples, equally many of each; None: the method does not look at them.
        budget: Share of full training's sample visits; None: as many as the method keeps.
        throughput: Samples per second that a rank trains; None: not known.
        ranks_per_node: Ranks that share a machine.
        sharding: "replicated" or "sharded".
        drop_last: Whether the remainder of an epoch that keeps all samples is left out.
        bandwidth: Bytes per second that a rank sends, and receives; None: not known.
        price: Of an hour of a rank, in any currency; None: not known.
    """

    samples: int
    epochs: int
    ranks: int
    batch_size: int
    policy: str
    classes: int | None
    budget: float | None
    throughput: float | None
    ranks_per_node: int
    sharding: Sharding
    drop_last: bool
    bandwidth: float | None
    price: float | None = None

    def __post_init__(self) -> None:
        """Checks what the choices must have in common."""
        if self.ranks > self.samples:
            raise PlanError(
                f"--ranks {self.ranks}: more than the {self.samples:,} samples; give at most as "
                "many ranks as samples"
            )
        whole = self.sizes.global_batch
        if whole > self.samples and (self.drop_last or (self.budget or 1) < 1):
            raise PlanError(
                f"--batch-size {self.batch_size}: {self.ranks:,} ranks make that a global batch of "
                f"{whole:,}, more than the {self.samples:,} samples; give at most "
                f"{self.samples // self.ranks}, or fewer --ranks"
            )
        if self.price is not None and self.throughput is None:
            raise PlanError(
                f"--price {self.price:g}: needs the hours of the run; give --throughput, the "
                "samples per second that a rank trains"
            )
        if self.sharding == "sharded":
            self._check_shards()

    def _check_shards(self) -> None:
        if self.classes is not None:
            raise PlanError(
                f"--method {self.policy}: looks at the losses class by class, which sharded losses "
                "do not allow; give --sharding replicated, or another --method"
            )
        if self.ranks > shards_of(self.samples):
            raise PlanError(
                f"--sharding sharded: {self.samples:,} samples make {shards_of(self.samples):,} "
                f"shards, and each of the {self.ranks:,} ranks needs one; give --sharding "
                "replicated, or fewer --ranks"
            )

    @property
    def sizes(self) -> Steps:
        """What makes batches of samples."""
        return Steps(self.samples, self.batch_size, self.ranks, self.drop_last)

    @property
    def node_ranks(self) -> int:
        """Ranks on the fullest machine."""
        return min(self.ranks, self.ranks_per_node)

    @property
    def nodes(self) -> int:
        """Machines."""
        return -(-self.ranks // self.ranks_per_node)


_OPTIONS = {
    *("samples", "epochs", "ranks", "batch-size", "method", "classes", "budget", "throughput"),
    *("ranks-per-node", "sharding", "bandwidth", "price"),
}


def read(options: Mapping[str, str | None], *, drop_last: bool = False) -> Request:
    """Returns the request that options ask for, as they are typed.

    Args:
        options: By the option's name without dashes in front ("batch-size"); None: not given.
        drop_last: Whether --drop-last was given.

    Raises:
        PlanError: An option is not what it must be.

    Examples:
        >>> read({"samples": "1e6", "epochs": "3"}).samples
        1000000
    """
    for name in options.keys() - _OPTIONS:
        raise PlanError(f"--{name}: is not known; give one of --{', --'.join(sorted(_OPTIONS))}")
    given = {name: value for name, value in options.items() if value is not None}
    samples = _whole(given, "samples", None, _MOST_SAMPLES, "the samples of the dataset")
    ranks = _whole(given, "ranks", 1, _MOST_RANKS, "the training processes")
    bandwidth = _rate(given, "bandwidth", "the gigabytes per second of a rank, such as 10")
    policy = _name(given.get("method", "SeTa"), "method", tuple(REGISTRY))
    return Request(
        samples=samples,
        epochs=_whole(given, "epochs", None, _MOST_EPOCHS, "the epochs of the whole run"),
        ranks=ranks,
        batch_size=_whole(given, "batch-size", 1, _MOST_SAMPLES, "the samples per step and rank"),
        policy=policy,
        classes=_classes(given, policy, samples),
        budget=_budget(given),
        throughput=_rate(given, "throughput", "the samples per second that a rank trains"),
        ranks_per_node=_whole(given, "ranks-per-node", 8, _MOST_RANKS, "the ranks of a machine"),
        sharding=_name(
            given.get("sharding", default_sharding(samples, ranks)), "sharding", _SHARDINGS
        ),
        drop_last=drop_last,
        bandwidth=None if bandwidth is None else bandwidth * 1e9,
        price=_rate(given, "price", "the price of an hour of a rank, such as 2.5"),
    )


def _whole(given: Mapping[str, str], name: str, default: int | None, most: int, what: str) -> int:
    """Reads a whole number: 1000000, 1_000_000 or 1e6."""
    if name not in given:
        if default is None:
            raise PlanError(f"--{name}: must be given; give {what}, such as --{name} 100")
        return default
    text = given[name]
    value = _number(text)
    if value is None or value != value.to_integral_value():
        raise PlanError(
            f"--{name} {_shown(text)}: must be a whole number; give {what} as 1000000, 1_000_000 "
            "or 1e6"
        )
    if not 1 <= value <= most:
        raise PlanError(f"--{name} {_shown(text)}: must lie between 1 and {most:,}; give {what}")
    return int(value)


def _classes(given: Mapping[str, str], policy: str, samples: int) -> int | None:
    most = min(samples, _MOST_CLASSES)
    found = _whole(given, "classes", min(_CLASSES, samples), most, "the classes of the samples")
    method = REGISTRY[policy]()
    if is_stratified(method) or ("classes" in given and takes_strata(method)):
        return found
    if "classes" in given:
        raise PlanError(
            f"--classes {_shown(given['classes'])}: {policy} does not look at classes; leave it out"
        )
    return None


def _rate(given: Mapping[str, str], name: str, what: str) -> float | None:
    if name not in given:
        return None
    value = _number(given[name])
    if value is None or not _LEAST_RATE <= value <= _MOST_RATE:
        raise PlanError(
            f"--{name} {_shown(given[name])}: must be a number between {_LEAST_RATE:f} and "
            f"{_MOST_RATE:,f}; give {what}"
        )
    return float(value)


def _budget(given: Mapping[str, str]) -> float | None:
    if "budget" not in given:
        return None
    text = given["budget"]
    value, percent = _number(text), _number(text.removesuffix("%"))
    if value is not None and 0 < value <= 1 and float(value):
        return float(value)
    example = "0.6 for 60 %"
    if percent is not None and 1 < percent <= 100:
        example = f"{float(percent / 100):g} for {float(percent):g} %"
    raise PlanError(
        f"--budget {_shown(text)}: must lie above 0 and be at most 1, the share of full training's "
        f"sample visits; give {example}, or leave it out to train as many as the method keeps"
    )


def _number(text: str) -> Decimal | None:
    """Reads a finite number exactly, however large; None where it is none."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def _shown(text: str) -> str:
    """What was typed, in quotes where it would not be seen as it is, and cut if it is long."""
    short = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return short if text.isprintable() and text == text.strip() != "" else repr(short)


def _name(text: str, option: str, names: tuple[Name, ...]) -> Name:
    for name in names:
        if text.lower() == name.lower():
            return name
    raise PlanError(f"--{option} {_shown(text)}: is not known; give one of {', '.join(names)}")
