"""Where bytes live: attempts, parts, the commit, manifests, verification.

    <store>/.tmp/<stage>-<fingerprint>/     an attempt, kept over a kill
        lock                                held by the process at work
        out/                                becomes the artifact
        scratch/                            intermediate files
        receipts/<name>-<index>.json        a finished part and the hashes of its files
    <store>/<stage>/<fingerprint>/          an artifact: complete, or not there at all
        manifest.json                       written last; then the whole folder is renamed into place

A part's files are written to a folder of their own, synced, hashed and moved into place before its receipt is written.
Whoever renames first has committed; a late twin finds the place taken and its copy is thrown away.
"""

import fcntl
import hashlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import IO, Any

from components.errors import UserError
from components.files import hash_file, sync_folder

FORMAT = 1
MANIFEST = "manifest.json"

Json = dict[str, Any]


def canonical(value: object) -> str:
    """JSON with one spelling for one value. Raises TypeError for what has no such spelling."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain)


def digest(value: object) -> str:
    """SHA-256 of the canonical JSON of a value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} has no canonical form")


def merkle_root(hashes: Mapping[str, str]) -> str:
    """Root of the binary hash tree over (path, SHA-256) leaves in path order (RFC 6962 without its domain prefixes)."""
    level = [hashlib.sha256(f"{path}\0{sha}".encode()).digest() for path, sha in sorted(hashes.items())]
    while len(level) > 1:
        pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
        level = [hashlib.sha256(b"".join(pair)).digest() if len(pair) == 2 else pair[0] for pair in pairs]
    return level[0].hex() if level else hashlib.sha256(b"").hexdigest()


def write_json(path: Path, value: object) -> None:
    """Write a JSON file so that it is whole or absent, whatever happens meanwhile."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, sort_keys=True, ensure_ascii=False, default=_plain)
        file.write("\n")
        _sync(file)
    temporary.replace(path)
    sync_folder(path.parent)


def _sync(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())


@dataclass(frozen=True)
class Artifact:
    """A committed output of a stage."""

    path: Path
    manifest: Json

    @property
    def fingerprint(self) -> str:
        """What made this artifact, as SHA-256."""
        return str(self.manifest["fingerprint"])

    @property
    def metrics(self) -> Json:
        """The figures that the stage returned."""
        return dict(self.manifest["metrics"])


class Store:
    """The folder of all artifacts."""

    def __init__(self, root: Path):
        self.root = root

    def create(self) -> None:
        """Make sure that the folder is there. Raises UserError where it cannot be."""
        try:
            (self.root / ".tmp").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"the store {self.root} cannot be made ({error.strerror}); choose another --store"
            ) from None

    def place(self, stage: str, fingerprint: str) -> Path:
        """Where the artifact of this stage and fingerprint lies or will lie."""
        return self.root / stage / fingerprint

    def artifact(self, stage: str, fingerprint: str) -> Artifact | None:
        """The committed artifact, None where there is none. Raises UserError for a manifest that cannot be read."""
        path = self.place(stage, fingerprint)
        return Artifact(path, read_manifest(path, stage)) if path.is_dir() else None

    def artifacts(self, stage: str) -> list[Artifact]:
        """All artifacts of a stage with a readable manifest, oldest first."""
        found = []
        for folder in self.folders(stage):
            with suppress(UserError):
                found.append(Artifact(folder, read_manifest(folder, stage)))
        return sorted(found, key=lambda a: (a.manifest["finished"], a.fingerprint))

    def folders(self, stage: str) -> list[Path]:
        """The folders of all artifacts of a stage."""
        return sorted(p for p in (self.root / stage).glob("*") if p.is_dir())

    @contextmanager
    def attempt(self, stage: str, fingerprint: str, *, fresh: bool) -> Iterator["Attempt"]:
        """Open, or reopen after a kill, the working folder of a stage; `fresh` forgets what an earlier attempt did.

        Raises UserError where another process is at work on it.
        """
        folder = self.root / ".tmp" / f"{stage}-{fingerprint}"
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / "lock", f"stage {stage}"):
            attempt = Attempt(folder)
            if fresh:
                attempt.clear()
            attempt.prepare()
            yield attempt
            # Only reached when the stage is committed: an exception leaves the folder for the next attempt.
            shutil.rmtree(folder, ignore_errors=True)

    def commit(self, attempt: "Attempt", stage: str, manifest: Json, *, replace: bool = False) -> Artifact:
        """Hash what is in `out`, write the manifest, rename into place.

        Where an artifact of the name is there already, it stays, unless it is to be replaced.
        """
        place = self.place(stage, manifest["fingerprint"])
        files = attempt.files()
        manifest = {
            "format": FORMAT,
            "stage": stage,
            **manifest,
            "files": files,
            "merkle_root": merkle_root({name: entry["sha256"] for name, entry in files.items()}),
        }
        write_json(attempt.folder / MANIFEST, manifest)
        (attempt.folder / MANIFEST).rename(attempt.out / MANIFEST)
        sync_folder(attempt.out)
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists() and not replace:
            return Artifact(place, read_manifest(place, stage))
        if place.exists():
            place.rename(attempt.folder / f"replaced-{uuid.uuid4().hex[:8]}")
        attempt.out.rename(place)
        sync_folder(place.parent)
        return Artifact(place, manifest)


@dataclass(frozen=True)
class Attempt:
    """The working folder of a stage that has not been committed yet."""

    folder: Path

    @property
    def out(self) -> Path:
        """What becomes the artifact."""
        return self.folder / "out"

    @property
    def scratch(self) -> Path:
        """Intermediate files."""
        return self.folder / "scratch"

    def clear(self) -> None:
        """Forget all that was done."""
        for name in ("out", "scratch", "receipts", "parts"):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def prepare(self) -> None:
        """Create the folders, drop from `out` what no receipt vouches for."""
        shutil.rmtree(self.folder / "parts", ignore_errors=True)
        for name in ("out", "scratch", "receipts", "parts"):
            (self.folder / name).mkdir(exist_ok=True)
        known = self._received()
        for path in self.out.rglob("*"):
            if path.is_file() and str(path.relative_to(self.out)) not in known:
                path.unlink()

    def part(self, name: str, index: int, item: Mapping[str, Any], keep: bool) -> "Part":
        """The part of this attempt with this item."""
        target = self.out if keep else self.scratch
        receipt = self.folder / "receipts" / f"{name}-{index:05d}.json"
        return Part(folder=str(self.folder), target=str(target), receipt=str(receipt), item=digest(item))

    def files(self) -> dict[str, Json]:
        """Every file of `out` with bytes, SHA-256 and, for Parquet, rows; hashes of receipts are used again."""
        known = self._received()
        names = sorted(str(p.relative_to(self.out)) for p in self.out.rglob("*") if p.is_file())
        return {name: known.get(name) or _describe(self.out / name) for name in names}

    def _received(self) -> dict[str, Json]:
        """The files of `out` that finished parts have written."""
        known: dict[str, Json] = {}
        for receipt in sorted((self.folder / "receipts").glob("[!.]*.json")):
            content = json.loads(receipt.read_text(encoding="utf-8"))
            if content["target"] == str(self.out):
                known |= content["files"]
        return known


@dataclass(frozen=True)
class Part:
    """One unit of a stage's work; plain data, so that it can travel to a worker."""

    folder: str
    target: str
    receipt: str
    item: str

    def finished(self) -> Json | None:
        """The result of an earlier attempt, if its files are still what they were."""
        receipt = Path(self.receipt)
        try:
            content: Json = json.loads(receipt.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        if content["item"] != self.item or content["target"] != self.target:
            return None
        for name, entry in content["files"].items():
            path = Path(self.target) / name
            if not path.is_file() or hash_file(path) != entry["sha256"]:
                return None
        return dict(content["result"])

    def run(self, function: Callable[..., Json], item: Mapping[str, Any]) -> Json:
        """Run the function in a folder of its own, then move its files into place and write the receipt."""
        receipt, target = Path(self.receipt), Path(self.target)
        work = Path(self.folder) / "parts" / f"{receipt.stem}-{uuid.uuid4().hex[:8]}"
        work.mkdir(parents=True)
        result = function(out=work, **item)
        files = {}
        for path in sorted(p for p in work.rglob("*") if p.is_file()):
            name = str(path.relative_to(work))
            files[name] = _describe(path)
            final = target / name
            final.parent.mkdir(parents=True, exist_ok=True)
            path.replace(final)
            sync_folder(final.parent)
        write_json(receipt, {"item": self.item, "target": self.target, "files": files, "result": result})
        shutil.rmtree(work)
        return result


def read_manifest(path: Path, stage: str) -> Json:
    """The manifest of an artifact. Raises UserError where it is damaged or of another format."""
    file = path / MANIFEST
    fix = f"rebuild it with `pipeline run --stage {stage} --force`"
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{file} is missing or damaged; {fix}") from None
    needed = {"format", "stage", "fingerprint", "identity", "needs", "files", "merkle_root", "metrics", "finished"}
    if not isinstance(manifest, dict) or not needed <= manifest.keys():
        raise UserError(f"{file} is not a manifest; {fix}")
    if manifest["format"] != FORMAT:
        raise UserError(f"{file} has format {manifest['format']}, this version reads {FORMAT}; {fix}")
    return manifest


def missing_file(artifact: Artifact) -> str | None:
    """The first file of an artifact that is gone or has another size, None where all are there."""
    for name, entry in artifact.manifest["files"].items():
        path = artifact.path / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != entry["bytes"]:
            return f"{name} has {path.stat().st_size} bytes instead of {entry['bytes']}"
    return None


def verify_artifact(artifact: Artifact) -> list[str]:
    """Everything that is wrong with an artifact: files gone, changed or unlisted, a root that does not add up."""
    listed = artifact.manifest["files"]
    wrong = []
    for name, entry in listed.items():
        path = artifact.path / name
        if not path.is_file():
            wrong.append(f"{name} is missing")
        elif hash_file(path) != entry["sha256"]:
            wrong.append(f"{name} has changed since it was written")
    present = {str(p.relative_to(artifact.path)) for p in artifact.path.rglob("*") if p.is_file()}
    wrong += [f"{name} is not in the manifest" for name in sorted(present - listed.keys() - {MANIFEST})]
    if merkle_root({name: entry["sha256"] for name, entry in listed.items()}) != artifact.manifest["merkle_root"]:
        wrong.append("the manifest's hashes do not add up to its Merkle root")
    return wrong


def _describe(path: Path) -> Json:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    entry: Json = {"bytes": path.stat().st_size, "sha256": hash_file(path)}
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        entry["rows"] = pq.read_metadata(path).num_rows
    return entry


@contextmanager
def _locked(path: Path, what: str) -> Iterator[None]:
    """Hold an exclusive lock on a file. The kernel releases it when the process ends, however it ends."""
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        owner = file.read().strip() or "another process"
        file.close()
        raise UserError(f"{what} of this store is being made by {owner}; wait for it, or stop it first") from None
    try:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
    finally:
        file.close()
