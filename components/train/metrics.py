"""`metrics.jsonl`: one JSON object a line, written while the training runs and read by whoever follows it."""

import json
import os
from pathlib import Path
from typing import Any


class MetricsLog:
    """Appends lines, each with one write, so that a reader sees whole lines and at most one torn one at the end."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def write(self, **fields: Any) -> None:
        """Append one line."""
        self._file.write(json.dumps(fields).encode() + b"\n")

    def sync(self) -> int:
        """Make all lines durable; the length of the file in bytes."""
        os.fsync(self._file.fileno())
        return self._file.tell()

    def cut(self, size: int) -> None:
        """Drop what was written after the file had this size."""
        if os.fstat(self._file.fileno()).st_size > size:
            self._file.truncate(size)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines that are whole so far; nothing where there is no file yet."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines]
