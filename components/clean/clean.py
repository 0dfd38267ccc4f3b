"""The two passes over the documents; between them `duplicates.py` looks at all hashes at once.

    clean_part:    slices ─ read, repair, filter, assign a split ─► scratch: records/ hashes/ quarantine/
    publish_chunk: one chunk ─ leave out duplicates ─► artifact: documents/{split}/ dropped/ quarantine/

A chunk is what memory holds at once. Every record ends in exactly one place: kept, dropped with a reason, or
quarantined.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.clean.config import CleanConfig, CorpusConfig
from components.clean.duplicates import duplicates_of, text_hash, write_hashes
from components.clean.read import BadRecord, Record, Slice, count_lines, read_slice
from components.clean.text import count_letters, line_ends, normalise
from components.documents import SPLITS, Document, write_documents, write_table

REASONS = ("empty", "too_short", "duplicate")
CHUNK_COST = 16 << 20  # bytes of text in a chunk
RECORD_COST = 200  # what a record weighs beside its text, so that a million tiny ones are not one chunk

RECORD_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),  # null where dropped
        ("name", pa.string()),
        ("source", pa.int64()),
        ("offset", pa.int64()),
        ("split", pa.string()),
        ("reason", pa.string()),  # null where kept so far
    ]
)
DROPPED_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("offset", pa.int64()),
        ("reason", pa.string()),
        ("duplicate_of", pa.string()),
    ]
)


@dataclass
class _Chunk:
    rows: list[tuple[str, str | None, str, int, int, str, str | None]] = field(default_factory=list)
    hashes: list[tuple[bytes, int, int]] = field(default_factory=list)
    bad: list[BadRecord] = field(default_factory=list)
    cost: int = 0


def clean_part(
    *, out: Path, part: int, pieces: list[dict[str, Any]], corpus: CorpusConfig, clean: CleanConfig
) -> dict[str, Any]:
    """Read, repair and filter the records of one part, given as the fields of its slices.

    Returns the names of the chunks written, counts (`bytes` of text, `bytes_read` of input, `bytes_lost` of it by
    source), and `lines`: how many lines start in a cut slice, else 0.
    """
    slices = [Slice(**piece) for piece in pieces]
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    names = []
    for number, chunk in enumerate(_chunks(slices, corpus, clean, counts)):
        name = f"part-{part:05d}-{number:05d}"
        _write_chunk(out, name, chunk)
        for bad in chunk.bad:
            reasons[bad.reason] += 1
            lost[bad.source] += bad.bytes
        names.append(name)
    return {
        "chunks": names,
        "documents": counts["documents"],
        "bytes": counts["bytes"],
        "bytes_read": counts["bytes_read"],
        "bytes_lost": dict(lost),
        "quarantined": dict(reasons),
        "lines": count_lines(slices[0]) if slices[0].end is not None else 0,
    }


def publish_chunk(
    *, out: Path, scratch: str, chunk: str, number: int, duplicates: list[str], lines_before: int
) -> dict[str, Any]:
    """Write one chunk's documents by split, what was dropped and why, and what was quarantined.

    `duplicates` are the files of `find_duplicates`; `lines_before` lies before the slice in its file.
    """
    rows = pq.read_table(Path(scratch) / "records" / f"{chunk}.parquet").to_pylist()
    repeats = duplicates_of(duplicates, _place(rows[0]), _place(rows[-1])) if rows else {}
    kept: dict[str, list[Document]] = {split: [] for split in SPLITS}
    dropped = []
    for row in rows:
        original = repeats.get(_place(row))
        reason = row["reason"] or (original and "duplicate")
        if reason:
            dropped.append((row["id"], row["name"], row["offset"], reason, original))
        else:
            kept[row["split"]].append(
                Document(id=row["id"], text=row["text"], source=row["name"], offset=row["offset"])
            )
    name = f"part-{number:05d}"
    for split, documents in kept.items():
        if documents:
            write_documents(out / "documents" / split / f"{name}.parquet", documents)
    if dropped:
        write_table(out / "dropped" / f"{name}.parquet", _table(dropped, DROPPED_SCHEMA))
    bad = list(quarantined(scratch, chunk, lines_before))
    if bad:
        write_bad(out / "quarantine" / f"{name}.jsonl", bad)
    letters = [count_letters(d.text) for documents in kept.values() for d in documents]
    return {
        "kept": {split: len(documents) for split, documents in kept.items()},
        "bytes": {split: sum(len(d.text.encode()) for d in documents) for split, documents in kept.items()},
        "dropped": dict(Counter(row[3] for row in dropped)),
        "quarantined": len(bad),
        "letters": sum(n for n, _ in letters),
        "spaceless_letters": sum(n for _, n in letters),
    }


def quarantined(scratch: str, chunk: str, lines_before: int) -> Iterator[BadRecord]:
    """The bad records of one chunk, lines counted from the start of the file."""
    path = Path(scratch) / "quarantine" / f"{chunk}.jsonl"
    if path.exists():
        with path.open(encoding="utf-8") as file:
            for line in file:
                bad = BadRecord(**json.loads(line))
                yield bad._replace(line=bad.line + lines_before)


def split_of(content: bytes, valid_fraction: float, test_fraction: float) -> str:
    """The split that a text's hash puts it in: equal texts always go together."""
    draw = int.from_bytes(content[8:]) / 2**64
    if draw < test_fraction:
        return "test"
    return "valid" if draw < test_fraction + valid_fraction else "train"


def _chunks(slices: list[Slice], corpus: CorpusConfig, clean: CleanConfig, counts: Counter[str]) -> Iterator[_Chunk]:
    chunk = _Chunk()
    for piece in slices:
        for record in read_slice(piece, corpus):
            chunk.cost += RECORD_COST
            counts["bytes_read"] += record.bytes
            if isinstance(record, BadRecord):
                chunk.bad.append(record)
            else:
                size = len(record.text.encode())
                counts["documents"] += 1
                counts["bytes"] += size
                chunk.cost += size
                _add(chunk, piece, record, corpus, clean)
            if chunk.cost >= CHUNK_COST:
                yield chunk
                chunk = _Chunk()
    if chunk.cost:
        yield chunk


def _add(chunk: _Chunk, piece: Slice, record: Record, corpus: CorpusConfig, clean: CleanConfig) -> None:
    """Decide what one text becomes; what can be told from the text alone is told here."""
    offset, found, _ = record
    as_it_is = corpus.pretokenized or piece.split in ("valid", "test")
    repaired = line_ends(found) if corpus.pretokenized else normalise(found)
    text = line_ends(found) if as_it_is else repaired  # duplicates of valid and test texts show once both are repaired
    content = text_hash(repaired)
    reason = None
    if not repaired.strip():
        reason = "empty"
    elif not as_it_is and len(text) < clean.min_chars:
        reason = "too_short"
    else:
        chunk.hashes.append((content, piece.source, offset))
    split = piece.split or split_of(content, corpus.valid_fraction, corpus.test_fraction)
    chunk.rows.append(
        (f"{piece.name}#{offset}", None if reason else text, piece.name, piece.source, offset, split, reason)
    )


def _write_chunk(out: Path, name: str, chunk: _Chunk) -> None:
    write_table(out / "records" / f"{name}.parquet", _table(chunk.rows, RECORD_SCHEMA))
    write_hashes(out / "hashes" / f"{name}.npy", chunk.hashes)
    if chunk.bad:
        write_bad(out / "quarantine" / f"{name}.jsonl", chunk.bad)


def write_bad(path: Path, bad: Iterable[BadRecord]) -> None:
    """Write bad records as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(record._asdict(), ensure_ascii=False) + "\n" for record in bad)


def _table(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    if not rows:
        return schema.empty_table()
    columns = [pa.array(column, f.type) for column, f in zip(zip(*rows, strict=True), schema, strict=True)]
    return pa.table(columns, schema=schema)


def _place(row: dict[str, Any]) -> tuple[int, int]:
    return row["source"], row["offset"]
