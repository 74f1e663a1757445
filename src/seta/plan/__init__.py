"""What a run will take, before it is paid for: samples, steps, memory, bytes, time.

`request` reads what is asked, `lengths` says how long the epochs are, `model` what they cost, and
`outline` puts it together; `stopwatch` times this machine. Needs numpy and the engine. `seta plan`
prints it.
"""

from seta.plan.outline import EpochPlan, Plan
from seta.plan.request import PlanError, Request, read
from seta.plan.stopwatch import calibrate
from seta.plan.times import Calibration, Times

__all__ = [
    "Calibration",
    "EpochPlan",
    "Plan",
    "PlanError",
    "Request",
    "Times",
    "calibrate",
    "read",
]
