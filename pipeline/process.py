"""Tell one process from another, also after its death."""

import os
import socket
from pathlib import Path


def process_name(pid: int) -> str:
    """Machine, process id and start time: a process id alone is used again."""
    try:
        # Field 22, clock ticks since the machine started; the name in field 2 may hold spaces and brackets.
        started = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        started = "?"
    return f"{socket.gethostname()} {pid} {started}"


def is_gone(process: str) -> bool:
    """Whether the process of this name has ended; False for one on another machine."""
    host, _, rest = process.partition(" ")
    pid = rest.partition(" ")[0]
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it lives, as another user's
    return process_name(int(pid)) != process
