"""Read a file of JSON lines while another process writes it."""

import json
from pathlib import Path
from typing import Any


class LineReader:
    """Hands out each whole line of a growing file of JSON lines once.

    A training that resumes cuts its file back to the checkpoint and goes on from there. The reader notices,
    because the last line it has read is no longer where it was, and starts again at the beginning: lines may
    then come twice, and whoever keeps them goes by their step.
    """

    def __init__(self, path: Path):
        self.path = path
        self.position = 0
        self.last = b""

    def poll(self) -> list[dict[str, Any]]:
        """The records that were completed since the last call; none while the file does not exist."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return []
        with file:
            file.seek(self.position - len(self.last))
            if file.read(len(self.last)) != self.last:
                file.seek(0)
                self.position, self.last = 0, b""
            whole, newline, _ = file.read().rpartition(b"\n")
        if not newline:
            return []
        self.position += len(whole) + 1
        lines = whole.split(b"\n")
        self.last = lines[-1] + b"\n"
        return [json.loads(line) for line in lines if line]
