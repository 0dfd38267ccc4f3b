"""Job files: what is written is read, what is wrong is named."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from components.errors import UserError
from components.train.job import read_job
from tests.components.train.jobs import make_job


def test_round_trip(tmp_path: Path) -> None:
    job = make_job(tmp_path, tmp_path / "shard", train={"precision": "bf16", "max_steps": 7})
    assert read_job(tmp_path / "job.json") == job


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"format": 2}, "format 1"),
        ({"shard": None}, "shard must be a path"),
        ({"model": []}, "model must be a section"),
        ({"model": {"cell": "elman"}}, "model.cell must be one of lstm, rnn, gru"),
        ({"train": {"optimizer": "lion"}}, "train.optimizer must be one of"),
        ({"train": {"lr": 1}}, "unknown key train.lr"),
        ({"train": {"bptt": 0}}, "bptt must be at least 1"),
        ({"train": {"seed": -1}}, "seed must lie between 0 and"),
        ({"train": {"seed": 2**63}}, "seed must lie between 0 and"),
        ({"train": {"learning_rate": math.nan}}, "learning_rate must be a number"),
        ({"train": {"learning_rate": math.inf}}, "learning_rate must be a number"),
        ({"train": {"weight_decay": math.nan}}, "weight_decay must be a number"),
        ({"train": {"clip_norm": math.inf}}, "clip_norm must be a number"),
        ({"train": {"warmup_fraction": math.nan}}, "warmup_fraction must be"),
        ({"model": {"dropout": math.nan}}, "dropout must be"),
        ({"train": {"bptt": "many"}}, "job.json"),
        ({"workers": 3}, "workers"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    make_job(tmp_path, tmp_path / "shard")
    path = tmp_path / "job.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=named):
        read_job(path)


@pytest.mark.parametrize("content", [None, "", "{", "[]", "3"])
def test_what_is_no_job_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "job.json").write_text(content)
    with pytest.raises(UserError, match=r"job\.json"):
        read_job(tmp_path / "job.json")
