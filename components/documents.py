"""The record that flows through the data stages, and its Parquet form."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One text of the corpus.

    `id` is `<source>#<offset>`: where the text was read, which makes it unique and traceable. `source` is the file's
    name relative to the folder it was configured by; `offset` counts bytes (records in a container of another kind)
    from the start of that file.
    """

    id: str
    text: str
    source: str
    offset: int


DOCUMENT_SCHEMA = pa.schema(
    [("id", pa.string()), ("text", pa.string()), ("source", pa.string()), ("offset", pa.int64())]
)


def write_documents(path: Path, documents: Iterable[Document]) -> None:
    """Write documents to one Parquet file with page checksums; the bytes depend on nothing but the documents."""
    rows = [{"id": d.id, "text": d.text, "source": d.source, "offset": d.offset} for d in documents]
    table = pa.Table.from_pylist(rows, schema=DOCUMENT_SCHEMA)
    write_table(path, table)


def write_table(path: Path, table: pa.Table, **options: object) -> None:
    """Write a table as this project writes Parquet: zstd, page checksums, parents made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd", write_page_checksum=True, **options)


def read_documents(path: Path) -> Iterator[Document]:
    """Documents of one Parquet file in order, checksums verified, a row group at a time.

    Raises OSError where a page is damaged.
    """
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for batch in file.iter_batches(batch_size=1024):
            columns = [batch.column(name).to_pylist() for name in DOCUMENT_SCHEMA.names]
            for id_, text, source, offset in zip(*columns, strict=True):
                yield Document(id=id_, text=text, source=source, offset=offset)


def document_files(clean: Path, split: str) -> list[Path]:
    """The document files of one split of a `clean` artifact, in corpus order."""
    return sorted((clean / "documents" / split).glob("*.parquet"))
