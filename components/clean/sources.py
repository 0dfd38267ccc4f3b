"""Which files make the corpus, under which names, in which order.

Corpus order is (place in the config, path relative to the configured root): no listing order, absolute path
or machine enters it. What lies in a file's bytes is `read.py`'s business.
"""

import difflib
import os
import stat
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from components.clean.config import CorpusConfig
from components.documents import SPLITS
from components.errors import UserError

EXTENSIONS = (".txt", ".jsonl", ".txt.gz", ".jsonl.gz")
NOT_DOCUMENTATION = {
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "turtledemo",
    "ensurepip",
    "site-packages",
    "dist-packages",
    "__pycache__",
}
Found = tuple[str, Path]  # name relative to the configured root, place


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file of the corpus."""

    name: str
    """Relative to the configured root, unique in the corpus; the first half of a document's id."""
    path: str
    split: str | None
    """The split it was given to, None where a hash of each document decides."""
    bytes: int


def find_sources(corpus: CorpusConfig) -> list[Source]:
    """The files of the corpus in corpus order.

    Raises UserError where the corpus is named in no or two ways, a path leads nowhere, a folder holds nothing
    of a known format or a file cannot be read.
    """
    splits = {split: paths for split in SPLITS if (paths := getattr(corpus, split))}
    ways = [corpus.source is not None, bool(corpus.paths), bool(splits)]
    if not any(ways):
        raise UserError("no corpus is named; give --input PATH or set corpus.source=python-docs")
    if sum(ways) > 1:
        raise UserError(
            "the corpus is named in more than one way; keep one of corpus.source, corpus.paths, "
            "or corpus.train with corpus.valid and corpus.test"
        )
    if corpus.source:
        return _sources({None: _python_docs()}, "corpus.source")
    if corpus.paths:
        return _sources({None: _resolve_all(corpus.paths, "corpus.paths")}, "corpus.paths")
    for split in SPLITS:
        if split not in splits:
            raise UserError(
                f"corpus.{split} is not set; explicit splits need all of corpus.train, corpus.valid and "
                "corpus.test, or name everything in corpus.paths to have it split"
            )
    return _sources({s: _resolve_all(paths, f"corpus.{s}") for s, paths in splits.items()}, "corpus")


def _sources(found: dict[str | None, list[Found]], key: str) -> list[Source]:
    names: set[str] = set()
    sources = []
    for split, files in found.items():
        read: set[Path] = set()
        for relative, path in files:
            _refuse_odd_name(path.absolute(), key)
            size = _size(path, key)
            real = path.resolve()
            if real in read:  # two patterns of one list that overlap
                continue
            read.add(real)
            sources.append(Source(name=_unique(relative, names), path=str(path.absolute()), split=split, bytes=size))
    return sources


def _unique(name: str, taken: set[str]) -> str:
    """The name, with `~2`, `~3`, … where another root holds a file of the same relative path."""
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}~{number}"
    taken.add(candidate)
    return candidate


def _refuse_odd_name(path: Path, key: str) -> None:
    """Names and paths go into JSON and Parquet, which hold Unicode only."""
    readable = os.fsencode(path).decode("utf-8", "replace")
    if readable != str(path):
        raise UserError(f"{key}: the name of {readable!r} is not valid UTF-8; rename it")


def _size(path: Path, key: str) -> int:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise UserError(f"{key}: {path} is not a regular file; write its text to a .txt file first")
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        why = "its target does not exist" if isinstance(error, FileNotFoundError) else error.strerror
        raise UserError(f"{key}: {path} cannot be read ({why}); repair it or take it out") from None
    return status.st_size


def _resolve_all(patterns: tuple[str, ...], key: str) -> list[Found]:
    return [found for pattern in patterns for found in _resolve(pattern, key)]


def _resolve(pattern: str, key: str) -> list[Found]:
    """What one configured file, folder or glob stands for, sorted by relative path."""
    if not pattern.strip():
        raise UserError(f"{key} holds an empty path; name a file, folder or glob")
    try:
        path = Path(pattern).expanduser()
    except RuntimeError:
        raise UserError(f"{key}: {pattern}: there is no such user; write the folder out") from None
    try:
        if path.is_dir():
            return _of_known_format(list(_walk(path, "", _hidden)), f"{key}: folder {path}")
        if path.is_file() or path.is_symlink() or path.exists():
            return [_single(path, key)]
        if any(c in pattern for c in "*?["):
            found = list(_expand(path))
            if not found:
                raise UserError(f"{key}: nothing matches {pattern}; check the pattern, relative to {Path.cwd()}")
            return _of_known_format(found, f"{key}: pattern {pattern}")
        raise UserError(f"{key}: {path} does not exist{_nearest(path)}")
    except OSError as error:
        raise UserError(f"{key}: {error.filename or path} cannot be read ({error.strerror})") from None


def _single(path: Path, key: str) -> Found:
    if path.suffix and not path.name.lower().endswith(EXTENSIONS):
        raise UserError(f"{key}: {path} is of no known format; convert it to one of {', '.join(EXTENSIONS)}")
    return path.name, path


def _of_known_format(found: list[Found], where: str) -> list[Found]:
    known = sorted((f for f in found if f[0].lower().endswith(EXTENSIONS)), key=lambda f: f[0])
    if not known:
        holds = f"holds only files of other formats, such as {min(found)[0]}" if found else "is empty"
        raise UserError(f"{where} {holds}; files that end in {', '.join(EXTENSIONS)} are looked for")
    return known


def _nearest(path: Path) -> str:
    """How the message on a path that leads nowhere goes on: the first missing part, or what looks like it."""
    while not path.parent.exists():
        path = path.parent
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1)
    return (
        f"; did you mean {path.parent / near[0]}?" if near else f"; there is no {path.name} in {path.parent.absolute()}"
    )


def _hidden(name: str) -> bool:
    return name.startswith((".", "_"))


def _entries(folder: Path, skip: Callable[[str], bool]) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted((e for e in entries if not skip(e.name)), key=lambda e: e.name)


def _folders(folder: Path, prefix: str, skip: Callable[[str], bool]) -> Iterator[Found]:
    """The folder and all below it, each once however links lead to it."""
    seen: set[tuple[int, int]] = set()
    waiting = [(prefix, folder)]
    while waiting:
        prefix, folder = waiting.pop()
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        yield prefix, folder
        below = [(f"{prefix}{e.name}/", Path(e.path)) for e in _entries(folder, skip) if e.is_dir()]
        waiting += reversed(below)


def _walk(folder: Path, prefix: str, skip: Callable[[str], bool]) -> Iterator[Found]:
    for inner, place in _folders(folder, prefix, skip):
        yield from ((inner + e.name, Path(e.path)) for e in _entries(place, skip) if not e.is_dir())


def _expand(pattern: Path) -> Iterator[Found]:
    """The files of a glob, named relative to the folder before its first wildcard.

    Not `glob.glob`, which follows links in circles.
    """
    first = next(i for i, part in enumerate(pattern.parts) if any(c in part for c in "*?["))
    root = Path(*pattern.parts[:first])
    if root.is_dir():
        yield from _match(root, pattern.parts[first:], "")


def _match(folder: Path, parts: tuple[str, ...], prefix: str) -> Iterator[Found]:
    head, rest = parts[0], parts[1:]
    if head == "**":
        for inner, place in _folders(folder, prefix, _hidden):
            yield from _match(place, rest or ("*",), inner)
        return
    for entry in _entries(folder, lambda name: _hidden(name) and head[0] != name[0]):
        if not fnmatchcase(entry.name, head):
            continue
        path = Path(entry.path)
        if not entry.is_dir():
            if not rest:
                yield prefix + entry.name, path
        elif rest:
            yield from _match(path, rest, f"{prefix}{entry.name}/")
        else:
            yield from _walk(path, f"{prefix}{entry.name}/", _hidden)


def _python_docs() -> list[Found]:
    """The standard library's own source files, of the Python that runs this."""
    library = Path(sysconfig.get_path("stdlib"))
    files = _walk(library, "python-docs/", lambda name: name in NOT_DOCUMENTATION) if library.is_dir() else ()
    sources = sorted(((name, path) for name, path in files if name.endswith(".py")), key=lambda f: f[0])
    if not sources:
        raise UserError(f"corpus.source=python-docs: this Python has no source files in {library}; use another corpus")
    return sources
