"""Files on disk: what they hold, and making their names last."""

import hashlib
import os
from pathlib import Path


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, streamed, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable: after a rename they may be in memory only."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
