"""What a stage is, what it is given, and what makes two runs of it the same run.

Identity and execution are separate: a fingerprint covers the stage's name and version, its settings, the content of
its sources and the fingerprints of what it needs. Paths, hardware, worker counts and addresses never enter it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from components.errors import UserError
from pipeline.config import Config, RuntimeConfig

Section = TypeVar("Section")
Json = dict[str, Any]


class MapParts(Protocol):
    """Run a function over parts, on Ray or in this process, each part once and for all."""

    def __call__(
        self,
        function: Callable[..., Json],
        items: Sequence[Mapping[str, Any]],
        *,
        name: str,
        keep: bool = True,
        cpus: float = 1,
    ) -> list[Json]:
        """Call `function(out=folder, **item)` for every item and return the results in the items' order.

        The function is module-level, in `components`. It writes files below the empty folder `out`, with paths that
        differ from those of the other parts, and returns small plain data that JSON can hold. What it wrote lands in
        the artifact (`keep`) or in `ctx.scratch` (not `keep`). A part that finished in an earlier, killed attempt is
        adopted, not run again.
        """


class FilesGone(UserError):
    """A model is in the registry, but its files are no longer where the registry has put them."""


class Registry(Protocol):
    """Where users pick models up."""

    def champion(self, name: str) -> Path | None:
        """The model folder behind the alias `champion`, None where there is none. Raises FilesGone."""

    def register(self, name: str, model: Path, *, metrics: Mapping[str, Any], tags: Mapping[str, str]) -> int:
        """Store the model folder as a new version with the alias `candidate` and return its number."""

    def promote(self, name: str, version: int) -> None:
        """Move the alias `champion` to this version."""


@dataclass(frozen=True, kw_only=True)
class StageContext:
    """All that a stage body may touch. It knows no engine."""

    stage: str
    fingerprint: str
    sections: Mapping[type, Any]
    runtime: RuntimeConfig
    inputs: Mapping[str, Path]
    """The artifact folder of each needed stage."""
    out: Path
    """What is written here becomes the artifact."""
    scratch: Path
    """Survives a kill of this attempt, gone once the artifact is committed."""
    map: MapParts
    train: Callable[[Path], None]
    """Run `components.train` on this job file with the configured group of workers."""
    registry: Registry | None

    def section(self, cls: type[Section]) -> Section:
        """The settings of one section; only what the stage declared, since only that is in its fingerprint."""
        section: Section = self.sections[cls]
        return section


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of the pipeline."""

    name: str
    version: int
    """Raised when the stage's output changes for the same input."""
    needs: tuple[str, ...]
    sections: tuple[str, ...]
    """The config sections that decide the output, e.g. ("corpus", "clean")."""
    run: Callable[[StageContext], Json]
    """The body: writes to `ctx.out`, returns metrics."""
    check: Callable[[Config], None] = lambda config: None
    """Raises UserError for mistakes that can be known before anything runs."""
    world: Callable[[Config], Json] = lambda config: {}
    """What else decides the output: the content of sources, the registry. JSON-like."""
    lost: Callable[[Config], str | None] = lambda config: None
    """Why the artifact of this stage no longer counts although its files are there; None if it does."""
