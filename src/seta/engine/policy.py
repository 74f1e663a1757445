"""What a policy is, and the methods by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from seta.engine.curve import KeepCurve
from seta.engine.histogram import LossHistogram


class Policy(Protocol):
    """What makes a keep curve: a frozen dataclass with `__call__`, or a plain function."""

    def __call__(self, histogram: LossHistogram, epoch: int, epochs: int, /) -> KeepCurve:
        """Returns the curve of an epoch.

        Args:
            histogram: Of the latest losses, before the epoch.
            epoch: 0 .. epochs - 1.
            epochs: Length of the run.
        """
        ...


def curve_of(policy: Policy, histogram: LossHistogram, epoch: int, epochs: int) -> KeepCurve:
    """Asks a policy for its curve, and checks what it answers.

    Raises:
        TypeError: It is no curve.
        ValueError: It is none for this histogram, or has values that no curve may have.
    """
    curve = policy(histogram, epoch, epochs)
    if not isinstance(curve, KeepCurve):
        raise TypeError(
            f"policy {policy!r} must return a KeepCurve, got {type(curve).__name__}: "
            "return seta.KeepCurve(keep, ...), with one keep probability per histogram bin"
        )
    curve.validate(histogram)
    return curve


REGISTRY: dict[str, Callable[[], Policy]] = {}
"""The methods by name, filled by `seta.policies`. A policy of your own needs no entry."""


def get(name: str) -> Policy:
    """Returns the method of that name, in any case of letters, with its defaults.

    Raises:
        ValueError: There is none; the message lists them all.
    """
    for known, method in REGISTRY.items():
        if known.lower() == name.lower():
            return method()
    raise ValueError(
        f"unknown method {name!r}: choose one of {', '.join(REGISTRY)}, "
        "or pass a function (histogram, epoch, epochs) -> KeepCurve"
    )
