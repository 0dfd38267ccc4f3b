"""What one training is told: `job.json`, and the data that it names.

The file is all that a training needs to know: it runs the same alone, under torchrun and under Ray Train.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from components.errors import UserError
from components.model.config import ModelConfig
from components.train.config import TrainConfig

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """One training: inputs, places, settings."""

    shard: Path
    """The artifact with the token ids."""
    tokenizer: Path
    """The tokenizer that made them."""
    work: Path
    """Checkpoints, `metrics.jsonl` while it grows, and the lock; a killed training goes on from here."""
    out: Path
    """Gets `model/` and `metrics.jsonl` at the end."""
    model: ModelConfig
    train: TrainConfig
    checkpoint_minutes: float = 5.0
    keep_checkpoints: int = 2
    use_gpu: bool = False
    fingerprint: str = ""
    """What the checkpoints belong to; those of another fingerprint are not used."""

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree with to be continued."""
        return {"fingerprint": self.fingerprint, "model": asdict(self.model), "train": asdict(self.train)}


def write_job(path: Path, job: TrainJob) -> None:
    """Write the job file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"format": FORMAT, **asdict(job)}
    path.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")


def read_job(path: Path) -> TrainJob:
    """Read a job file; relative paths in it are taken from the current directory.

    Raises UserError where it is missing, not JSON, of another format, or has wrong settings.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"job file {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"job file {path} is not JSON: {error}") from None
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise UserError(f"job file {path} is not of format {FORMAT}; write it again with this version")
    try:
        return _job({key: value for key, value in tree.items() if key != "format"})
    except (TypeError, ValueError) as error:
        raise UserError(f"job file {path}: {error}") from None


def _job(tree: dict[str, Any]) -> TrainJob:
    for name in ("shard", "tokenizer", "work", "out"):
        if not isinstance(tree.get(name), str):
            raise ValueError(f"{name} must be a path")
        tree[name] = Path(tree[name])
    for name, cls in (("model", ModelConfig), ("train", TrainConfig)):
        section = tree.get(name)
        if not isinstance(section, dict):
            raise ValueError(f"{name} must be a section")
        unknown = section.keys() - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(f"unknown key {name}.{min(unknown)}")
        for field in fields(cls):
            choices = get_args(field.type) if get_origin(field.type) is Literal else ()
            if choices and section.get(field.name, choices[0]) not in choices:
                raise ValueError(f"{name}.{field.name} must be one of {', '.join(choices)}")
        tree[name] = cls(**section)
    return TrainJob(**tree)
