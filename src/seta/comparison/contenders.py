"""Contenders: a method at a budget, and what a run of it needs: policy, epochs, budget of visits.

Between the suites and the runs. Methods at a budget of b train exactly the same number of samples,
b of full training's visits, within a batch: each policy gets the parameters that fit b best, and
the budget rule of the engine does the rest. "As published" runs get no budget: what they save is an
outcome. "Full at equal cost" trains on everything for as many batches; with other b, above 1 too,
it gives full training's own curve of accuracy against visits. "Full, smaller batches" trains the
same number of samples in batches of b times the size, and so takes as many steps as full training:
what small batches gain by themselves. All train full batches alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import Any

from seta import policies
from seta.engine import Policy
from seta.engine.curves.policy import is_stratified
from seta.engine.steps import Steps
from seta.policies import REGISTRY

FULL = "Full"
EQUAL_COST = "Full at equal cost"
SMALLER = "Full, smaller batches"
REFERENCES = (FULL, EQUAL_COST, SMALLER)
"""What trains on everything: methods are compared with it, and no list of methods holds it."""

PUBLISHED = {"SeTa as published": "SeTa", "InfoBatch as published": "InfoBatch"}
AT_BUDGET = tuple(name for name in REGISTRY if name != FULL)
"""The methods that are compared at equal visits, each made as its `at_budget` says."""

METHODS = (*REFERENCES, *AT_BUDGET, *PUBLISHED)
"""All methods, in the order in which they are run."""


@dataclass(frozen=True)
class Contender:
    """A method at a budget.

    Args:
        method: One of `METHODS`; or any name, with a policy of its own.
        budget: Share of full training's visits to train, in (0, 1], for "Full at equal cost" in
            (0, inf). None: "as published", whatever it comes to.
        own: A policy that is no method's, or is set otherwise: used as it is, at any budget.

    Raises:
        ValueError: There is no such method, or the budget does not suit it.
    """

    method: str
    budget: float | None
    own: Policy | None = None

    def __post_init__(self) -> None:
        """Checks that the budget suits the method."""
        if self.own is None and self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}; got {self.method!r}")
        if (self.budget is None) != (self.method in PUBLISHED):
            raise ValueError(
                f"budget of {self.method!r} is {self.budget!r}: 'as published' runs have None, "
                "all others a share of full training's visits"
            )
        most = float("inf") if self.method == EQUAL_COST else 1.0
        if self.budget is not None and not 0 < self.budget <= most:
            raise ValueError(
                f"budget of {self.method!r} must lie in (0, {most}], got {self.budget!r}: the "
                "share of full training's visits, 0.7 to save 30 %"
            )

    @property
    def name(self) -> str:
        """What a person reads: the method, and the budget where there is a choice."""
        chosen = self.budget is not None and self.method != FULL
        return f"{self.method} {self.budget:g}" if chosen else self.method

    @property
    def needs_classes(self) -> bool:
        """Whether the loader has to know the class of each sample."""
        return is_stratified(self.policy())

    def epochs(self, full: int) -> int:
        """Returns the epochs of a run where full training has `full`; the last may be short."""
        return ceil(self._exact() * full) if self.method in (EQUAL_COST, SMALLER) else full

    def batch_size(self, full: int) -> int:
        """Returns the samples of a batch where full training has `full`."""
        return max(1, round(self._exact() * full)) if self.method == SMALLER else full

    def visits(self, n: int, full: int) -> int:
        """Returns the most samples that a run can train, of n; what fills no batch is left out."""
        return int(self._exact() * n * full) if self.budget is not None else n * full

    def length(self, sizes: Steps, full: int) -> dict[str, Any]:
        """Returns what the loader is told of the length of the run: `epochs` and `budget`.

        Args:
            sizes: Of full training's loader, with `drop_last`.
            full: Epochs of full training.
        """
        if self.method not in (EQUAL_COST, SMALLER):
            return {"budget": self.budget, "epochs": full}  # of Full 1.0: its steps are known
        steps = int(self._exact() * full * sizes.batches(sizes.most))
        if self.method == SMALLER:
            smaller = self.batch_size(sizes.batch_size)
            steps = steps * sizes.batch_size // smaller
            sizes = replace(sizes, batch_size=smaller)
        whole, rest = divmod(steps, sizes.batches(sizes.most))
        shares = [Fraction(1)] * whole
        if rest:  # of one more epoch
            shares.append(Fraction(rest * sizes.global_batch, sizes.most))
        return {"budget": shares, "epochs": len(shares)}

    def policy(self) -> Policy:
        """Returns the policy of a run."""
        if self.own is not None:
            return deepcopy(self.own)  # one that remembers something is a new one in each run
        if self.method in REFERENCES:
            return policies.get(FULL)
        return policies.get(PUBLISHED.get(self.method, self.method), budget=self.budget)

    def _exact(self) -> Fraction:
        """The budget, 0.7 as 7/10 and not as the binary fraction nearest to it."""
        return Fraction(1.0 if self.budget is None else self.budget).limit_denominator(10**9)


def contenders(
    methods: Iterable[str], budgets: Sequence[float], curve: Sequence[float] = ()
) -> list[Contender]:
    """Returns the contenders in the order in which they are run: Full first, then by budget.

    Args:
        methods: Of `METHODS`.
        budgets: At which the methods are compared.
        curve: More budgets of "Full at equal cost", for its curve; they come last.
    """
    asked = list(methods)
    found = [Contender(FULL, 1.0)] if FULL in asked else []
    at_budget = [method for method in asked if method not in (FULL, *PUBLISHED)]
    found += [Contender(method, budget) for budget in budgets for method in at_budget]
    found += [Contender(method, None) for method in asked if method in PUBLISHED]
    if EQUAL_COST in asked:
        found += [Contender(EQUAL_COST, budget) for budget in curve if budget not in budgets]
    return found
