"""What a person sees while it runs: live lines on a terminal, plain lines in a log. Everything goes to stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

PLAIN_INTERVAL = 10.0  # seconds between the lines of one task in a log


class Reporter:
    """Shows stages, their parts and the training's steps."""

    def __init__(self, console: Console | None = None):
        self.console = console or Console(stderr=True, highlight=False)
        self.live = self.console.is_terminal

    def say(self, text: str) -> None:
        """One line that stays."""
        self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def task(self, name: str) -> Iterator["Task"]:
        """A piece of work whose progress is shown until it ends."""
        task: Task = LiveTask(name, self.console) if self.live else PlainTask(name, self)
        try:
            yield task
        finally:
            task.close()


class Task:
    """Progress of one piece of work."""

    def update(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` units are finished; `note` says how it goes."""
        raise AssertionError("a task is live or plain")

    def close(self) -> None:
        """Stop showing it."""


class LiveTask(Task):
    """A bar with rate and time left."""

    def __init__(self, name: str, console: Console):
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description:<9}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
            transient=True,
        )
        self.id = self.progress.add_task(name, total=None, note="")
        self.progress.start()

    def update(self, done: int, total: int, note: str = "") -> None:
        """Move the bar."""
        self.progress.update(self.id, completed=done, total=total, note=note)

    def close(self) -> None:
        """Take the bar off the screen."""
        self.progress.stop()


class PlainTask(Task):
    """A line now and then."""

    def __init__(self, name: str, reporter: Reporter):
        self.name, self.reporter = name, reporter
        self.started = self.shown = time.monotonic()
        self.first: int | None = None

    def update(self, done: int, total: int, note: str = "") -> None:
        """Print a line where the last one is long enough ago."""
        now = time.monotonic()
        if self.first is None:
            self.first, self.started = done, now
        if now - self.shown < PLAIN_INTERVAL:
            return
        self.shown = now
        left = ""
        if done > self.first:
            left = f", {duration((now - self.started) / (done - self.first) * (total - done))} left"
        self.reporter.say(f"{self.name}: {done}/{total}{left}{', ' + note if note else ''}")


def duration(seconds: float) -> str:
    """A time span as a person says it: 4.2 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def stdout_is_terminal() -> bool:
    """Whether a person reads what is printed."""
    return sys.stdout.isatty()
