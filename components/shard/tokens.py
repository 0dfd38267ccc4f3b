"""Token shards on disk: Parquet with one row per document, listed in an index with their counts and hashes.

tokens/train/part-00000.parquet    id: string    tokens: list<uint16 | uint32>
index.json                         what lies where: counts per split and per file, SHA-256 of each file
"""

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from components.documents import SPLITS
from components.errors import UserError

FORMAT = 1
Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
_REMEDY = "make it again with `pipeline run --stage shard --force`"


@dataclass(frozen=True, kw_only=True)
class ShardFile:
    """One Parquet file of token ids."""

    path: str
    """Relative to the shard artifact."""
    documents: int
    tokens: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class SplitIndex:
    """What one split holds, counted over its documents."""

    documents: int
    tokens: int
    """Ids, `<eos>` of every line included."""
    unknown: int
    """How many of them are `<unk>`."""
    bytes: int
    """UTF-8 bytes of the lines that were encoded, a line break after each."""
    words: int | None
    """White-space words, and one for each line end; None where words are not set apart by spaces."""
    lines: int
    files: tuple[ShardFile, ...]


@dataclass(frozen=True, kw_only=True)
class Index:
    """The content of `index.json`."""

    dtype: Literal["uint16", "uint32"]
    vocab_size: int
    splits: dict[str, SplitIndex]


def token_dtype(vocab_size: int) -> Literal["uint16", "uint32"]:
    """The smallest integer type of a token id."""
    return "uint16" if vocab_size <= 2**16 else "uint32"


def write_index(shard: Path, index: Index) -> None:
    """Write `index.json`."""
    text = json.dumps({"format": FORMAT, **asdict(index)}, indent=1)
    (shard / "index.json").write_text(text + "\n", encoding="utf-8")


def read_index(shard: Path) -> Index:
    """Read `index.json` of a shard artifact. Raises UserError where it is missing or damaged."""
    path = shard / "index.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: token shards are made by `pipeline run --stage shard`") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}); {_REMEDY}") from None
    try:
        return _index(data)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}: {error}); {_REMEDY}") from None


def load_documents(shard: Path, index: Index, split: str) -> tuple[Tokens, npt.NDArray[np.int64]]:
    """All tokens of a split, in corpus order, and where its documents start.

    Returns the token ids, 1-D of the index' dtype, and int64 offsets of length documents + 1: document i is
    `tokens[offsets[i] : offsets[i + 1]]`. Raises UserError naming the file that is missing or is not what was
    written.
    """
    listed = index.splits[split]
    tokens = np.empty(listed.tokens, dtype=index.dtype)
    offsets = np.zeros(listed.documents + 1, dtype=np.int64)
    token, document = 0, 0
    for file in listed.files:
        column = _read_column(shard / file.path, file, index.dtype)
        for chunk in column.chunks:
            ids, lengths = chunk.flatten().to_numpy(), chunk.value_lengths().to_numpy()
            tokens[token : token + len(ids)] = ids
            offsets[document + 1 : document + 1 + len(lengths)] = token + np.cumsum(lengths)
            token, document = token + len(ids), document + len(lengths)
    return tokens, offsets


def _read_column(path: Path, file: ShardFile, dtype: str) -> pa.ChunkedArray:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"token shard {path} cannot be read ({error.strerror}); {_REMEDY}") from None
    # The hash covers what page checksums leave out, the footer, and costs a small part of the decoding.
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise UserError(f"token shard {path} is damaged: it is not the file that was written; {_REMEDY}")
    try:
        column = pq.read_table(io.BytesIO(content), columns=["tokens"])["tokens"]
    except (OSError, pa.ArrowException, KeyError) as error:
        raise UserError(f"token shard {path} is no Parquet file of tokens ({error}); {_REMEDY}") from None
    if column.type != pa.list_(pa.type_for_alias(dtype)):
        raise UserError(f"token shard {path} holds {column.type}, not lists of {dtype}; {_REMEDY}")
    counted = len(column), sum(len(chunk.flatten()) for chunk in column.chunks)
    if counted != (file.documents, file.tokens):
        raise UserError(
            f"token shard {path} holds {counted[0]} documents and {counted[1]} tokens, but index.json lists "
            f"{file.documents} and {file.tokens}; {_REMEDY}"
        )
    return column


def _index(data: dict[str, Any]) -> Index:
    if data["format"] != FORMAT:
        raise ValueError(f"format is {data['format']!r}, not {FORMAT}")
    index = Index(
        dtype=token_dtype(data["vocab_size"]),
        vocab_size=_count(data["vocab_size"]),
        splits={split: _split_index(data["splits"][split]) for split in SPLITS},
    )
    if data["dtype"] != index.dtype:
        raise ValueError(f"dtype is {data['dtype']!r} for a vocabulary of {index.vocab_size}")
    return index


def _split_index(data: dict[str, Any]) -> SplitIndex:
    files = tuple(
        ShardFile(
            path=str(file["path"]),
            documents=_count(file["documents"]),
            tokens=_count(file["tokens"]),
            sha256=str(file["sha256"]),
        )
        for file in data["files"]
    )
    split = SplitIndex(
        **{name: _count(data[name]) for name in ("documents", "tokens", "unknown", "bytes", "lines")},
        words=None if data["words"] is None else _count(data["words"]),
        files=files,
    )
    for name in ("documents", "tokens"):
        if getattr(split, name) != sum(getattr(file, name) for file in files):
            raise ValueError(f"{name} is not the sum over its files")
    return split


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is not a count")
    return value
