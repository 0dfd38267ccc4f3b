"""What would run and why: fingerprints, cache hits, and which setting or input changed."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from components.errors import UserError
from pipeline.config import Config, identity, store_path
from pipeline.stage import Stage
from pipeline.stages import STAGES
from pipeline.store import Artifact, Store, digest, missing_file

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One stage of a run: what identifies it, and its artifact where it need not run."""

    stage: Stage
    fingerprint: str
    identity: Json
    cached: Artifact | None
    why: str
    replace: bool
    """Start a new attempt: nothing of an earlier one is adopted."""


def plan(config: Config, target: str = "all", *, force: bool = False) -> list[Planned]:
    """The stages that a run of `target` goes through, in order.

    `force` reruns the target and all that follow. Raises UserError for what the user has to mend first.
    """
    forced = _forced(target) if force else set()
    chosen = _closure([target] if target != "all" else [s.name for s in STAGES]) | forced
    store = Store(store_path(config))
    planned: dict[str, Planned] = {}
    for stage in STAGES:
        if stage.name not in chosen:
            continue
        stage.check(config)
        identifies = _identity(stage, config, planned)
        fingerprint = digest(identifies)
        artifact, broken = None, None
        if stage.name not in forced:
            artifact = store.artifact(stage.name, fingerprint)
            broken = (missing_file(artifact) or stage.lost(config)) if artifact else None
        cached = None if broken else artifact
        planned[stage.name] = Planned(
            stage=stage,
            fingerprint=fingerprint,
            identity=identifies,
            cached=cached,
            why=_why(stage, identifies, store, cached=cached, broken=broken, forced=stage.name in forced),
            replace=stage.name in forced or broken is not None,
        )
    return list(planned.values())


def stage_named(name: str) -> Stage:
    """The stage of this name. Raises UserError."""
    for stage in STAGES:
        if stage.name == name:
            return stage
    raise UserError(f"there is no stage {name}; the stages are {', '.join(s.name for s in STAGES)}")


def _closure(targets: Iterable[str]) -> set[str]:
    """The targets and all that they need."""
    found: set[str] = set()
    for target in targets:
        found |= {target} | _closure(stage_named(target).needs)
    return found


def _forced(target: str) -> set[str]:
    """The target and all that follow from it; every stage for `all`."""
    found = {s.name for s in STAGES} if target == "all" else {target}
    for stage in STAGES:
        if found & set(stage.needs):
            found.add(stage.name)
    return found


def _identity(stage: Stage, config: Config, planned: Mapping[str, Planned]) -> Json:
    content: Json = {
        "stage": stage.name,
        "version": stage.version,
        "settings": {name: identity(getattr(config, name)) for name in stage.sections},
        "world": stage.world(config),
        "needs": {name: planned[name].fingerprint for name in stage.needs},
    }
    plain: Json = json.loads(json.dumps(content))
    return plain


def _why(
    stage: Stage, identifies: Json, store: Store, *, cached: Artifact | None, broken: str | None, forced: bool
) -> str:
    if forced:
        return "forced"
    if cached:
        return f"made {cached.manifest['finished'][:19].replace('T', ' ')}"
    if broken:
        return broken
    before = store.artifacts(stage.name)
    if not before:
        return "not made yet"
    # The nearest relative explains best; among equals the youngest.
    changes = min((differences(a.manifest["identity"], identifies) for a in reversed(before)), key=len)
    return "; ".join(changes[:4]) + (f" and {len(changes) - 4} more" if len(changes) > 4 else "")


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What tells two identities apart, a short phrase each."""
    found = []
    if old["version"] != new["version"]:
        found.append(f"the stage's version {old['version']} -> {new['version']}")
    for section, settings in new["settings"].items():
        before = old["settings"].get(section, {})
        found += [
            f"{section}.{key} {_short(before.get(key))} -> {_short(settings.get(key))}"
            for key in sorted(before.keys() | settings.keys())
            if before.get(key) != settings.get(key)
        ]
    found += [f"{name} changed" for name, made in new["needs"].items() if old["needs"].get(name) != made]
    found += _world_differences(old["world"], new["world"])
    return found or ["its record is of another kind"]


def changed_world(planned: Planned, config: Config) -> list[str]:
    """How the world differs from what this plan was made for, in short phrases."""
    now = json.loads(json.dumps(planned.stage.world(config)))
    return _world_differences(planned.identity["world"], now)


def _world_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    found = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if isinstance(before, list) and isinstance(after, list):
            found += _source_differences(before, after)
        else:
            found.append(f"{key} {_short(before)} -> {_short(after)}")
    return found


def _source_differences(before: list[list[str]], after: list[list[str]]) -> list[str]:
    """Sources are (split, name, digest)."""
    old, new = ({(split, name): sha for split, name, sha in side} for side in (before, after))
    words = [f"{name} was added" for split, name in sorted(new.keys() - old.keys(), key=str)]
    words += [f"{name} is gone" for split, name in sorted(old.keys() - new.keys(), key=str)]
    words += [
        f"{name} changed"
        for split, name in sorted(old.keys() & new.keys(), key=str)
        if old[split, name] != new[split, name]
    ]
    return words or ["the order of the sources changed"]


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
