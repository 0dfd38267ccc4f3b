"""Checkpoints are whole, or not used."""

from pathlib import Path

import pytest
import torch

from components.train.checkpoint import (
    Checkpoint,
    newest_checkpoint,
    prune_checkpoints,
    read_checkpoint,
    write_checkpoint,
)


def write(folder: Path, step: int) -> None:
    tensors = {"weight": torch.full((50, 3), float(step)), "moment": torch.tensor(2.0).bfloat16()}
    write_checkpoint(folder, Checkpoint(step=step, tensors=tensors, state={"of": "this", "best": None}))


def newest(folder: Path, of: str = "this") -> tuple[int | None, list[str]]:
    damaged: list[Path] = []
    checkpoint = newest_checkpoint(folder, lambda c: c.state["of"] == of, damaged.append)
    return checkpoint and checkpoint.step, [path.name for path in damaged]


def test_round_trip(tmp_path: Path) -> None:
    write(tmp_path, 7)
    read = read_checkpoint(tmp_path, 7)
    assert read.state == {"of": "this", "best": None}
    assert torch.equal(read.tensors["weight"], torch.full((50, 3), 7.0))
    assert read.tensors["moment"].dtype == torch.bfloat16
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000007"]


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("harm", ["missing", "empty", "half", "longer", "first", "middle", "last"])
def test_the_one_before_is_used_when_a_file_is_harmed(tmp_path: Path, name: str, harm: str) -> None:
    write(tmp_path, 5)
    write(tmp_path, 12)
    path = tmp_path / "step_00000012" / name
    content = bytearray(path.read_bytes())
    if harm in ("first", "middle", "last"):
        content[{"first": 0, "middle": len(content) // 2, "last": -1}[harm]] ^= 0x10
    harmed = {"empty": b"", "half": content[: len(content) // 2], "longer": content + b"\0"}.get(harm, content)
    path.unlink() if harm == "missing" else path.write_bytes(harmed)
    assert newest(tmp_path) == (5, ["step_00000012"])
    assert newest(tmp_path) == (5, [])  # it is not in the way of the next one of this name
    write(tmp_path, 12)
    assert newest(tmp_path) == (12, [])


def test_one_of_another_training_is_not_used(tmp_path: Path) -> None:
    write(tmp_path, 5)
    assert newest(tmp_path, of="another") == (None, [])


def test_what_a_kill_left_behind_is_removed(tmp_path: Path) -> None:
    write(tmp_path, 5)
    (tmp_path / ".step_00000009.tmp").mkdir()
    (tmp_path / ".step_00000009.tmp" / "state.json").write_text("{")
    assert newest(tmp_path) == (5, [])
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000005"]


def test_nothing_there_is_the_beginning(tmp_path: Path) -> None:
    assert newest(tmp_path / "missing") == (None, [])


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (9, 10, 100, 99_999_999, 100_000_000):
        write(tmp_path, step)
    prune_checkpoints(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_100000000", "step_99999999"]
