"""The lengths of a run in samples and batches.

An epoch is a whole number of global batches (one batch on each rank), since a last batch of 8
samples would take as large a step as one of 128. Only an epoch that keeps all samples may have a
remainder, as in torch's own loader.

A budget is the share of full training's sample visits that the run may use. With cumulative
rounding, the length of every epoch is known before the first, and the total is right to within one
global batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import count, islice, repeat
from typing import Any, TypeGuard

from seta.engine.numbers import real

Budget = float | Sequence[float] | Callable[[int], float]

_SHARE = "the share of full training's sample visits to use, 0.6 for 60 %"
_FINE = 1 << 256  # parts of a sample in which a budget is added up
_GRID = 1 << 20  # parts of a sample that an expected number is told to


@dataclass(frozen=True)
class Steps:
    """The sizes of a run: samples and batches.

    Attributes:
        n: Number of samples in the dataset, >= 1.
        batch_size: Samples per batch and rank, >= 1.
        ranks: Number of ranks, >= 1.
        drop_last: Whether to drop the remainder of an epoch that keeps all samples.
    """

    n: int
    batch_size: int = 1
    ranks: int = 1
    drop_last: bool = False

    @property
    def global_batch(self) -> int:
        """Number of samples in a global batch: one batch on each rank."""
        return self.batch_size * self.ranks

    @property
    def most(self) -> int:
        """Number of samples in an epoch that keeps all samples."""
        return self.n - self.n % self.global_batch if self.drop_last else self.n

    def cut(self, samples: float | Fraction) -> int:
        """Returns the length of the longest epoch of at most `samples`; 0: less than a batch."""
        if samples >= self.most:
            return self.most
        return int(samples // self.global_batch) * self.global_batch

    def nearest(self, samples: float) -> int:
        """Returns the possible length of an epoch, >= 1 batch, that is nearest to `samples`.

        Half a batch is rounded to the even number of batches. Values within a millionth of half a
        batch count as half a batch, so that small differences between CPUs have no effect.

        Examples:
            >>> steps = Steps(1000, batch_size=128)
            >>> [steps.nearest(samples) for samples in (3, 500, 990, 1000)]
            [128, 512, 896, 1000]
        """
        parts = round(samples * _GRID)
        if parts >= self.most * _GRID or self.n < self.global_batch:
            return self.most
        batches = round(Fraction(parts, self.global_batch * _GRID))
        return min(max(1, batches), self.n // self.global_batch) * self.global_batch

    def whole(self, share: int, kept: int) -> int:
        """Returns the part of a rank's share that is whole batches, in samples.

        In an epoch that keeps all samples, it is the whole share (unless `drop_last`).

        Args:
            share: Number of samples in the share.
            kept: Number of samples in the epoch, over all ranks.
        """
        if kept == self.n and not self.drop_last:
            return share
        return share - share % self.batch_size

    def batches(self, samples: int) -> int:
        """Returns the number of batches per rank in an epoch of `samples` over all ranks."""
        return -(-(samples // self.ranks) // self.batch_size)

    def lengths(self, budget: Budget, epochs: int, first: int = 0) -> list[int]:
        """Returns the number of samples in each epoch under a budget.

        Args:
            budget: Share of full training's sample visits, in (0, 1]: one number, one per epoch, or
                a function of the epoch.
            epochs: Length of the run in epochs.
            first: Number of the first epoch that is asked for.

        Raises:
            ValueError: A share is outside (0, 1], there is not one per epoch, or an epoch would
                have no batch.

        Examples:
            >>> Steps(10).lengths(0.25, 4)
            [2, 3, 2, 3]
            >>> Steps(10, batch_size=4).lengths([1.0, 0.5], 2)
            [10, 4]
        """
        if is_listed(budget) and len(budget) != epochs:
            raise ValueError(
                f"budget must have one share for each of the {epochs} epochs, got {len(budget)}: "
                "give as many, or one number for all epochs"
            )
        return list(self._lengths(islice(shares_of(budget), first, epochs), first))

    def _lengths(self, shares: Iterable[Fraction], first: int) -> Iterator[int]:
        # What the budget pays for and is not trained yet, in integers of one size: the sum of many
        # fractions would have more and more digits. Rounded up, lest a whole batch be missed.
        due = 0
        for epoch, share in enumerate(shares, first):
            due -= -share.numerator * self.most * _FINE // share.denominator
            length = self.cut(due // _FINE)
            due -= length * _FINE
            if not length:
                unit = "sample" if self.global_batch == 1 else f"batch of {self.global_batch}"
                raise ValueError(
                    f"budget leaves epoch {epoch} without a {unit}, got {float(share)} of "
                    f"{self.most} samples; every epoch needs one: raise the budget, choose a "
                    "smaller batch size, or train for fewer epochs"
                )
            yield length

    def run_of(self, batches: int, budget: Budget, first: int = 0) -> list[int]:
        """Returns the number of samples in each epoch of a run with a given number of batches.

        The last epoch is cut short.

        Args:
            batches: Number of batches per rank, >= 1.
            budget: As for `lengths`; a list must have a share for enough epochs.
            first: Number of the first epoch.

        Raises:
            ValueError: As for `lengths`; or `budget` has shares for too few epochs.

        Examples:
            >>> Steps(10, batch_size=2).run_of(8, 0.6)
            [6, 6, 4]
        """
        lengths, left = [], batches
        for length in self._lengths(islice(shares_of(budget), first, None), first):
            taken = min(left, self.batches(length))
            whole = taken == self.batches(length)
            lengths.append(length if whole else taken * self.global_batch)
            left -= taken
            if not left:
                return lengths
        raise ValueError(
            f"budget must last for steps={batches}, got {len(lengths)} shares of "
            f"{batches - left} batches: give more shares, or one for all epochs"
        )


def is_listed(budget: Any) -> TypeGuard[Sequence[float]]:
    """Returns whether a budget is a list with one share per epoch."""
    if isinstance(budget, (str, bytes, Mapping)) or callable(budget):
        return False
    sized = hasattr(budget, "__len__") and hasattr(budget, "__getitem__")
    return sized and getattr(budget, "ndim", 1) > 0


def shares_of(budget: Budget) -> Iterator[Fraction]:
    """Yields the share of each epoch; endless if the budget is not a list.

    Raises:
        TypeError: A share is not a number.
        ValueError: A share is outside (0, 1].
    """
    values: Iterable[Any]
    if callable(budget):
        values = map(budget, count())
    elif is_listed(budget):
        values = budget
    else:
        # Looked at once, however long the run.
        yield from repeat(_share("budget", budget))
    for epoch, value in enumerate(values):
        yield _share(f"budget of epoch {epoch}", value)


def _share(name: str, value: Any) -> Fraction:
    share = real(name, value, 0, 1, _SHARE, ends="(]")
    if isinstance(share, float):
        # 0.6 means 3/5, not the binary fraction nearest to it.
        near = (Fraction(share).limit_denominator(10**digits) for digits in (9, 12, 15))
        return next((one for one in near if float(one) == share), Fraction(share))
    return Fraction(share)
