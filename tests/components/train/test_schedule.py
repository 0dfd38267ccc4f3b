"""The learning rate over the steps."""

from itertools import pairwise

import pytest

from components.train.config import TrainConfig
from components.train.schedule import SCHEDULES, learning_rate


def rates(schedule: str, total: int = 100, warmup: float = 0.1) -> list[float]:
    config = TrainConfig(schedule=schedule, learning_rate=2.0, warmup_fraction=warmup)  # type: ignore[arg-type]
    return [learning_rate(step, total, config) for step in range(total)]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_up_then_never_up_again(schedule: str) -> None:
    made = rates(schedule)
    assert made[:11] == pytest.approx([0.2 * (i + 1) for i in range(10)] + [2.0])
    assert all(a >= b > 0 for a, b in pairwise(made[10:]))


def test_shapes() -> None:
    assert rates("constant")[10:] == [2.0] * 90
    assert rates("linear")[55] == pytest.approx(1.0)
    assert rates("cosine")[55] == pytest.approx(1.0)
    assert rates("linear")[99] == pytest.approx(2 / 90)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("total", [1, 2, 3])
@pytest.mark.parametrize("warmup", [0.0, 0.5, 0.99])
def test_very_short_trainings_have_a_rate_too(schedule: str, total: int, warmup: float) -> None:
    assert all(0 < rate <= 2 for rate in rates(schedule, total, warmup))
