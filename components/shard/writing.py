"""Documents to token shards.

    documents/train/part-00003.parquet ──encode──► tokens/train/part-00003.parquet  (same documents and order)

Token ids lie as lists of uint16 or uint32 in zstd with BYTE_STREAM_SPLIT, smallest and fastest to write of
the encodings that were measured: 8.6 bits a token where Parquet's defaults take 13.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.documents import read_documents
from components.shard.tokens import token_dtype
from components.vocab.figures import FIGURES, figures
from components.vocab.tokenizer import load_tokenizer


def encode_documents(
    *, out: Path, documents: str, split: str, part: int, tokenizer: str, row_group_documents: int
) -> dict[str, Any]:
    """Encode one file of documents into one token shard.

    Returns the shard's entry in the index under "file", and the figures of its documents.
    """
    encoder = load_tokenizer(Path(tokenizer))
    schema = token_schema(encoder.size)
    name = f"tokens/{split}/part-{part:05d}.parquet"
    path = out / name
    path.parent.mkdir(parents=True, exist_ok=True)
    total: Counter[str] = Counter()
    with _writer(path, schema) as writer:
        ids: list[str] = []
        tokens: list[list[int]] = []
        for document in read_documents(Path(documents)):
            ids.append(document.id)
            tokens.append(encoder.encode(document.text))
            assert max(tokens[-1], default=0) < encoder.size, f"{document.id} has an id beyond the vocabulary"
            total += figures(document.text, tokens[-1], lowercase=encoder.lowercase)
            if len(ids) == row_group_documents:
                _write_row_group(writer, schema, ids, tokens)
                ids, tokens = [], []
        _write_row_group(writer, schema, ids, tokens)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    rows = pq.read_metadata(path).num_rows
    assert rows == total["documents"], f"{total['documents']} documents became {rows} rows of {name}"
    listed = {"path": name, "documents": rows, "tokens": total["tokens"], "sha256": digest}
    return {"file": listed, **{figure: total[figure] for figure in FIGURES}}


def token_schema(vocab_size: int) -> pa.Schema:
    """The columns of a token shard."""
    element = pa.type_for_alias(token_dtype(vocab_size))
    return pa.schema([("id", pa.string()), ("tokens", pa.list_(element))])


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=False,
        column_encoding={"tokens.list.element": "BYTE_STREAM_SPLIT"},
        write_page_checksum=True,
    )


def _write_row_group(
    writer: pq.ParquetWriter, schema: pa.Schema, ids: Sequence[str], tokens: Sequence[Sequence[int]]
) -> None:
    if ids:
        writer.write_table(pa.table({"id": ids, "tokens": tokens}, schema=schema), row_group_size=len(ids))
