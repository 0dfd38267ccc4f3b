"""Token shards: what is written is what is read, or the damage is told."""

import hashlib
import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from components.documents import DOCUMENT_SCHEMA, Document, write_documents, write_table
from components.errors import UserError
from components.shard.tokens import (
    Index,
    ShardFile,
    SplitIndex,
    load_documents,
    read_index,
    token_dtype,
    write_index,
)
from components.shard.writing import encode_documents
from components.vocab.tokenizer import CharTokenizer, WordTokenizer, save_tokenizer

TEXTS = ["the lake\n\n the  fog\n", "", "\n \n", "fog\nlake unseen", "the " * 700]
WORDS = WordTokenizer(["the", "lake", "fog"], lowercase=False, pretokenized=True)


def encode(folder: Path, texts: list[str] = TEXTS, row_group_documents: int = 2, part: int = 0) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    documents = (Document(id=f"a#{i}", text=t, source="a", offset=i) for i, t in enumerate(texts))
    if texts:
        write_documents(folder / "documents.parquet", documents)
    else:
        write_table(folder / "documents.parquet", DOCUMENT_SCHEMA.empty_table())
    if not (folder / "tokenizer.json").exists():
        save_tokenizer(WORDS, folder / "tokenizer.json")
    return encode_documents(
        out=folder,
        documents=str(folder / "documents.parquet"),
        split="train",
        part=part,
        tokenizer=str(folder / "tokenizer.json"),
        row_group_documents=row_group_documents,
    )


def index_of(*results: dict[str, Any], vocab_size: int = WORDS.size) -> Index:
    sums = {
        name: sum(r[name] for r in results) for name in ("documents", "tokens", "unknown", "bytes", "words", "lines")
    }
    split = SplitIndex(**sums, files=tuple(ShardFile(**r["file"]) for r in results))
    return Index(
        dtype=token_dtype(vocab_size), vocab_size=vocab_size, splits=dict.fromkeys(("train", "valid", "test"), split)
    )


def test_documents_come_back_in_order_over_parts_and_row_groups(tmp_path: Path) -> None:
    index = index_of(encode(tmp_path), encode(tmp_path, ["fog"], part=1))
    tokens, offsets = load_documents(tmp_path, index, "train")
    read = [tokens[a:b].tolist() for a, b in pairwise(offsets)]
    assert read == [WORDS.encode(text) for text in [*TEXTS, "fog"]]
    assert (tokens.dtype, offsets.dtype) == (np.uint16, np.int64)


def test_figures_count_what_they_say(tmp_path: Path) -> None:
    result = encode(tmp_path, ["the lake\n\n the  fög\n", ""])
    del result["file"]
    assert result == {"documents": 2, "tokens": 6, "unknown": 1, "lines": 2, "words": 6, "bytes": 9 + 10}


def test_the_same_documents_give_the_same_bytes(tmp_path: Path) -> None:
    assert encode(tmp_path / "a") == encode(tmp_path / "b")
    name = "tokens/train/part-00000.parquet"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_row_groups_and_encoding_are_as_promised(tmp_path: Path) -> None:
    file = encode(tmp_path)["file"]
    metadata = pq.read_metadata(tmp_path / file["path"])
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [2, 2, 1]
    column = metadata.row_group(0).column(1)
    assert column.path_in_schema == "tokens.list.element"
    assert column.compression == "ZSTD" and "BYTE_STREAM_SPLIT" in column.encodings
    assert file["sha256"] == hashlib.sha256((tmp_path / file["path"]).read_bytes()).hexdigest()


def test_large_vocabularies_take_four_bytes(tmp_path: Path) -> None:
    characters = [chr(c) for c in range(0x4E00, 0x4E00 + 20_000)] + [chr(c) for c in range(0x20000, 0x20000 + 45_533)]
    large = CharTokenizer(characters, lowercase=False)
    assert (large.size, token_dtype(2**16), token_dtype(large.size)) == (2**16 - 1, "uint16", "uint16")
    larger = CharTokenizer([*characters, "a", "b"], lowercase=False)
    save_tokenizer(larger, tmp_path / "tokenizer.json")
    tokens, _ = load_documents(tmp_path, index_of(encode(tmp_path, ["ab"]), vocab_size=larger.size), "train")
    assert tokens.dtype == np.uint32
    assert tokens.tolist() == [2**16 - 1, 2**16, 1]


def test_an_empty_part_is_a_part(tmp_path: Path) -> None:
    tokens, offsets = load_documents(tmp_path, index_of(encode(tmp_path, [])), "train")
    assert (tokens.tolist(), offsets.tolist()) == ([], [0])


def test_flipped_bits_are_told_or_harmless(tmp_path: Path) -> None:
    result = encode(tmp_path)
    index, path = index_of(result), tmp_path / result["file"]["path"]
    whole, _ = load_documents(tmp_path, index, "train")
    content = path.read_bytes()
    generator = random.Random(1)
    for bit in generator.sample(range(len(content) * 8), 100):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            tokens, _ = load_documents(tmp_path, index, "train")
        except UserError as error:
            assert str(path) in str(error) and "--stage shard --force" in str(error)
        else:
            assert np.array_equal(tokens, whole)


@pytest.mark.parametrize("content", [None, b"", b"PAR1"])
def test_missing_and_cut_shards_are_told(content: bytes | None, tmp_path: Path) -> None:
    result = encode(tmp_path)
    path = tmp_path / result["file"]["path"]
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"part-00000\.parquet.*--stage shard --force"):
        load_documents(tmp_path, index_of(result), "train")


@pytest.mark.parametrize("change", [{"documents": 4}, {"tokens": 7}])
def test_shards_that_are_not_what_the_index_lists_are_told(change: dict[str, int], tmp_path: Path) -> None:
    result = encode(tmp_path)
    changed = {**result, **change, "file": {**result["file"], **change}}
    with pytest.raises(UserError, match=r"index\.json lists"):
        load_documents(tmp_path, index_of(changed), "train")


def test_a_file_of_another_kind_is_told_even_with_the_right_hash(tmp_path: Path) -> None:
    result = encode(tmp_path)
    for content in (b"no parquet", (tmp_path / "documents.parquet").read_bytes()):
        (tmp_path / result["file"]["path"]).write_bytes(content)
        file = {**result["file"], "sha256": hashlib.sha256(content).hexdigest()}
        with pytest.raises(UserError, match="no Parquet file of tokens"):
            load_documents(tmp_path, index_of({**result, "file": file}), "train")


def test_the_index_comes_back(tmp_path: Path) -> None:
    index = index_of(encode(tmp_path))
    write_index(tmp_path, index)
    assert read_index(tmp_path) == index


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"format": 1', '"format": 2'),
        ('"uint16"', '"uint32"'),
        ('"splits"', '"parts"'),
        ('"tokens": 7', '"tokens": -7'),
        ('"tokens": 7', '"tokens": 1e3'),
        ('"documents": 5', '"documents": true'),
        ('"files": [', '"files": 3, "f": ['),
        ('"vocab_size": 5', '"vocab_size": "5"'),
        (
            "{",
            "[",
        ),
    ],
)
def test_damaged_indexes_are_told(old: str, new: str, tmp_path: Path) -> None:
    write_index(tmp_path, index_of(encode(tmp_path)))
    path = tmp_path / "index.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=r"index\.json.*--stage shard"):
        read_index(tmp_path)


@pytest.mark.parametrize("content", ["", "null", "[]", "{}", '{"format": 1}', json.dumps({"format": 1, "splits": 3})])
def test_hostile_indexes_are_told(content: str, tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(UserError, match=r"index\.json"):
        read_index(tmp_path)


def test_a_missing_index_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--stage shard"):
        read_index(tmp_path)
