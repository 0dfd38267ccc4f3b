"""A stage context without engines: parts run one after the other in this process."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.stage import Json, Registry, Stage, StageContext


def context(
    folder: Path,
    stage: Stage,
    config: Config,
    inputs: Mapping[str, Path] | None = None,
    registry: Registry | None = None,
) -> StageContext:
    """A context whose artifact is `folder/out`; every part writes straight into its place."""
    out, scratch = folder / "out", folder / "scratch"
    out.mkdir(parents=True, exist_ok=True)
    scratch.mkdir(parents=True, exist_ok=True)

    def map_parts(
        function: Callable[..., Json],
        items: Sequence[Mapping[str, Any]],
        *,
        name: str,
        keep: bool = True,
        cpus: float = 1,
    ) -> list[Json]:
        return [function(out=out if keep else scratch, **item) for item in items]

    def train(job: Path) -> None:
        from components.train.loop import train_job

        train_job(job)

    sections = {f.name: getattr(config, f.name) for f in fields(config)}
    return StageContext(
        stage=stage.name,
        fingerprint="0" * 64,
        sections={type(sections[name]): sections[name] for name in stage.sections},
        runtime=config.runtime,
        inputs=dict(inputs or {}),
        out=out,
        scratch=scratch,
        map=map_parts,
        train=train,
        registry=registry,
    )
