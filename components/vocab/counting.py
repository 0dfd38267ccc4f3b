"""Exact counts of a corpus, however it is cut in parts.

    documents/train/part-*  ──count_units──►  counts/part-*/bucket-*  ──merge_counts──►  merged/bucket-*
                              per part          by hash of the unit       per bucket       each unit once

A bucket holds all units of one hash value, so buckets are merged independently of each other, and no process
holds the counts of all parts at once.
"""

import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.documents import read_documents, write_table
from components.vocab.config import VocabConfig
from components.vocab.tokenizer import lines, unit_splitter

COUNT_SCHEMA = pa.schema([("token", pa.string()), ("count", pa.int64())])

# White space as Unicode defines it, which the pieces of byte-level BPE follow; Python adds four separators.
_BPE_UNIT = re.compile(r"[^\S\x1c-\x1f]*[\S\x1c-\x1f]+")


def counted_units(config: VocabConfig, *, pretokenized: bool) -> Callable[[str], Iterable[str]]:
    """The function that cuts a stripped line into what is counted.

    Words and characters are the tokens themselves. For bpe it is each run without white space, with the white
    space before it: no merge ever crosses such a unit, so their counts are all that training needs.
    """
    if config.kind == "bpe":
        return _BPE_UNIT.findall
    return unit_splitter(config.kind, pretokenized=pretokenized)


def bucket_path(part: int, bucket: int) -> str:
    """Where the counts of one part lie, relative to the folder of all parts."""
    return f"counts/part-{part:05d}/bucket-{bucket:03d}.parquet"


def count_units(
    *, out: Path, documents: str, part: int, buckets: int, config: VocabConfig, pretokenized: bool
) -> dict[str, Any]:
    """Count one file of documents, write its counts in one file per bucket and return their sum."""
    units = counted_units(config, pretokenized=pretokenized)
    counts: Counter[str] = Counter()
    for document in read_documents(Path(documents)):
        for line in lines(document.text, lowercase=config.lowercase):
            counts.update(units(line))
    filled: list[dict[str, int]] = [{} for _ in range(buckets)]
    for unit in sorted(counts):
        filled[zlib.crc32(unit.encode()) % buckets][unit] = counts[unit]
    for bucket, content in enumerate(filled):
        write_table(out / bucket_path(part, bucket), count_table(content))
    return {"units": counts.total()}


def merge_counts(*, out: Path, bucket: int, files: list[str]) -> dict[str, Any]:
    """Add up one bucket over all parts and write it in the order of its units."""
    tables = [pq.read_table(file, page_checksum_verification=True) for file in files]
    grouped = pa.concat_tables(tables).group_by("token", use_threads=False).aggregate([("count", "sum")])
    merged = grouped.rename_columns(COUNT_SCHEMA.names).sort_by("token")
    path = f"merged/bucket-{bucket:03d}.parquet"
    write_table(out / path, merged)
    return {"path": path, "types": len(merged)}


def count_table(counts: Mapping[str, int]) -> pa.Table:
    """Counts as a table, in the order of the mapping."""
    return pa.table({"token": list(counts.keys()), "count": list(counts.values())}, schema=COUNT_SCHEMA)


def read_counts(files: Iterable[str]) -> pa.Table:
    """Merged buckets as one table, the most frequent unit first, ties in code point order."""
    tables = [pq.read_table(file, page_checksum_verification=True) for file in files]
    return pa.concat_tables(tables).sort_by([("count", "descending"), ("token", "ascending")])
