"""From the bytes of sources to records.

    sources ─ slices() ─► parts of slices ─ read_slice() ─► Record | BadRecord ─► clean.py

Small files share a part; a large plain file is cut into byte ranges of constant size, so that what a part
holds never depends on the number of workers. At a cut, a line belongs to the range in which it starts,
a block to the range in which the blank line before it starts (the first block to the first range).
"""

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from components.clean.config import CorpusConfig
from components.clean.python_docs import docstrings, topics
from components.clean.sources import Source

PART_BYTES = 8 << 20
CHUNK_BYTES = 1 << 20
BOM = b"\xef\xbb\xbf"
GZIP_DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error)
BinaryFile = io.BufferedReader | gzip.GzipFile
Unit = tuple[int, int, bytes]  # offset, line (1 is the first that starts in the slice), bytes without the line end


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A byte range of a source; `end` is None where the source is not cut."""

    source: int
    """The source's place in corpus order."""
    name: str
    path: str
    split: str | None
    start: int = 0
    end: int | None = None


class Record(NamedTuple):
    """The text of one document as it was found."""

    offset: int
    """In bytes after decompression; for a .py file the number of the docstring."""
    text: str
    bytes: int
    """What it takes of the source after decompression, line ends around it aside."""


class BadRecord(NamedTuple):
    """What could not be read as a document."""

    source: str
    offset: int
    line: int
    """Counted from 1 at the first line that starts in the slice."""
    reason: str
    bytes: int
    """What is lost with it, counted as in a Record; for a damaged gzip its size: how much it held, nobody knows."""


class _BadText(ValueError):
    """The bytes of one record are no document; the message is the reason."""


class _Damage(Exception):
    """The rest of a file cannot be read."""

    def __init__(self, offset: int, line: int) -> None:
        super().__init__("damaged gzip")
        self.offset, self.line = offset, line


def slices(sources: list[Source], corpus: CorpusConfig, part_bytes: int = PART_BYTES) -> list[list[Slice]]:
    """The parts of the work in corpus order, about `part_bytes` of input each."""
    parts: list[list[Slice]] = []
    room = 0
    for number, source in enumerate(sources):
        whole = Slice(source=number, name=source.name, path=source.path, split=source.split)
        if source.bytes > part_bytes and _can_be_cut(source.path, corpus):
            parts += [
                [_cut(whole, at, min(at + part_bytes, source.bytes))] for at in range(0, source.bytes, part_bytes)
            ]
            room = 0
            continue
        if room <= 0:
            parts.append([])
            room = part_bytes
        parts[-1].append(whole)
        room -= source.bytes
    return parts


def read_slice(piece: Slice, corpus: CorpusConfig) -> Iterator[Record | BadRecord]:
    """The records of a slice in order of offset. Whatever is wrong with the bytes becomes a BadRecord."""
    if piece.path.endswith(".py"):
        yield from _read_python(piece)
        return
    kind, _ = _format(piece.path)
    parse: Callable[[bytes], str] = _parse_json(corpus.text_key) if kind == "jsonl" else _decode
    with _open(piece.path) as file:
        try:
            for offset, line, raw in _units(file, piece, kind, corpus):
                try:
                    yield Record(offset, parse(raw), len(raw))
                except _BadText as bad:
                    yield BadRecord(piece.name, offset, line, str(bad), len(raw))
        except _Damage as damage:
            yield BadRecord(piece.name, damage.offset, damage.line, str(damage), Path(piece.path).stat().st_size)


def count_lines(piece: Slice) -> int:
    """How many lines start in a cut slice, so that the next slice knows the number of its first line."""
    assert piece.end is not None
    before = max(piece.start - 1, 0)
    with Path(piece.path).open("rb") as file:
        file.seek(before)
        data = file.read(piece.end - before)
    ends = data[:-1].count(b"\n") + data[:-1].count(b"\r") - data.count(b"\r\n")
    return ends + (piece.start == 0 and piece.end > 0)


def lines_before(parts: list[list[Slice]], lines: list[int]) -> list[int]:
    """For each part how many lines of its file lie before it, given how many start in each."""
    before: list[int] = []
    for number, part in enumerate(parts):
        follows = number > 0 and part[0].source == parts[number - 1][-1].source
        before.append(before[-1] + lines[number - 1] if follows else 0)
    return before


def _format(path: str) -> tuple[str, bool]:
    """("txt" or "jsonl", gzipped)."""
    name = path.lower()
    gzipped = name.endswith(".gz")
    return ("jsonl" if name.removesuffix(".gz").endswith(".jsonl") else "txt"), gzipped


def _can_be_cut(path: str, corpus: CorpusConfig) -> bool:
    kind, gzipped = _format(path)
    return not gzipped and not path.endswith(".py") and (kind == "jsonl" or corpus.document != "file")


def _cut(whole: Slice, start: int, end: int) -> Slice:
    return Slice(source=whole.source, name=whole.name, path=whole.path, split=whole.split, start=start, end=end)


def _open(path: str) -> BinaryFile:
    if _format(path)[1]:
        return gzip.open(path, "rb")
    return Path(path).open("rb")


def _units(file: BinaryFile, piece: Slice, kind: str, corpus: CorpusConfig) -> Iterator[Unit]:
    """The byte strings that should each be one document."""
    if kind == "txt" and corpus.document == "file":
        return _whole(file)
    lines = _lines(file, piece.start)
    if kind == "txt" and corpus.document == "block":
        return _blocks(lines, piece.start, piece.end)
    return _filled_lines(lines, piece.end)


def _whole(file: BinaryFile) -> Iterator[Unit]:
    try:
        yield 0, 1, file.read().removeprefix(BOM)
    except GZIP_DAMAGE:
        raise _Damage(0, 1) from None


def _lines(file: BinaryFile, start: int) -> Iterator[Unit]:
    """Every line that starts at `start` or later, to the end of the file; LF, CR LF and CR end lines."""
    offset = max(start - 1, 0)  # from the byte before: it tells whether a line starts at `start`
    file.seek(offset)
    number = 0 if start else 1
    pending: list[bytes] = []  # pieces of a line longer than a chunk
    for chunk in _chunks(file):
        if chunk is None:
            raise _Damage(offset, number)
        for piece in chunk.splitlines(keepends=True):
            pending.append(piece)
            if not piece.endswith((b"\n", b"\r")):
                continue
            raw = b"".join(pending)
            pending.clear()
            if number:  # number 0 is the rest of a line that belongs to the range before
                yield offset, number, _without_end(raw, offset)
            offset += len(raw)
            number += 1
    if pending and number:
        yield offset, number, _without_end(b"".join(pending), offset)


def _chunks(file: BinaryFile) -> Iterator[bytes | None]:
    """The bytes of a file, never cut between CR and LF; None where the rest cannot be read."""
    held = b""
    while True:
        try:
            chunk = file.read1(CHUNK_BYTES)  # not read, which loses what it has when the stream breaks off
        except GZIP_DAMAGE:
            yield None
            return
        if not chunk:
            break
        chunk = held + chunk
        held = chunk[-1:] if chunk.endswith(b"\r") else b""
        yield chunk.removesuffix(held)
    if held:
        yield held


def _without_end(raw: bytes, offset: int) -> bytes:
    raw = raw.rstrip(b"\r\n")
    return raw if offset else raw.removeprefix(BOM)


def _filled_lines(lines: Iterator[Unit], end: int | None) -> Iterator[Unit]:
    for unit in lines:
        if end is not None and unit[0] >= end:
            return
        if unit[2].strip():
            yield unit


def _blocks(lines: Iterator[Unit], start: int, end: int | None) -> Iterator[Unit]:
    owned = start == 0  # whether a blank line that belongs to this range was seen
    block: list[Unit] = []
    try:
        for unit in lines:
            past_end = end is not None and unit[0] >= end
            if unit[2].strip():
                if owned:
                    block.append(unit)
                elif past_end:
                    return
                continue
            if block:
                yield _joined(block)
                block.clear()
            if past_end:
                return
            owned = True
    except _Damage as damage:
        raise _Damage(*block[0][:2]) if block else damage from None
    if block:
        yield _joined(block)


def _joined(block: list[Unit]) -> Unit:
    offset, line, _ = block[0]
    return offset, line, b"\n".join([raw for _, _, raw in block])


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _BadText("not valid UTF-8") from None


def _parse_json(key: str) -> Callable[[bytes], str]:
    def parse(raw: bytes) -> str:
        decoded = _decode(raw)
        try:
            record = json.loads(decoded)
        except (ValueError, RecursionError):
            raise _BadText("not valid JSON") from None
        if not isinstance(record, dict):
            raise _BadText("not a JSON object")
        if key not in record:
            raise _BadText(f"no key {key!r}")
        text = record[key]
        if not isinstance(text, str):
            raise _BadText(f"value of {key!r} is not a string")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:  # "\ud800" is valid JSON and no text
            raise _BadText(f"value of {key!r} has half a surrogate pair") from None
        return text

    return parse


def _read_python(piece: Slice) -> Iterator[Record | BadRecord]:
    read = topics if piece.name.endswith("pydoc_data/topics.py") else docstrings
    content = Path(piece.path).read_bytes()
    try:
        texts = read(content)
    except (SyntaxError, ValueError, RecursionError) as error:
        yield BadRecord(piece.name, 0, getattr(error, "lineno", None) or 1, "not valid Python", len(content))
        return
    for number, text in enumerate(texts):
        yield Record(number, text, len(text.encode()))
