"""Lines in a log, a bar on a terminal, time spans as people say them."""

import io

import pytest
from rich.console import Console

from pipeline import progress
from pipeline.progress import Reporter, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (60, "1 min 00 s"),
        (185.4, "3 min 05 s"),
        (7800, "2 h 10 min"),
        (3599.6, "1 h 00 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_log_gets_plain_lines_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 5.0, 12.0, 13.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    out = io.StringIO()
    with Reporter(Console(file=out, force_terminal=False, width=120)).task("train") as task:
        for done in (0, 10, 110, 120):
            task.update(done, 200, "loss 4.2")
    assert out.getvalue() == "train: 110/200, 9.0 s left, loss 4.2\n"


def test_a_terminal_gets_a_bar_that_goes_away() -> None:
    out = io.StringIO()
    reporter = Reporter(Console(file=out, force_terminal=True, width=120))
    with reporter.task("train") as task:
        task.update(50, 200, "loss 4.2")
        reporter.say("shard: ran")
    assert "50/200" in out.getvalue()
    assert "loss 4.2" in out.getvalue()
    assert "shard: ran" in out.getvalue()
