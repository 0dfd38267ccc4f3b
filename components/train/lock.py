"""One training at a time in a work folder."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from components.errors import UserError
from components.train.ranks import Ranks


@contextmanager
def sole_owner(work: Path, ranks: Ranks, wait_seconds: float = 30) -> Iterator[None]:
    """Hold the lock of a work folder. Workers of a killed driver may live on for seconds, so it is waited for.

    Raises UserError where another training keeps it.
    """
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("a") as file:
        if not ranks.agree(not ranks.first or _lock(file, wait_seconds)):
            raise UserError(f"another training is at work in {work}; wait until it ends, or end it")
        yield


def _lock(file: IO[str], wait_seconds: float) -> bool:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        else:
            return True
