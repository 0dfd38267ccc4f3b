"""Checkpoints: folders that are there whole or not at all, and that are believed only if their hashes match.

<work>/checkpoints/step_00000120/tensors.safetensors
                                 state.json
                                 manifest.json         SHA-256 of the two above
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from components.files import sync_folder

FORMAT = 1
TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"


class DamagedCheckpoint(Exception):
    """What lies there is not what was written."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A training after `step` updates."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    """Whatever else is needed to go on, as JSON."""


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write `folder/step_<8 digits>` and make it durable before it gets its name."""
    folder.mkdir(parents=True, exist_ok=True)
    target = _path(folder, checkpoint.step)
    temporary = folder / f".{target.name}.tmp"
    temporary.mkdir()
    contents = {
        TENSORS: safetensors.torch.save({name: t.contiguous() for name, t in checkpoint.tensors.items()}),
        STATE: _json({"format": FORMAT, "step": checkpoint.step, **checkpoint.state}),
    }
    contents[MANIFEST] = _json({name: hashlib.sha256(content).hexdigest() for name, content in contents.items()})
    for name, content in contents.items():
        with (temporary / name).open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    sync_folder(temporary)
    temporary.rename(target)
    sync_folder(folder)


def read_checkpoint(folder: Path, step: int) -> Checkpoint:
    """Read and verify a checkpoint. Raises DamagedCheckpoint saying what is wrong with it."""
    path = _path(folder, step)
    try:
        contents = {name: (path / name).read_bytes() for name in (TENSORS, STATE, MANIFEST)}
        hashes = json.loads(contents.pop(MANIFEST))
        if hashes != {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}:
            raise DamagedCheckpoint(f"{path}: the hashes in {MANIFEST} are of other content")
        state = json.loads(contents[STATE])
        if state.pop("format") != FORMAT or state.pop("step") != step:
            raise DamagedCheckpoint(f"{path}: {STATE} is of another format or step")
        return Checkpoint(step=step, tensors=safetensors.torch.load(contents[TENSORS]), state=state)
    except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
        raise DamagedCheckpoint(f"{path}: {error}") from None


def newest_checkpoint(
    folder: Path, belongs: Callable[[Checkpoint], bool], damaged: Callable[[Path], None]
) -> Checkpoint | None:
    """The newest checkpoint that is whole and belongs to this training; None to start from the beginning.

    Newer ones are reported where they are damaged, and all of them removed, so that they are not in the way.
    """
    for leftover in folder.glob(".*.tmp"):
        shutil.rmtree(leftover)
    for step in reversed(_steps(folder)):
        try:
            checkpoint = read_checkpoint(folder, step)
            if belongs(checkpoint):
                return checkpoint
        except DamagedCheckpoint:
            damaged(_path(folder, step))
        shutil.rmtree(_path(folder, step))
    return None


def prune_checkpoints(folder: Path, keep: int) -> None:
    """Remove all but the newest ones."""
    for step in _steps(folder)[:-keep]:
        shutil.rmtree(_path(folder, step))


def _path(folder: Path, step: int) -> Path:
    return folder / f"step_{step:08d}"


def _steps(folder: Path) -> list[int]:
    names = (path.name.removeprefix("step_") for path in folder.glob("step_*"))
    return sorted(int(name) for name in names if name.isdecimal())


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
