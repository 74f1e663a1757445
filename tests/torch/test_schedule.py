"""Learning rates end where their schedules do, on growing and on shrinking epochs."""

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    OneCycleLR,
    SequentialLR,
)
from torch.utils.data import TensorDataset

import seta
from seta import KeepCurve
from tests.combinations import some_of

# PyTorch's own SequentialLR, up to 2.6, calls step() as its schedules ask it not to.
pytestmark = pytest.mark.filterwarnings("ignore:The epoch parameter in")

EPOCHS, N, BATCH = 6, 200, 10
NOMINAL = EPOCHS * N // BATCH  # steps of full training


def shares(*values):
    """A policy that keeps these shares of the samples, epoch by epoch."""
    return lambda histogram, epoch, epochs: KeepCurve.constant(histogram, values[epoch])


GROWING = shares(0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
SHRINKING = shares(1.0, 0.9, 0.6, 0.4, 0.2, 0.1)
UNEVEN = shares(0.9, 0.05, 0.9, 0.05, 0.9, 0.05)

SCHEDULES = {
    "one cycle": (lambda o, t: OneCycleLR(o, 1.0, total_steps=t), lambda t: t - 1),
    "cosine": (lambda o, t: CosineAnnealingLR(o, T_max=t, eta_min=0.01), lambda t: t),
    "warm-up, then to 0": (
        lambda o, t: LambdaLR(o, lambda s: min((s + 1) / 20, 1.0) * (1 - s / t)),
        lambda t: t,
    ),
    "warm-up, then cosine": (
        lambda o, t: SequentialLR(
            o, [LinearLR(o, 0.1, total_iters=20), CosineAnnealingLR(o, t - 20)], [20]
        ),
        lambda t: t,
    ),
    "two at once": (
        lambda o, t: ChainedScheduler(
            [LinearLR(o, 0.1, total_iters=20), CosineAnnealingLR(o, t)], optimizer=o
        ),
        lambda t: t,
    ),
}


def train(make, steps_of, policy, **options):
    """Returns the rates of a run, one after each step, and of the schedule alone."""

    def optimizer():
        return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)

    loader = seta.PrunedDataLoader(
        TensorDataset(torch.arange(N)), policy, epochs=EPOCHS, batch_size=BATCH, **options
    )
    total = loader.total_steps if "budget" in options else NOMINAL
    one, alone = optimizer(), optimizer()
    schedule, reference = make(one, total), make(alone, total)
    driver = (
        schedule
        if "budget" in options
        else seta.ProgressSchedule(schedule, steps=steps_of(total), loader=loader)
    )
    rates, steps = [], 0
    for _ in range(EPOCHS):
        for (values,) in loader:
            loader.update(values.float())
            one.step()
            steps += 1
            if "budget" not in options or steps <= steps_of(total):
                driver.step()
            rates.append(schedule.get_last_lr()[0])
    expected = [reference.get_last_lr()[0]]
    for _ in range(steps_of(total)):
        alone.step()
        reference.step()
        expected.append(reference.get_last_lr()[0])
    return rates, expected, steps, loader


@some_of(
    "name, policy, drop_last",
    SCHEDULES,
    [GROWING, SHRINKING, UNEVEN, "SeTa"],
    [False, True],
)
def test_progress_takes_any_schedule_to_its_end(name, policy, drop_last):
    rates, expected, steps, loader = train(*SCHEDULES[name], policy, drop_last=drop_last)
    assert steps < NOMINAL
    assert rates[-1] == expected[-1]
    assert set(rates) <= set(expected)
    assert loader.progress == 1


@some_of("name, policy, drop_last", SCHEDULES, ["SeTa", "InfoBatch", UNEVEN], [False, True])
def test_total_steps_is_exact_under_a_budget(name, policy, drop_last):
    rates, expected, steps, loader = train(
        *SCHEDULES[name], policy, budget=0.43, drop_last=drop_last
    )
    assert steps == loader.total_steps
    assert rates[-1] == expected[-1]


def test_a_schedule_left_to_count_steps_stops_half_way():
    """The trap that the docs warn of, with its figures."""
    loader = seta.PrunedDataLoader(
        TensorDataset(torch.arange(N)), UNEVEN, epochs=EPOCHS, batch_size=BATCH
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = CosineAnnealingLR(optimizer, T_max=NOMINAL)
    for _ in range(EPOCHS):
        for (values,) in loader:
            loader.update(values.float())
            optimizer.step()
            schedule.step()
    assert 0.3 < schedule.get_last_lr()[0] < 0.7


def test_progress_rises_from_0_to_1():
    loader = seta.PrunedDataLoader(
        TensorDataset(torch.arange(N)), SHRINKING, epochs=EPOCHS, batch_size=7
    )
    seen = [loader.progress]
    for epoch in range(EPOCHS):
        for (values,) in loader:
            loader.update(values.float())
            seen.append(loader.progress)
        assert loader.progress == pytest.approx((epoch + 1) / EPOCHS)
    assert seen[0] == 0 and seen[-1] == 1
    assert np.all(np.diff(seen) > 0)


def test_total_steps_without_a_budget_is_refused():
    loader = seta.PrunedDataLoader([1.0, 2.0], "SeTa", epochs=2)
    with pytest.raises(RuntimeError, match=r"known under a budget only.*seta\.ProgressSchedule"):
        _ = loader.total_steps


def test_steps_below_one_are_refused():
    loader = seta.PrunedDataLoader([1.0, 2.0], "SeTa", epochs=2)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        seta.ProgressSchedule(LambdaLR(optimizer, float), steps=0, loader=loader)
