"""What `status`, `verify` and `prune` say of stores made by hand, and what a model may be called."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from components.errors import UserError
from pipeline.cli import commands
from pipeline.config import Config, RuntimeConfig
from pipeline.inventory import find_model, overview, prunable, remove, verify_all
from pipeline.provenance import provenance
from pipeline.store import Artifact, Store
from tests.pipeline.models import make_model

CLEAN = {"documents_in": 3, "documents_train": 1, "documents_valid": 1, "documents_test": 1}
VOCAB = {"size": 7, "coverage_test": 1.0}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "runs")
    store.create()
    return store


@pytest.fixture
def config(store: Store) -> Config:
    return Config(runtime=RuntimeConfig(store=str(store.root)))


@pytest.fixture
def make(store: Store) -> Callable[..., Artifact]:
    """Commits an artifact, each younger than the one before."""
    clock = (f"2026-01-01T00:00:{second:02}.000000+00:00" for second in range(60))

    def commit(stage: str, letter: str, **needs: str) -> Artifact:
        fingerprint = letter * 64
        manifest: dict[str, Any] = {
            **provenance(datetime.now(UTC)),
            "fingerprint": fingerprint,
            "identity": {"version": 1, "settings": {}, "world": {}, "needs": {}},
            "needs": {name: need * 64 for name, need in needs.items()},
            "metrics": CLEAN if stage == "clean" else VOCAB,
            "finished": next(clock),
        }
        with store.attempt(stage, fingerprint, fresh=False) as attempt:
            (attempt.out / "data.txt").write_text(letter)
            return store.commit(attempt, stage, manifest)

    return commit


def stop(store: Store, stage: str, letter: str) -> Path:
    """An attempt that ended before its commit."""
    with pytest.raises(KeyboardInterrupt), store.attempt(stage, letter * 64, fresh=False) as attempt:
        (attempt.out / "half.txt").write_text("half")
        raise KeyboardInterrupt
    return attempt.folder


def names(rows: list[dict[str, Any]]) -> list[str]:
    return [f"{row['stage']} {row['fingerprint'][0]}" for row in rows]


def pipeline(command: str, store: Path, *arguments: str) -> Result:
    """In this process, where standard input is no terminal; a UserError is the result's exception."""
    return CliRunner().invoke(commands, [command, "--store", str(store), *arguments])


def test_a_model_by_path_or_fingerprint(config: Config, store: Store, tmp_path: Path) -> None:
    model = make_model(tmp_path / "trained" / "model")
    assert find_model(str(model), config) == model
    assert find_model(str(tmp_path / "trained"), config) == model
    for fingerprint in ("abcdef11", "abcdef22"):
        (store.root / "train" / fingerprint).mkdir(parents=True)
    assert find_model("abcdef1", config) == store.root / "train" / "abcdef11" / "model"
    with pytest.raises(UserError, match="the fingerprint abcdef fits 2 trainings; write more of it"):
        find_model("abcdef", config)
    for nothing in ("abcde", "fedcba", "abcdef111", "", str(tmp_path)):
        with pytest.raises(UserError, match=f"{nothing} is no model: give models:/name@champion"):
            find_model(nothing, config)


def test_the_newest_runs_stay_with_what_they_need(config: Config, make: Callable[..., Artifact]) -> None:
    make("clean", "a")
    make("clean", "b")
    make("vocab", "1", clean="a")
    make("vocab", "2", clean="b")
    make("vocab", "3", clean="a")
    assert names(prunable(config, keep=3, attempts=False)) == []
    assert names(prunable(config, keep=99, attempts=False)) == []
    assert names(prunable(config, keep=2, attempts=False)) == ["vocab 1"]
    assert names(prunable(config, keep=1, attempts=False)) == ["clean b", "vocab 1", "vocab 2"]
    assert len(prunable(config, keep=0, attempts=False)) == 5

    remove(config, prunable(config, keep=1, attempts=False))
    assert names(overview(config)["artifacts"]) == ["clean a", "vocab 3"]
    assert all(not row["problems"] for row in verify_all(config))


def test_attempts_go_only_on_request(config: Config, store: Store, make: Callable[..., Artifact]) -> None:
    make("clean", "a")
    folder = stop(store, "vocab", "1")
    assert prunable(config, keep=1, attempts=False) == []
    doomed = prunable(config, keep=1, attempts=True)
    assert names(doomed) == ["vocab 1"] and doomed[0]["bytes"] >= len("half")
    remove(config, doomed)
    assert not folder.exists()
    assert list((store.root / ".tmp").iterdir()) == []


def test_nothing_is_pruned_while_a_run_is_at_work(config: Config, store: Store, make: Callable[..., Artifact]) -> None:
    make("clean", "a")
    with store.attempt("vocab", "1" * 64, fresh=False):
        assert overview(config)["attempts"][0]["running"]
        with pytest.raises(UserError, match="a run is at work in"):
            prunable(config, keep=0, attempts=False)
    stop(store, "vocab", "1")
    assert not overview(config)["attempts"][0]["running"]
    assert names(prunable(config, keep=0, attempts=False)) == ["clean a"]


def test_a_lock_is_asked_for_without_writing(config: Config, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = stop(store, "vocab", "1") / "lock"
    opened = Path.open
    modes = []

    def recording(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        modes.extend([mode] if path == lock else [])
        return opened(path, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", recording)
    assert not overview(config)["attempts"][0]["running"]
    assert modes == ["rb"]
    monkeypatch.setattr(Path, "open", lambda path, *_, **__: (_ for _ in ()).throw(PermissionError(str(path))))
    assert not overview(config)["attempts"][0]["running"]


def test_what_a_killed_removal_left_is_swept(config: Config, store: Store, make: Callable[..., Artifact]) -> None:
    make("clean", "a")
    for name in (f"removed-{'a' * 64}", "removed-attempt"):
        left = store.root / ".tmp" / name
        left.mkdir()
        (left / "lock").write_text("")
    assert overview(config)["attempts"] == []
    remove(config, prunable(config, keep=0, attempts=False))
    assert list((store.root / ".tmp").iterdir()) == []
    assert overview(config)["artifacts"] == []


@pytest.mark.parametrize("command", ["verify", "prune", "status"])
def test_what_is_no_store_is_told(command: str, tmp_path: Path) -> None:
    file, nothing = tmp_path / "file", tmp_path / "nothing"
    file.write_text("")
    assert str(pipeline(command, file).exception) == f"{file} is a file, not a store; name its folder with --store"
    done = pipeline(command, nothing)
    if command == "status":
        assert done.exit_code == 0 and "is empty" in done.output
    else:
        assert isinstance(done.exception, UserError)
        assert str(done.exception) == f"there is no store at {nothing}; name its folder with --store"
    assert list(tmp_path.iterdir()) == [file]


def test_verify_names_the_stage_to_rebuild(store: Store, make: Callable[..., Artifact]) -> None:
    make("clean", "a")
    (make("vocab", "1", clean="a").path / "data.txt").write_text("x")
    (make("vocab", "2", clean="a").path / "data.txt").unlink()
    done = pipeline("verify", store.root)
    assert done.exit_code == 1
    assert "pipeline run --stage vocab --force" in done.stderr
    assert "pipeline" not in pipeline("verify", store.root, "--json").stderr


def test_status_does_not_call_a_failed_attempt_stopped(store: Store) -> None:
    stop(store, "vocab", "1")
    assert "unfinished; the same run command goes on with it" in " ".join(pipeline("status", store.root).output.split())


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_prune_asks_no_question_that_nobody_hears(
    store: Store, make: Callable[..., Artifact], arguments: list[str]
) -> None:
    make("clean", "a")
    done = pipeline("prune", store.root, "--keep", "0", *arguments)
    assert isinstance(done.exception, UserError)
    assert str(done.exception) == "add --yes to remove without being asked"
    assert "?" not in done.output
    assert len(store.artifacts("clean")) == 1
    done = pipeline("prune", store.root, "--keep", "0", "--yes", "--json")
    assert names(json.loads(done.stdout)["removed"]) == ["clean a"]
    assert store.artifacts("clean") == []
    assert pipeline("prune", store.root, "--keep", "0", *arguments).exit_code == 0
