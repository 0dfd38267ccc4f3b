"""When, where and with which code something was made."""

import platform
import socket
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("lm-pipeline", "ray", "torch", "mlflow", "pyarrow", "tokenizers", "numpy", "sacrebleu")


def provenance(started: datetime) -> dict[str, Any]:
    """Times, place and versions of a run, for its manifest."""
    return {
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="microseconds"),
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "packages": _versions(),
        "git_commit": git_commit(),
    }


def git_commit() -> str | None:
    """The commit of the checkout this code runs from, None outside of one. Read from .git, no program is started."""
    git = Path(__file__).parents[1] / ".git"
    try:
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head
        ref = head.removeprefix("ref: ")
        if (git / ref).is_file():
            return (git / ref).read_text(encoding="utf-8").strip()
        packed = (git / "packed-refs").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.split()[0] for line in packed if line.endswith(f" {ref}")), None)


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
