"""The learning rate as a pure function of the step."""

import math
from collections.abc import Callable

from components.train.config import TrainConfig

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: (1.0 + math.cos(math.pi * progress)) / 2,
}
"""Share of the peak learning rate at a progress of 0 (end of the warm-up) to 1 (after the last step)."""


def learning_rate(step: int, total: int, config: TrainConfig) -> float:
    """The learning rate of a step (counted from 0) out of `total`.

    It rises linearly to the peak, which the last warm-up step has, then follows the schedule.
    """
    warmup = round(total * config.warmup_fraction)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * SCHEDULES[config.schedule]((step - warmup) / (total - warmup))
