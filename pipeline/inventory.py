"""What the store and the registry hold: find a model, show everything, verify it, remove what nobody needs."""

import fcntl
import json
import shutil
import uuid
from pathlib import Path
from typing import Any

from components.errors import UserError
from pipeline.address import registry_identity, tracking_uri
from pipeline.config import Config, store_path
from pipeline.runner import headline
from pipeline.stages import STAGES
from pipeline.store import Artifact, Store, read_manifest, verify_artifact

Json = dict[str, Any]

SHORTEST_FINGERPRINT = 6
REMOVED = "removed-"
"""Folders of `.tmp` with this prefix are what `remove` was killed at."""


def find_model(uri: str, config: Config) -> Path:
    """The model folder behind `models:/…`, a path, or the (shortened) fingerprint of a training.

    Raises UserError naming what there is instead.
    """
    if uri.startswith("models:"):
        from pipeline.registry import resolve

        return resolve(uri, tracking_uri(config))
    path = Path(uri)
    for folder in (path, path / "model"):
        if (folder / "config.json").is_file():
            return folder
    trained = Store(store_path(config)).folders("train")
    found = [f for f in trained if len(uri) >= SHORTEST_FINGERPRINT and f.name.startswith(uri)]
    if len(found) == 1:
        return found[0] / "model"
    if found:
        raise UserError(f"the fingerprint {uri} fits {len(found)} trainings; write more of it")
    raise UserError(
        f"{uri} is no model: give models:/name@champion, models:/name/3, a model folder, or the fingerprint of a "
        "training that `pipeline status` lists"
    )


def overview(config: Config) -> Json:
    """Artifacts, attempts and registered models, ready for JSON; a folder that is not there holds nothing.

    Raises UserError where the store is a file.
    """
    store = Store(store_path(config))
    if store.root.exists():
        _existing(config)
    artifacts = [_describe(a) for stage in STAGES for a in store.artifacts(stage.name)]
    return {"store": str(store.root), "artifacts": artifacts, "attempts": _attempts(store), "models": _models(config)}


def verify_all(config: Config) -> list[Json]:
    """Every artifact with what is wrong with it, the registered versions included.

    Raises UserError if there is no store.
    """
    store = _existing(config)
    rows = []
    for stage in STAGES:
        for folder in store.folders(stage.name):
            try:
                artifact = Artifact(folder, read_manifest(folder, stage.name))
                problems = verify_artifact(artifact)
            except UserError as error:
                problems = [str(error)]
            if stage.name == "register" and not problems:
                problems = _registration_problems(folder, config)
            rows.append({"stage": stage.name, "fingerprint": folder.name, "path": str(folder), "problems": problems})
    return rows


def prunable(config: Config, *, keep: int, attempts: bool) -> list[Json]:
    """What neither one of the `keep` newest runs nor a registered version needs.

    A run is what no other artifact was made from. Raises UserError if there is no store, or a run is at work in it.
    """
    store = _existing(config)
    stopped = _attempts(store)
    if any(row["running"] for row in stopped):
        raise UserError(f"a run is at work in {store.root}; prune when it has ended")
    everything = {(stage.name, a.fingerprint): a for stage in STAGES for a in store.artifacts(stage.name)}
    needed = {need for a in everything.values() for need in a.manifest["needs"].items()}
    ends = sorted(
        (key for key in everything if key not in needed), key=lambda key: everything[key].manifest["finished"]
    )
    kept: set[tuple[str, str]] = set()
    for key in ends[len(ends) - keep if keep < len(ends) else 0 :] + _registered(everything, config):
        _keep(key, everything, kept)
    doomed = [_describe(artifact) for key, artifact in everything.items() if key not in kept]
    return doomed + ([row for row in stopped if attempts])


def remove(config: Config, rows: list[Json]) -> None:
    """Remove artifacts and attempts, and what an earlier removal was killed at.

    Each leaves its place at once, so that a kill leaves no half of it there.
    """
    trash = _existing(config).root / ".tmp"
    for row in rows:
        trash.mkdir(exist_ok=True)
        Path(row["path"]).rename(trash / f"{REMOVED}{uuid.uuid4().hex}")
    for folder in trash.glob(f"{REMOVED}*"):
        shutil.rmtree(folder)


def _existing(config: Config) -> Store:
    store = Store(store_path(config))
    if not store.root.is_dir():
        what = f"{store.root} is a file, not a store" if store.root.exists() else f"there is no store at {store.root}"
        raise UserError(f"{what}; name its folder with --store")
    return store


def _describe(artifact: Artifact) -> Json:
    manifest = artifact.manifest
    return {
        "stage": manifest["stage"],
        "fingerprint": artifact.fingerprint,
        "path": str(artifact.path),
        "made": manifest["finished"][:19].replace("T", " "),
        "bytes": sum(entry["bytes"] for entry in manifest["files"].values()),
        "summary": headline(manifest["stage"], manifest["metrics"]),
        "metrics": manifest["metrics"],
    }


def _attempts(store: Store) -> list[Json]:
    rows = []
    locks = (lock for lock in (store.root / ".tmp").glob("*/lock") if not lock.parent.name.startswith(REMOVED))
    for lock in sorted(locks):
        stage, _, fingerprint = lock.parent.name.partition("-")
        size = sum(p.stat().st_size for p in lock.parent.rglob("*") if p.is_file())
        row = {"stage": stage, "fingerprint": fingerprint, "path": str(lock.parent), "made": None, "bytes": size}
        rows.append(row | {"running": _is_locked(lock)})
    return rows


def _is_locked(path: Path) -> bool:
    """Whether a process holds this lock; opened for reading, which a read-only store allows."""
    try:
        file = path.open("rb")
    except OSError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _models(config: Config) -> list[Json]:
    from pipeline.registry import list_models

    models = list_models(tracking_uri(config))
    for model in models:
        for version in model["versions"]:
            version["aliases"] = sorted(a for a, number in model["aliases"].items() if number == version["version"])
    return models


def _registration(folder: Path) -> Json:
    try:
        registration: Json = json.loads((folder / "registration.json").read_text(encoding="utf-8"))
        return registration
    except (OSError, ValueError):
        raise UserError(
            f"{folder / 'registration.json'} is missing or damaged; make it again with "
            "`pipeline run --stage register --force`"
        ) from None


def _registration_problems(folder: Path, config: Config) -> list[str]:
    """A version that this registry should hold and does not; other registries are not asked."""
    from pipeline.registry import version_exists

    registration = _registration(folder)
    if registration["registry"] != registry_identity(config.runtime):
        return []
    if version_exists(registration["name"], registration["version"], tracking_uri(config)):
        return []
    return [f"{registration['uri']} is no longer in the registry"]


def _registered(everything: dict[tuple[str, str], Artifact], config: Config) -> list[tuple[str, str]]:
    """The registrations whose version still stands, or lies in a registry that is not this one."""
    return [
        key
        for key, artifact in everything.items()
        if key[0] == "register" and not _registration_problems(artifact.path, config)
    ]


def _keep(key: tuple[str, str], everything: dict[tuple[str, str], Artifact], kept: set[tuple[str, str]]) -> None:
    if key in kept or key not in everything:
        return
    kept.add(key)
    for need in everything[key].manifest["needs"].items():
        _keep(need, everything, kept)
