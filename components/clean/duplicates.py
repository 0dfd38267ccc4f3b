"""Exact duplicates over the whole corpus, with the memory of one bucket.

    texts ─ text_hash ─► hashes/*.npy, sorted, one for each chunk ─ find_duplicates ─► duplicates/bucket-*
                                                                                              │
                                                    places in one chunk ◄─ duplicates_of ─────┘

A bucket is a range of hashes, so every file holds each bucket as one run of rows. Of equal texts the first in
corpus order stays; those of explicit valid and test sets stay always, and come before all others.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from components.documents import write_table

Rows = npt.NDArray[np.uint64]  # columns: hash (high half), hash (low half), source, offset
BUCKET_BYTES = 256 << 20  # of text: the rows of its documents, if they are lines, take about 100 MB
HASH_BYTES = 16


def text_hash(text: str) -> bytes:
    """The first 16 bytes of the text's SHA-256: two of 10^12 texts share one with probability 10^-15."""
    return hashlib.sha256(text.encode("utf-8")).digest()[:HASH_BYTES]


def bucket_count(corpus_bytes: int) -> int:
    """How many buckets keep each one small; depends on the corpus only."""
    return 1 + corpus_bytes // BUCKET_BYTES


def bucket_file(bucket: int) -> str:
    """Where `find_duplicates` writes, relative to its folder."""
    return f"duplicates/bucket-{bucket:05d}.parquet"


def write_hashes(path: Path, rows: list[tuple[bytes, int, int]]) -> None:
    """Store (hash, source, offset) of documents, sorted by hash."""
    halves = np.frombuffer(b"".join([row[0] for row in rows]), dtype=">u8").reshape(len(rows), 2)
    places = np.array([row[1:] for row in rows], dtype=np.uint64).reshape(len(rows), 2)
    table = np.concatenate([halves.astype(np.uint64), places], axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, table[np.argsort(table[:, 0], kind="stable")], allow_pickle=False)


def find_duplicates(
    *, out: Path, hashes: list[str], bucket: int, buckets: int, sources: list[list[str | None]]
) -> dict[str, Any]:
    """Write which documents of one bucket repeat another: columns source, offset, duplicate_of (an id).

    `hashes` are the files of `write_hashes`, `sources` the [name, explicit split] of all in corpus order.
    """
    rows = np.concatenate([_rows_of_bucket(Path(path), bucket, buckets) for path in hashes])
    is_protected = np.array([split in ("valid", "test") for _, split in sources])
    protected = is_protected[rows[:, 2].astype(np.int64)]
    order = np.lexsort((rows[:, 3], rows[:, 2], ~protected, rows[:, 1], rows[:, 0]))
    rows, protected = rows[order], protected[order]
    starts = np.ones(len(rows), dtype=bool)
    starts[1:] = (rows[1:, :2] != rows[:-1, :2]).any(axis=1)
    first = rows[starts][np.cumsum(starts) - 1]
    repeated = ~starts & ~protected
    rows, first = rows[repeated], first[repeated]
    order = np.lexsort((rows[:, 3], rows[:, 2]))
    rows, first = rows[order], first[order]
    table = pa.table(
        {
            "source": rows[:, 2].astype(np.int64),
            "offset": rows[:, 3].astype(np.int64),
            "duplicate_of": pa.array([f"{sources[int(s)][0]}#{o}" for s, o in first[:, 2:]], pa.string()),
        }
    )
    write_table(out / bucket_file(bucket), table)
    return {"duplicates": len(rows)}


def duplicates_of(files: list[str], first: tuple[int, int], last: tuple[int, int]) -> dict[tuple[int, int], str]:
    """The duplicates among the documents from (source, offset) `first` to `last`: place → id it repeats."""
    found: dict[tuple[int, int], str] = {}
    within = [("source", ">=", first[0]), ("source", "<=", last[0])]
    if first[0] == last[0]:
        within += [("offset", ">=", first[1]), ("offset", "<=", last[1])]
    for path in files:
        table = pq.read_table(path, filters=within, page_checksum_verification=True)
        places = zip(table["source"].to_pylist(), table["offset"].to_pylist(), strict=True)
        found.update(zip(places, table["duplicate_of"].to_pylist(), strict=True))
    return found


def _rows_of_bucket(path: Path, bucket: int, buckets: int) -> Rows:
    rows = np.load(path, mmap_mode="r", allow_pickle=False)
    low, high = (((b << 64) + buckets - 1) // buckets for b in (bucket, bucket + 1))
    begin = np.searchsorted(rows[:, 0], np.uint64(low)) if bucket else 0
    end = np.searchsorted(rows[:, 0], np.uint64(high)) if bucket + 1 < buckets else len(rows)
    return np.array(rows[begin:end])
