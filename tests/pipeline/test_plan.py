"""What would run, and the reason that is given."""

from pathlib import Path
from typing import Any

import pytest

from components.errors import UserError
from pipeline.cli.options import STAGE_NAMES
from pipeline.config import Config, load_config
from pipeline.plan import Planned, differences, plan
from pipeline.stages import STAGES


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("One.\n\nTwo.\n\nThree.\n")
    return tmp_path / "texts"


def config(corpus: Path, *overrides: str) -> Config:
    return load_config(None, overrides, inputs=[str(corpus)], store=str(corpus.parent / "runs"))


def fingerprints(planned: list[Planned]) -> dict[str, str]:
    return {p.stage.name: p.fingerprint for p in planned}


def test_the_command_line_knows_every_stage() -> None:
    assert tuple(s.name for s in STAGES) == STAGE_NAMES


def test_stages_need_only_what_comes_before_them() -> None:
    for index, stage in enumerate(STAGES):
        assert set(stage.needs) <= {s.name for s in STAGES[:index]}


@pytest.mark.parametrize(
    ("target", "force", "names"),
    [
        ("clean", False, ["clean"]),
        ("train", False, ["clean", "vocab", "shard", "train"]),
        ("train", True, ["clean", "vocab", "shard", "train", "evaluate", "register"]),
        ("all", False, list(STAGE_NAMES)),
    ],
)
def test_a_target_brings_what_it_needs_and_force_what_follows(
    corpus: Path, target: str, force: bool, names: list[str]
) -> None:
    planned = plan(config(corpus), target, force=force)
    assert [p.stage.name for p in planned] == names
    forced = [p.stage.name for p in planned if p.why == "forced"]
    assert forced == (["train", "evaluate", "register"] if force else [])
    assert all(p.why == "not made yet" for p in planned if p.why != "forced")


CHANGES = [
    ("clean.min_chars=2", list(STAGE_NAMES)),
    ("corpus.document=line", list(STAGE_NAMES)),
    ("vocab.lowercase=true", ["vocab", "shard", "train", "evaluate", "register"]),
    ("shard.row_group_documents=7", ["shard", "train", "evaluate", "register"]),
    ("model.hidden_size=8", ["train", "evaluate", "register"]),
    ("train.seed=2", ["train", "evaluate", "register"]),
    ("evaluate.samples=1", ["evaluate", "register"]),
    ("register.name=other", ["register"]),
    ("runtime.tracking_uri=sqlite:////other.db", ["register"]),
    ("runtime.workers=4", []),
    ("runtime.use_gpu=true", []),
]


@pytest.mark.parametrize(("change", "changed"), CHANGES)
def test_a_setting_changes_the_stages_that_it_decides(corpus: Path, change: str, changed: list[str]) -> None:
    before, after = (fingerprints(plan(c)) for c in (config(corpus), config(corpus, change)))
    assert [name for name in STAGE_NAMES if before[name] != after[name]] == changed


def test_content_decides_and_place_and_time_do_not(corpus: Path, tmp_path: Path) -> None:
    before = fingerprints(plan(config(corpus)))
    moved = corpus.rename(tmp_path / "moved")
    (moved / "a.txt").touch()
    assert fingerprints(plan(config(moved, "register.name=texts"))) == before
    (moved / "a.txt").write_text("One.\n\nTwo.\n\nFour.\n")
    assert fingerprints(plan(config(moved, "register.name=texts")))["clean"] != before["clean"]


def test_an_unknown_stage_is_told(corpus: Path) -> None:
    with pytest.raises(UserError, match="there is no stage trian; the stages are clean, vocab"):
        plan(config(corpus), "trian")


def record(**changes: Any) -> dict[str, Any]:
    sources = [[None, "a.txt", "1"], [None, "b.txt", "2"]]
    settings = {"clean": {"min_chars": 1, "duplicates": True}}
    return {"version": 1, "settings": settings, "world": {"sources": sources}, "needs": {"vocab": "x"}} | changes


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": 2}, "the stage's version 1 -> 2"),
        ({"settings": {"clean": {"min_chars": 5, "duplicates": True}}}, "clean.min_chars 1 -> 5"),
        ({"needs": {"vocab": "y"}}, "vocab changed"),
        ({"world": {"sources": [[None, "a.txt", "1"], [None, "b.txt", "3"]]}}, "b.txt changed"),
        ({"world": {"sources": [[None, "a.txt", "1"]]}}, "b.txt is gone"),
        ({"world": {"sources": [[None, "b.txt", "2"], [None, "a.txt", "1"]]}}, "the order of the sources changed"),
    ],
)
def test_a_difference_is_a_phrase(change: dict[str, Any], told: str) -> None:
    assert differences(record(), record(**change)) == [told]
