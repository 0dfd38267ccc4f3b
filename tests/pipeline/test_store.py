"""The store's promises: complete or absent, verified, resumed part by part, one process at a time."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from components.documents import write_table
from components.errors import UserError
from components.files import hash_file
from pipeline.provenance import provenance
from pipeline.store import (
    Artifact,
    Store,
    canonical,
    digest,
    merkle_root,
    missing_file,
    read_manifest,
    verify_artifact,
)


def write_part(*, name: str, text: str, out: Path) -> dict[str, Any]:
    (out / "deep").mkdir()
    (out / "deep" / f"{name}.txt").write_text(text)
    write_table(out / "rows" / f"{name}.parquet", pa.table({"x": list(range(len(text)))}))
    return {"length": len(text)}


def explode(*, name: str, text: str, out: Path) -> dict[str, Any]:
    (out / "half.txt").write_text("half")
    raise AssertionError("a finished part is not run again")


def manifest(fingerprint: str = "f" * 64) -> dict[str, Any]:
    identity = {"version": 1, "settings": {}, "world": {}, "needs": {}}
    return {
        "fingerprint": fingerprint,
        "identity": identity,
        "needs": {},
        "metrics": {},
        **provenance(datetime.now(UTC)),
    }


def make(store: Store, text: str = "hello", *, fresh: bool = False) -> Artifact:
    with store.attempt("clean", "f" * 64, fresh=fresh) as attempt:
        item = {"name": "a", "text": text}
        attempt.part("part", 0, item, keep=True).run(write_part, item)
        attempt.part("side", 0, item, keep=False).run(write_part, item)
        (attempt.out / "funnel.json").write_text("{}")
        return store.commit(attempt, "clean", manifest(), replace=fresh)


def test_an_artifact_holds_what_was_kept_and_its_manifest_tells_every_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact = make(store)
    assert artifact.manifest["files"].keys() == {"deep/a.txt", "rows/a.parquet", "funnel.json"}
    assert artifact.manifest["files"]["rows/a.parquet"]["rows"] == len("hello")
    assert artifact.manifest["files"]["deep/a.txt"]["sha256"] == hash_file(artifact.path / "deep" / "a.txt")
    assert verify_artifact(artifact) == []
    assert missing_file(artifact) is None
    assert list((tmp_path / ".tmp").iterdir()) == []
    found = store.artifact("clean", "f" * 64)
    assert found is not None
    assert found.manifest == artifact.manifest


def test_a_finished_part_is_adopted_only_while_item_and_files_are_the_same(tmp_path: Path) -> None:
    store = Store(tmp_path)
    item = {"name": "a", "text": "hello"}
    with pytest.raises(KeyboardInterrupt), store.attempt("clean", "f" * 64, fresh=False) as attempt:
        attempt.part("part", 0, item, keep=True).run(write_part, item)
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), store.attempt("clean", "f" * 64, fresh=False) as attempt:
        assert attempt.part("part", 0, item, keep=True).finished() == {"length": 5}
        assert attempt.part("part", 0, {"name": "a", "text": "other"}, keep=True).finished() is None
        assert attempt.part("part", 1, item, keep=True).finished() is None
        (attempt.out / "deep" / "a.txt").write_text("jello")
        assert attempt.part("part", 0, item, keep=True).finished() is None
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), store.attempt("clean", "f" * 64, fresh=True) as attempt:
        assert list(attempt.out.iterdir()) == []
        raise KeyboardInterrupt


def test_a_part_that_fails_leaves_nothing_in_the_artifact(tmp_path: Path) -> None:
    store = Store(tmp_path)
    item = {"name": "a", "text": "hello"}
    with pytest.raises(AssertionError), store.attempt("clean", "f" * 64, fresh=False) as attempt:
        attempt.part("part", 0, item, keep=True).run(explode, item)
    with store.attempt("clean", "f" * 64, fresh=False) as attempt:
        assert list(attempt.out.iterdir()) == []
        assert list((attempt.folder / "parts").iterdir()) == []
        store.commit(attempt, "clean", manifest())


def test_force_replaces_the_artifact(tmp_path: Path) -> None:
    store = Store(tmp_path)
    make(store, "hello")
    artifact = make(store, "other", fresh=True)
    assert (artifact.path / "deep" / "a.txt").read_text() == "other"
    assert verify_artifact(artifact) == []


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "add"])
def test_verify_names_the_damaged_file(tmp_path: Path, damage: str) -> None:
    artifact = make(Store(tmp_path))
    file = artifact.path / "deep" / "a.txt"
    match damage:
        case "flip":
            file.write_text("hellp")
            assert missing_file(artifact) is None
        case "truncate":
            file.write_text("hell")
            assert missing_file(artifact) == "deep/a.txt has 4 bytes instead of 5"
        case "remove":
            file.unlink()
            assert missing_file(artifact) == "deep/a.txt is missing"
        case "add":
            file = artifact.path / "deep" / "b.txt"
            file.write_text("x")
    (problem,) = verify_artifact(artifact)
    assert f"deep/{file.name}" in problem


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": 99}', "\x00\xff"])
def test_a_damaged_manifest_is_a_sentence_with_the_fix(tmp_path: Path, content: str) -> None:
    artifact = make(Store(tmp_path))
    (artifact.path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match="pipeline run --stage clean --force"):
        read_manifest(artifact.path, "clean")


def test_a_manifest_of_another_format_is_refused(tmp_path: Path) -> None:
    artifact = make(Store(tmp_path))
    (artifact.path / "manifest.json").write_text(json.dumps(artifact.manifest | {"format": 2}))
    with pytest.raises(UserError, match="format 2"):
        read_manifest(artifact.path, "clean")


def test_a_second_process_is_told_who_is_at_work(tmp_path: Path) -> None:
    store = Store(tmp_path)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from pipeline.store import Store\n"
            "with Store(Path(sys.argv[1])).attempt('clean', 'f' * 64, fresh=False):\n"
            "    print('held', flush=True); sys.stdin.read()",
            str(tmp_path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=rf"process {holder.pid} on "), store.attempt("clean", "f" * 64, fresh=False):
        pass
    holder.kill()
    holder.wait()
    make(store)


CRASH_POINTS = ("fsync", "replace", "rename", "mkdir", "unlink", "rmdir")


def crash_at(point: int, store: Path) -> bool:
    """Make the artifact in a child that dies before its system call number `point`; whether it got that far."""
    child = os.fork()
    if child == 0:
        left = [point]

        def crashing(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                left[0] -= 1
                if left[0] == 0:
                    os._exit(137)
                return real(*args, **kwargs)

            return call

        for name in CRASH_POINTS:
            setattr(os, name, crashing(getattr(os, name)))
        make(Store(store))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 137


def test_a_crash_before_any_system_call_recovers_to_the_same_bytes(tmp_path: Path) -> None:
    undisturbed = make(Store(tmp_path / "undisturbed")).manifest["merkle_root"]
    point, crashed = 0, True
    while crashed:
        point += 1
        store = Store(tmp_path / str(point))
        crashed = crash_at(point, store.root)
        found = store.artifact("clean", "f" * 64)
        assert found is None or verify_artifact(found) == []
        assert make(store).manifest["merkle_root"] == undisturbed
    assert point > 20, "the crash points were not reached"


def test_canonical_json_has_one_spelling_and_refuses_what_has_none() -> None:
    assert canonical({"b": 1, "a": [None, "é"]}) == '{"a":[null,"é"],"b":1}'
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    for value in ({"x": object()}, {"x": float("nan")}, {"x": {1, 2}}, {"x": print}):
        with pytest.raises((TypeError, ValueError)):
            canonical(value)


def test_the_merkle_root_changes_with_any_name_or_hash() -> None:
    leaves = {f"f{i}": f"{i:064x}" for i in range(5)}
    roots = {merkle_root(leaves), merkle_root({})}
    for name in leaves:
        roots.add(merkle_root(leaves | {name: "0" * 63 + "f"}))
        roots.add(merkle_root({k if k != name else "other": v for k, v in leaves.items()}))
    assert len(roots) == 12
    assert merkle_root(dict(reversed(leaves.items()))) == merkle_root(leaves)
