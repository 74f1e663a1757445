"""Checks that per-sample losses add up to the trained loss, and finds how labels are shifted.

A batch's loss is compared with the sum of its samples' terms. One batch proves little: where all
losses are alike, as before training has begun, every weighted mean of them is the same. So the
first batches are looked at, then ever fewer (the 16th, 32nd, 64th, ...), until enough have agreed
whose losses differ. transformers does not always say whether labels are those of the next token:
both readings are tried, and the one that adds up is kept.

Cost: at each look, one of some ten or twenty in a run, the losses are computed once or twice more,
and the device is waited for.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from seta.integrations.transformers.losses import Shares, scales_of

_FIRST = 8  # batches looked at one after another
_ENOUGH = 8  # batches that agreed, and whose losses differ


class LossCheck:
    """Looks at the batches of a run until it is known how their loss is made up.

    Args:
        readings: Whether a token's logits are for the label of the next one: all that is possible,
            the likeliest first.
        half: Whether the loss may be rounded to half precision.
        why: What a refusal says of the reason and the way out.

    Attributes:
        readings: What is still possible; the first is the best.
    """

    def __init__(self, readings: tuple[bool, ...], *, half: bool, why: str) -> None:
        self.readings = readings
        self._tolerance = 3e-2 if half else 1e-3
        self._why = why
        self._batches = self._agreed = 0

    def due(self) -> bool:
        """Counts a batch; returns whether it is to be looked at."""
        self._batches += 1
        early = self._batches <= _FIRST or self._batches & (self._batches - 1) == 0
        return early and self._agreed < _ENOUGH

    def look(
        self, loss: Tensor, found: Mapping[bool, Shares], items: Tensor | int | None, processes: int
    ) -> None:
        """Compares a batch's loss with what each reading makes of it, waiting for the device.

        Args:
            loss: As `Trainer` computed it.
            found: The samples' shares, by reading.
            items: See `scales_of`.
            processes: See `scales_of`.

        Raises:
            ValueError: No reading adds up: the loss is not the one that was taken for it.
        """
        value = float(loss.detach())
        sums: dict[bool, list[float]] = {}
        for shift, shares in found.items():
            total = float(shares.totals.detach().sum())
            if np.isfinite([value, total]).all() and int(shares.counts.sum()):
                sums[shift] = [total * float(one) for one in scales_of(shares, items, processes)]
        if not sums:
            return
        gaps = {shift: min(abs(value - one) for one in own) for shift, own in sums.items()}
        near = 1e-5 + self._tolerance * abs(value)
        left = sorted((shift for shift in gaps if gaps[shift] <= near), key=lambda one: gaps[one])
        if not left:
            self._refuse(value, [one for own in sums.values() for one in own])
        if all(sums[shift] == sums[left[0]] for shift in left):
            losses = found[left[0]].losses
            self._agreed += bool(losses.std(correction=0) > 10 * self._tolerance * losses.mean())
            left = left[:1]
        self.readings = tuple(left)

    def _refuse(self, value: float, sums: list[float]) -> None:
        raise ValueError(
            f"the loss of a batch is {value:.6g}, but the losses of its samples add "
            f"up to {' or '.join(dict.fromkeys(f'{one:.6g}' for one in sums))}: {self._why}"
        )
